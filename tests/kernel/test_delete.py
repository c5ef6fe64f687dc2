"""DEL: it works whatever has happened to configuration, master and namespace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam, Steps
from lab import MEMORY, Node, run
from runtime import PLUGINS, Runtime, host_local, network

CONF = network(ipam=host_local("10.1.0.0/24"))
SINCE_THEN: dict[str, dict[str, Any]] = {
    "unknown mode": {"mode": "l4"},
    "mtu too large": {"mtu": 9000},
    "wrong types": {"mtu": "much", "flag": 5, "linkInContainer": "no", "dns": []},
    "no master": {"master": None},
    "another master": {"master": "eth99"},
    "impossible master": {"master": "no such/master"},
    "broken prevResult": {"prevResult": {"cniVersion": "7.0.0"}},
    "a MAC address": {"runtimeConfig": {"mac": "02:00:00:00:00:07"}},
    "prevResult of an ADD": {"prevResult": {"cniVersion": "1.0.0", "ips": []}},
}


@pytest.mark.parametrize("options", SINCE_THEN.values(), ids=SINCE_THEN)
def test_delete_works_with_a_configuration_that_has_become_invalid(
    node: Node, runtime: Runtime, options: dict[str, Any]
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    runtime.add(container, CONF).result()
    assert node.leases() == ["10.1.0.2"]

    runtime.delete(container, {**CONF, **options}).succeeds()

    assert node.snapshot() == before


def test_delete_works_without_the_default_route_that_add_went_by(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    run("ip", "route", "add", "default", "dev", "eth0")
    conf = {**CONF, "master": None}
    runtime.add(container, conf).result()
    run("ip", "route", "delete", "default")

    runtime.delete(container, conf).succeeds()

    assert node.snapshot() == before


def test_delete_works_without_the_master(node: Node, runtime: Runtime) -> None:
    container = node.container()
    before = node.snapshot()
    node.master()
    runtime.add(container, CONF).result()
    run("ip", "link", "delete", "dev", "eth0")

    runtime.delete(container, CONF).succeeds()

    assert node.snapshot() == before


@pytest.mark.parametrize("netns", ["", "as it was", "/run/netns/never"])
def test_delete_works_without_the_namespace(node: Node, runtime: Runtime, netns: str) -> None:
    node.master()
    before = node.snapshot()
    container = node.container()
    runtime.add(container, CONF).result()
    node.remove(container)

    path = container.path if netns == "as it was" else netns
    runtime.delete(path, CONF).succeeds()

    assert node.snapshot() == before


def test_delete_works_twice_and_without_an_add(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    runtime.delete(container, CONF).succeeds()
    runtime.add(container, CONF).result()

    for _ in range(2):
        runtime.delete(container, CONF).succeeds()

    assert node.snapshot() == before


@pytest.mark.parametrize(
    "making",
    ["name net1 type dummy", "name net1 type veth", "link dummy0 name net1 type macvlan"],
)
def test_delete_leaves_a_link_of_another_kind_alone(
    node: Node, runtime: Runtime, making: str
) -> None:
    node.master()
    container = node.container()
    container.ip("link add name dummy0 type dummy")
    container.ip(f"link add {making}")
    before = node.snapshot()

    runtime.delete(container, CONF).succeeds()

    assert node.snapshot() == before


def test_delete_touches_only_its_own_attachment(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    first = runtime.add(container, CONF).result()
    before = node.snapshot()
    other = {"CNI_IFNAME": "net2"}
    runtime.add(container, CONF, **other).result()

    runtime.delete(container, CONF, **other).succeeds()

    assert node.snapshot() == before
    runtime.check(container, CONF, first).succeeds()


def test_delete_removes_the_link_and_reports_when_ipam_fails(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    fake_ipam.answers("DEL", {"cniVersion": "1.0.0", "code": 42, "msg": "lost the key"}, status=1)
    conf = network(ipam=fake_ipam.conf)
    runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

    error = runtime.delete(container, conf, CNI_PATH=fake_ipam.path).error()

    assert (error["code"], error["msg"]) == (42, "lost the key")
    assert node.snapshot() == before


@pytest.mark.parametrize(("ipam_type", "code"), [("nosuch", 108), ("../cni/static", 7)])
def test_delete_removes_the_link_when_there_is_no_such_ipam_plugin(
    node: Node, runtime: Runtime, ipam_type: str, code: int
) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network()).result()

    error = runtime.delete(container, network(ipam={"type": ipam_type})).error()

    assert error["code"] == code
    assert ipam_type in error["msg"]
    assert container.links().keys() == {"lo"}


@pytest.mark.parametrize("ipam", [None, {}, [], "static", {"type": None}, {"type": 5}])
def test_delete_removes_the_link_when_ipam_has_vanished_from_the_configuration(
    node: Node, runtime: Runtime, ipam: object
) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network()).result()

    runtime.delete(container, {**network(), "ipam": ipam}).succeeds()

    assert container.links().keys() == {"lo"}
    assert not MEMORY.exists()


def test_delete_that_failed_at_any_command_can_be_repeated(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    steps = Steps(tmp_path, f"{PLUGINS}/host-local")
    before = node.snapshot()
    runtime.add(container, CONF).result()
    runtime.delete(container, CONF, **steps.environment).succeeds()
    unclean = {}
    for step in steps.taken:
        steps.forget()
        steps.at(step.number, "echo injected >&2; exit 1")
        runtime.add(container, CONF).result()

        error = runtime.delete(container, CONF, **steps.environment).error()

        assert "injected" in f"{error}"
        both_were_tried = steps.count("host-local", "DEL") and (
            "net1" not in container.links() or "ip" in step.words.split()
        )
        runtime.delete(container, CONF).succeeds()
        if not both_were_tried or node.snapshot() != before:
            unclean[step.words] = (both_were_tried, node.snapshot())
    assert unclean == {}
    assert len(steps.taken) >= 2
