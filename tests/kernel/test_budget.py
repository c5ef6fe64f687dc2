"""How many processes each verb starts, and how many in a container: counted, not timed."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import FakeDhcp, Steps
from lab import Node
from runtime import PLUGINS, Runtime, host_local, network

IPAM = "host-local"
CONF = network(ipam=host_local("10.1.0.0/24", routes=[{"dst": "0.0.0.0/0"}]))
DUAL_STACK = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64"))


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path, f"{PLUGINS}/{IPAM}")


def taken(steps: Steps) -> tuple[int, int]:
    """Return how many processes were started, and how many of them in a container."""
    words = [step.words for step in steps.taken]
    entries = [each for each in words if each.startswith(("ip netns exec ", "nsenter "))]
    steps.forget()
    return len(words), len(entries)


def test_processes_of_a_life(node: Node, runtime: Runtime, steps: Steps) -> None:
    node.master()
    container = node.container()

    result = runtime.add(container, CONF, **steps.environment).result()
    # The container and the master are looked at, the master is asked whether it is free; the
    # link is created and moved; IPAM.
    assert taken(steps) == (6, 1)

    runtime.check(container, CONF, result, **steps.environment).succeeds()
    assert taken(steps) == (3, 1)

    runtime.delete(container, CONF, **steps.environment).succeeds()
    assert taken(steps) == (2, 1)


def test_processes_with_several_masters(node: Node, runtime: Runtime, steps: Steps) -> None:
    node.master()
    container = node.container()
    conf = {**CONF, "master": ["eth1", "e*"]}

    result = runtime.add(container, conf, **steps.environment).result()
    assert taken(steps) == (7, 1)  # one more lists all interfaces

    runtime.check(container, conf, result, **steps.environment).succeeds()
    assert taken(steps) == (3, 1)


def test_processes_beside_a_neighbour(node: Node, runtime: Runtime, steps: Steps) -> None:
    node.master()
    for number in range(3):
        runtime.add(node.container(), CONF, CNI_CONTAINERID=f"c{number}").result()

    runtime.add(node.container(), CONF, **steps.environment).result()

    assert taken(steps) == (6, 2)  # the second is a neighbour's container, to read its mode


def test_processes_with_ipv6(node: Node, runtime: Runtime, steps: Steps) -> None:
    """The host's addresses, whether IPv6 is on; and duplicate address detection is waited for."""
    node.master()
    container = node.container()

    runtime.add(container, DUAL_STACK, **steps.environment).result()

    assert taken(steps) == (10, 4)


def test_processes_with_dhcp(node: Node, runtime: Runtime, tmp_path: Path) -> None:
    """The interface is brought up, and tc makes a filter of its requests."""
    node.master()
    ipam = FakeDhcp(tmp_path)
    ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    steps = Steps(tmp_path, ipam.program)

    runtime.add(node.container(), network(ipam=ipam.conf), **steps.environment).result()

    assert taken(steps) == (9, 4)


def test_delete_without_a_container(node: Node, runtime: Runtime, steps: Steps) -> None:
    runtime.delete("", CONF, **steps.environment).succeeds()

    assert taken(steps) == (1, 0)


def test_processes_of_host_access(node: Node, runtime: Runtime, steps: Steps) -> None:
    """More for the first container of a master, with which the host's interface comes."""
    node.master()
    node.host.ip("address add 10.1.0.200/24 dev eth0")
    conf = {**CONF, "hostAccess": True}
    container = node.container()

    result = runtime.add(container, conf, **steps.environment).result()
    # The ways of the host, neighbours, reverse path filtering; create, two switches, bring up.
    assert taken(steps) == (13, 1)
    runtime.add(node.container(), conf, **steps.environment, CNI_CONTAINERID="two").result()
    # Neither created nor switched: it and its routes are looked at, and the first mode is read.
    assert taken(steps) == (12, 2)
    runtime.check(container, conf, result, **steps.environment).succeeds()
    assert taken(steps) == (6, 1)
    runtime.delete(container, conf, **steps.environment).succeeds()
    assert taken(steps) == (4, 1)


def test_processes_of_a_vlan(node: Node, runtime: Runtime, steps: Steps) -> None:
    """More for the first container, with which it comes, and for the last, with which it goes."""
    node.master()
    conf = {**CONF, "vlan": 100}
    first, second = node.container(), node.container()

    runtime.add(first, conf, **steps.environment).result()
    assert taken(steps) == (13, 1)  # whether the VLAN's name is free is asked before it is made
    runtime.add(second, conf, **steps.environment, CNI_CONTAINERID="two").result()
    assert taken(steps) == (8, 2)
    runtime.delete(first, conf, **steps.environment).succeeds()
    assert taken(steps) == (3, 2)  # it is asked again whether the interface is gone
    runtime.delete(second, conf, **steps.environment, CNI_CONTAINERID="two").succeeds()
    assert taken(steps) == (6, 2)
