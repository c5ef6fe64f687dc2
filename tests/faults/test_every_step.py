"""Every command and every system call of a verb fails, one at a time: nothing leaks.

By default each kind of fault is tried in one of the two ways to go, at every 24th point, each
kind beginning at another; with --long it is tried everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import faulty
import pytest
import sampling
from faulty import COMMAND_FAULTS, Fault, Faults, Point
from lab import LEASES, Node, Space
from runtime import PLUGINS, Answer, Conf, call_environment, host_local, network, stdin_of

from cni_ipvlan.cni.errors import INTERNAL

NEIGHBOUR = "neighbour"
# An IPAM plugin that keeps leases, and knows GC, which Debian's host-local does not.
LEASING = f"""\
#!/bin/sh
lease={LEASES}/networks/net/$CNI_CONTAINERID
case $CNI_COMMAND in
    ADD)
        mkdir -p {LEASES}/networks/net && touch "$lease" || exit
        case $CNI_CONTAINERID in {NEIGHBOUR}) ip=10.1.0.3/24 ;; *) ip=10.1.0.2/24 ;; esac
        echo '{{"cniVersion": "1.1.0", "ips": [{{"address": "'$ip'"}}]}}'
        ;;
    DEL) rm -f "$lease" ;;
    GC)
        stdin=$(cat)
        for lease in {LEASES}/networks/net/*; do
            case $stdin in *'"'${{lease##*/}}'"'*) ;; *) rm -f "$lease" ;; esac
        done
        ;;
esac
"""
# What is asked of the container besides what the snapshot of a node holds.
REST = (
    "ip -N rule; ip -6 -N rule; cd /proc/sys/net; cat ipv6/conf/*/disable_ipv6 "
    "ipv4/conf/*/arp_notify ipv6/conf/*/ndisc_notify"
)
DEATHS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (faulty.dies_with_the_plugin, faulty.dies_with_the_plugin_after_its_work)
}
FAULTS: dict[str, Fault] = {**COMMAND_FAULTS, "is_refused": faulty.is_refused, **DEATHS}
ALL = sampling.is_long()
pytestmark = [pytest.mark.timeout(0)] if ALL else []
STRIDE = 24
# What has interfaces on the host that attachments share.
HOST_ACCESS: dict[str, Any] = {"hostAccess": True}
VLAN: dict[str, Any] = {"vlan": 100}
WAYS = ("in batches", "one by one")  # the latter where no ip netns exec leads


class Scene(NamedTuple):
    """A node with an attached container, and one to attach."""

    node: Node
    container: Space
    conf: Conf
    path: str

    def call(self, verb: str, conf: Conf | None = None, faults: Faults | None = None) -> Answer:
        return faulty.call(*self._words(verb, conf), faults or Faults())

    def die(self, verb: str, faults: Faults, conf: Conf | None = None) -> None:
        """Call, and die at the point that is planned (or live, if a loop is shorter this time)."""
        faulty.call_and_die(*self._words(verb, conf), faults)

    def _words(self, verb: str, conf: Conf | None) -> tuple[dict[str, str], bytes]:
        # Or each ADD gets the next address, and a point with the last one is never met.
        for last in LEASES.rglob("last_reserved_ip.*"):
            last.unlink()
        environment = call_environment(verb, self.container, CNI_PATH=self.path)
        return environment, stdin_of(conf or self.conf)

    def points(self, verb: str, conf: Conf | None = None) -> list[Point]:
        """Return the points of a call that succeeds."""
        faults = Faults()
        answer = self.call(verb, conf, faults)
        assert answer.status == 0, answer
        return faults.points

    def state(self) -> dict[str, Any]:
        return {**self.node.snapshot(), "rest": self.container.run("sh", "-c", REST)}

    def cleared(self) -> dict[str, Any]:
        """Return the state with IPv6 off again, which DEL leaves on: others may use it by now."""
        prepare(self.container)
        return self.state()


def prepare(container: Space) -> None:
    """Have IPv6 off, so that ADD switches it on, and without duplicate address detection."""
    script = "echo 0 >default/accept_dad; echo 1 >all/disable_ipv6; echo 1 >default/disable_ipv6"
    container.run("sh", "-c", f"ip link set dev lo up; cd /proc/sys/net/ipv6/conf; {script}")


def scene_on(node: Node, way: str) -> Scene:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "fd00:7::/64"}]
    ipam = host_local("10.1.0.0/24", "fd00:1::/64", routes=routes)
    conf = network(ipam=ipam, **(HOST_ACCESS if way == WAYS[0] else VLAN))
    return _with_neighbour(
        node, node.container_of_a_process() if way == WAYS[1] else node.container(), conf, PLUGINS
    )


def leasing_scene_on(node: Node, directory: Path, kind: str) -> Scene:
    plugin = directory / "leasing"
    plugin.write_text(LEASING)
    plugin.chmod(0o755)
    with_host = HOST_ACCESS if list(FAULTS).index(kind) % 2 else VLAN
    conf = network(cniVersion="1.1.0", ipam={"type": "leasing"}, **with_host)
    return _with_neighbour(node, node.container(), conf, str(directory))


def _with_neighbour(node: Node, container: Space, conf: Conf, path: str) -> Scene:
    node.master()
    for address in ("10.1.0.200/24", "fd00:1::200/64"):
        node.host.ip(f"address add {address} dev eth0 nodad")
    neighbour = node.container()
    for space in (neighbour, container):
        prepare(space)
    environment = call_environment("ADD", neighbour, CNI_CONTAINERID=NEIGHBOUR, CNI_PATH=path)
    # Without these, so that the host's interface comes and goes with the container.
    without = {key: conf[key] for key in conf if key not in ("hostAccess", "vlan")}
    attached = faulty.call(environment, stdin_of(without), Faults())
    assert attached.status == 0, attached
    return Scene(node, container, conf, path)


def ways(kinds: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each kind of fault with a way to go, or with both."""
    return [
        (kind, way)
        for number, kind in enumerate(kinds)
        for turn, way in enumerate(WAYS)
        if ALL or number % len(WAYS) == turn
    ]


