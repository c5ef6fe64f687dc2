"""The routes that an IPAM plugin asks for, as the kernel then has them, and CHECK finds them."""

from pathlib import Path
from typing import Any

import pytest
from doubles import Steps
from runtime import host_local, static
from sampling import combine, sample
from setup import Attachment, Setup


def test_a_route_goes_through_its_gateway_or_the_addresses_of_its_family(setup: Setup) -> None:
    routes = [
        {"dst": "0.0.0.0/0"},
        {"dst": "10.7.0.0/16", "gw": "10.1.0.9"},
        {"dst": "::/0"},
        {"dst": "fd00:7::/64", "gw": "fd00:1::9"},
    ]
    subnets = [{"dst": "10.1.0.0/24"}, {"dst": "fd00:1::/64"}]  # the kernel has made these
    added = setup.add(ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=[*routes, *subnets]))

    assert {(each["dst"], each["gateway"]) for each in setup.container.routes()} == {
        ("default", "10.1.0.1"),
        ("10.7.0.0/16", "10.1.0.9"),
        ("default", "fd00:1::1"),
        ("fd00:7::/64", "fd00:1::9"),
    }
    defaults = [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}]
    assert added.result["routes"] == [*subnets, defaults[0], routes[1], defaults[1], routes[3]]


@pytest.mark.parametrize("unspecified", [{4: {}, 6: {}}, {4: {"gw": "0.0.0.0"}, 6: {"gw": "::"}}])
def test_without_any_gateway_a_route_leads_straight_to_the_wire(
    setup: Setup, unspecified: dict[int, dict[str, str]]
) -> None:
    routes = [{"dst": "10.7.0.0/16", **unspecified[4]}, {"dst": "fd00:7::/64", **unspecified[6]}]
    routes.insert(0, {"dst": "0.0.0.0/0", "gw": "10.7.0.1"})  # to which the second leads
    added = setup.add(ipam=static("10.1.0.2/24", "fd00:1::2/64", routes=routes))
    added.check()
    entries = {(each["dst"], each["dev"], each.get("gateway")) for each in setup.container.routes()}
    straight = {("10.7.0.0/16", "net1", None), ("fd00:7::/64", "net1", None)}
    assert entries == {*straight, ("default", "net1", "10.7.0.1")}
    setup.container.ip("link set dev lo up")
    setup.container.ip("route replace 10.7.0.0/16 dev lo")
    added.check("the route to 10.7.0.0/16", "is missing")


ATTRIBUTES: list[tuple[dict[str, int], dict[str, Any]]] = [
    ({"priority": 50}, {"metric": 50}),
    ({"table": 1000}, {"table": "1000"}),
    ({"table": 1000, "priority": 7}, {"table": "1000", "metric": 7}),
    ({"mtu": 1300, "advmss": 1200}, {"metrics": [{"mtu": 1300, "advmss": 1200}]}),
]


def test_routes_have_the_attributes_asked_for(setup: Setup) -> None:
    expected: dict[str, dict[str, Any]] = {}
    routes = []
    for number, (attributes, kernel_attributes) in enumerate(ATTRIBUTES):
        for dst in (f"10.{number + 7}.0.0/16", f"fd00:{number + 7}::/64"):
            routes.append({"dst": dst, **attributes})
            expected[dst] = kernel_attributes
    ipam = setup.ipam(ips=["10.1.0.2/24", "fd00:1::2/64"], cniVersion="1.1.0", routes=routes)
    added = setup.add(cniVersion="1.1.0", ipam=ipam)

    for route, result_route in zip(routes, added.result["routes"], strict=True):
        assert route.items() <= result_route.items()
    kernels = {each["dst"]: each for each in setup.container.routes()}
    for dst, kernel_attributes in expected.items():
        assert kernel_attributes.items() <= kernels[dst].items()
    added.check()


