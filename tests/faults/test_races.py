"""Calls at the same time, and changes of the node during a call.

At each command and system call of an ADD, something else happens from beginning to end.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faulty
import pytest
import sampling
from faulty import Faults, Point
from lab import NetNS, Node, find_records, run
from runtime import Answer, Conf, call_environment, host_local, network, stdin_of
from setup import Setup

from cni_ipvlan.cni.errors import INTERNAL, TRY_AGAIN_LATER
from cni_ipvlan.plugin.codes import INTERRUPTED, MODE_CONFLICT
from cni_ipvlan.state import locks

pytestmark = [pytest.mark.timeout(0)] if sampling.is_long() else []
STRIDE = 54
NEVER = -1  # the other was not called: an ADD may read output less often than the recorded one
CONF = network(cniVersion="1.0.0", ipam=host_local("10.1.0.0/24", routes=[{"dst": "0.0.0.0/0"}]))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for a lock, since none is released in these tests."""
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.05)


def words(
    verb: str, container: NetNS, conf: Conf = CONF, **variables: str
) -> tuple[dict[str, str], bytes]:
    return call_environment(verb, container, **variables), stdin_of(conf)


def choose_points(points: list[Point], salt: str = "") -> list[Point]:
    """Return the first point, before which nothing has happened, and a sample of the others."""
    return [points[0], *sampling.take_every(points[1:], STRIDE, salt)]


def add_with(
    container: NetNS, point: Point, action: Callable[[], Any], conf: Conf = CONF, **variables: str
) -> Answer:
    def fault(_: Any, work: Callable[[], Any]) -> Any:
        action()
        return work()

    return faulty.call(*words("ADD", container, conf, **variables), Faults({point: fault}))


class OtherCall:
    def __init__(self, verb: str, container: NetNS, conf: Conf = CONF, **variables: str) -> None:
        self._words = words(verb, container, conf, **variables)
        self.status, self.code = NEVER, NEVER

    def __call__(self) -> None:
        answer = faulty.call_or_die(*self._words, Faults())
        assert answer
        self.status, self.code = answer.status, answer.status and answer.error()["code"]


def read_leftovers(node: Node, *containers: NetNS) -> Any:
    links = [name for name in node.host.links() if name.startswith("iv")]
    inside = [container.links().keys() - {"lo"} for container in containers]
    state = (links, [names for names in inside if names], node.leases(), find_records())
    return state if any(state) else None


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_second_call_for_the_interface_at_any_moment_of_an_add(setup: Setup, verb: str) -> None:
    container = setup.container
    failures: dict[str, Any] = {}
    points = choose_points(faulty.find_points_of_add(*words("ADD", container)))
    for point in points:
        other = OtherCall(verb, container)

        first = add_with(container, point, other)

        addresses = "net1" in container.links() and container.addresses("net1")
        is_whole = first.status == 0 and addresses == ["10.1.0.2/24"]
        if verb == "ADD":
            # One succeeds, the other fails with an error; the first to get the lock wins.
            is_fine = addresses and (first.status, other.status) in {(0, 1), (1, 0), (0, NEVER)}
        else:
            # DEL runs before the ADD begins or after it has ended, or else gets TRY_AGAIN_LATER.
            is_reported = other.code in {TRY_AGAIN_LATER, NEVER}
            is_fine = first.status == 0 and (is_whole if is_reported else other.status == 0)
        deleted = faulty.call(*words("DEL", container), Faults())
        state = read_leftovers(setup.node, container)
        if not is_fine or deleted.status or state:
            failures[f"{point}"] = (first, vars(other), addresses, deleted, state)
        run("rm", "-rf", "/var/lib/cni/networks")
    assert failures == {}
    assert len(points) > 2


