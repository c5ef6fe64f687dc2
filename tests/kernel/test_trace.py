"""ipvlan trace: what it says of two ends, and whether they reach each other in fact."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import Node, Space, run
from people import ipvlan
from runtime import Runtime, network, static

HOST = "10.1.0.10"


def attached(runtime: Runtime, container: Space, address: str, **options: Any) -> str:
    """Attach a container to a network; return its container ID."""
    identity = f"container-{address.partition('/')[0]}"
    gateway = options.pop("gateway", "")
    routes = [{"dst": "0.0.0.0/0"}] if gateway or options.get("mode") == "l3" else []
    conf = network(ipam=static(address, gateway=gateway, routes=routes), **options)
    runtime.add(container, conf, CNI_CONTAINERID=identity).result()
    return identity


def trace(one: Space | str, other: Space | str, status: int = 0) -> dict[str, Any]:
    """Return what is reported of two ends: the findings by their subjects."""
    names = [each if isinstance(each, str) else each.path for each in (one, other)]
    said = ipvlan("trace", *names, "--json")
    assert said.status == status, said
    document: dict[str, Any] = json.loads(said.out)
    return {**document, **{each["subject"]: each for each in document["findings"]}}


@pytest.fixture
def two(node: Node) -> tuple[Space, Space]:
    return node.container(), node.container()


def test_two_on_one_master(node: Node, runtime: Runtime, two: tuple[Space, Space]) -> None:
    node.master()
    first = attached(runtime, two[0], "10.1.0.2/24")
    attached(runtime, two[1], "10.1.0.3/24")

    for one, other in (two, (first, "10.1.0.3"), ("10.1.0.2", two[1].path)):
        found = trace(one, other)
        assert found["flag"]["state"] == "ok"
        assert found["tried"]["text"].startswith("10.1.0.3 answers net1")


def test_flag_private(node: Node, runtime: Runtime, two: tuple[Space, Space]) -> None:
    node.master()
    for container, address in zip(two, ("10.1.0.2/24", "10.1.0.3/24"), strict=True):
        attached(runtime, container, address, flag="private")

    found = trace(*two, status=1)

    assert "flag private keeps them apart" in found["verdict"]
    assert found["tried"]["state"] == "problem"


def test_flag_vepa_without_a_switch(node: Node, runtime: Runtime, two: tuple[Space, Space]) -> None:
    node.master()
    for container, address in zip(two, ("10.1.0.2/24", "10.1.0.3/24"), strict=True):
        attached(runtime, container, address, flag="vepa")

    found = trace(*two, status=1)

    assert "reflective relay" in found["flag"]["advice"]
    assert found["tried"]["state"] == "problem"


def test_overlapping_ranges_of_two_masters(
    node: Node, runtime: Runtime, two: tuple[Space, Space]
) -> None:
    for number, container in enumerate(two):
        node.master(f"eth{number}")
        address = f"10.1.0.{number + 2}/24"
        attached(runtime, container, address, master=f"eth{number}", name=f"net{number}")

    found = trace(*two, status=1)

    assert found["masters"]["text"] == "they have different masters, eth0 and eth1"
    assert "their subnets overlap" in found["ranges"]["text"]


def test_no_route_back(node: Node, runtime: Runtime, two: tuple[Space, Space]) -> None:
    node.master()
    attached(runtime, two[0], "10.1.0.2/24", mode="l3")
    attached(runtime, two[1], "10.2.0.2/24", mode="l3")
    two[1].ip("route delete default")

    found = trace(*two, status=1)

    assert found["way"]["state"] == "ok"
    assert found["way back"]["state"] == "problem"
    assert "no route to 10.1.0.2" in found["verdict"]


def test_different_subnets_in_mode_l3(
    node: Node, runtime: Runtime, two: tuple[Space, Space]
) -> None:
    node.master()
    attached(runtime, two[0], "10.1.0.2/24", mode="l3")
    attached(runtime, two[1], "10.2.0.2/24", mode="l3")

    assert trace(*two)["tried"]["state"] == "ok"


def test_an_address_twice(node: Node, runtime: Runtime, two: tuple[Space, Space]) -> None:
    for number, container in enumerate(two):
        node.master(f"eth{number}")
        attached(runtime, container, "10.1.0.2/24", master=f"eth{number}", name=f"net{number}")
    third = node.container()
    attached(runtime, third, "10.1.0.3/24")

    found = trace(third, two[0])

    assert found["address"]["state"] == "warning"  # they reach each other all the same
    assert "is there 2 times" in found["address"]["text"]


def test_an_address_elsewhere(node: Node, runtime: Runtime) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("address add 10.1.0.1/24 dev eth0")
    container = node.container()
    attached(runtime, container, "10.1.0.2/24", gateway="10.1.0.1")

    assert trace(container, "10.1.0.1")["tried"]["state"] == "ok"
    assert trace(container, "10.1.0.77", status=1)["tried"]["state"] == "problem"
    assert "not on this node" in trace("10.1.0.1", container, status=1)["verdict"]


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_the_remedy_for_the_host_and_its_own_container(
    node: Node, runtime: Runtime, mode: str
) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("address add 10.1.0.1/24 dev eth0")
    node.host.ip(f"address add {HOST}/24 dev eth0")
    container = node.container()
    attached(runtime, container, "10.1.0.2/24", mode=mode)

    remedy: list[str] = []
    for one, other in ((container, "host"), ("host", container)):
        found = trace(one, other, status=1)
        assert "a host and its own ipvlan interfaces" in found["verdict"]
        assert found["tried"]["state"] == "problem"

        remedy = [line for line in found["next"].splitlines() if line.startswith("ip ")]
    run("sh", "-e", stdin="\n".join(remedy))

    assert trace("host", container)["tried"]["state"] == "ok"
    assert trace(container, "host")["tried"]["state"] == "ok"
    # The host still reaches others, and others the container.
    node.host.run("ping", "-c", "1", "-w", "2", "10.1.0.1")
    if mode == "l2":
        neighbour.run("ping", "-c", "1", "-w", "2", "10.1.0.2")


def test_with_flag_private_there_is_no_remedy(node: Node, runtime: Runtime) -> None:
    node.master()
    node.host.ip(f"address add {HOST}/24 dev eth0")
    container = node.container()
    attached(runtime, container, "10.1.0.2/24", flag="private")

    found = trace("host", container, status=1)

    assert "use flag bridge" in found["next"]
    assert "ip link add" not in found["next"]


def test_an_unknown_end(node: Node, runtime: Runtime) -> None:
    node.master()
    attached(runtime, node.container(), "10.1.0.2/24")

    said = ipvlan("trace", "nobody", "host")

    assert said.status == 2
    assert "'nobody'" in said.err
