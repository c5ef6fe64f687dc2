"""Which master ADD takes; what it refuses is in test_refusals."""

import pytest
from lab import run
from scene import Scene

pytestmark = pytest.mark.scene(host=("10.8.0.1/24",))


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
    scene: Scene, routes: list[str], expected: str
) -> None:
    scene.node.master("eth1")
    add_routes(routes)
    scene.add(master=None)
    assert scene.node.master_of(scene.one) == expected


def test_a_configured_master_counts_before_the_default_routes(scene: Scene) -> None:
    scene.node.master("eth1")
    add_routes(["default dev eth1"])
    scene.add(master="")  # is not given
    assert scene.node.master_of(scene.one) == "eth1"

    scene.add(master="eth0", at=scene.two)
    assert scene.node.master_of(scene.two) == "eth0"


def test_in_the_container_it_is_the_containers_default_routes(scene: Scene) -> None:
    add_routes(["default dev eth0"])
    scene.one.ip("link add name inner0 up type dummy")
    scene.one.ip("route add default dev inner0")
    scene.add(master=None, linkInContainer=True)
    assert scene.one.links()["net1"]["link"] == "inner0"


def add_routes(routes: list[str]) -> None:
    for route in routes:
        family = [word for word in route.split() if word == "-6"]
        words = [word for word in route.split() if word != "-6"]
        kind = [words.pop(0)] if words[0] == "unreachable" else []
        run("ip", *family, "route", "add", *kind, *words)
