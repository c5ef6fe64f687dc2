"""The routes that an IPAM plugin asks for, as the kernel then has them."""

from pathlib import Path
from typing import Any

from doubles import Steps
from runtime import host_local, static
from scene import Scene

IPS = [
    {"address": "10.1.0.2/24", "gateway": "10.1.0.1"},
    {"address": "fd00:1::2/64", "gateway": "fd00:1::1"},
]


def test_a_route_goes_through_its_gateway_or_the_addresses_of_its_family(scene: Scene) -> None:
    routes = [
        {"dst": "0.0.0.0/0"},
        {"dst": "10.7.0.0/16", "gw": "10.1.0.9"},
        {"dst": "::/0"},
        {"dst": "fd00:7::/64", "gw": "fd00:1::9"},
    ]
    added = scene.add(ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=routes))

    assert {(each["dst"], each["gateway"]) for each in scene.one.routes()} == {
        ("default", "10.1.0.1"),
        ("10.7.0.0/16", "10.1.0.9"),
        ("default", "fd00:1::1"),
        ("fd00:7::/64", "fd00:1::9"),
    }
    assert added.result["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.1.0.1"},
        routes[1],
        {"dst": "::/0", "gw": "fd00:1::1"},
        routes[3],
    ]


def test_without_any_gateway_a_route_leads_straight_to_the_wire(scene: Scene) -> None:
    routes = [{"dst": "10.7.0.0/16"}, {"dst": "fd00:7::/64"}]
    scene.add(ipam=static("10.1.0.2/24", "fd00:1::2/64", routes=routes))

    found = {(each["dst"], each["dev"], each.get("gateway")) for each in scene.one.routes()}
    assert found == {("10.7.0.0/16", "net1", None), ("fd00:7::/64", "net1", None)}


ATTRIBUTES: list[tuple[dict[str, int], dict[str, Any]]] = [
    ({"priority": 50}, {"metric": 50}),
    ({"table": 1000}, {"table": "1000"}),
    ({"table": 1000, "priority": 7}, {"table": "1000", "metric": 7}),
    ({"mtu": 1300, "advmss": 1200}, {"metrics": [{"mtu": 1300, "advmss": 1200}]}),
]


def test_routes_have_the_attributes_asked_for(scene: Scene) -> None:
    expected: dict[str, dict[str, Any]] = {}
    routes = []
    for number, (attributes, found) in enumerate(ATTRIBUTES):
        for dst in (f"10.{number + 7}.0.0/16", f"fd00:{number + 7}::/64"):
            routes.append({"dst": dst, **attributes})
            expected[dst] = found
    added = scene.add(cniVersion="1.1.0", ipam=answer(scene, IPS, routes))

    for given, got in zip(routes, added.result["routes"], strict=True):
        assert given.items() <= got.items()
    kernels = {each["dst"]: each for each in scene.one.routes()}
    for dst, found in expected.items():
        assert found.items() <= kernels[dst].items()
    added.check()


def test_a_route_has_the_scope_asked_for(scene: Scene) -> None:
    route = {"dst": "10.7.0.0/16", "scope": 0}  # the kernel's choice here would be link
    added = scene.add(cniVersion="1.1.0", ipam=answer(scene, [{"address": "10.1.0.2/24"}], [route]))
    (found,) = scene.one.routes()
    assert found["scope"] == "0"
    added.check()


def test_thousands_of_routes_are_checked_in_a_moment(scene: Scene, tmp_path: Path) -> None:
    """With one question for all of them; each by itself, 5,000 once took 15 seconds."""
    routes = [{"dst": f"10.{2 + number // 256}.{number % 256}.0/24"} for number in range(5000)]
    steps = Steps(tmp_path / "steps")
    added = scene.add(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=routes))

    added._replace(environment={**added.environment, "PATH": steps.environment["PATH"]}).check()

    assert len(steps.taken) <= 3
    scene.one.ip("route delete 10.7.7.0/24")
    added.check("10.7.7.0/24 via 10.1.0.1 is missing")


def answer(scene: Scene, ips: list[dict[str, str]], routes: list[dict[str, Any]]) -> dict[str, Any]:
    scene.fake.answers("ADD", {"cniVersion": "1.1.0", "ips": ips, "routes": routes})
    return scene.fake.conf
