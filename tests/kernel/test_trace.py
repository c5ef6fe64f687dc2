"""ipvlan trace: what it says of two ends, and whether they reach each other in fact."""

import json
from typing import Any

import pytest
from lab import Space, run
from people import ipvlan
from runtime import static
from scene import Scene

HOST = "10.1.0.10"
DEFAULT = [{"dst": "0.0.0.0/0"}]


def attached(scene: Scene, at: Space, address: str, **options: Any) -> str:
    """Attach a container to a network; return its container ID."""
    identity = f"container-{address.partition('/')[0]}"
    gateway = options.pop("gateway", "")
    routes = DEFAULT if gateway or options.get("mode") == "l3" else []
    ipam = static(address, gateway=gateway, routes=routes)
    scene.add(at=at, ipam=ipam, CNI_CONTAINERID=identity, **options)
    return identity


def trace(one: Space | str, other: Space | str, status: int = 0) -> dict[str, Any]:
    """Return what is reported of two ends: the findings by their subjects."""
    names = [each if isinstance(each, str) else each.path for each in (one, other)]
    said = ipvlan("trace", *names, "--json")
    assert said.status == status, said
    document: dict[str, Any] = json.loads(said.out)
    return {**document, **{each["subject"]: each for each in document["findings"]}}


def test_two_on_one_master(scene: Scene) -> None:
    first = attached(scene, scene.one, "10.1.0.2/24")
    attached(scene, scene.two, "10.1.0.3/24")

    for one, other in (
        (scene.one, scene.two),
        (first, "10.1.0.3"),
        ("10.1.0.2", scene.two.path),
    ):
        found = trace(one, other)
        assert found["flag"]["state"] == "ok"
        assert found["tried"]["text"].startswith("10.1.0.3 answers net1")
    said = ipvlan("trace", "nobody", "host")
    assert (said.status, "'nobody'" in said.err) == (2, True)


@pytest.mark.scene(host=(f"{HOST}/24",))
@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_flags_that_keep_them_apart(scene: Scene, flag: str) -> None:
    attached(scene, scene.one, "10.1.0.2/24", flag=flag)
    attached(scene, scene.two, "10.1.0.3/24", flag=flag)

    found = trace(scene.one, scene.two, status=1)

    assert found["tried"]["state"] == "problem"
    if flag == "vepa":  # without a switch that would reflect
        assert "reflective relay" in found["flag"]["advice"]
        return
    assert "flag private keeps them apart" in found["verdict"]
    found = trace("host", scene.one, status=1)
    assert "use flag bridge" in found["next"]
    assert "ip link add" not in found["next"]


def test_overlapping_ranges_of_two_masters(scene: Scene) -> None:
    scene.node.master("eth1")
    attached(scene, scene.one, "10.1.0.2/24")
    attached(scene, scene.two, "10.1.0.3/24", master="eth1", name="other")

    found = trace(scene.one, scene.two, status=1)

    assert found["masters"]["text"] == "they have different masters, eth0 and eth1"
    assert "their subnets overlap" in found["ranges"]["text"]

    third = scene.container()  # has an address that is there already
    attached(scene, third, "10.1.0.2/24", master="eth1", name="other")
    found = trace(third, scene.two)
    assert found["tried"]["state"] == "ok"
    found = trace(scene.two, third)
    assert found["address"]["state"] == "warning"  # they reach each other all the same
    assert "is there 2 times" in found["address"]["text"]


def test_different_subnets_in_mode_l3(scene: Scene) -> None:
    attached(scene, scene.one, "10.1.0.2/24", mode="l3")
    attached(scene, scene.two, "10.2.0.2/24", mode="l3")
    assert trace(scene.one, scene.two)["tried"]["state"] == "ok"

    scene.two.ip("route delete default")
    found = trace(scene.one, scene.two, status=1)
    assert found["way"]["state"] == "ok"
    assert found["way back"]["state"] == "problem"
    assert "no route to 10.1.0.2" in found["verdict"]


@pytest.mark.scene(master="wire")
def test_an_address_elsewhere(scene: Scene) -> None:
    scene.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    attached(scene, scene.one, "10.1.0.2/24", gateway="10.1.0.1")

    assert trace(scene.one, "10.1.0.1")["tried"]["state"] == "ok"
    assert trace(scene.one, "10.1.0.77", status=1)["tried"]["state"] == "problem"
    assert "not on this node" in trace("10.1.0.1", scene.one, status=1)["verdict"]


@pytest.mark.scene(master="wire", host=(f"{HOST}/24",))
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_the_remedy_for_the_host_and_its_own_container(scene: Scene, mode: str) -> None:
    scene.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    attached(scene, scene.one, "10.1.0.2/24", mode=mode)

    remedy: list[str] = []
    for one, other in ((scene.one, "host"), ("host", scene.one)):
        found = trace(one, other, status=1)
        assert "a host and its own ipvlan interfaces" in found["verdict"]
        assert found["tried"]["state"] == "problem"

        remedy = [line for line in found["next"].splitlines() if line.startswith("ip ")]
    run("sh", "-e", stdin="\n".join(remedy))

    assert trace("host", scene.one)["tried"]["state"] == "ok"
    assert trace(scene.one, "host")["tried"]["state"] == "ok"
    # The host still reaches others, and others the container.
    assert scene.host.reaches("10.1.0.1")
    if mode == "l2":
        assert scene.neighbour.reaches("10.1.0.2")
