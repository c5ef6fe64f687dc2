"""CHECK: every change since ADD is found, all at once."""

from __future__ import annotations

from typing import Any

import pytest
from doubles import FakeIpam
from lab import LEASES, Node, Space, run
from runtime import Runtime, host_local, network, static

CONF = network(
    mtu=1400,
    ipam=static("10.1.0.2/24", "10.1.1.2/32", gateway="10.1.0.1", routes=[{"dst": "10.7.0.0/16"}]),
)
# The commands that change an attachment (in the container, or on the host) and words for it.
CHANGES = {
    "mode": (["link set dev net1 type ipvlan mode l3"], [], ["mode", "l3", "l2"]),
    "flag": (["link set dev net1 type ipvlan private"], [], ["flag", "private", "bridge"]),
    "mtu": (["link set dev net1 mtu 1300"], [], ["MTU", "1300", "1400"]),
    "mac": ([], ["link set dev eth0 address 02:00:00:00:00:99"], ["MAC", "02:00:00:00:00:99"]),
    "down": (["link set dev net1 down"], [], ["down"]),
    "address": (["address delete 10.1.1.2/32 dev net1"], [], ["10.1.1.2/32"]),
    "prefix": (
        ["address delete 10.1.1.2/32 dev net1", "address add 10.1.1.2/31 dev net1"],
        [],
        ["10.1.1.2/32"],
    ),
    "route": (["route delete 10.7.0.0/16"], [], ["10.7.0.0/16"]),
    "gateway": (
        ["route replace 10.7.0.0/16 via 10.1.0.9"],
        [],
        ["10.7.0.0/16", "10.1.0.1"],
    ),
    "kind": (
        ["link delete dev net1", "link add name net1 type dummy"],
        [],
        ["dummy", "ipvlan"],
    ),
    "gone": (["link delete dev net1"], [], ["no interface", "net1"]),
}


def test_check_finds_nothing_wrong_with_a_sound_attachment(node: Node, runtime: Runtime) -> None:
    container, result = attach(node, runtime)

    runtime.check(container, CONF, result).succeeds()


@pytest.mark.parametrize("change", CHANGES)
def test_check_finds_each_change(node: Node, runtime: Runtime, change: str) -> None:
    container, result = attach(node, runtime)
    inside, on_host, words = CHANGES[change]
    for command in inside:
        container.ip(command)
    for command in on_host:
        node.host.ip(command)

    error = runtime.check(container, CONF, result).error()

    assert error["code"] == 110
    assert [word for word in words if word not in error["msg"]] == []


@pytest.mark.parametrize("master", ["bond0", "bond0.7"])
def test_check_follows_a_bond_whose_address_changes_at_a_failover(
    node: Node, runtime: Runtime, master: str
) -> None:
    bond = "bond0 type bond mode active-backup fail_over_mac active"
    node.host.ip(f"link add name {bond}")
    for name in ("eth0", "eth1"):
        node.master(name, up=False)
        node.host.ip(f"link set dev {name} master bond0")
    node.host.ip("link set dev bond0 up")
    node.host.ip("link add link bond0 name bond0.7 type vlan id 7")
    node.host.ip("link set dev bond0.7 up")
    container = node.container()
    conf = {**CONF, "master": master}
    result = runtime.add(container, conf).result()
    before = container.links()["net1"]["address"]

    node.host.ip("link set dev bond0 type bond active_slave eth1")

    assert container.links()["net1"]["address"] != before
    runtime.check(container, conf, result).succeeds()


def test_check_reports_all_differences_at_once(node: Node, runtime: Runtime) -> None:
    container, result = attach(node, runtime)
    for change in ("mode", "flag", "mtu", "prefix", "down"):
        for command in CHANGES[change][0]:
            container.ip(command)
    node.host.ip("link set dev eth0 address 02:00:00:00:00:99")

    error = runtime.check(container, {**CONF, "master": "eth1"}, result).error()

    words = ["mode", "flag", "MTU", "MAC", "down", "10.1.1.2/32", "10.7.0.0/16", "'eth1'"]
    assert [word for word in words if word not in error["msg"]] == []


@pytest.mark.parametrize("master", ["eth0", None])
def test_check_finds_another_master(node: Node, runtime: Runtime, master: str | None) -> None:
    conf = network(master=master)
    node.two_masters()
    container = node.container()
    result = runtime.add(container, conf).result()
    container.ip("link delete dev net1")
    node.host.ip("link set dev eth1 address " + result["interfaces"][0]["mac"])
    node.host.ip("link add link eth1 name moved type ipvlan mode l2")
    node.host.ip(f"link set dev moved netns {container.path} name net1")
    container.ip("address add 10.1.0.2/24 dev net1")
    container.ip("link set dev net1 up")

    error = runtime.check(container, conf, result).error()

    assert error["code"] == 110
    assert "master" in error["msg"]