def chosen(points: list[Point], kind: str) -> list[Point]:
    """Return the points of a call at which a kind of fault is tried."""
    if kind == "is_refused":
        points = [point for point in points if not point.is_command]
    elif kind in COMMAND_FAULTS:
        points = [point for point in points if point.is_command]
    return points if ALL else points[list(FAULTS).index(kind) % STRIDE :: STRIDE]


@pytest.mark.parametrize(("kind", "way"), ways(COMMAND_FAULTS))
def test_add_undoes_everything_when_a_command(node: Node, kind: str, way: str) -> None:
    scene = scene_on(node, way)
    points = scene.points("ADD")
    scene.call("DEL")
    before = scene.cleared()

    assert after_faulty_adds(scene, chosen(points, kind), FAULTS[kind], before) == {}


@pytest.mark.parametrize("way", WAYS[: 2 if ALL else 1])
def test_add_undoes_everything_when_a_system_call_is_refused(node: Node, way: str) -> None:
    scene = scene_on(node, way)
    points = scene.points("ADD")
    scene.call("DEL")
    before = scene.cleared()

    found = after_faulty_adds(scene, chosen(points, "is_refused"), faulty.is_refused, before)

    assert found == {}


def after_faulty_adds(
    scene: Scene, points: list[Point], fault: Fault, before: dict[str, Any]
) -> dict[str, Any]:
    """Return what is wrong, by the point: an ADD must do everything, or nothing and report why."""
    wrong: dict[str, Any] = {}
    for point in points:
        answer = scene.call("ADD", faults=Faults({point: fault}))
        if answer.status == 0:
            check = scene.call("CHECK", {**scene.conf, "prevResult": answer.result()})
            deleted = scene.call("DEL")
            after = scene.cleared()
            if check.status or deleted.status:
                wrong[f"{point}"] = ("succeeded, but then", check, deleted)
        else:
            if point.words.startswith(("flock", "fstat")):
                scene.call("DEL")  # a kernel that refuses locks: the lock's file stays till then
            after = scene.state()
            if answer.error()["code"] == INTERNAL:
                wrong[f"{point}"] = answer
        if after != before:
            wrong[f"{point}"] = difference(before, after)
            scene.call("DEL")
    return wrong


