"""Random sequences of steps on a node: the promises hold in whichever order things happen.

Hypothesis draws the steps: calls of every verb about two masters, ten networks, three containers;
calls that are killed; namespaces that are removed, and made again with their old name and inode;
masters that are removed and made again; restarts of the node; interfaces that are renamed, moved,
changed, deleted and made by hand. After each step, tests/support/simulation.py compares the kernel
and host-local with tests/support/model.py, which knows what a careful runtime knows. A step that is
not possible does nothing, since what is drawn must not depend on the kernel. The seed of the run
chooses the sequences; with MODEL_MINUTES others are drawn for so many minutes.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sampling
from faulty import KillAt
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lab import CAN_RENAME_UP_LINKS
from model import HOST, Slave, Where
from pools import CONTAINER_IDS, IFNAMES, NETWORKS, Key
from simulation import MASTERS, NAMESPACES, Simulation

MINUTES = float(os.environ.get("MODEL_MINUTES", "0"))
EVERY_DAY = settings(
    max_examples=2,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
ON_DEMAND = settings(EVERY_DAY, max_examples=100, stateful_step_count=50)


# A run without one of these events would prove little. Other events happen, too, but are rarer.
EVENTS = {"added", "checked", "deleted"}
EVENTS_OF_MINUTES = EVENTS | {
    *("check failed", "collected", "deleted again", "ADD killed", "DEL killed", "GC killed"),
    *("inodes used again", "changed by hand", "made by hand", "moved by hand"),
    *("masters lost", "rebooted"),
}


networks = st.sampled_from([*NETWORKS])
keys = st.builds(Key, networks, st.sampled_from(CONTAINER_IDS), st.sampled_from(IFNAMES))
namespaces = st.sampled_from(NAMESPACES)
names = st.sampled_from([*IFNAMES, "other"])
numbers = st.integers(0, 30)  # the index of an item, modulo the number of items


def kills(commands: int, points: int) -> st.SearchStrategy[KillAt]:
    """Return kills of a call that has about so many commands, and so many points in all."""
    of_commands = {"of_commands": st.just(value=True), "after_work": st.booleans()}
    of_all = {**of_commands, "of_commands": st.just(value=False)}
    return st.builds(KillAt, st.integers(1, commands), **of_commands) | st.builds(
        KillAt, st.integers(1, points), **of_all
    )


# GC is called for networks whose IPAM plugin and version of CNI know it.
gc_networks = st.sampled_from([name for name, net in NETWORKS.items() if net.has_gc])
changes = st.sampled_from(["address flush dev", "link set down dev", "link delete dev"])


class NodeMachine(RuleBasedStateMachine):
    def __init__(self, directory: Path, counts: Counter[str]) -> None:
        super().__init__()
        self.simulation = Simulation(directory, counts)
        self.model = self.simulation.model

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.simulation.delete_all()
        finally:
            self.simulation.close()

    @initialize(key=keys, namespace=namespaces)
    def add_first(self, key: Key, namespace: str) -> None:
        self.simulation.add(key, namespace)

    @rule(key=keys, namespace=namespaces)
    def add(self, key: Key, namespace: str) -> None:
        self.simulation.add(key, namespace)

    @rule(number=numbers, namespace=namespaces)
    def add_again(self, number: int, namespace: str) -> None:
        for key in choose(number, self.model.attachments):
            self.simulation.add(key, namespace)

    @rule(key=keys, namespace=namespaces, kill=kills(12, 110))
    def add_and_kill(self, key: Key, namespace: str, kill: KillAt) -> None:
        self.simulation.add(key, namespace, kill)

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        for key in choose(number, self.model.namespaces):
            self.simulation.delete(key)

    @rule(key=keys, namespace=namespaces)
    def delete_again(self, key: Key, namespace: str) -> None:
        if key not in self.model.namespaces:
            self.simulation.delete_again(key, namespace)

    @rule(number=numbers, kill=kills(3, 40))
    def delete_and_kill(self, number: int, kill: KillAt) -> None:
        for key in choose(number, self.model.namespaces):
            self.simulation.delete_and_kill(key, kill)

    @rule()
    def check(self) -> None:
        for key in sorted(self.model.attachments):
            self.simulation.check(key)

    @rule(network=gc_networks, kill=st.none() | kills(3, 40))
    def collect(self, network: str, kill: KillAt | None) -> None:
        self.simulation.collect_garbage(NETWORKS[network], kill)

    @rule(number=numbers, kill=st.none() | kills(3, 40))
    def remove_namespace_and_collect(self, number: int, kill: KillAt | None) -> None:
        collectable = [key for key in self.model.attachments if NETWORKS[key.network].has_gc]
        for key in choose(number, collectable):
            if not self.model.is_gone(key):
                self.simulation.remove_namespace(self.model.attachments[key].slave.namespace)
            self.simulation.collect_garbage(NETWORKS[key.network], kill)

    @rule(number=numbers)
    def remove_namespace(self, number: int) -> None:
        for namespace in choose(number, self.model.existing):
            self.simulation.remove_namespace(namespace)

    @rule(number=numbers)
    def make_namespace(self, number: int) -> None:
        for namespace in choose(number, {*NAMESPACES} - self.model.existing):
            self.simulation.make_namespace(namespace)

    @rule(number=numbers, name=names)
    def rename(self, number: int, name: str) -> None:
        for where, slave in choose(number, self.list_slaves_in_containers()):
            if CAN_RENAME_UP_LINKS and self.can_have_name(where, name, slave.namespace):
                self.simulation.change_link(slave, f"link set dev {slave.name} name {name}")

    @rule(number=numbers, words=changes)
    def change(self, number: int, words: str) -> None:
        for _, slave in choose(number, self.list_slaves_in_containers()):
            self.simulation.change_link(slave, f"{words} {slave.name}")

    @rule(number=numbers, namespace=namespaces, name=names)
    def move(self, number: int, namespace: str, name: str) -> None:
        for where, slave in choose(number, self.list_slaves_in_containers()):
            is_possible = namespace in self.model.existing and namespace != slave.namespace
            if is_possible and self.can_have_name(where, name, namespace):
                self.simulation.move_link(where, namespace, name)

    @rule(masters=st.sampled_from([*zip(MASTERS), ()]))
    def replace_masters(self, masters: tuple[str, ...]) -> None:
        self.simulation.replace_masters(masters)

    @rule(
        master=st.sampled_from([*MASTERS]),
        mode=st.sampled_from(["l2", "l3", "l3s"]),
        flag=st.sampled_from(["bridge", "private", "vepa"]),
        namespace=namespaces,
    )
    def make_link(self, master: str, mode: str, flag: str, namespace: str) -> None:
        self.simulation.make_link(master, mode, flag, namespace)

    def can_have_name(self, where: Where, name: str, namespace: str) -> bool:
        """Return whether an interface may get a name in a namespace, where it must be free.

        An interface without an owner must not get an attachment's name, since DEL would remove it:
        it removes the interface of the name that it is given if nothing says whose that is.
        """
        is_foreign = self.model.owner(where) is None
        is_free = name not in self.model.view.names_in(namespace)
        return is_free and not (is_foreign and name in IFNAMES)

    def list_slaves_in_containers(self) -> list[tuple[Where, Slave]]:
        return [item for item in self.model.view.slaves.items() if item[1].namespace != HOST]


def choose(number: int, items: Iterable[Any]) -> list[Any]:
    """Return one of the items, or none if there are none."""
    pool = sorted(items)
    return [pool[number % len(pool)]] if pool else []


def test_promises_hold_in_any_sequence_of_steps(process_isolation: None, tmp_path: Path) -> None:
    counts: Counter[str] = Counter()

    def make_machine() -> Any:
        return NodeMachine(tmp_path, counts)

    start = time.monotonic()
    if not MINUTES:
        run_state_machine_as_test(seed(sampling.seed())(make_machine), settings=EVERY_DAY)  # type: ignore[arg-type]
    while time.monotonic() - start < MINUTES * 60:
        run_state_machine_as_test(make_machine, settings=ON_DEMAND)  # type: ignore[arg-type]
    sys.stderr.write(f"{time.monotonic() - start:.0f} s: {dict(sorted(counts.items()))}\n")
    assert {event for event, count in counts.items() if count} >= (
        EVENTS_OF_MINUTES if MINUTES else EVENTS
    )