def test_gc_at_any_moment_of_an_add_removes_nothing_of_it(setup: Setup) -> None:
    container = setup.container
    conf = network(cniVersion="1.1.0", ipam=setup.ipam(ips=["10.1.0.2/24"]))
    path = {"CNI_PATH": setup.fake.path}
    failures: dict[str, Any] = {}
    for point in choose_points(faulty.find_points_of_add(*words("ADD", container, conf, **path))):
        gc = OtherCall("GC", container, {**conf, "cni.dev/valid-attachments": []}, **path)

        answer = add_with(container, point, gc, conf, **path)

        is_whole = container.addresses("net1") == ["10.1.0.2/24"]
        deleted = faulty.call(*words("DEL", container, conf, **path), Faults())
        state = read_leftovers(setup.node, container)
        if not is_whole or answer.status or gc.status > 0 or deleted.status or state:
            failures[f"{point}"] = (answer, vars(gc), is_whole, deleted, state)
    assert failures == {}


def test_an_add_in_another_mode_at_any_moment_never_changes_the_mode(setup: Setup) -> None:
    container, container2 = setup.container, setup.container2
    conf = {**CONF, "mode": "l3", "name": "other"}
    failures: dict[str, Any] = {}
    winners = set()
    for point in choose_points(faulty.find_points_of_add(*words("ADD", container))):
        other = OtherCall("ADD", container2, conf)

        first = add_with(container, point, other)

        modes = [
            (mode, namespace.ipvlan("net1")["mode"])
            for mode, namespace in (("l2", container), ("l3", container2))
            if "net1" in namespace.links()
        ]
        winners.add("first" if first.status == 0 else "second")
        code = other.code if first.status == 0 else first.error()["code"]
        is_one = (first.status, other.status) in {(0, 1), (1, 0), (0, NEVER)}
        is_fine = is_one and code in {MODE_CONFLICT, TRY_AGAIN_LATER, NEVER}
        faulty.call(*words("DEL", container), Faults())
        faulty.call(*words("DEL", container2, conf), Faults())
        state = read_leftovers(setup.node, container, container2)
        if not is_fine or state or len(modes) != 1 or modes[0][0] != modes[0][1]:
            failures[f"{point}"] = (first, vars(other), modes, state)
    assert failures == {}
    assert winners == {"first", "second"}


CHANGES: dict[str, Callable[[Node], object]] = {
    "container deleted": lambda _node: run("ip", "netns", "delete", "changed"),
    "master deleted": lambda _node: run("ip", "link", "delete", "dev", "eth0"),
    "master renamed": lambda node: node.host.rename("eth0", "eth7"),
    "master down": lambda _node: run("ip", "link", "set", "dev", "eth0", "down"),
    "master moved": lambda _node: run("ip", "link", "set", "dev", "eth0", "netns", "elsewhere"),
}


def test_the_world_changes_at_any_moment_of_an_add(setup: Setup) -> None:
    node, namespace = setup.node, setup.node.make_namespace("elsewhere")
    points = faulty.find_points_of_add(*words("ADD", setup.container))
    trials = [(change, point) for change in CHANGES for point in choose_points(points, change)]
    node.remove(setup.container)
    failures: dict[str, Any] = {}
    changes_refused = set()
    for change, point in trials:
        container = node.make_namespace("changed")
        answer = add_with(container, point, partial(CHANGES[change], node))
        changes_refused |= {change} if answer.status else set()
        is_fine = not answer.status or answer.error()["code"] not in {INTERNAL, INTERRUPTED}
        deleted = faulty.call(*words("DEL", container), Faults())
        exists = Path(container.path).exists()  # also if this ADD never came to the point
        state = read_leftovers(node, *[container] * exists)
        if not is_fine or deleted.status or state:
            failures[f"{change} at {point}"] = (answer, deleted, state)
        if exists:
            node.remove(container)
        for place, name in ((namespace, "eth0"), (node.host, "eth0"), (node.host, "eth7")):
            if name in place.links():
                place.ip(f"link delete dev {name}")
        node.make_master()
    assert failures == {}
    assert changes_refused >= CHANGES.keys() - {"master down"}
