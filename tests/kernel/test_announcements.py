"""New addresses are announced: the neighbours on the wire hear of them without asking."""

import pytest
from doubles import FakeDhcp
from lab import run, wait_until
from runtime import Conf, host_local, static
from scene import Scene
from wire import listening

ADDRESSES = ["10.1.0.2/24", "10.2.0.2/24", "fd00:1::2/64"]
ANNOUNCED = ["10.1.0.2", "10.2.0.2", "fd00:1::2"]
STATIC = static(*ADDRESSES)
HOST_LOCAL = host_local("10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64")
pytestmark = pytest.mark.scene(master="wire", dad=True)


@pytest.mark.parametrize("ipam", [STATIC, HOST_LOCAL, None], ids=["static", "host-local", "up"])
def test_every_address_is_announced_once(scene: Scene, ipam: Conf | None) -> None:
    if ipam is None:  # one that has the interface up before it has addresses
        scene.fake = FakeDhcp(scene.fake.directory)
        ipam = scene.ipam(ips=ADDRESSES)
    with listening(scene.neighbour, "eth0") as heard:
        scene.add(ipam=ipam)

        wait_until(lambda: sorted(heard.announced()) == ANNOUNCED)
    assert scene.one.ipvlan("net1")["up"]
    assert scene.one.links()["net1"]["broadcast"] == "ff:ff:ff:ff:ff:ff"


def test_a_master_in_the_container_carries_the_announcements(scene: Scene) -> None:
    run("ip", "link", "set", "dev", "eth0", "netns", scene.one.path)
    scene.one.ip("link set dev eth0 up")
    with listening(scene.neighbour, "eth0") as heard:
        scene.add(ipam=STATIC, linkInContainer=True)

        wait_until(lambda: sorted(heard.announced()) == ANNOUNCED)


# These modes route as the host does.
@pytest.mark.scene(master="wire", host=("10.1.0.8/24",))
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_modes_without_neighbours_announce_nothing(scene: Scene, mode: str) -> None:
    scene.neighbour.ip("address add 10.1.0.9/24 dev eth0")
    with listening(scene.neighbour, "eth0") as heard:
        scene.add(ipam=STATIC, mode=mode)

        scene.one.reaches("10.1.0.9")
        wait_until(lambda: heard.has_ping_of("10.1.0.2"))
        assert heard.announced() == []
