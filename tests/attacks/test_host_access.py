"""hostAccess: whatever a network's author chooses, the host's packets to others stay the host's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from executable import Executable
from lab import Space, run
from runtime import Conf, call_environment, network, static, stdin_of
from sampling import sample
from scene import Added, Scene

HOST, TAKEN = "10.1.0.10", "10.1.0.2"


pytestmark = pytest.mark.scene(master="wire", host=["10.1.0.10/24", "fd00:1::10/64"])


@pytest.fixture
def host(scene: Scene) -> Space:
    """A host with the master eth0, on which it has more addresses, and eth1."""
    scene.node.master("eth1")
    for words in ("10.2.0.9 peer 10.3.0.1/24", "169.254.7.7/16 scope link"):
        scene.host.ip(f"address add {words} dev eth0")
    scene.host.ip("address add 10.5.0.10/24 dev eth1")
    return scene.host


def conf(*addresses: str, name: str = "net", mode: str = "l2") -> Conf:
    return network(name=name, mode=mode, ipam=static(*addresses), hostAccess=True)


@contextmanager
def changed(host: Space, *commands: str) -> Iterator[None]:
    """Have commands of ip done, and undone after it."""
    for command in commands:
        host.ip(command)
    try:
        yield
    finally:
        for command in reversed(commands):
            removed = command.replace(" add ", " delete ", 1)
            host.ip(removed.partition(" via ")[0] if "nexthop add" in command else removed)


ELSEWHERE = "in another way, which hostAccess would replace"
NO_SUBNET = "in no subnet that the host has on the master 'eth0'"
SPECIAL = "is a loopback, link-local or reserved address"
GATEWAY = "is a gateway of the host"
ENDS = "is the first or last address of the subnet"
OWN_ROUTE = "to which there is a host route already"
NOT_PERMITTED = [
    ("169.254.169.254", SPECIAL),
    ("169.254.169.254", SPECIAL, "route add unreachable 169.254.0.0/17"),
    ("198.51.100.1", NO_SUBNET),
    ("198.51.100.1", NO_SUBNET, "route add default via 10.1.0.4 table 77"),
    ("198.51.100.1", NO_SUBNET, "route add default dev eth0"),
    ("198.51.100.1", NO_SUBNET, "route add unreachable default metric 4278198272"),
    ("198.51.100.1", ELSEWHERE, "route add default via 10.1.0.4"),
    ("240.0.0.1", SPECIAL),
    ("100.64.0.1", NO_SUBNET),
    ("10.1.0.0", ENDS),
    ("10.7.0.0", ENDS, "route add unreachable 10.7.0.0/16"),
    ("10.5.0.2", ELSEWHERE),
    ("10.1.0.4", GATEWAY, "route add default via 10.1.0.4 table 77"),
    ("10.1.0.3", GATEWAY, "route add 10.44.0.0/16 nexthop via 10.1.0.4 nexthop via 10.1.0.3"),
    ("10.1.0.6", GATEWAY, "nexthop add id 5 via 10.1.0.6 dev eth0"),
    ("10.1.0.6", GATEWAY, "nexthop add id 5 via 10.1.0.6 dev eth0", "route add 10.5.0.0/16 nhid 5"),
    ("10.1.0.130", ELSEWHERE, "route add 10.1.0.128/25 via 10.1.0.4"),
    ("10.7.9.2", ELSEWHERE, "route add unreachable 10.7.0.0/16", "route add 10.7.9.0/24 dev eth1"),
    ("10.1.0.40", ELSEWHERE, "route add blackhole 10.1.0.40"),
    ("10.1.0.40", OWN_ROUTE, "route add 10.1.0.40 dev eth0"),
    ("10.7.9.2", OWN_ROUTE, "route add unreachable 10.7.9.2"),
    ("fd00:1::40", OWN_ROUTE, "-6 route add fd00:1::40 dev eth0"),
    ("fe80::9", SPECIAL),
    ("2001:db8::1", NO_SUBNET),
    ("fd00:1::", ENDS),
    ("fd00:1::5", GATEWAY, "-4 route add 10.9.0.0/16 via inet6 fd00:1::5 dev eth0"),
    ("fd00:1::6", GATEWAY, "-6 route add fd00:44::/64 nexthop via fd00:1::7 nexthop via fd00:1::6"),
]


def test_an_address_that_nothing_permits_is_refused(scene: Scene, host: Space) -> None:
    for address, expected, *commands in sample(NOT_PERMITTED, 4):
        length = 64 if ":" in address else 24
        with changed(host, *commands):
            scene.refuses(107, expected, conf=conf(f"{address}/{length}"))


PERMITTED = [
    ("10.1.0.2", "l2"),
    ("10.3.0.2", "l2"),  # of the peer's subnet
    ("fd00:1::2", "l2"),
    ("10.1.0.2", "l3", "route add default via 10.1.0.4"),
    ("10.7.0.2", "l3", "route add unreachable 10.7.0.0/16", "route add default via 10.1.0.4"),
    ("fd00:7::2", "l3s", "-6 route add unreachable fd00:7::/64"),
]


def test_what_is_permitted(scene: Scene, host: Space) -> None:
    for address, mode, *commands in sample(PERMITTED, 3):
        wanted = conf(f"{address}/{128 if ':' in address else 32}", mode=mode)
        with changed(host, *commands):
            added = scene.add(wanted)
            assert host.ask("route", "get", address)[0]["dev"].startswith("ipvhost"), address
            added.delete()


@pytest.mark.parametrize("host_access", [True, False])
def test_an_address_of_the_host_is_refused(scene: Scene, host: Space, *, host_access: bool) -> None:
    for device, address in (
        ("lo", "192.0.2.5/32"),
        ("lo", "2001:db8::5/128"),
        ("eth1", "10.1.0.77/32"),
        ("eth1", "fd00:1::77/128"),
    ):
        host.ip(f"address add {address} dev {device}" + (" nodad" if ":" in address else ""))
    host.ip("route add local 10.1.0.64/29 dev lo")
    others = ("10.1.0.70", "127.0.0.53", "::1", "10.5.0.10")
    anywhere = ("192.0.2.5", "2001:db8::5", "10.1.0.77", "fd00:1::77", *others)
    for address in sample(anywhere, 2):
        wanted = {**conf(f"{address}/{64 if ':' in address else 24}"), "hostAccess": host_access}
        scene.refuses(106, "is the host's own address", conf=wanted)


# An address has one owner: the next one gets the host's route, and the last one's DEL spares it.


def gives_up_its_address(scene: Scene) -> Added:
    added = scene.add(conf(f"{TAKEN}/24"), CNI_CONTAINERID="first")
    scene.one.ip(f"address delete {TAKEN}/24 dev net1")
    return added


def test_the_route_to_a_living_container_is_not_taken_from_it(scene: Scene, host: Space) -> None:
    gives_up_its_address(scene)
    words = f"the host's route to {TAKEN} is another container's"
    error = scene.refuses(106, words, conf=conf(f"{TAKEN}/24", name="other"), at=scene.two)
    assert "container first" in error["private"]
    scene.one.ip(f"address add {TAKEN}/24 dev net1")
    host.ip(f"route get {TAKEN}")


@pytest.mark.parametrize("ends", ["its namespace", "its route"])
def test_a_late_delete_spares_the_next_owners_route(scene: Scene, host: Space, ends: str) -> None:
    first = gives_up_its_address(scene)
    if ends == "its namespace":
        scene.node.remove(scene.one)
    else:
        host.ip(f"route delete {TAKEN}")
    second = scene.add(conf(f"{TAKEN}/24", name="other"), at=scene.two)

    netns = "" if ends == "its namespace" else scene.one
    scene.runtime.delete(netns, first.conf, **first.environment).succeeds()

    second.check()
    assert host.reaches(TAKEN)
    second.delete()
    assert not any(name.startswith("ipvhost") for name in host.links())


def test_an_ipam_plugin_that_hangs_delays_no_other_add(scene: Scene, ipvlan: Executable) -> None:
    """The host's part is undone, and its lock released, before that plugin is asked."""
    ipam = scene.ipam(ips=["10.1.0.3/24"])
    scene.ipam("DEL", script="exec sleep 300")
    path = {"CNI_PATH": scene.fake.path}
    environment = call_environment("ADD", scene.two, CNI_CONTAINERID="hangs", **path)
    wanted = network(name="hangs", ipam=ipam, hostAccess=True)
    call = ipvlan.start(environment, stdin_of(wanted))
    assert call.process.stdout is not None
    call.process.stdout.close()  # so that it fails at the very end
    call.process.stdout = None
    scene.fake.wait_for("DEL")

    began = time.monotonic()
    scene.add(conf(f"{TAKEN}/24"), CNI_CONTAINERID="other")

    assert call.process.poll() is None, "this shows nothing"
    assert time.monotonic() - began < 8
    call.kill()


# checkIPv4Conflict starts a process for each address.


def test_few_questions_for_conflicts_are_asked_at_once(scene: Scene, tmp_path: Path) -> None:
    tools = f"{tmp_path}/tools"
    run("mkdir", "-p", f"{tools}/running")
    script = f"""#!/bin/sh
        : >{tools}/running/$$
        ls {tools}/running | wc -l >>{tools}/counts
        sleep 0.2
        rm {tools}/running/$$
    """
    run("sh", "-c", f"cat >{tools}/arping; chmod +x {tools}/arping", stdin=script)
    many = [f"10.1.1.{number}/16" for number in range(1, 66)]
    path = f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"

    scene.add(ipam=static(*many[:20]), checkIPv4Conflict=True, PATH=path)

    counts = list(map(int, (tmp_path / "tools/counts").read_text().split()))
    assert len(counts) == 20
    assert 1 < max(counts) <= 16
    words = "checkIPv4Conflict is for at most 64 addresses"
    scene.refuses(7, words, at=scene.two, ipam=static(*many), checkIPv4Conflict=True)