@pytest.mark.parametrize(("kind", "way"), ways(DEATHS))
def test_delete_removes_what_an_add_left_that(node: Node, kind: str, way: str) -> None:
    scene = scene_on(node, way)
    points = scene.points("ADD")
    assert len(points) > 30
    scene.call("DEL")
    before = scene.cleared()
    wrong: dict[str, Any] = {}
    for point in chosen(points, kind):
        scene.die("ADD", Faults({point: FAULTS[kind]}))

        deleted = scene.call("DEL")

        after = scene.cleared()
        if deleted.status or after != before:
            wrong[f"{point}"] = (deleted, difference(before, after))
    assert wrong == {}


@pytest.mark.parametrize("kind", DEATHS)
def test_gc_removes_what_an_add_left_whose_container_is_gone_that(
    node: Node, tmp_path: Path, kind: str
) -> None:
    scene = leasing_scene_on(node, tmp_path, kind)
    points = scene.points("ADD")
    scene.call("DEL")
    node.remove(scene.container)
    before = node.snapshot()
    wrong: dict[str, Any] = {}
    for point in chosen(points, kind):
        scene = scene._replace(container=node.container())
        scene.die("ADD", Faults({point: FAULTS[kind]}))
        node.remove(scene.container)

        collected = scene.call("GC", gc_conf(scene))

        after = node.snapshot()
        if collected.status or after != before:
            wrong[f"{point}"] = (collected, difference(before, after))
    assert wrong == {}


def gc_conf(scene: Scene) -> Conf:
    valid = [{"containerID": NEIGHBOUR, "ifname": "net1"}]
    return {**scene.conf, "cni.dev/valid-attachments": valid}


@pytest.mark.parametrize(("kind", "way"), ways([*COMMAND_FAULTS, "is_refused", *DEATHS]))
def test_delete_may_be_repeated_when_anything(node: Node, kind: str, way: str) -> None:
    scene = scene_on(node, way)
    before = scene.cleared()
    scene.call("ADD")
    points = chosen(scene.points("DEL"), kind)
    wrong: dict[str, Any] = {}
    for point in points:
        scene.call("ADD")
        faults = Faults({point: FAULTS[kind]})
        if kind in DEATHS:
            scene.die("DEL", faults)
        else:
            answer = scene.call("DEL", faults=faults)
            if answer.status == 0 and point.is_command and scene.cleared() != before:
                wrong[f"{point}"] = ("left", difference(before, scene.state()))
            elif answer.status and answer.error()["code"] == INTERNAL:
                wrong[f"{point}"] = answer

        repeated = scene.call("DEL")

        after = scene.cleared()
        if repeated.status or after != before:
            wrong[f"{point}, repeated"] = (repeated, difference(before, after))
    assert wrong == {}


