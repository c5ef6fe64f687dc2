"""Dry run: queries are run, changes are only recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cni_ipvlan.iproute import queries
from cni_ipvlan.iproute.commands import Argv, Command, Undo, in_shell, prints_json
from cni_ipvlan.iproute.runner import CommandError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction, nothing
from cni_ipvlan.start import json

_ADD_LINK = ("ip", "link", "add")


class Plan:
    """The record of a dry run: what it asked, the changes in order, and its assumptions.

    ``stand_ins`` are words that stand for what is not known, or not there, yet; ``removed`` are
    the links that are not there any more, by their namespaces' identity.
    """

    def __init__(self, stand_ins: Iterable[str] = ()) -> None:
        self.stand_ins = set(stand_ins)
        self.removed: set[tuple[tuple[int, int] | None, str]] = set()
        self.queries: list[Command] = []
        self.changes: list[Command] = []
        self.assumptions: list[str] = []


class DryRun(Transaction):
    """A transaction that changes nothing."""

    def __init__(self, runner: Runner, plan: Plan) -> None:
        super().__init__(runner)
        self._plan = plan
        self._shown: Command | None = None

    def run(self, command: Command, query: Running | None = None) -> Completed:
        """Run a query, or record a change; of several queries, one may be not permitted."""
        if query is not None:  # what its process would do then, it does to what is not there yet
            self._record(command)
            return _assumed(command)
        if command.parts and not command.purpose:
            seen = [self.run(part).stdout.strip() for part in command.parts]
            return Completed(0, b"\n".join(seen), b"", 0.0)
        return self.finish(self.start(command))

    def start(self, command: Command) -> Running:
        """Start a query, whose process need not stay, or record a change."""
        if command.purpose:
            self._record(command)
            return super().start(command) if command.changes_nothing else self._assumed(command)
        query = command.parts[0] if command.stays else command
        if not self._plan.stand_ins.isdisjoint(query.argv):
            self._assume(query.argv, "it asks about something that is not there yet")
            return self._assumed(query)
        if self._plan.removed and query.argv[:3] == _ADD_LINK:  # refused if the master is in use
            self._assume(query.argv, "something is removed before")
            return self._assumed(query)
        self._plan.queries.append(query)
        return super().start(query)

    def finish(self, started: Running) -> Completed:
        """Return what is assumed if a query is not permitted."""
        try:
            return self._without_removed(started.command, super().finish(started))
        except CommandError as error:
            if not error.completed.is_denied:
                raise
            self._assume(error.argv, "running it is not permitted")
            return _assumed(started.command)

    def on_failure(self, action: Callable[[], object], shown: Command | None = None) -> None:
        """Have a script undo the next change with the command that is shown for that."""
        self._shown = shown
        super().on_failure(action)

    def _record(self, change: Command) -> None:
        """Record a change; of several together, those that have a purpose."""
        for each in change.parts or (change,):
            if each.purpose:
                undo = (*each.undo, *((Undo(self._shown),) if self._shown else ()))
                self._plan.changes.append(each._replace(undo=undo) if self._shown else each)
                self._shown = None
            if each.argv[:3] == ("ip", "link", "delete"):
                self._plan.removed.add((each.netns and each.netns.identity, each.argv[-1]))
            if each.argv[:3] == _ADD_LINK:
                self._plan.stand_ins.add(each.argv[each.argv.index("name") + 1])

    def _without_removed(self, query: Command, completed: Completed) -> Completed:
        """Return what a query for links would print after the changes so far."""
        where = query.netns and query.netns.identity
        names = {name for place, name in self._plan.removed if place == where}
        if not names or query.purpose or not prints_json(query.argv) or not completed.stdout:
            return completed
        found = queries.entries(completed.stdout)
        left = [each for each in found if each.get("ifname") not in names]
        return completed._replace(stdout=json.dumps(left).encode())

    def _assumed(self, command: Command) -> Running:
        running = Running(command, {}, self._runner.interrupts)
        running.completed = _assumed(command)
        return running

    def _assume(self, argv: Argv, why: str) -> None:
        self._plan.assumptions.append(f"{in_shell(argv)} shows what is expected ({why})")


def _assumed(command: Command) -> Completed:
    return Completed(0, nothing(command.argv), b"", 0.0, was_run=False)