@pytest.mark.slow
def test_thousands_of_routes_are_checked_in_a_moment(setup: Setup, tmp_path: Path) -> None:
    """One query reads all routes; with one for each, 5,000 routes took 15 seconds."""
    routes = [{"dst": f"10.{2 + number // 256}.{number % 256}.0/24"} for number in range(3000)]
    steps = Steps(tmp_path / "steps")
    added = setup.add(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=routes))
    added._replace(environment={**added.environment, "PATH": steps.environment["PATH"]}).check()
    assert len(steps.records) <= 3
    setup.container.ip("route delete 10.7.7.0/24")
    added.check("10.7.7.0/24 via 10.1.0.1 is missing")


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
# Another value of each attribute, as ip(8) takes it.
OTHER = {"table": "table 77", "priority": "metric 7", "scope": "scope 99"}
OTHER |= {"mtu": "mtu 1300", "advmss": "advmss 1200"}
FAMILIES = {4: ("10.1.0.2/24", "10.1.0.1", "0.0.0.0"), 6: ("fd00:1::2/64", "fd00:1::1", "::")}
DESTINATIONS = {
    4: ["0.0.0.0/0", "0.0.0.0/1", "0.0.0.0/8", "0.0.0.0/32", "127.0.0.0/8", "224.0.0.0/4"],
    6: ["::/0", "::/1", "::/96", "::/128", "::1/128", "::1.2.3.0/120", "::ffff:0:0/96"],
}
DESTINATIONS[4] += ["255.255.255.255/32"]
DESTINATIONS[6] += ["fe80::/64", "fd00:1::/64", "ff0e::/16"]


@pytest.mark.parametrize("family", FAMILIES)
def test_check_finds_the_routes_as_add_left_them(setup: Setup, family: int) -> None:
    combinations = [as_route(family, each) for each in combine(VALUES)]
    routes = number_all(family, [each for each in combinations if is_possible(family, each)])
    assert len(routes) > len(combinations) / 2
    added = attach(setup, family, routes)
    added.check()
    destination = routes[len(routes) // 2]["dst"]
    setup.container.ip(f"-{family} route flush table all {destination}")
    error = added.check(destination)
    assert error["msg"].count(" is missing") == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_check_finds_an_attribute_changed(setup: Setup, family: int) -> None:
    for attribute in sample([name for name in OTHER if (family, name) != (6, "scope")], 3):
        possible = [as_route(family, {attribute: value}) for value in VALUES[attribute] if value]
        routes = number_all(family, [each for each in possible if is_possible(family, each)])
        added = attach(setup, family, routes)
        added.check()
        for route in routes:
            setup.container.ip(f"-{family} route flush table all {route['dst']}")
            setup.container.ip(f"route add {route['dst']} dev net1 {OTHER[attribute]}")
        added.check(*(route["dst"] for route in routes))
        added.delete()


@pytest.mark.parametrize("family", FAMILIES)
def test_check_finds_a_route_to_any_destination(setup: Setup, family: int) -> None:
    gateway = FAMILIES[family][1]
    added = attach(setup, family, [{"dst": dst, "gw": gateway} for dst in DESTINATIONS[family]])
    added.check()
    for dst in DESTINATIONS[family]:
        setup.container.ip(f"route delete {dst} via {gateway}")
    missing = [route["dst"] for route in added.result["routes"]]
    assert added.check(*missing)["code"] == 110


@pytest.mark.parametrize("address", ["10.1.0.2/24", "fd00:1::2/64"])
def test_an_address_that_vanishes_is_an_error(setup: Setup, tmp_path: Path, address: str) -> None:
    ipam = static("10.1.0.2/24", "fd00:1::2/64")
    steps = Steps(tmp_path / "steps")
    added = setup.add(ipam=ipam, **steps.environment)
    last = [step.number for step in steps.records if "show" in step.words][-1]
    added.delete()
    steps.reset()
    # The script that replaces ip(8) makes it.
    away = f"nsenter --net={setup.container.path} ip address delete {address} dev net1"
    steps.plan(last, f"{away}; {away} 2>/dev/null")
    setup.expect_error(100, address, ipam=ipam, **steps.environment)


def as_route(family: int, setting: dict[str, str]) -> Route:
    """Return a route without dst, with the attributes that have a value."""
    _, gateway, unspecified = FAMILIES[family]
    words = {"unspecified": unspecified, "address": gateway}
    return {name: words.get(value) or int(value) for name, value in setting.items() if value}


def is_possible(family: int, route: Route) -> bool:
    """Return whether the kernel accepts a route: an IPv4 gateway needs a narrower scope."""
    farthest = 252 if route.get("gw") == FAMILIES[4][1] else 254
    return family == 6 or route.get("scope", 0) <= farthest


def number_all(family: int, routes: list[Route]) -> list[Route]:
    form = "10.7.{}.0/24" if family == 4 else "fd00:7:{:x}::/48"
    return [{"dst": form.format(number), **each} for number, each in enumerate(routes, 1)]


def attach(setup: Setup, family: int, routes: list[Route]) -> Attachment:
    ipam = setup.ipam(ips=[FAMILIES[family][0]], cniVersion="1.1.0", routes=routes)
    added = setup.add(cniVersion="1.1.0", ipam=ipam)
    assert len(added.result["routes"]) == len(routes)
    return added
