"""Dry run: queries are run, changes are only recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter

from cni_ipvlan.iproute import queries
from cni_ipvlan.iproute.commands import Argv, Command, Undo, in_shell, prints_json
from cni_ipvlan.iproute.runner import CommandError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction, nothing
from cni_ipvlan.start import json

_ADD_LINK = ("ip", "link", "add")


class Plan:
    """The record of a dry run: what it asked, the changes in order, and its assumptions.

    ``stand_ins`` are words that stand for what is not known, or not there, yet; ``harmless`` are
    programs that are run, too; ``removed`` are the links that are not there any more, by their
    namespaces' identity.
    """

    def __init__(self, stand_ins: Iterable[str] = (), harmless: Collection[str] = ()) -> None:
        self.stand_ins = set(stand_ins)
        self.harmless = harmless
        self.removed: set[tuple[tuple[int, int] | None, str]] = set()
        self.queries: list[Command] = []
        self.changes: list[Command] = []
        self.assumptions: list[str] = []

    def was_run(self, change: Command) -> bool:
        """Whether a change is run in a dry run, as it is known to change nothing."""
        return change.argv[0].rpartition("/")[2] in self.harmless


class DryRun(Transaction):
    """A transaction that changes nothing."""

    def __init__(self, runner: Runner, plan: Plan) -> None:
        super().__init__(runner)
        self._plan = plan
        self._shown: Command | None = None

    def run_batch(
        self, *parts: Command, session: Running | None = None, limit: float = 0.0
    ) -> Completed:
        """Run queries one by one, as one may be not permitted; record changes.

        What is asked in a session, or after a change, is about what is not there yet.
        """
        if session is None and not any(part.purpose for part in parts):
            return self._run_one_by_one(parts)
        for change in filter(attrgetter("purpose"), parts):
            self.run(change, limit=limit)
        return _assumed(parts[-1])

    def open(self, query: Command, change: Command | None = None) -> Running:
        """Start a query, whose process need not stay."""
        del change
        return self.start(query)

    def start(
        self, command: Command, session: Running | None = None, limit: float = 0.0
    ) -> Running:
        """Start a query, or record a change."""
        del session
        if command.purpose:
            self._record(command)
            is_run = self._plan.was_run(command)
            return super().start(command, limit=limit) if is_run else self._assumed(command)
        if not self._plan.stand_ins.isdisjoint(command.argv):
            self._assume(command.argv, "it asks about something that is not there yet")
            return self._assumed(command)
        if self._plan.removed and command.argv[:3] == _ADD_LINK:  # refused if the master is in use
            self._assume(command.argv, "something is removed before")
            return self._assumed(command)
        self._plan.queries.append(command)
        return super().start(command, limit=limit)

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

    def _try(self, undo: Callable[[], object]) -> None:
        """Undo what is only of the process, as a lock: of what failed, nothing can be left."""
        super()._try(undo)
        self.leftovers.clear()

    def _record(self, change: Command) -> None:
        if self._shown:
            change = change._replace(undo=(*change.undo, Undo(self._shown)))
            self._shown = None
        self._plan.changes.append(change)
        if change.argv[:3] == ("ip", "link", "delete"):
            self._plan.removed.add((change.netns and change.netns.identity, change.argv[-1]))
        if change.argv[:3] == _ADD_LINK:
            self._plan.stand_ins.add(change.argv[change.argv.index("name") + 1])

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
