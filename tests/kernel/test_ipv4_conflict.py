"""checkIPv4Conflict: ADD asks the network whether another host uses an address."""

import pytest
from lab import Space, run, without_program
from runtime import host_local, network, static
from scene import Scene

CONF = network(ipam=host_local("10.1.0.0/24"), checkIPv4Conflict=True)
FIRST = "10.1.0.2/24"
pytestmark = pytest.mark.scene(master="wire")


def mac_of(space: Space) -> str:
    return str(space.links()["eth0"]["address"]).upper()


def test_an_address_of_another_host_or_its_container_is_refused(scene: Scene) -> None:
    scene.neighbour.ip(f"address add {FIRST} dev eth0")
    words = "10.1.0.2", mac_of(scene.neighbour)
    for mode, ipam in (("l2", CONF["ipam"]), ("l3", static(FIRST))):
        scene.refuses(106, *words, conf=CONF, mode=mode, ipam=ipam)
    scene.add(CONF, checkIPv4Conflict=False, ipam=static(FIRST)).delete()  # asks nobody
    scene.neighbour.ip(f"address delete {FIRST} dev eth0")

    scene.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
    scene.neighbour.ip(f"link set dev slave netns {scene.two.path}")
    scene.two.ip("address add 10.1.0.9/24 dev slave")
    scene.two.ip("link set dev slave up")
    every = static("10.1.0.3/24", "fd00:1::2/64", "10.1.0.9/24")
    scene.refuses(106, "10.1.0.9", mac_of(scene.neighbour), conf=CONF, ipam=every)

    scene.add(CONF, ipam=static(FIRST))  # which is free now
    assert scene.one.addresses("net1") == [FIRST]


def test_a_master_in_the_container_is_asked_there(scene: Scene) -> None:
    scene.neighbour.ip(f"address add {FIRST} dev eth0")
    run("ip", "link", "set", "dev", "eth0", "netns", scene.one.path)
    scene.one.ip("link set dev eth0 up")
    scene.refuses(106, mac_of(scene.neighbour), conf=CONF, linkInContainer=True)


@pytest.mark.scene(master="dummy")
def test_who_cannot_be_asked(scene: Scene) -> None:
    with without_program("arping"):
        scene.refuses(113, "iputils-arping", conf=CONF)
    scene.host.ip("link set dev eth0 down")
    scene.refuses(100, 'Interface "eth0" is down', conf=CONF)
    scene.host.ip("link set dev eth0 arp off up")
    scene.add(CONF)  # without ARP there are no conflicts
