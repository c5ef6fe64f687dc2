"""The neighbours on the wire: new addresses are announced, and what a neighbour has is refused."""

import pytest
from command_line import ipvlan
from doubles import FakeDhcp
from lab import NetNS, run, wait_until
from runtime import Conf, host_local, network, static
from setup import Setup
from wire import listen

from cni_ipvlan.iproute import commands
from cni_ipvlan.plugin import configure

ADDRESSES = ["10.1.0.2/24", "10.2.0.2/24", "fd00:1::2/64"]
ANNOUNCED = ["10.1.0.2", "10.2.0.2", "fd00:1::2"]
STATIC = static(*ADDRESSES)
HOST_LOCAL = host_local("10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64")
pytestmark = pytest.mark.setup(master="wire", dad=True)
without_dad = pytest.mark.setup(master="wire")


@pytest.mark.parametrize("ipam", [STATIC, HOST_LOCAL, None], ids=["static", "host-local", "up"])
def test_every_address_is_announced_once(setup: Setup, ipam: Conf | None) -> None:
    if ipam is None:  # one that has the interface up before it has addresses
        setup.fake = FakeDhcp(setup.fake.directory)
        ipam = setup.ipam(ips=ADDRESSES)
    with listen(setup.neighbour, "eth0") as listener:
        setup.add(ipam=ipam)
        wait_until(lambda: sorted(listener.announced_addresses()) == ANNOUNCED)
    assert setup.container.ipvlan("net1")["up"]
    assert setup.container.links()["net1"]["broadcast"] == "ff:ff:ff:ff:ff:ff"


def test_a_master_in_the_container_carries_the_announcements(setup: Setup) -> None:
    run("ip", "link", "set", "dev", "eth0", "netns", setup.container.path)
    setup.container.ip("link set dev eth0 up")
    with listen(setup.neighbour, "eth0") as listener:
        setup.add(ipam=STATIC, linkInContainer=True)
        wait_until(lambda: sorted(listener.announced_addresses()) == ANNOUNCED)


# These modes route as the host does.
@pytest.mark.setup(master="wire", host=("10.1.0.8/24",))
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_modes_without_neighbours_announce_nothing(setup: Setup, mode: str) -> None:
    setup.neighbour.ip("address add 10.1.0.9/24 dev eth0")
    with listen(setup.neighbour, "eth0") as listener:
        setup.add(ipam=STATIC, mode=mode)
        setup.container.can_ping("10.1.0.9")
        wait_until(lambda: listener.has_ping_from("10.1.0.2"))
        assert listener.announced_addresses() == []


# checkIPv4Conflict: ADD asks whether another host uses an address.

ASKING = network(ipam=host_local("10.1.0.0/24"), checkIPv4Conflict=True)
FIRST = "10.1.0.2/24"


def mac_of(namespace: NetNS) -> str:
    return str(namespace.links()["eth0"]["address"]).upper()


@pytest.mark.slow
@without_dad
def test_an_address_of_another_host_or_its_container_is_refused(setup: Setup) -> None:
    setup.neighbour.ip(f"address add {FIRST} dev eth0")
    words = "10.1.0.2", mac_of(setup.neighbour), "\ntry: give the container another address, or"
    for mode, ipam in (("l2", ASKING["ipam"]), ("l3", static(FIRST))):
        setup.expect_error(106, *words, conf=ASKING, mode=mode, ipam=ipam)
    setup.add(ASKING, checkIPv4Conflict=False, ipam=static(FIRST)).delete()  # asks nobody
    setup.neighbour.ip(f"address delete {FIRST} dev eth0")
    setup.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
    setup.neighbour.ip(f"link set dev slave netns {setup.container2.path}")
    setup.container2.ip("address add 10.1.0.9/24 dev slave")
    setup.container2.ip("link set dev slave up")
    every = static("10.1.0.3/24", "fd00:1::2/64", "10.1.0.9/24")
    setup.expect_error(106, "10.1.0.9", mac_of(setup.neighbour), conf=ASKING, ipam=every)
    setup.add(ASKING, ipam=static(FIRST))  # which is free now
    assert setup.container.addresses("net1") == [FIRST]


@without_dad
def test_a_master_in_the_container_is_asked_there(setup: Setup) -> None:
    setup.neighbour.ip(f"address add {FIRST} dev eth0")
    run("ip", "link", "set", "dev", "eth0", "netns", setup.container.path)
    setup.container.ip("link set dev eth0 up")
    setup.expect_error(106, mac_of(setup.neighbour), conf=ASKING, linkInContainer=True)


