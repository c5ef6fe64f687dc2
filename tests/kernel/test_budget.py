"""How many processes each verb starts, and how many in a container: counted, not timed."""

from pathlib import Path
from typing import Any

import pytest
from doubles import FakeDhcp, Steps
from runtime import PLUGINS, Conf, host_local, network
from setup import Attachment, Setup

IPAM = "host-local"
CONF = network(ipam=host_local("10.1.0.0/24", routes=[{"dst": "0.0.0.0/0"}]))
Counts = tuple[int, int]  # processes in all, and those in a container
DUAL_STACK = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64"))


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path, f"{PLUGINS}/{IPAM}")


def pop_counts(steps: Steps) -> Counts:
    """Return how many processes were started, and how many of them in a container."""
    words = [step.words for step in steps.records]
    entries = [each for each in words if each.startswith(("ip netns exec ", "ip -n ", "nsenter "))]
    steps.reset()
    return len(words), len(entries)


def add(setup: Setup, steps: Steps, expected: Counts, conf: Conf, **options: Any) -> Attachment:
    added = setup.add(conf, **{**options, **steps.environment})
    assert pop_counts(steps) == expected
    return added


def check(added: Attachment, steps: Steps, expected: Counts) -> None:
    added.check()
    assert pop_counts(steps) == expected


def delete(added: Attachment, steps: Steps, expected: Counts) -> None:
    added.delete()
    assert pop_counts(steps) == expected


def test_processes_of_a_life(setup: Setup, steps: Steps) -> None:
    setup.runtime.delete("", CONF, **steps.environment).succeeds()
    assert pop_counts(steps) == (1, 0)
    # The container and the master are looked at, the master is asked whether it is free; the
    # link is created and moved; IPAM.
    added = add(setup, steps, (6, 1), CONF)
    check(added, steps, (3, 1))
    # IPAM, the link; the master, of which it was the last, is asked whether it is free.
    delete(added, steps, (3, 1))
    # One more process lists all interfaces.
    added = add(setup, steps, (7, 1), CONF, master=["eth1", "e*"])
    check(added, steps, (3, 1))


def test_processes_beside_a_neighbour(setup: Setup, steps: Steps) -> None:
    for number in range(3):
        setup.add(CONF, at=setup.make_container(), CNI_CONTAINERID=f"c{number}")
    # The second process in a container reads the mode of a neighbour.
    add(setup, steps, (6, 2), CONF)


def test_processes_with_ipv6(setup: Setup, steps: Steps) -> None:
    """ADD reads the host's addresses and disable_ipv6, and waits for address detection."""
    add(setup, steps, (10, 4), DUAL_STACK)


def test_processes_with_dhcp(setup: Setup, tmp_path: Path) -> None:
    """ADD brings the interface up, and has tc make a filter for its requests."""
    setup.fake = FakeDhcp(tmp_path)
    steps = Steps(tmp_path / "steps", setup.fake.program)
    add(setup, steps, (9, 4), network(ipam=setup.ipam(ips=["10.1.0.2/24"])))


@pytest.mark.setup(host=("10.1.0.200/24",))
def test_processes_of_host_access(setup: Setup, steps: Steps) -> None:
    """The first container of a master takes more, since ADD makes the host's interface."""
    # The ways of the host, neighbours, reverse path filtering; create, two switches, bring up.
    first = add(setup, steps, (13, 1), CONF, hostAccess=True)
    # The host's interface exists; ADD reads it, its routes and the first container's mode.
    add(setup, steps, (12, 2), CONF, hostAccess=True, at=setup.container2)
    check(first, steps, (6, 1))
    delete(first, steps, (4, 1))


def test_processes_of_a_vlan(setup: Setup, steps: Steps) -> None:
    """The first container takes more, to make the VLAN, and the last, to remove it."""
    first = add(setup, steps, (13, 1), CONF, vlan=100)
    second = add(setup, steps, (8, 2), CONF, vlan=100, at=setup.container2)
    delete(first, steps, (2, 1))
    delete(second, steps, (7, 1))