@pytest.mark.parametrize(("kind", "way"), ways([*COMMAND_FAULTS, "is_refused", *DEATHS]))
def test_check_changes_nothing_and_fails_when_anything(node: Node, kind: str, way: str) -> None:
    scene = scene_on(node, way)
    conf = {**scene.conf, "prevResult": scene.call("ADD").result()}
    points = chosen(scene.points("CHECK", conf), kind)
    before = scene.state()
    wrong: dict[str, Any] = {}
    for point in points:
        faults = Faults({point: FAULTS[kind]})
        if kind in DEATHS:
            scene.die("CHECK", faults, conf)
        else:
            answer = scene.call("CHECK", conf, faults)
            is_reported = answer.status and answer.error()["code"] != INTERNAL
            # What an IPAM plugin prints at CHECK means nothing; and a namespace whose name leads
            # nowhere is entered by its descriptor.
            is_meaningless = kind.startswith("prints") and "/cni/" in point.words
            if not (is_reported or is_meaningless or point.words.startswith("stat /run/netns/")):
                wrong[f"{point}"] = answer
        if scene.state() != before:
            wrong[f"{point}"] = difference(before, scene.state())
    assert wrong == {}


@pytest.mark.parametrize("kind", [*COMMAND_FAULTS, "is_refused", *DEATHS])
def test_gc_may_be_repeated_when_anything(node: Node, tmp_path: Path, kind: str) -> None:
    scene = leasing_scene_on(node, tmp_path, kind)
    points = scene.points("ADD")
    scene.call("DEL")
    moving = next(point for point in points if " netns " in point.words)
    node.remove(scene.container)
    before = node.snapshot()
    scene = leave_something(scene, moving)
    points = chosen(scene.points("GC", gc_conf(scene)), kind)
    wrong: dict[str, Any] = {}
    for point in points:
        scene = leave_something(scene, moving)
        faults = Faults({point: FAULTS[kind]})
        if kind in DEATHS:
            scene.die("GC", faults, gc_conf(scene))
        else:
            answer = scene.call("GC", gc_conf(scene), faults)
            if answer.status == 0 and point.is_command and node.snapshot() != before:
                wrong[f"{point}"] = ("left", difference(before, node.snapshot()))
            elif answer.status and answer.error()["code"] == INTERNAL:
                wrong[f"{point}"] = answer

        repeated = scene.call("GC", gc_conf(scene))

        if repeated.status or node.snapshot() != before:
            wrong[f"{point}, repeated"] = (repeated, difference(before, node.snapshot()))
    assert wrong == {}


def leave_something(scene: Scene, moving: Point) -> Scene:
    """Leave a link, a lease and a lock of an ADD that dies; its container is gone."""
    scene = scene._replace(container=scene.node.container())
    scene.die("ADD", Faults({moving: faulty.dies_with_the_plugin}))
    scene.node.remove(scene.container)
    return scene


@pytest.mark.parametrize("way", WAYS[: 2 if ALL else 1])
def test_what_a_second_fault_keeps_from_being_undone_is_named(node: Node, way: str) -> None:
    scene = scene_on(node, way)
    commands = [point for point in scene.points("ADD") if point.is_command]
    scene.call("DEL")
    before = scene.cleared()
    wrong: dict[str, Any] = {}
    pairs = 0
    for first in commands if ALL else commands[-2:]:
        planned = {first: faulty.fails_after_its_work}
        recorded = Faults(planned)
        if scene.call("ADD", faults=recorded).status == 0:
            scene.call("DEL")  # it was a step that may fail
            continue
        for second in recorded.points[recorded.points.index(first) + 1 :]:
            if not second.is_command:
                continue
            pairs += 1
            faults = Faults({**planned, second: faulty.fails_at_once})
            error = scene.call("ADD", faults=faults).error()
            if scene.state() != before and "could not be undone: " not in error["details"]:
                wrong[f"{first}, {second}"] = (error, difference(before, scene.state()))

            deleted = scene.call("DEL")

            after = scene.cleared()
            if deleted.status or after != before:
                wrong[f"{first}, {second}, deleted"] = (deleted, difference(before, after))
    assert wrong == {}
    assert pairs > 4


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what was and what is, where that differs."""
    found = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            found.update({f"{key}: {name}": each for name, each in difference(was, now).items()})
        elif was != now:
            found[key] = (was, now)
    return found
