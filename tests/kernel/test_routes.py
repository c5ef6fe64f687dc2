"""The routes that an IPAM plugin asks for, as the kernel then has them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from doubles import FakeIpam
from lab import Node, Space
from runtime import Runtime, host_local, network, static

ADDRESSES = [
    {"address": "10.1.0.2/24", "gateway": "10.1.0.1"},
    {"address": "fd00:1::2/64", "gateway": "fd00:1::1"},
]


def test_a_route_goes_through_its_gateway_or_the_addresses_of_its_family(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = quick_container(node)
    routes = [
        {"dst": "0.0.0.0/0"},
        {"dst": "10.7.0.0/16", "gw": "10.1.0.9"},
        {"dst": "::/0"},
        {"dst": "fd00:7::/64", "gw": "fd00:1::9"},
    ]
    ipam = host_local("10.1.0.0/24", "fd00:1::/64", routes=routes)

    result = runtime.add(container, network(ipam=ipam)).result()

    assert {(each["dst"], each["gateway"]) for each in container.routes()} == {
        ("default", "10.1.0.1"),
        ("10.7.0.0/16", "10.1.0.9"),
        ("default", "fd00:1::1"),
        ("fd00:7::/64", "fd00:1::9"),
    }
    assert result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
        {"dst": "10.7.0.0/16", "gw": "10.1.0.9"},
        {"dst": "::/0", "gw": "fd00:1::1"},
        {"dst": "fd00:7::/64", "gw": "fd00:1::9"},
    ]


def test_without_any_gateway_a_route_leads_straight_to_the_wire(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = quick_container(node)
    routes = [{"dst": "10.7.0.0/16"}, {"dst": "fd00:7::/64"}]
    ipam = static("10.1.0.2/24", "fd00:1::2/64", routes=routes)

    runtime.add(container, network(ipam=ipam)).result()

    assert {(each["dst"], each["dev"], each.get("gateway")) for each in container.routes()} == {
        ("10.7.0.0/16", "net1", None),
        ("fd00:7::/64", "net1", None),
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"priority": 50}, {"metric": 50}),
        ({"table": 1000}, {"table": "1000"}),
        ({"table": 1000, "priority": 7}, {"table": "1000", "metric": 7}),
        ({"mtu": 1300, "advmss": 1200}, {"metrics": [{"mtu": 1300, "advmss": 1200}]}),
    ],
)
@pytest.mark.parametrize("dst", ["10.7.0.0/16", "fd00:7::/64"])
def test_a_route_has_the_attributes_asked_for(
    node: Node,
    runtime: Runtime,
    fake_ipam: FakeIpam,
    dst: str,
    attributes: dict[str, int],
    expected: dict[str, Any],
) -> None:
    route = only_route(node, runtime, fake_ipam, {"dst": dst, **attributes})

    assert expected.items() <= route.items()


def test_a_route_has_the_scope_asked_for(node: Node, runtime: Runtime, fake_ipam: FakeIpam) -> None:
    no_gateway = [{"address": "10.1.0.2/24"}]
    route = {"dst": "10.7.0.0/16", "scope": 0}  # the kernel's choice here would be link

    assert only_route(node, runtime, fake_ipam, route, no_gateway)["scope"] == "0"


@pytest.mark.parametrize("scope", [253, 254], ids=["link", "host"])
@pytest.mark.parametrize("dst", ["10.7.0.0/16", "fd00:7::/64"])
@pytest.mark.parametrize("source", ["IPAM", "prevResult"])
def test_a_route_that_ends_at_the_link_gets_no_gateway(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, source: str, dst: str, scope: int
) -> None:
    node.master()
    container = quick_container(node)
    route = {"dst": dst, "scope": scope}
    answer = {"cniVersion": "1.1.0", "ips": ADDRESSES, "routes": [route]}
    fake_ipam.answers("ADD", answer)
    given = {"ipam": fake_ipam.conf} if source == "IPAM" else {"ipam": None, "prevResult": answer}
    conf = network(cniVersion="1.1.0", **given)

    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

    assert result["routes"] == [route]
    (found,) = container.routes()
    assert "gateway" not in found
    assert found["scope"] == (str(scope) if "." in dst else "0")  # IPv6 has no scopes
    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()


@pytest.mark.parametrize(
    "routes",
    [
        [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}],
        [{"dst": "10.7.0.0/16"}, {"dst": "10.7.0.0/16", "gw": "10.1.0.9"}],
    ],
    ids=["gateway out of reach", "there already"],
)
def test_a_route_that_the_kernel_refuses_undoes_everything(
    node: Node, runtime: Runtime, routes: list[dict[str, str]]
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    error = runtime.add(container, network(ipam=host_local("10.1.0.0/24", routes=routes))).error()

    assert error["code"] == 107
    assert "10.7.0.0/16" in error["msg"]
    assert node.snapshot() == before
    assert node.leases() == []


def only_route(
    node: Node,
    runtime: Runtime,
    fake_ipam: FakeIpam,
    route: dict[str, Any],
    addresses: list[dict[str, str]] = ADDRESSES,
) -> dict[str, Any]:
    """Attach a container to have this one route, CHECK it, and return what the kernel has."""
    node.master()
    container = quick_container(node)
    fake_ipam.answers("ADD", {"cniVersion": "1.1.0", "ips": addresses, "routes": [route]})
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()
    assert route.items() <= result["routes"][0].items()
    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()
    (found,) = container.routes()
    return found


def quick_container(node: Node) -> Space:
    """Make a container which does not wait for duplicate address detection."""
    container = node.container()
    container.sysctl("net/ipv6/conf/default/accept_dad", 0)
    return container


def test_thousands_of_routes_are_checked_in_a_moment(node: Node, runtime: Runtime) -> None:
    """Each with the routes of its destination only: 5,000 once took 15 seconds."""
    node.master()
    container = node.container()
    routes = [{"dst": f"10.{2 + number // 256}.{number % 256}.0/24"} for number in range(5000)]
    conf = network(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=routes))
    result = runtime.add(container, conf).result()
    began = time.monotonic()

    runtime.check(container, conf, result).succeeds()

    assert time.monotonic() - began < 5
    container.ip("route delete 10.7.7.0/24")
    assert (
        "10.7.7.0/24 via 10.1.0.1 is missing"
        in runtime.check(container, conf, result).error()["msg"]
    )
