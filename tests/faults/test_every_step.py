"""Every command and every system call of a verb fails, one at a time: nothing leaks.

By default each kind of fault is tried in one of the two ways to go, at every 108th point from one
that the seed says, but more often what matters most; with --long it is tried everywhere.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faulty
import pytest
import sampling
from doubles import replace_program
from faulty import COMMAND_FAULTS, Fault, Faults, Point
from lab import LEASES, NetNS, Node
from runtime import PLUGINS, Answer, Conf, call_environment, host_local, network, stdin_of

from cni_ipvlan.cni.errors import INTERNAL

NEIGHBOUR = "neighbour"
# An IPAM plugin that keeps leases, and knows GC, which Debian's host-local does not.
LEASING = f"""\
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
# Rules and parameters of the container, which the snapshot of a node does not have.
REMAINDER = (
    "ip -N rule; ip -6 -N rule; cd /proc/sys/net; cat ipv6/conf/*/disable_ipv6 "
    "ipv4/conf/*/accept_redirects "
    "ipv4/conf/*/arp_notify ipv6/conf/*/ndisc_notify ipv6/conf/*/keep_addr_on_down"
)
DEATHS: dict[str, Fault] = {
    fault.__name__: fault for fault in (faulty.kill_plugin, faulty.kill_plugin_after_work)
}
FAULTS: dict[str, Fault] = {**COMMAND_FAULTS, "is_refused": faulty.refuse, **DEATHS}
ALL = sampling.is_long()
pytestmark = [pytest.mark.timeout(0)] if ALL else []
STRIDE = 108
STRIDES = {"fails_after_its_work": 9}
QUERIES = ("in batches", "one by one")  # the latter where no ip netns exec leads
# Options for which attachments share an interface on the host.
SHARED: dict[str, dict[str, Any]] = {
    QUERIES[0]: {"hostAccess": True, "routesViaHost": ["10.96.0.0/12"]},
    QUERIES[1]: {"vlan": 100},
}


class Setup:
    """A node with an attached container, and one to attach."""

    def __init__(self, node: Node, container: NetNS, conf: Conf, path: str, queries: str) -> None:
        self.node, self.container, self.path, self.queries = node, container, path, queries
        self.conf = {**conf, **SHARED[queries]}
        node.make_master()
        for address in ("10.1.0.200/24", "fd00:1::200/64"):
            node.host.ip(f"address add {address} dev eth0 nodad")
        neighbour = node.make_container()
        for namespace in (neighbour, container):
            prepare(namespace)
        # Not with what is shared, so that the host's interface comes and goes with the container.
        environment = call_environment("ADD", neighbour, CNI_CONTAINERID=NEIGHBOUR, CNI_PATH=path)
        faulty.call(environment, stdin_of(conf), Faults()).result()

    def call(self, verb: str, conf: Conf | None = None, faults: Faults | None = None) -> Answer:
        return faulty.call(*self._words(verb, conf), faults or Faults())

    def inject(self, verb: str, point: Point, kind: str, conf: Conf | None = None) -> Answer | None:
        """Call with a fault; return the answer unless it died (a loop may be shorter this time)."""
        call = faulty.call_or_die if kind in DEATHS else faulty.call
        return call(*self._words(verb, conf), Faults({point: FAULTS[kind]}))

    def _words(self, verb: str, conf: Conf | None) -> tuple[dict[str, str], bytes]:
        # Otherwise each ADD gets the next address, and points with the former one are never met.
        for last in LEASES.rglob("last_reserved_ip.*"):
            last.unlink()
        environment = call_environment(verb, self.container, CNI_PATH=self.path)
        return environment, stdin_of(conf or self.conf)

    def points(self, verb: str, conf: Conf | None = None) -> list[Point]:
        faults = Faults()
        answer = self.call(verb, conf, faults)
        assert answer.status == 0, answer
        return faults.points

    def trials(self, points: list[Point]) -> list[tuple[Point, str]]:
        """Return the points to try, each with a kind of fault."""
        trials: list[tuple[Point, str]] = []
        for number, kind in enumerate(FAULTS, sampling.seed()):
            is_of_commands = kind in COMMAND_FAULTS
            fitting = [x for x in points if kind in DEATHS or x.is_command == is_of_commands]
            if ALL or number % len(QUERIES) == QUERIES.index(self.queries):
                stride = STRIDES.get(kind, STRIDE)
                trials += [(point, kind) for point in sampling.take_every(fitting, stride, kind)]
        return trials

    def snapshot(self) -> dict[str, Any]:
        """Return the node's snapshot without the note of a mode, which stays with the neighbour."""
        snapshot = self.node.snapshot()
        for path in [*snapshot["files"]]:
            if path.endswith(("/mode", "/mode.searched")):
                del snapshot["files"][path]
        return snapshot

    def state(self) -> dict[str, Any]:
        return {**self.snapshot(), "rest": self.container.run("sh", "-c", REMAINDER)}

    def cleared(self) -> dict[str, Any]:
        """Return the state without what DEL leaves, as others may use it by now: IPv6 is on."""
        prepare(self.container)
        return self.state()