def test_check_finds_that_the_master_is_gone(node: Node, runtime: Runtime) -> None:
    container, result = attach(node, runtime)

    error = runtime.check(container, {**CONF, "master": "eth9"}, result).error()

    assert error["code"] == 110
    assert "'eth9'" in error["msg"]


def test_check_without_a_master_is_not_misled_by_a_new_default_route(
    node: Node, runtime: Runtime
) -> None:
    node.two_masters()
    container = node.container()
    conf = network(master=None)
    result = runtime.add(container, conf).result()
    node.host.ip("route replace default dev eth1")

    runtime.check(container, conf, result).succeeds()


def test_an_mtu_that_is_not_configured_may_change(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, network()).result()
    container.ip("link set dev net1 mtu 1300")

    runtime.check(container, network(), result).succeeds()


def test_check_in_the_container_knows_the_master_there(node: Node, runtime: Runtime) -> None:
    container = node.container()
    container.ip("link add name inner0 type dummy")
    conf = network(master="inner0", linkInContainer=True)
    result = runtime.add(container, conf).result()

    runtime.check(container, conf, result).succeeds()

    container.ip("link add name inner1 type dummy")
    error = runtime.check(container, {**conf, "master": "inner1"}, result).error()
    assert "'inner1'" in error["msg"]


def test_check_asks_the_ipam_plugin(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    conf = network(ipam=host_local("10.1.0.0/24"))
    result = runtime.add(container, conf).result()
    runtime.check(container, conf, result).succeeds()
    (LEASES / "networks" / "net" / "10.1.0.2").unlink()

    error = runtime.check(container, conf, result).error()

    assert error["msg"].startswith("host-local: ")
    assert error["msg"].endswith("container one")


def test_what_the_ipam_plugin_finds_is_passed_on(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    fake_ipam.answers("CHECK", {"code": 42, "msg": "who is it?", "details": "x"}, status=1)
    conf = network(ipam=fake_ipam.conf)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

    error = runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).error()

    assert (error["code"], error["msg"]) == (42, "who is it?")
    assert error["details"].startswith("x\n")


@pytest.mark.parametrize("previous", [None, {}, {"interfaces": [{"name": "net1"}]}])
def test_check_needs_the_result_of_the_add(
    node: Node, runtime: Runtime, previous: dict[str, Any] | None
) -> None:
    container, _ = attach(node, runtime)
    conf = network(prevResult=previous)

    error = runtime.call("CHECK", container, conf).error()

    assert error["code"] == (7 if previous is None else 110)
    assert "prevResult" in error["msg"]


@pytest.mark.parametrize("added", ["name", "process"])
@pytest.mark.parametrize("checked", ["name", "link", "process"])
def test_check_knows_the_namespace_by_any_path(
    node: Node, runtime: Runtime, added: str, checked: str
) -> None:
    process = node.container_of_a_process()
    run("ip", "netns", "attach", "both", process.path.split("/")[2])
    paths = {"name": "/run/netns/both", "link": "/var/run/netns/both", "process": process.path}
    node.master()
    result = runtime.add(paths[added], network()).result()

    runtime.check(paths[checked], network(), result).succeeds()


@pytest.mark.parametrize(
    "sandbox", ["", "/run/netns/gone", "/run/netns/other", "container1", "/run/netns/\0", "/\ud800"]
)
def test_check_reports_a_sandbox_that_leads_elsewhere(
    node: Node, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, sandbox: str
) -> None:
    container, result = attach(node, runtime)
    node.namespace("other")
    result["interfaces"][0]["sandbox"] = sandbox
    monkeypatch.chdir("/run/netns")

    error = runtime.check(container, CONF, result).error()

    assert error["code"] == 110
    assert f"prevResult has no interface 'net1' in the namespace {container.path}" in error["msg"]


def test_check_changes_nothing(node: Node, runtime: Runtime) -> None:
    container, result = attach(node, runtime)
    container.ip("link set dev net1 mtu 1300")
    before = node.snapshot()

    assert runtime.check(container, CONF, result).error()
    assert node.snapshot() == before


def attach(node: Node, runtime: Runtime) -> tuple[Space, dict[str, Any]]:
    node.master("eth0")
    node.master("eth1")
    container = node.container()
    return container, runtime.add(container, CONF).result()
