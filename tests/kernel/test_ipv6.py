"""IPv6: enabled if it is disabled, and duplicate addresses detected."""

from __future__ import annotations

import time

from lab import Node, Space
from runtime import Runtime, host_local, network, static

ADDRESS = "fd00:1::2/64"


def test_ipv6_is_switched_on_for_the_interface_and_lo(node: Node, runtime: Runtime) -> None:
    node.master()
    container = without_ipv6(node)

    runtime.add(container, network(ipam=static("10.1.0.2/24", ADDRESS))).result()

    assert container.addresses("net1") == ["10.1.0.2/24", ADDRESS]
    assert container.sysctl("net/ipv6/conf/net1/disable_ipv6") == "0"
    assert container.sysctl("net/ipv6/conf/lo/disable_ipv6") == "0"


def test_ipv6_stays_off_where_there_is_no_ipv6_address(node: Node, runtime: Runtime) -> None:
    node.master()
    container = without_ipv6(node)

    runtime.add(container, network(ipam=static("10.1.0.2/24"))).result()

    assert container.sysctl("net/ipv6/conf/net1/disable_ipv6") == "1"
    assert container.sysctl("net/ipv6/conf/lo/disable_ipv6") == "1"


def test_duplicate_detection_has_ended_when_add_returns(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()

    runtime.add(container, network(ipam=static(ADDRESS))).result()

    states = [
        info
        for entry in container.ask("-6", "address", "show", "dev", "net1")
        for info in entry["addr_info"]
        if info["local"] == "fd00:1::2"
    ]
    assert len(states) == 1
    assert not {"tentative", "dadfailed"} & states[0].keys()


def test_an_address_that_another_host_on_the_wire_has_is_an_error(
    node: Node, runtime: Runtime
) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("address add 10.1.0.9/24 dev eth0")
    neighbour.ip(f"address add {ADDRESS} dev eth0 nodad")
    container = without_ipv6(node)
    before = node.snapshot()

    error = runtime.add(container, network(ipam=host_local("fd00:1::/64"))).error()

    assert error["code"] == 106
    assert ADDRESS in error["msg"]
    assert node.snapshot() == before


def test_an_address_that_another_hosts_container_has_is_an_error(
    node: Node, runtime: Runtime
) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
    elsewhere = node.container()
    neighbour.ip(f"link set dev slave netns {elsewhere.path}")
    elsewhere.ip(f"address add {ADDRESS} dev slave nodad")
    elsewhere.ip("link set dev slave up")

    assert runtime.add(node.container(), network(ipam=static(ADDRESS))).error()["code"] == 106


def test_a_duplicate_that_is_none_of_our_addresses_is_no_failure(
    node: Node, runtime: Runtime
) -> None:
    neighbour = node.master_on_a_wire()
    container = node.container()
    conf = network(ipam=static(ADDRESS))
    runtime.add(container, conf).result()
    (own,) = [
        info["local"]
        for info in container.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"]
        if info["scope"] == "253"
    ]
    runtime.delete(container, conf).succeeds()
    neighbour.ip(f"address add {own}/64 dev eth0 nodad")  # which net1 will get again

    runtime.add(container, conf).result()

    assert own in container.ip("-6 address show dev net1 dadfailed")


def test_detection_that_cannot_end_holds_add_up_for_five_seconds_and_no_longer(
    node: Node, runtime: Runtime
) -> None:
    node.master_on_a_wire().ip("link set dev eth0 down")
    container = node.container()
    start = time.monotonic()

    answer = runtime.add(container, network(ipam=static(ADDRESS)))

    assert 5 <= time.monotonic() - start < 9
    assert container.addresses("net1") == [ADDRESS]
    assert answer.result()
    assert ADDRESS in answer.stderr


def without_ipv6(node: Node) -> Space:
    container = node.container()
    for name in ("all", "default"):
        container.sysctl(f"net/ipv6/conf/{name}/disable_ipv6", 1)
    container.ip("link set dev lo up")
    return container