def prepare(container: NetNS) -> None:
    """Disable IPv6, so that ADD has to enable it, and duplicate address detection."""
    script = "echo 0 >default/accept_dad; echo 1 >all/disable_ipv6; echo 1 >default/disable_ipv6; "
    script += "echo 1 >../../ipv4/conf/all/accept_redirects"  # which ADD has to refuse
    container.run("sh", "-c", f"ip link set dev lo up; cd /proc/sys/net/ipv6/conf; {script}")


@pytest.fixture(params=QUERIES)
def setup(node: Node, request: pytest.FixtureRequest) -> Setup:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "fd00:7::/64"}]
    conf = network(ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=routes))
    is_named = request.param == QUERIES[0]
    container = node.make_container() if is_named else node.make_anonymous_container()
    return Setup(node, container, conf, PLUGINS, request.param)


@pytest.fixture(params=QUERIES)
def leasing_setup(node: Node, tmp_path: Path, request: pytest.FixtureRequest) -> Setup:
    replace_program(tmp_path, "leasing", LEASING)
    conf = network(cniVersion="1.1.0", ipam={"type": "leasing"})
    return Setup(node, node.make_container(), conf, str(tmp_path), request.param)


def test_add_does_everything_or_nothing_or_what_delete_removes(setup: Setup) -> None:
    points = setup.points("ADD")
    assert len(points) > 30
    setup.call("DEL")
    before = setup.cleared()
    failures: dict[str, Any] = {}
    for point, kind in setup.trials(points):
        answer = setup.inject("ADD", point, kind)
        evidence: list[Answer | None] = [answer]
        is_undone = False
        if answer and answer.status:
            is_undone = True
            if answer.error()["code"] == INTERNAL:
                failures[f"{kind} at {point}"] = answer
        elif answer:
            evidence.append(setup.call("CHECK", {**setup.conf, "prevResult": answer.result()}))
        if not is_undone:
            evidence.append(setup.call("DEL"))
        after = setup.state() if is_undone else setup.cleared()
        if after != before or any(each and each.status for each in evidence[1:]):
            failures[f"{kind} at {point}"] = (evidence, difference(before, after))
            setup.call("DEL")
    assert failures == {}


def test_check_changes_nothing_and_fails_when_anything_does(setup: Setup) -> None:
    conf = {**setup.conf, "prevResult": setup.call("ADD").result()}
    points = setup.points("CHECK", conf)
    before = setup.state()
    failures: dict[str, Any] = {}
    for point, kind in setup.trials(points):
        answer = setup.inject("CHECK", point, kind, conf)
        # What an IPAM plugin prints at CHECK means nothing; and a namespace whose path leads
        # nowhere is entered by its descriptor.
        is_meaningless = kind.startswith("prints") and "/cni/" in point.words
        is_meaningless |= point.words == f"stat {setup.container.path}" or kind in DEATHS
        is_reported = answer and answer.status and answer.error()["code"] != INTERNAL
        after = setup.state()
        if after != before or not (is_reported or is_meaningless):
            failures[f"{kind} at {point}"] = (answer, difference(before, after))
    assert failures == {}


