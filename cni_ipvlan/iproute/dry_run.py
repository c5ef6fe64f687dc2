"""Dry run: queries are run, changes are only recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from cni_ipvlan.iproute import queries
from cni_ipvlan.iproute.commands import Argv, Command, Undo, in_shell, link_delete, prints_json
from cni_ipvlan.iproute.runner import CommandError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction, empty_output
from cni_ipvlan.start import json

ADD_LINK = ("ip", "link", "add")
identity = attrgetter("full_argv", "stdin")  # of a query, the same in several dry runs
Answers = dict[tuple[Any, ...], Completed]  # by the identities of queries


@dataclass
class Plan:
    """The record of a dry run: its queries, the changes in order, and its assumptions.

    ``stand_ins`` are words for what is not known yet, or does not exist yet; ``harmless`` are
    programs that are run, too; ``allocated`` is the assumed answer of an IPAM plugin; ``removed``
    are the links that the changes remove, by their namespaces' identity. Plans that share
    ``answers`` ask each question once.
    """

    stand_ins: set[str] = field(default_factory=set)
    harmless: Collection[str] = ()
    allocated: object = None
    answers: Answers = field(default_factory=dict)
    removed: set[tuple[tuple[int, int] | None, str]] = field(default_factory=set)
    queries: list[Command] = field(default_factory=list)
    changes: list[Command] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)

    def was_run(self, change: Command) -> bool:
        """Whether a change is run in a dry run, as it is known to change nothing."""
        return change.argv[0].rpartition("/")[2] in self.harmless


class DryRun(Transaction):
    """A transaction that changes nothing."""

    def __init__(self, runner: Runner, plan: Plan) -> None:
        super().__init__(runner)
        self._plan = plan

    def run_batch(self, *parts: Command, seconds: float = 0.0) -> Completed:
        """Run queries one by one, as one may be not permitted; record changes.

        A query after a change is about what does not exist yet, also if it is made again.
        """
        changes = [part for part in parts if part.purpose]
        if not changes:
            return self._run_one_by_one(parts, seconds)
        for change in changes:
            self.run(change)
        self._plan.answers[identity(parts[-1])] = assumed = _assumed(parts[-1])
        return assumed

    def start(
        self, command: Command, *, seconds: float = 0.0, then: Command | None = None
    ) -> Running:
        """Start a query, or record a change."""
        del then  # it is only recorded
        plan, reason, completed = self._plan, "", _assumed(command)
        if command.purpose:
            self._record(command)
        elif not plan.stand_ins.isdisjoint(command.argv):
            reason = "it asks about something that is not there yet"
        elif plan.removed and command.argv[:3] == ADD_LINK:  # refused if the master is in use
            reason = "something is removed before"
        else:
            plan.queries.append(command)
        if reason:
            self._assume(command.argv, reason)
        elif not command.purpose or plan.was_run(command):
            if identity(command) not in plan.answers:
                return super().start(command, seconds=seconds)
            completed = plan.answers[identity(command)]
        running = Running(command, {}, self._runner.interrupts)
        running.completed = completed._replace(meaning=plan.allocated)
        return running

    def finish(self, running: Running) -> Completed:
        """Finish a command; if a query is not permitted, return an assumption."""
        try:
            completed = super().finish(running)
        except CommandError as error:
            if not error.completed.is_denied:
                raise
            self._assume(error.command.entered_argv, "running it is not permitted")
            return _assumed(running.command)
        if completed.was_run and not completed.status:
            self._plan.answers[identity(running.command)] = completed
        return self._omit_removed_links(running.command, completed)

    def _try(self, undo: Callable[[], object]) -> None:
        """Undo what concerns only this process, such as a lock; a failure leaves nothing behind."""
        super()._try(undo)
        self.leftovers.clear()

    def _record(self, change: Command) -> None:
        if change.argv[:3] == ADD_LINK:
            name = change.argv[change.argv.index("name") + 1]
            self._plan.stand_ins.add(name)
            if not change.undo:  # that of a VLAN is no command: it first looks who uses the VLAN
                change = change._replace(undo=(Undo(Command(link_delete(name))),))
        if change.argv[:3] == ("ip", "link", "delete"):
            self._plan.removed.add((change.netns and change.netns.identity, change.argv[-1]))
        self._plan.changes.append(change)

    def _omit_removed_links(self, query: Command, completed: Completed) -> Completed:
        """Return what a query for links would print after the changes so far."""
        netns = query.netns and query.netns.identity
        names = {name for namespace, name in self._plan.removed if namespace == netns}
        if not names or query.purpose or not prints_json(query.argv) or not completed.stdout:
            return completed
        entries = queries.entries(completed.stdout)
        links = [each for each in entries if each.get("ifname") not in names]
        return completed._replace(stdout=json.dumps(links).encode())

    def _assume(self, argv: Argv, reason: str) -> None:
        self._plan.assumptions.append(f"{in_shell(argv)} shows what is expected ({reason})")


def _assumed(command: Command) -> Completed:
    return Completed(0, empty_output(command.argv), b"", 0.0, was_run=False)
