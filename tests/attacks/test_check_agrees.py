"""What ADD reported as a success, CHECK finds in order; and it finds what was changed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam, Steps
from lab import Node, Space
from pairwise import combine
from runtime import Runtime, network, static

Route = dict[str, Any]

HIGHEST = str(2**32 - 1)
# For each attribute: values that are special to the kernel, or near its limits.
VALUES = {
    "gw": ["", "unspecified", "address"],
    "table": ["", "0", "1", "253", "254", "255", "256", HIGHEST],
    "priority": ["", "0", "1", "1024", HIGHEST],
    "scope": ["", "0", "1", "200", "253", "254", "255"],
    "mtu": ["", "0", "1", "65520", "65521", HIGHEST],
    "advmss": ["", "0", "1", "65495", "65496", HIGHEST],
}
# Another value of each, as a person gives it to ip(8).
OTHER = {"table": "table 77", "priority": "metric 7", "scope": "scope 99"}
OTHER |= {"mtu": "mtu 1300", "advmss": "advmss 1200"}
FAMILIES = {4: ("10.1.0.2/24", "10.1.0.1", "0.0.0.0"), 6: ("fd00:1::2/64", "fd00:1::1", "::")}


@pytest.mark.parametrize("family", FAMILIES)
def test_check_finds_the_routes_as_add_left_them(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, family: int
) -> None:
    combinations = [as_route(family, each) for each in combine(VALUES)]
    routes = numbered(family, [each for each in combinations if is_possible(family, each)])
    assert len(routes) > len(combinations) / 2

    container, conf, result = attach(node, runtime, fake_ipam, family, routes)

    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()
    lost = routes[len(routes) // 2]["dst"]
    container.ip(f"-{family} route flush table all {lost}")
    error = runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).error()
    assert lost in error["msg"]
    assert error["msg"].count(" is missing") == 1


@pytest.mark.parametrize(
    ("family", "attribute"),
    # IPv6 has no scope to change.
    [(family, name) for family in FAMILIES for name in OTHER if (family, name) != (6, "scope")],
)
def test_check_finds_an_attribute_changed(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, family: int, attribute: str
) -> None:
    possible = [as_route(family, {attribute: value}) for value in VALUES[attribute] if value]
    routes = numbered(family, [each for each in possible if is_possible(family, each)])
    container, conf, result = attach(node, runtime, fake_ipam, family, routes)
    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()

    for route in routes:
        container.ip(f"-{family} route flush table all {route['dst']}")
        container.ip(f"route add {route['dst']} dev net1 {OTHER[attribute]}")

    error = runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).error()
    assert [route for route in routes if route["dst"] not in error["msg"]] == []


@pytest.mark.parametrize(
    "dst",
    [
        *("0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/8", "0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/4"),
        *("255.255.255.255/32", "::/0", "::/1", "::/96", "::/128", "::1/128", "::1.2.3.0/120"),
        *("::ffff:0:0/96", "fe80::/64", "fd00:1::/64", "ff0e::/16"),
    ],
)
def test_check_finds_a_route_to(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, dst: str
) -> None:
    family = 6 if ":" in dst else 4
    routes = [{"dst": dst, "gw": FAMILIES[family][1]}]
    container, conf, result = attach(node, runtime, fake_ipam, family, routes)
    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()

    container.ip(f"route delete {dst} via {FAMILIES[family][1]}")

    error = runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).error()
    assert (error["code"], result["routes"][0]["dst"] in error["msg"]) == (110, True)


@pytest.mark.parametrize("mtu", [0, 68, 1279, 1280, 1499, 1500])
def test_check_finds_the_mtu_as_add_left_it(node: Node, runtime: Runtime, mtu: int) -> None:
    node.master()
    container = node.container()
    conf = network(mtu=mtu)
    result = runtime.add(container, conf).result()
    runtime.check(container, conf, result).succeeds()

    container.ip(f"link set dev net1 mtu {mtu - 1 if mtu > 68 else mtu + 69}")

    if mtu:  # else it may be anything
        assert "MTU" in runtime.check(container, conf, result).error()["msg"]


IMPOSSIBLE = ["0.0.0.0/0", "0.0.0.0/32", "0.0.0.0/24", "::/0", "::/128", "::1/128", "ff02::1/64"]


@pytest.mark.parametrize("address", IMPOSSIBLE)
@pytest.mark.parametrize("chained", [False, True], ids=["from IPAM", "from prevResult"])
def test_an_address_that_no_interface_can_have_is_an_error(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, address: str, *, chained: bool
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    addresses = {"ips": [{"address": "10.1.0.2/24"}, {"address": address}]}
    fake_ipam.answers("ADD", addresses)
    conf = network(ipam=fake_ipam.conf)
    if chained:
        conf = network(ipam=None, prevResult={"cniVersion": "1.0.0", **addresses})

    error = runtime.add(container, conf, CNI_PATH=fake_ipam.path).error()

    if address.startswith(("0", "::/")):
        assert error["code"] == (7 if chained else 109)
    assert address in error["msg"]
    assert fake_ipam.calls == ([] if chained else ["ADD", "DEL"])
    assert node.snapshot() == before


@pytest.mark.parametrize("address", ["10.1.0.2/24", "fd00:1::2/64"])
def test_an_address_that_vanishes_during_add_is_an_error(
    node: Node, runtime: Runtime, tmp_path: Path, address: str
) -> None:
    node.master()
    container = quick_container(node)
    conf = network(ipam=static("10.1.0.2/24", "fd00:1::2/64"))
    steps = Steps(tmp_path)
    runtime.add(container, conf, **steps.environment).result()
    last = [step.number for step in steps.taken if "show" in step.words][-1]
    runtime.delete(container, conf).succeeds()
    before = node.snapshot()
    steps.forget()
    # By the script that replaces ip(8).
    away = f"nsenter --net={container.path} ip address delete {address} dev net1"
    steps.at(last, f"{away}; {away} 2>/dev/null")

    error = runtime.add(container, conf, **steps.environment).error()

    assert (error["code"], address in error["msg"]) == (100, True)
    assert node.snapshot() == before


def as_route(family: int, setting: dict[str, str]) -> Route:
    """Return a route without dst, of the values that are given."""
    _, gateway, unspecified = FAMILIES[family]
    words = {"unspecified": unspecified, "address": gateway}
    return {
        name: words.get(value) or int(value)
        for name, value in setting.items()
        if value and (family, value) != (6, "unspecified")  # "Error: Invalid gateway address."
    }


def is_possible(family: int, route: Route) -> bool:
    """Whether the kernel accepts such a route; in IPv4 a gateway must be nearer than the goal."""
    farthest = 252 if route.get("gw") == FAMILIES[4][1] else 254
    return family == 6 or route.get("scope", 0) <= farthest


def numbered(family: int, routes: list[Route]) -> list[Route]:
    """Give each route its own destination."""
    form = "10.7.{}.0/24" if family == 4 else "fd00:7:{:x}::/48"
    return [{"dst": form.format(number), **each} for number, each in enumerate(routes, 1)]


def attach(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, family: int, routes: list[Route]
) -> tuple[Space, dict[str, Any], dict[str, Any]]:
    """Attach a container; return it, the configuration and the result of ADD."""
    node.master()
    container = quick_container(node)
    addresses = [{"address": FAMILIES[family][0]}]
    fake_ipam.answers("ADD", {"cniVersion": "1.1.0", "ips": addresses, "routes": routes})
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()
    assert len(result["routes"]) == len(routes)
    return container, conf, result


def quick_container(node: Node) -> Space:
    """Make a container which does not wait for duplicate address detection."""
    container = node.container()
    container.sysctl("net/ipv6/conf/default/accept_dad", 0)
    return container