@pytest.mark.slow
def test_delete_may_be_repeated_when_anything_fails(setup: Setup) -> None:
    failures = repeat_on_faults(setup, "DEL", setup.conf, lambda: setup.call("ADD"), setup.cleared)
    assert failures == {}


@pytest.mark.slow
def test_gc_may_be_repeated_when_anything_fails(leasing_setup: Setup) -> None:
    setup = leasing_setup
    points = setup.points("ADD")
    setup.call("DEL")
    setup.node.remove(setup.container)
    move = next(point for point in points if " netns " in point.words)
    leave_something = partial(leave_behind, setup, move, "kill_plugin")
    assert repeat_on_faults(setup, "GC", gc_conf(setup), leave_something, setup.snapshot) == {}


def repeat_on_faults(
    setup: Setup, verb: str, conf: Conf, prepared: Callable[[], object], state: Callable[[], Any]
) -> dict[str, Any]:
    """Return failures: a call must remove everything or fail, and succeed when repeated."""
    before = state()
    prepared()
    points = setup.points(verb, conf)
    failures: dict[str, Any] = {}
    for point, kind in setup.trials(points):
        prepared()
        answer = setup.inject(verb, point, kind, conf)
        if answer and answer.status:
            is_right = answer.error()["code"] != INTERNAL
        else:
            is_right = not answer or not point.is_command or state() == before
        repeated = setup.call(verb, conf)
        after = state()
        if not is_right or repeated.status or after != before:
            failures[f"{kind} at {point}"] = (answer, repeated, difference(before, after))
    return failures


def test_gc_removes_what_an_add_left_that_died_in_what_is_gone(leasing_setup: Setup) -> None:
    setup = leasing_setup
    points = setup.points("ADD")
    setup.call("DEL")
    setup.node.remove(setup.container)
    before = setup.snapshot()
    failures: dict[str, Any] = {}
    for point, kind in setup.trials(points):
        if kind in DEATHS:
            leave_behind(setup, point, kind)

            collected = setup.call("GC", gc_conf(setup))

            after = setup.snapshot()
            if collected.status or after != before:
                failures[f"{kind} at {point}"] = (collected, difference(before, after))
    assert failures == {}


def leave_behind(setup: Setup, point: Point, kind: str) -> None:
    """Kill an ADD at a point, and remove its container."""
    setup.container = setup.node.make_container()
    setup.inject("ADD", point, kind)
    setup.node.remove(setup.container)


def gc_conf(setup: Setup) -> Conf:
    valid = [{"containerID": NEIGHBOUR, "ifname": "net1"}]
    return {**setup.conf, "cni.dev/valid-attachments": valid}


@pytest.mark.slow
@pytest.mark.parametrize("setup", QUERIES, indirect=True)
def test_what_a_second_fault_keeps_from_being_undone_is_named(setup: Setup) -> None:
    commands = [point for point in setup.points("ADD") if point.is_command]
    setup.call("DEL")
    before = setup.cleared()
    failures: dict[str, Any] = {}
    pairs = 0
    for first in commands if ALL else commands[-2:]:
        planned = {first: faulty.fail_after_work}
        run = Faults(planned)
        if setup.call("ADD", faults=run).status == 0:
            setup.call("DEL")  # it was a step that may fail
            continue
        undoing = run.points[run.points.index(first) + 1 :]
        for second in sampling.sample((point for point in undoing if point.is_command), 3):
            pairs += 1
            faults = Faults({**planned, second: faulty.fail_at_once})
            error = setup.call("ADD", faults=faults).error()
            is_named = "could not be undone: " in error["details"] or setup.state() == before

            deleted = setup.call("DEL")

            after = setup.cleared()
            if not is_named or deleted.status or after != before:
                failures[f"{first}, {second}"] = (error, deleted, difference(before, after))
    assert failures == {}
    assert pairs > 2


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the differing values of two snapshots, by their keys."""
    changes = {}
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            changes.update({f"{key}: {name}": each for name, each in difference(was, now).items()})
        elif was != now:
            changes[key] = (was, now)
    return changes
