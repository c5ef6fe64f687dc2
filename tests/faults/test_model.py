"""Lives of a node, made up step by step: in whichever order things happen, the promises hold.

Hypothesis draws the steps: calls of every verb about two masters, ten networks, three containers;
calls that are killed; namespaces that end, and begin anew with their old name and inode; masters
that go and come back; restarts of the node; interfaces renamed, moved, changed, deleted and made by
hand. tests/support/model.py has what a careful runtime knows, with which tests/support/life.py
compares the kernel and host-local after each step. A step that is not possible does nothing: what
is drawn must not depend on the kernel. The seed of the run says which lives these are; with
MODEL_MINUTES they are others, for so many minutes.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import sampling
from faulty import DiesAt
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lab import RENAMES_WHAT_IS_UP
from life import MASTERS, PLACES, Life
from model import HOST, Slave, Where
from pools import CONTAINER_IDS, IFNAMES, NETWORKS, Key

MINUTES = float(os.environ.get("MODEL_MINUTES", "0"))
EVERY_DAY = settings(
    max_examples=2,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
ON_DEMAND = settings(EVERY_DAY, max_examples=100, stateful_step_count=50)


# A run that lacks one of them would say little. Other things happen, too, but are rarer.
EVENTS = {"added", "checked", "deleted"}
EVENTS_OF_MINUTES = EVENTS | {
    *("check failed", "collected", "deleted again", "ADD killed", "DEL killed", "GC killed"),
    *("inodes used again", "changed by hand", "made by hand", "moved by hand"),
    *("masters lost", "rebooted"),
}


class Death(NamedTuple):
    number: int
    among: str
    after_its_work: bool

    def planned(self) -> DiesAt:
        of_commands = self.among == "commands"
        return DiesAt(self.number, of_commands=of_commands, after_its_work=self.after_its_work)


networks = st.sampled_from([*NETWORKS])
keys = st.builds(Key, networks, st.sampled_from(CONTAINER_IDS), st.sampled_from(IFNAMES))
places = st.sampled_from(PLACES)
names = st.sampled_from([*IFNAMES, "other"])
numbers = st.integers(0, 30)  # which of those that there are


def deaths(commands: int, points: int) -> st.SearchStrategy[Death]:
    """Return deaths of a call that has about so many commands, and points in all."""
    of_commands = st.builds(Death, st.integers(1, commands), st.just("commands"), st.booleans())
    return of_commands | st.builds(Death, st.integers(1, points), st.just("all"), st.booleans())


# host-local does not know GC, and only the others are in a version that has it
collected = st.sampled_from([name for name, net in NETWORKS.items() if net.has_gc])
changes = st.sampled_from(["address flush dev", "link set down dev", "link delete dev"])


class Lives(RuleBasedStateMachine):
    def __init__(self, directory: Path, told: Counter[str]) -> None:
        super().__init__()
        self.life = Life(directory, told)
        self.ledger = self.life.ledger

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.life.end_well()
        finally:
            self.life.throw_away()

    @initialize(key=keys, place=places)
    def begin_with_one(self, key: Key, place: str) -> None:
        self.life.add(key, place)

    @rule(key=keys, place=places)
    def add(self, key: Key, place: str) -> None:
        self.life.add(key, place)

    @rule(number=numbers, place=places)
    def add_again(self, number: int, place: str) -> None:
        for key in chosen(number, self.ledger.living):
            self.life.add(key, place)

    @rule(key=keys, place=places, death=deaths(12, 110))
    def add_and_die(self, key: Key, place: str, death: Death) -> None:
        self.life.add(key, place, death.planned())

    @rule(number=numbers)
    def delete(self, number: int) -> None:
        for key in chosen(number, self.ledger.places):
            self.life.delete(key)

    @rule(key=keys, place=places)
    def delete_again(self, key: Key, place: str) -> None:
        if key not in self.ledger.places:
            self.life.delete_again(key, place)

    @rule(number=numbers, death=deaths(3, 40))
    def delete_and_die(self, number: int, death: Death) -> None:
        for key in chosen(number, self.ledger.places):
            self.life.delete_and_die(key, death.planned())

    @rule()
    def check(self) -> None:
        for key in sorted(self.ledger.living):
            self.life.check(key)

    @rule(network=collected, death=st.none() | deaths(3, 40))
    def collect(self, network: str, death: Death | None) -> None:
        self.life.collect(NETWORKS[network], death and death.planned())

    @rule(number=numbers, death=st.none() | deaths(3, 40))
    def end_and_collect(self, number: int, death: Death | None) -> None:
        collectable = [key for key in self.ledger.living if NETWORKS[key.network].has_gc]
        for key in chosen(number, collectable):
            if not self.ledger.is_gone(key):
                self.life.end(self.ledger.living[key].slave.place)
            self.life.collect(NETWORKS[key.network], death and death.planned())

    @rule(number=numbers)
    def end(self, number: int) -> None:
        for place in chosen(number, self.ledger.present):
            self.life.end(place)

    @rule(number=numbers)
    def begin(self, number: int) -> None:
        for place in chosen(number, {*PLACES} - self.ledger.present):
            self.life.begin(place)

    @rule(number=numbers, name=names)
    def rename(self, number: int, name: str) -> None:
        for where, slave in chosen(number, self.in_containers()):
            if RENAMES_WHAT_IS_UP and self.can_be_called(where, name, slave.place):
                self.life.change(slave, f"link set dev {slave.name} name {name}")

    @rule(number=numbers, how=changes)
    def change(self, number: int, how: str) -> None:
        for _, slave in chosen(number, self.in_containers()):
            self.life.change(slave, f"{how} {slave.name}")

    @rule(number=numbers, place=places, name=names)
    def move(self, number: int, place: str, name: str) -> None:
        for where, slave in chosen(number, self.in_containers()):
            is_possible = place in self.ledger.present and place != slave.place
            if is_possible and self.can_be_called(where, name, place):
                self.life.move(where, place, name)

    @rule(masters=st.sampled_from([*zip(MASTERS), ()]))
    def lose(self, masters: tuple[str, ...]) -> None:
        self.life.lose(masters)

    @rule(
        master=st.sampled_from([*MASTERS]),
        mode=st.sampled_from(["l2", "l3", "l3s"]),
        flag=st.sampled_from(["bridge", "private", "vepa"]),
        place=places,
    )
    def make_by_hand(self, master: str, mode: str, flag: str, place: str) -> None:
        self.life.make_by_hand(master, mode, flag, place)

    def can_be_called(self, where: Where, name: str, place: str) -> bool:
        """Whether the name is free there; what is nobody's never gets the name of an attachment's.

        DEL has to remove an interface of the name that it is given if nothing says whose it is.
        """
        is_nobodys = self.ledger.owner(where) is None
        is_free = name not in self.ledger.view.names_in(place)
        return is_free and not (is_nobodys and name in IFNAMES)

    def in_containers(self) -> list[tuple[Where, Slave]]:
        return [item for item in self.ledger.view.slaves.items() if item[1].place != HOST]


def chosen(number: int, among: Iterable[Any]) -> list[Any]:
    present = sorted(among)
    return [present[number % len(present)]] if present else []


def test_the_promises_hold_in_any_life(own_directories: None, tmp_path: Path) -> None:
    told: Counter[str] = Counter()

    def lives() -> Any:
        return Lives(tmp_path, told)

    began = time.monotonic()
    if not MINUTES:
        run_state_machine_as_test(seed(sampling.seed())(lives), settings=EVERY_DAY)  # type: ignore[arg-type]
    while time.monotonic() - began < MINUTES * 60:
        run_state_machine_as_test(lives, settings=ON_DEMAND)  # type: ignore[arg-type]
    sys.stderr.write(f"{time.monotonic() - began:.0f} s: {dict(sorted(told.items()))}\n")
    assert {event for event, count in told.items() if count} >= (
        EVENTS_OF_MINUTES if MINUTES else EVENTS
    )
