"""Calls that meet, and a world that changes under a call.

What can happen between two steps is tried between all of them: at each command and system call of
an ADD, something else happens from beginning to end. That, too, which only real concurrency
brings about is tried by calls started at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import faulty
import pytest
import sampling
from doubles import FakeIpam
from executable import Executable
from faulty import Fault, Faults, Point
from lab import MEMORY, Node, Space, run
from runtime import Answer, Conf, Runtime, call_environment, host_local, network, stdin_of

from cni_ipvlan.cni.errors import INTERNAL, TRY_AGAIN_LATER
from cni_ipvlan.plugin.codes import INTERRUPTED, MODE_CONFLICT
from cni_ipvlan.state import locks

ALL = sampling.is_long()
pytestmark = [pytest.mark.timeout(0)] if ALL else []
ROUNDS = int(os.environ.get("RACES", "4"))
CONF = network(cniVersion="1.0.0", ipam=host_local("10.1.0.0/24", routes=[{"dst": "0.0.0.0/0"}]))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for a lock, which is never released in these tests."""
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.05)


def words(
    verb: str, container: Space, conf: Conf = CONF, **others: str
) -> tuple[dict[str, str], bytes]:
    return call_environment(verb, container, **others), stdin_of(conf)


def meanwhile(action: Callable[[], Any]) -> Fault:
    def fault(_: Any, work: Callable[[], Any]) -> Any:
        action()
        return work()

    return fault


def call_elsewhere(outcomes: list[tuple[int, int]], call: tuple[dict[str, str], bytes]) -> None:
    outcomes.append(faulty.call_elsewhere(*call))


def points_of_add(container: Space, conf: Conf = CONF) -> Sequence[Point]:
    faults = Faults()
    answer = faulty.call(*words("ADD", container, conf), faults)
    assert answer.status == 0, answer
    faulty.call(*words("DEL", container, conf), Faults())
    return faults.points if ALL else faults.points[::14]


def add_with(
    container: Space, point: Point, action: Callable[[], Any], conf: Conf = CONF
) -> Answer:
    return faulty.call(*words("ADD", container, conf), Faults({point: meanwhile(action)}))


def leftovers(node: Node, *containers: Space) -> Any:
    """Return what is left of attachments."""
    links = [name for name in node.host.links() if name.startswith("iv")]
    inside = [container.links().keys() - {"lo"} for container in containers]
    found = (links, [names for names in inside if names], node.leases(), MEMORY.exists())
    return found if any(found) else None


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_second_call_for_the_same_interface_at_any_moment_of_an_add(
    node: Node, verb: str
) -> None:
    node.master()
    container = node.container()
    wrong: dict[str, Any] = {}
    points = points_of_add(container)
    for point in points:
        others: list[tuple[int, int]] = []

        first = add_with(container, point, partial(call_elsewhere, others, words(verb, container)))

        (status, code), *_ = others
        addresses = "net1" in container.links() and container.addresses("net1")
        is_whole = first.status == 0 and addresses == ["10.1.0.2/24"]
        if verb == "ADD":
            # One succeeds, the other fails with an error; the first to get the lock wins.
            is_fine = addresses and (first.status, status) in {(0, 1), (1, 0)}
        else:
            # DEL runs before the ADD begins or after it has ended, or else gets TRY_AGAIN_LATER.
            is_reported = code == TRY_AGAIN_LATER
            is_fine = first.status == 0 and (is_whole if is_reported else status == 0)
        if not is_fine:
            wrong[f"{point}"] = (first, others, addresses)
        deleted = faulty.call(*words("DEL", container), Faults())
        if deleted.status or leftovers(node, container):
            wrong[f"{point}, deleted"] = (deleted, leftovers(node, container))
        run("rm", "-rf", "/var/lib/cni/networks")
    assert wrong == {}
    assert len(points) > 6


