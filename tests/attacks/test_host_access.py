"""hostAccess: whatever a network's author chooses, the host's packets to others stay the host's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doubles import replace_program
from executable import Executable
from lab import NetNS
from runtime import Conf, call_environment, network, static, stdin_of
from sampling import sample
from setup import Attachment, Setup

HOST_IP, CONTAINER_IP = "10.1.0.10", "10.1.0.2"


pytestmark = pytest.mark.setup(master="wire", host=["10.1.0.10/24", "fd00:1::10/64"])


@pytest.fixture
def host(setup: Setup) -> NetNS:
    """A host with more addresses on the master eth0, and with the interface eth1."""
    setup.node.make_master("eth1")
    for words in ("10.2.0.9 peer 10.3.0.1/24", "169.254.7.7/16 scope link"):
        setup.host.ip(f"address add {words} dev eth0")
    setup.host.ip("address add 10.5.0.10/24 dev eth1")
    return setup.host


def conf(*addresses: str, name: str = "net", mode: str = "l2") -> Conf:
    return network(name=name, mode=mode, ipam=static(*addresses), hostAccess=True)


@contextmanager
def change_host(host: NetNS, *commands: str) -> Iterator[None]:
    """Run ip with each command, and undo them in the end."""
    for command in commands:
        host.ip(command)
    try:
        yield
    finally:
        for command in reversed(commands):
            removed = command.replace(" add ", " delete ", 1)
            host.ip(removed.partition(" via ")[0] if "nexthop add" in command else removed)


OTHER_WAY = "in another way, which hostAccess would replace"
NO_SUBNET = "in no subnet that the host has on the master 'eth0'"
SPECIAL = "is a loopback, link-local or reserved address"
GATEWAY = "is a gateway of the host"
FIRST_OR_LAST = "is the first or last address of the subnet"
HOST_ROUTE = "to which there is a host route already"
NOT_PERMITTED = [
    ("169.254.169.254", SPECIAL),
    ("169.254.169.254", SPECIAL, "route add unreachable 169.254.0.0/17"),
    ("198.51.100.1", NO_SUBNET),
    ("198.51.100.1", NO_SUBNET, "route add default via 10.1.0.4 table 77"),
    ("198.51.100.1", NO_SUBNET, "route add default dev eth0"),
    ("198.51.100.1", NO_SUBNET, "route add unreachable default metric 4278198272"),
    ("198.51.100.1", OTHER_WAY, "route add default via 10.1.0.4"),
    ("240.0.0.1", SPECIAL),
    ("100.64.0.1", NO_SUBNET),
    ("10.1.0.0", FIRST_OR_LAST),
    ("10.7.0.0", FIRST_OR_LAST, "route add unreachable 10.7.0.0/16"),
    ("10.5.0.2", OTHER_WAY),
    ("10.1.0.4", GATEWAY, "route add default via 10.1.0.4 table 77"),
    ("10.1.0.3", GATEWAY, "route add 10.44.0.0/16 nexthop via 10.1.0.4 nexthop via 10.1.0.3"),
    ("10.1.0.6", GATEWAY, "nexthop add id 5 via 10.1.0.6 dev eth0"),
    ("10.1.0.6", GATEWAY, "nexthop add id 5 via 10.1.0.6 dev eth0", "route add 10.5.0.0/16 nhid 5"),
    ("10.1.0.130", OTHER_WAY, "route add 10.1.0.128/25 via 10.1.0.4"),
    ("10.7.9.2", OTHER_WAY, "route add unreachable 10.7.0.0/16", "route add 10.7.9.0/24 dev eth1"),
    ("10.1.0.40", OTHER_WAY, "route add blackhole 10.1.0.40"),
    ("10.1.0.40", HOST_ROUTE, "route add 10.1.0.40 dev eth0"),
    ("10.7.9.2", HOST_ROUTE, "route add unreachable 10.7.9.2"),
    ("fd00:1::40", HOST_ROUTE, "-6 route add fd00:1::40 dev eth0"),
    ("fe80::9", SPECIAL),
    ("2001:db8::1", NO_SUBNET),
    ("fd00:1::", FIRST_OR_LAST),
    ("fd00:1::5", GATEWAY, "-4 route add 10.9.0.0/16 via inet6 fd00:1::5 dev eth0"),
    ("fd00:1::6", GATEWAY, "-6 route add fd00:44::/64 nexthop via fd00:1::7 nexthop via fd00:1::6"),
]


def test_an_address_that_nothing_permits_is_refused(setup: Setup, host: NetNS) -> None:
    for address, expected, *commands in sample(NOT_PERMITTED, 4):
        length = 64 if ":" in address else 24
        with change_host(host, *commands):
            setup.expect_error(107, expected, conf=conf(f"{address}/{length}"))


PERMITTED = [
    ("10.3.0.2", "l2"),  # of the peer's subnet
    ("fd00:1::2", "l2"),
    ("10.1.0.2", "l3", "route add default via 10.1.0.4"),
    ("10.7.0.2", "l3", "route add unreachable 10.7.0.0/16", "route add default via 10.1.0.4"),
    ("fd00:7::2", "l3s", "-6 route add unreachable fd00:7::/64"),
]


def test_what_is_permitted(setup: Setup, host: NetNS) -> None:
    for address, mode, *commands in sample(PERMITTED, 3):
        configuration = conf(f"{address}/{128 if ':' in address else 32}", mode=mode)
        with change_host(host, *commands):
            added = setup.add(configuration)
            assert host.query("route", "get", address)[0]["dev"].startswith("ipvhost"), address
            added.delete()


@pytest.mark.parametrize("host_access", [True, False])
def test_an_address_of_the_host_is_refused(setup: Setup, host: NetNS, *, host_access: bool) -> None:
    for device, address in (
        ("lo", "192.0.2.5/32"),
        ("lo", "2001:db8::5/128"),
        ("eth1", "10.1.0.77/32"),
        ("eth1", "fd00:1::77/128"),
    ):
        host.ip(f"address add {address} dev {device}" + (" nodad" if ":" in address else ""))
    host.ip("route add local 10.1.0.64/29 dev lo")
    further = ("10.1.0.70", "127.0.0.53", "::1", "10.5.0.10")
    addresses = ("192.0.2.5", "2001:db8::5", "10.1.0.77", "fd00:1::77", *further)
    for address in sample(addresses, 2):
        options = {**conf(f"{address}/{64 if ':' in address else 24}"), "hostAccess": host_access}
        setup.expect_error(106, "is the host's own address", conf=options)


# An address has one owner: a new owner gets the host's route, and the former one's DEL keeps it.


def add_without_address(setup: Setup) -> Attachment:
    added = setup.add(conf(f"{CONTAINER_IP}/24"), CNI_CONTAINERID="first")
    setup.container.ip(f"address delete {CONTAINER_IP}/24 dev net1")
    return added


def test_the_route_to_a_living_container_is_not_taken_from_it(setup: Setup, host: NetNS) -> None:
    add_without_address(setup)
    words = f"the host's route to {CONTAINER_IP} is another container's"
    other = conf(f"{CONTAINER_IP}/24", name="other")
    error = setup.expect_error(106, words, conf=other, at=setup.container2)
    assert "container first" in error["private"]
    setup.container.ip(f"address add {CONTAINER_IP}/24 dev net1")
    host.ip(f"route get {CONTAINER_IP}")


@pytest.mark.parametrize("ends", ["its namespace", "its route"])
def test_a_late_delete_spares_the_next_owners_route(setup: Setup, host: NetNS, ends: str) -> None:
    first = add_without_address(setup)
    if ends == "its namespace":
        setup.node.remove(setup.container)
    else:
        host.ip(f"route delete {CONTAINER_IP}")
    second = setup.add(conf(f"{CONTAINER_IP}/24", name="other"), at=setup.container2)

    netns = "" if ends == "its namespace" else setup.container
    setup.runtime.delete(netns, first.conf, **first.environment).succeeds()

    second.check()
    assert host.can_ping(CONTAINER_IP)
    second.delete()
    assert not any(name.startswith("ipvhost") for name in host.links())


def test_an_ipam_plugin_that_hangs_delays_no_other_add(setup: Setup, ipvlan: Executable) -> None:
    """The host's part is undone, and its lock released, before the IPAM plugin is called."""
    ipam = setup.ipam(ips=["10.1.0.3/24"])
    setup.ipam("DEL", script="exec sleep 300")
    path = {"CNI_PATH": setup.fake.path}
    environment = call_environment("ADD", setup.container2, CNI_CONTAINERID="hangs", **path)
    conf_with_ipam = network(name="hangs", ipam=ipam, hostAccess=True)
    call = ipvlan.start(environment, stdin_of(conf_with_ipam))
    assert call.process.stdout is not None
    call.process.stdout.close()  # so that it fails at the very end
    call.process.stdout = None
    setup.fake.wait_for("DEL")

    start = time.monotonic()
    setup.add(conf(f"{CONTAINER_IP}/24"), CNI_CONTAINERID="other")

    assert call.process.poll() is None, "this shows nothing"
    assert time.monotonic() - start < 8
    call.kill()


# checkIPv4Conflict starts a process for each address.


def test_few_questions_for_conflicts_are_asked_at_once(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "running").mkdir()
    script = f"""
        cd {tmp_path}
        : >running/$$
        ls running | wc -l >>counts
        sleep 0.2
        rm running/$$
    """
    path = replace_program(tmp_path / "tools", "arping", script)
    ips = [f"10.1.1.{number}/16" for number in range(1, 66)]

    setup.add(ipam=static(*ips[:20]), checkIPv4Conflict=True, PATH=path)

    counts = list(map(int, (tmp_path / "counts").read_text().split()))
    assert len(counts) == 20
    assert 1 < max(counts) <= 16
    words = "checkIPv4Conflict is for at most 64 addresses"
    setup.expect_error(7, words, at=setup.container2, ipam=static(*ips), checkIPv4Conflict=True)