@pytest.mark.setup(master="dummy")
def test_who_cannot_be_asked(setup: Setup) -> None:
    setup.host.ip("link set dev eth0 down")
    setup.expect_error(100, 'Interface "eth0" is down', conf=ASKING)
    setup.host.ip("link set dev eth0 arp off up")
    setup.add(ASKING)  # without ARP there are no conflicts


# IPv6 is enabled if it is disabled, and duplicate addresses are detected.
OF_IPV6 = "fd00:1::2/64"


def read_disable_ipv6(namespace: NetNS) -> list[str]:
    return [namespace.sysctl(f"net/ipv6/conf/{name}/disable_ipv6") for name in ("net1", "lo")]


@pytest.mark.setup(master="wire", dad=True, ipv6=False)
def test_ipv6_is_switched_on_for_the_interface_and_lo_where_it_is_needed(setup: Setup) -> None:
    added = setup.add(ipam=static("10.1.0.2/24"))
    assert read_disable_ipv6(setup.container) == ["1", "1"]
    added.delete()
    setup.add(ipam=static("10.1.0.2/24", OF_IPV6))
    assert setup.container.addresses("net1") == ["10.1.0.2/24", OF_IPV6]
    assert read_disable_ipv6(setup.container) == ["0", "0"]
    # Duplicate address detection has ended when ADD returns.
    infos = setup.container.query("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (address,) = [info for info in infos if info["local"] == "fd00:1::2"]
    assert not {"tentative", "dadfailed"} & address.keys()


@pytest.mark.parametrize("of_a_container", [True, False])
@pytest.mark.setup(master="wire", dad=True, ipv6=False)
def test_an_address_of_another_host_is_an_error(setup: Setup, *, of_a_container: bool) -> None:
    setup.neighbour.ip("address add 10.1.0.9/24 dev eth0")
    if of_a_container:
        setup.neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
        setup.neighbour.ip(f"link set dev slave netns {setup.container2.path}")
        setup.container2.ip(f"address add {OF_IPV6} dev slave nodad")
        setup.container2.ip("link set dev slave up")
    else:
        setup.neighbour.ip(f"address add {OF_IPV6} dev eth0 nodad")
    advice = "detection\ntry: give the container another address, or keep that one out"
    setup.expect_error(106, OF_IPV6, advice, ipam=host_local("fd00:1::/64"))


@pytest.mark.slow
def test_a_duplicate_that_is_none_of_our_addresses_is_no_failure(setup: Setup) -> None:
    conf = network(ipam=static(OF_IPV6))
    setup.container.sysctl("net/ipv6/conf/default/accept_dad", 0)
    added = setup.add(conf)
    infos = setup.container.query("-6", "address", "show", "dev", "net1")[0]["addr_info"]
    (address,) = [info["local"] for info in infos if info["scope"] == "253"]
    added.delete()
    setup.container.sysctl("net/ipv6/conf/default/accept_dad", 1)
    setup.neighbour.ip(f"address add {address}/64 dev eth0 nodad")  # which net1 will get again
    setup.add(conf)
    assert address in setup.container.ip("-6 address show dev net1 dadfailed")


def test_detection_without_end_is_given_up(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "_DUPLICATE_DETECTION_SECONDS", 1)
    setup.neighbour.ip("link set dev eth0 down")
    added = setup.add(ipam=static(OF_IPV6))
    assert setup.container.addresses("net1") == [OF_IPV6]
    assert f"of {OF_IPV6} has not finished after 1 s; does the master" in added.stderr
    setup.neighbour.ip("link set dev eth0 up")
    setup.neighbour.ip(f"address add {OF_IPV6} dev eth0 nodad")
    wait_until(lambda: setup.neighbour.links()["eth0"]["operstate"] == "UP")
    for state in ("down", "up"):  # the kernel may have asked before the other host was ready
        setup.container.ip(f"link set dev net1 {state}")
    wait_until(lambda: "fd00" in setup.container.ip("-6 address show dev net1 dadfailed"))
    added.check(f"the address {OF_IPV6} is not used, as another host had it")
    assert "duplicate fd00:1::2" in ipvlan("show").out


def test_a_router_that_advertises_itself_in_time_is_no_failure(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the kernel make its route to the router while ADD waits for address detection."""
    by_router = ("ip", "route", "append", "default", "via", "fe80::9", "dev", "net1")
    monkeypatch.setattr(commands, "wait_for_ipv6", lambda *_: by_router)
    added = setup.add(ipam=static(OF_IPV6, gateway="fd00:1::9", routes=[{"dst": "::/0"}]))
    added.check()