def test_gc_at_any_moment_of_an_add_removes_nothing_of_it(node: Node, fake_ipam: FakeIpam) -> None:
    node.master()
    container = node.container()
    fake_ipam.answers("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]})
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    path = {"CNI_PATH": fake_ipam.path}
    collection = {**conf, "cni.dev/valid-attachments": []}
    faults = Faults()
    faulty.call(*words("ADD", container, conf, **path), faults)
    faulty.call(*words("DEL", container, conf, **path), Faults())
    wrong: dict[str, Any] = {}
    for point in faults.points[:: 1 if ALL else 8]:
        others: list[tuple[int, int]] = []
        gc = words("GC", container, collection, **path)

        action = meanwhile(partial(call_elsewhere, others, gc))
        answer = faulty.call(*words("ADD", container, conf, **path), Faults({point: action}))

        if answer.status or others != [(0, 0)] or container.addresses("net1") != ["10.1.0.2/24"]:
            wrong[f"{point}"] = (answer, others)
        deleted = faulty.call(*words("DEL", container, conf, **path), Faults())
        if deleted.status or leftovers(node, container):
            wrong[f"{point}, deleted"] = (deleted, leftovers(node, container))
    assert wrong == {}


def test_an_add_in_another_mode_at_any_moment_never_changes_the_mode(node: Node) -> None:
    node.master()
    one, two = node.container(), node.container()
    other = {**CONF, "mode": "l3", "name": "other"}
    wrong: dict[str, Any] = {}
    outcomes: Counter[str] = Counter()
    for point in points_of_add(one):
        outcome: list[tuple[int, int]] = []

        first = add_with(one, point, partial(call_elsewhere, outcome, words("ADD", two, other)))

        ((status, code),) = outcome
        modes = [
            (mode, space.ipvlan("net1")["mode"])
            for mode, space in (("l2", one), ("l3", two))
            if "net1" in space.links()
        ]
        outcomes["first" if first.status == 0 else "second"] += 1
        if first.status == 0:
            is_fine = status == 1 and code in {MODE_CONFLICT, TRY_AGAIN_LATER}
        else:
            is_fine = status == 0 and first.error()["code"] in {MODE_CONFLICT, TRY_AGAIN_LATER}
        if not is_fine or len(modes) != 1 or modes[0][0] != modes[0][1]:
            wrong[f"{point}"] = (first, outcome, modes)
        faulty.call(*words("DEL", one), Faults())
        faulty.call(*words("DEL", two, other), Faults())
        if leftovers(node, one, two):
            wrong[f"{point}, deleted"] = leftovers(node, one, two)
    assert wrong == {}
    assert set(outcomes) == {"first", "second"}


CHANGES: dict[str, Callable[[Node], object]] = {
    "container deleted": lambda _node: run("ip", "netns", "delete", "container1"),
    "master deleted": lambda _node: run("ip", "link", "delete", "dev", "eth0"),
    "master renamed": lambda node: node.host.rename("eth0", "eth7"),
    "master down": lambda _node: run("ip", "link", "set", "dev", "eth0", "down"),
    "master moved": lambda _node: run("ip", "link", "set", "dev", "eth0", "netns", "elsewhere"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_world_changes_at_any_moment_of_an_add(node: Node, change: str) -> None:
    run("ip", "link", "add", "name", "eth0", "type", "dummy")
    run("ip", "link", "set", "dev", "eth0", "up")
    elsewhere = node.namespace("elsewhere")
    recorded = node.container()
    points = points_of_add(recorded)
    node.remove(recorded)
    wrong: dict[str, Any] = {}
    outcomes: Counter[int] = Counter()
    for point in points:
        run("ip", "netns", "add", "container1")
        container = type(elsewhere)("/run/netns/container1")

        answer = add_with(container, point, lambda: CHANGES[change](node))

        outcomes[answer.status] += 1
        if answer.status and answer.error()["code"] in {INTERNAL, INTERRUPTED}:
            wrong[f"{point}"] = answer
        deleted = faulty.call(*words("DEL", container), Faults())
        is_there = Path(container.path).exists()  # also if this ADD never came to the point
        if deleted.status or leftovers(node, *[container] * is_there):
            wrong[f"{point}, deleted"] = (answer, deleted, leftovers(node, *[container] * is_there))
        if is_there:
            node.remove(container)
        make_master_again(node, elsewhere)
    assert wrong == {}
    assert outcomes[1] > 3 or change == "master down"


def make_master_again(node: Node, elsewhere: Space) -> None:
    if "eth0" in elsewhere.links():
        elsewhere.ip("link delete dev eth0")
    for name in ("eth0", "eth7"):
        if name in node.host.links():
            run("ip", "link", "delete", "dev", name)
    run("ip", "link", "add", "name", "eth0", "type", "dummy")
    run("ip", "link", "set", "dev", "eth0", "up")


# Calls that are started at once.


def test_adds_in_two_modes_started_at_once_on_an_idle_master(
    node: Node, ipvlan: Executable
) -> None:
    node.master()
    containers = [node.container() for _ in range(4)]
    modes = ("l2", "l3", "l2", "l3")
    confs = [{**CONF, "name": mode, "mode": mode} for mode in modes]
    for _ in range(ROUNDS):
        calls = [
            ipvlan.start(*words("ADD", container, conf, CNI_CONTAINERID=f"c{number}"))
            for number, (container, conf) in enumerate(zip(containers, confs, strict=True))
        ]
        answers = [call.end() for call in calls]

        won = [mode for mode, answer in zip(modes, answers, strict=True) if answer.status == 0]
        assert won in (["l2", "l2"], ["l3", "l3"]), answers
        for mode, container, answer in zip(modes, containers, answers, strict=True):
            if answer.status == 0:
                assert container.ipvlan("net1")["mode"] == mode
            else:
                assert answer.error()["code"] == MODE_CONFLICT
        for number, (container, conf) in enumerate(zip(containers, confs, strict=True)):
            ipvlan(*words("DEL", container, conf, CNI_CONTAINERID=f"c{number}")).succeeds()
        assert leftovers(node, *containers) is None


@pytest.mark.parametrize("verbs", [("ADD", "ADD"), ("ADD", "DEL"), ("DEL", "DEL")])
def test_calls_for_one_interface_started_at_once(
    node: Node, ipvlan: Executable, runtime: Runtime, verbs: tuple[str, str]
) -> None:
    node.master()
    container = node.container()
    for _ in range(ROUNDS):
        if "ADD" not in verbs:
            runtime.add(container, CONF).result()
        calls = [ipvlan.start(*words(verb, container)) for verb in verbs]

        answers = [call.end() for call in calls]

        won = [verb for verb, answer in zip(verbs, answers, strict=True) if answer.status == 0]
        if verbs == ("ADD", "ADD"):
            assert won == ["ADD"], answers
            assert container.addresses("net1") == ["10.1.0.2/24"]
            run("rm", "-rf", "/var/lib/cni/networks/net/last_reserved_ip.0")
        else:
            assert won == list(verbs), answers
        runtime.delete(container, CONF).succeeds()
        run("rm", "-rf", "/var/lib/cni/networks")
        assert leftovers(node, container) is None
