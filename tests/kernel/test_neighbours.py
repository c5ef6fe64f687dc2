"""The neighbours on the wire: new addresses are announced, and what a neighbour has is refused."""

import pytest
from doubles import FakeDhcp
from lab import Space, run, wait_until
from runtime import Conf, host_local, network, static
from scene import Scene
from wire import listening

from cni_ipvlan.iproute import commands
from cni_ipvlan.plugin import configure

ADDRESSES = ["10.1.0.2/24", "10.2.0.2/24", "fd00:1::2/64"]
ANNOUNCED = ["10.1.0.2", "10.2.0.2", "fd00:1::2"]
STATIC = static(*ADDRESSES)
HOST_LOCAL = host_local("10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64")
pytestmark = pytest.mark.scene(master="wire", dad=True)
without_dad = pytest.mark.scene(master="wire")


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


# checkIPv4Conflict: ADD asks whether another host uses an address.

ASKING = network(ipam=host_local("10.1.0.0/24"), checkIPv4Conflict=True)
FIRST = "10.1.0.2/24"


def mac_of(space: Space) -> str:
    return str(space.links()["eth0"]["address"]).upper()


@pytest.mark.slow
@without_dad
def test_an_address_of_another_host_or_its_container_is_refused(scene: Scene) -> None:
    scene.neighbour.ip(f"address add {FIRST} dev eth0")
    words = "10.1.0.2", mac_of(scene.neighbour), "\ntry: give the container another address, or"
    for mode, ipam in (("l2", ASKING["ipam"]), ("l3", static(FIRST))):
        scene.refuses(106, *words, conf=ASKING, mode=mode, ipam=ipam)
    scene.add(ASKING, checkIPv4Conflict=False, ipam=static(FIRST)).delete()  # asks nobody
    scene.neighbour.ip(f"address delete {FIRST} dev eth0")

    scene.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
    scene.neighbour.ip(f"link set dev slave netns {scene.two.path}")
    scene.two.ip("address add 10.1.0.9/24 dev slave")
    scene.two.ip("link set dev slave up")
    every = static("10.1.0.3/24", "fd00:1::2/64", "10.1.0.9/24")
    scene.refuses(106, "10.1.0.9", mac_of(scene.neighbour), conf=ASKING, ipam=every)

    scene.add(ASKING, ipam=static(FIRST))  # which is free now
    assert scene.one.addresses("net1") == [FIRST]


@without_dad
def test_a_master_in_the_container_is_asked_there(scene: Scene) -> None:
    scene.neighbour.ip(f"address add {FIRST} dev eth0")
    run("ip", "link", "set", "dev", "eth0", "netns", scene.one.path)
    scene.one.ip("link set dev eth0 up")
    scene.refuses(106, mac_of(scene.neighbour), conf=ASKING, linkInContainer=True)


@pytest.mark.scene(master="dummy")
def test_who_cannot_be_asked(scene: Scene) -> None:
    scene.host.ip("link set dev eth0 down")
    scene.refuses(100, 'Interface "eth0" is down', conf=ASKING)
    scene.host.ip("link set dev eth0 arp off up")
    scene.add(ASKING)  # without ARP there are no conflicts


# IPv6 is enabled if it is disabled, and duplicate addresses are detected.

OF_IPV6 = "fd00:1::2/64"


def is_off(space: Space) -> list[str]:
    return [space.sysctl(f"net/ipv6/conf/{name}/disable_ipv6") for name in ("net1", "lo")]


def test_ipv6_is_switched_on_for_the_interface_and_lo_where_it_is_needed(off: Scene) -> None:
    added = off.add(ipam=static("10.1.0.2/24"))
    assert is_off(off.one) == ["1", "1"]
    added.delete()
    off.add(ipam=static("10.1.0.2/24", OF_IPV6))
    assert off.one.addresses("net1") == ["10.1.0.2/24", OF_IPV6]
    assert is_off(off.one) == ["0", "0"]
    # Duplicate address detection has ended when ADD returns.
    shown = off.one.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (own,) = [info for info in shown if info["local"] == "fd00:1::2"]
    assert not {"tentative", "dadfailed"} & own.keys()


@pytest.mark.parametrize("of_a_container", [True, False])
def test_an_address_of_another_host_is_an_error(off: Scene, *, of_a_container: bool) -> None:
    off.neighbour.ip("address add 10.1.0.9/24 dev eth0")
    if of_a_container:
        off.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
        off.neighbour.ip(f"link set dev slave netns {off.two.path}")
        off.two.ip(f"address add {OF_IPV6} dev slave nodad")
        off.two.ip("link set dev slave up")
    else:
        off.neighbour.ip(f"address add {OF_IPV6} dev eth0 nodad")
    advice = "detection\ntry: give the container another address, or keep that one out"
    off.refuses(106, OF_IPV6, advice, ipam=host_local("fd00:1::/64"))


@pytest.mark.slow
def test_a_duplicate_that_is_none_of_our_addresses_is_no_failure(scene: Scene) -> None:
    conf = network(ipam=static(OF_IPV6))
    scene.one.sysctl("net/ipv6/conf/default/accept_dad", 0)
    added = scene.add(conf)
    shown = scene.one.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (own,) = [info["local"] for info in shown if info["scope"] == "253"]
    added.delete()
    scene.one.sysctl("net/ipv6/conf/default/accept_dad", 1)
    scene.neighbour.ip(f"address add {own}/64 dev eth0 nodad")  # which net1 will get again
    scene.add(conf)
    assert own in scene.one.ip("-6 address show dev net1 dadfailed")


def test_detection_without_end_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "_DUPLICATE_DETECTION_SECONDS", 1)
    scene.neighbour.ip("link set dev eth0 down")
    added = scene.add(ipam=static(OF_IPV6))
    assert scene.one.addresses("net1") == [OF_IPV6]
    assert f"of {OF_IPV6} has not finished after 1 s; does the master" in added.stderr


def test_a_router_that_advertises_itself_in_time_is_no_failure(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the kernel's route to that router made while detection is waited for."""
    by_router = ("ip", "route", "append", "default", "via", "fe80::9", "dev", "net1")
    monkeypatch.setattr(commands, "wait_for_ipv6", lambda *_: by_router)
    added = scene.add(ipam=static(OF_IPV6, gateway="fd00:1::9", routes=[{"dst": "::/0"}]))
    added.check()
