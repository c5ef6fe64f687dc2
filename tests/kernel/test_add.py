"""What ADD makes of a configuration, seen in the kernel."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Node
from runtime import Runtime, network, static

# An option missing, and what encoders of other languages write for one that is not given.
NOT_GIVEN: dict[str, dict[str, Any]] = {
    "absent": {},
    "null": dict.fromkeys(("mode", "flag", "mtu", "dns", "prevResult", "linkInContainer")),
    "empty": {"mode": "", "flag": "", "mtu": 0, "dns": {}},
}


@pytest.mark.parametrize(
    ("mode", "flag"), [("l2", "bridge"), ("l3", "private"), ("l3s", "vepa"), ("l2", "private")]
)
def test_add_makes_the_interface_in_the_mode_and_flag_asked_for(
    node: Node, runtime: Runtime, mode: str, flag: str
) -> None:
    node.master()
    container = node.container()

    runtime.add(container, network(mode=mode, flag=flag)).result()

    assert container.ipvlan("net1") == {"mode": mode, "flag": flag, "mtu": 1500, "up": True}


@pytest.mark.parametrize("options", NOT_GIVEN.values(), ids=NOT_GIVEN)
def test_options_that_are_not_given_have_their_defaults(
    node: Node, runtime: Runtime, options: dict[str, Any]
) -> None:
    node.master(mtu=1400)
    container = node.container()

    runtime.add(container, {**network(), **options}).result()

    assert container.ipvlan("net1") == {"mode": "l2", "flag": "bridge", "mtu": 1400, "up": True}


@pytest.mark.parametrize("mtu", [68, 1280, 1500])
def test_add_sets_the_mtu_asked_for(node: Node, runtime: Runtime, mtu: int) -> None:
    node.master(mtu=1500)
    container = node.container()

    runtime.add(container, network(mtu=mtu)).result()

    assert container.ipvlan("net1")["mtu"] == mtu


def test_add_adds_every_address_and_announces_it(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    addresses = ["10.1.0.2/24", "10.1.1.2/32"]

    runtime.add(container, network(ipam=static(*addresses))).result()

    assert container.addresses("net1") == addresses
    assert container.sysctl("net/ipv4/conf/net1/arp_notify") == "1"
    assert container.sysctl("net/ipv6/conf/net1/ndisc_notify") == "1"


def test_the_result_is_read_back_from_the_kernel(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()

    result = runtime.add(container, network(ipam=static("10.1.0.2/24", gateway="10.1.0.1")))

    assert result.result() == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {
                "name": "net1",
                "mac": container.links()["net1"]["address"],
                "sandbox": container.path,
            }
        ],
        "ips": [{"interface": 0, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}],
    }


def test_add_leaves_nothing_on_the_host(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    before = node.host.links()

    runtime.add(container, network()).result()

    assert node.host.links() == before


@pytest.mark.parametrize(
    ("configured", "reported"),
    [
        (None, {"nameservers": ["10.1.0.53"], "search": ["from.ipam"]}),
        ({"nameservers": ["10.9.9.9"]}, {"nameservers": ["10.9.9.9"]}),
        ({"domain": "", "nameservers": ["10.9.9.9"], "search": []}, {"nameservers": ["10.9.9.9"]}),
    ],
)
def test_dns_is_the_configurations_or_else_the_ipam_plugins(
    node: Node, runtime: Runtime, configured: dict[str, Any] | None, reported: dict[str, Any]
) -> None:
    node.master()
    dns = {"nameservers": ["10.1.0.53"], "search": ["from.ipam"]}

    conf = network(ipam=static("10.1.0.2/24", dns=dns), dns=configured)

    assert runtime.add(node.container(), conf).result()["dns"] == reported


@pytest.mark.parametrize(
    ("slip", "meant"), [("mtuu", "mtu"), ("Mode", "mode"), ("masters", "master"), ("falg", "flag")]
)
def test_a_misspelt_option_gets_a_warning(
    node: Node, runtime: Runtime, slip: str, meant: str
) -> None:
    node.master()

    answer = runtime.add(node.container(), network(**{slip: None}) | {slip: "anything"})

    assert answer.result()
    assert repr(slip) in answer.stderr
    assert repr(meant) in answer.stderr


def test_other_keys_are_accepted_silently(node: Node, runtime: Runtime) -> None:
    node.master()
    others = {
        "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
        "args": {"cni": {"labels": []}},
        "capabilities": {"ips": True},
        "somebody.example/key": [1, {"deep": None}],
    }

    answer = runtime.add(node.container(), network(**others))

    assert answer.result()
    assert answer.stderr == ""


def test_add_is_possible_on_a_master_that_is_down(node: Node, runtime: Runtime) -> None:
    node.master(up=False)
    container = node.container()

    runtime.add(container, network()).result()

    assert container.addresses("net1") == ["10.1.0.2/24"]


def test_the_master_may_live_in_the_container(node: Node, runtime: Runtime) -> None:
    container = node.container()
    container.ip("link add name inner0 type dummy")
    before = node.host.links()
    conf = network(master="inner0", linkInContainer=True, mode="l3")

    runtime.add(container, conf).result()

    assert container.links()["net1"]["link"] == "inner0"
    assert container.ipvlan("net1")["mode"] == "l3"
    assert node.host.links() == before
    runtime.delete(container, conf).succeeds()
    assert container.links().keys() == {"lo", "inner0"}


def test_ipam_is_required_unless_chained(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    error = runtime.add(container, network(ipam=None)).error()

    assert error["code"] == 7
    assert "ipam" in error["msg"]
    assert node.snapshot() == before


def test_a_second_add_fails_and_leaves_the_first_attachment_as_it_is(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    conf = network(ipam={"type": "host-local", "subnet": "10.1.0.0/24"})
    result = runtime.add(container, conf).result()
    before = node.snapshot()

    error = runtime.add(container, conf).error()

    assert error["code"] == 105
    assert "net1" in error["msg"]
    assert node.snapshot() == before
    assert node.leases() == ["10.1.0.2"]
    runtime.check(container, conf, result).succeeds()
