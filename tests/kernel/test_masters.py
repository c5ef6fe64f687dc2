"""Which master ADD takes, and which it refuses before it changes anything."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Node, run
from runtime import Runtime, network, static


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (["default via 10.8.0.9 metric 200 dev eth0", "default dev eth1 metric 100"], "eth1"),
        (["default dev eth1 metric 100", "default via 10.8.0.9 dev eth0"], "eth0"),
        (["default dev eth1 metric 900", "-6 default dev eth0 metric 1"], "eth1"),
        (["-6 default dev eth0 metric 20", "-6 default dev eth1 metric 10"], "eth1"),
        (["unreachable default metric 1", "default dev eth1 metric 900"], "eth1"),
        (["default nexthop dev eth1 nexthop via 10.8.0.9 dev eth0"], "eth1"),
    ],
    ids=["lowest metric", "none is 0", "IPv4 first", "IPv6 then", "unreachable", "multipath"],
)
def test_without_a_master_it_is_the_default_routes_interface(
    node: Node, runtime: Runtime, routes: list[str], expected: str
) -> None:
    two_masters_with_routes(node, routes)
    container = node.container()

    runtime.add(container, network(master=None)).result()

    assert node.master_of(container) == expected


def test_an_empty_master_is_not_given(node: Node, runtime: Runtime) -> None:
    two_masters_with_routes(node, ["default dev eth1"])
    container = node.container()

    runtime.add(container, network(master="")).result()

    assert node.master_of(container) == "eth1"


def test_a_configured_master_counts_before_the_default_routes(node: Node, runtime: Runtime) -> None:
    two_masters_with_routes(node, ["default dev eth1"])
    container = node.container()

    runtime.add(container, network(master="eth0")).result()

    assert node.master_of(container) == "eth0"


def test_in_the_container_it_is_the_containers_default_routes(node: Node, runtime: Runtime) -> None:
    two_masters_with_routes(node, ["default dev eth1"])
    container = node.container()
    container.ip("link add name inner0 type dummy")
    container.ip("link set dev inner0 up")
    container.ip("route add default dev inner0")

    runtime.add(container, network(master=None, linkInContainer=True)).result()

    assert container.links()["net1"]["link"] == "inner0"


def test_without_a_master_and_without_a_default_route_add_is_refused(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    assert refusal(node, runtime, network(master=None)) == 102


def test_a_master_that_is_not_there_is_refused_with_those_that_are(
    node: Node, runtime: Runtime
) -> None:
    node.master("eth7")
    container = node.container()

    answer = runtime.add(container, network(master="eth0"))

    error = answer.error()
    assert error["code"] == 102
    assert "'eth0'" in error["msg"]
    assert "eth7" in answer.stderr


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_a_port_is_refused_as_master(node: Node, runtime: Runtime, kind: str) -> None:
    node.master(up=False)
    run("ip", "link", "add", "name", "upper0", "type", kind)
    run("ip", "link", "set", "dev", "eth0", "master", "upper0")

    answer = runtime.add(node.container(), network())

    error = answer.error()
    assert error["code"] == 103
    assert kind in error["msg"]
    assert "upper0" in answer.stderr


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_a_master_taken_by_macvlan_is_refused(node: Node, runtime: Runtime, kind: str) -> None:
    node.master()
    node.master("eth1")
    run("ip", "link", "add", "name", "taker0", "link", "eth0", "type", kind)

    answer = runtime.add(node.container(), network())

    assert answer.error()["code"] == 103
    assert "taker0" in answer.stderr
    runtime.add(node.container(), network(master="eth1")).result()


def test_a_master_that_is_no_ethernet_interface_is_refused(node: Node, runtime: Runtime) -> None:
    run("ip", "tuntap", "add", "dev", "eth0", "mode", "tun")
    assert refusal(node, runtime, network()) == 103


@pytest.mark.parametrize("mtu", [1, 67, 1501, 65535])
def test_an_mtu_that_the_master_cannot_carry_is_refused(
    node: Node, runtime: Runtime, mtu: int
) -> None:
    node.master(mtu=1500)
    container = node.container()
    before = node.snapshot()

    error = runtime.add(container, network(mtu=mtu)).error()

    assert error["code"] == 7
    assert all(word in error["msg"] for word in ("mtu", str(mtu), "68", "1500"))
    assert node.snapshot() == before


def test_a_name_that_is_taken_is_refused(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    container.ip("link add name net1 type dummy")
    before = node.snapshot()

    error = runtime.add(container, network()).error()

    assert error["code"] == 105
    assert all(word in error["msg"] for word in ("'net1'", "dummy"))
    assert node.snapshot() == before


def test_an_address_that_another_container_of_the_master_has_is_refused(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    runtime.add(node.container(), network(ipam=static("10.1.0.2/24"))).result()

    assert refusal(node, runtime, network(ipam=static("10.1.0.2/24"))) == 106


def two_masters_with_routes(node: Node, routes: list[str]) -> None:
    for name in ("eth0", "eth1"):
        node.master(name)
    run("ip", "address", "add", "10.8.0.1/24", "dev", "eth0")
    for route in routes:
        family = [word for word in route.split() if word == "-6"]
        words = [word for word in route.split() if word != "-6"]
        kind = [words.pop(0)] if words[0] == "unreachable" else []
        run("ip", *family, "route", "add", *kind, *words)


def refusal(node: Node, runtime: Runtime, conf: dict[str, Any]) -> int:
    """Return the code with which ADD refuses; it must leave everything as it was."""
    container = node.container()
    before = node.snapshot()
    code: int = runtime.add(container, conf, CNI_CONTAINERID="refused").error()["code"]
    assert node.snapshot() == before
    return code
