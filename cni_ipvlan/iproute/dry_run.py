"""Dry run: queries are run, changes are only recorded."""

from __future__ import annotations

from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction, nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cni_ipvlan.iproute.commands import Argv, Command
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.running import Completed, Running


class Plan:
    """The record of a dry run: what it asked, the changes in order, and its assumptions.

    ``stand_ins`` are words that stand for what is not known, or not there, yet.
    """

    def __init__(self, stand_ins: Iterable[str] = ()) -> None:
        self.stand_ins = set(stand_ins)
        self.queries: list[Command] = []
        self.changes: list[Command] = []
        self.assumptions: list[str] = []


class DryRun(Transaction):
    """A transaction that changes nothing."""

    def __init__(self, runner: Runner, plan: Plan) -> None:
        super().__init__(runner)
        self._plan = plan
        self._shown: Command | None = None

    def see(self, query: Command) -> bytes | None:
        """Run a query; if it is not permitted, record an assumption and return None."""
        if query.parts:  # one may be permitted and another not
            seen = (self.see(part) or nothing(part.argv) for part in query.parts)
            return b"\n".join(map(bytes.strip, seen))
        if not self._plan.stand_ins.isdisjoint(query.argv):
            self._assume(query.argv, "it asks about something that is not there yet")
            return None
        return super().see(query)

    def ask(self, query: Command) -> Running:
        """Start a query, whose process need not stay."""
        query = query.parts[0] if query.stays else query
        self._plan.queries.append(query)
        return super().ask(query)

    def answer(self, asked: Running) -> bytes | None:
        """Return what ``see`` does."""
        try:
            return super().answer(asked)
        except CommandError as error:
            if causes.explain(error.argv, error.answer).kind != causes.NOT_PERMITTED:
                raise
            self._assume(error.argv, "running it is not permitted")
            return None

    def _assume(self, argv: Argv, why: str) -> None:
        self._plan.assumptions.append(f"{join(argv)} shows what is expected ({why})")

    def do(self, change: Command, _query: Running | None = None) -> Completed | None:
        """Record a change."""
        return self.finish(self.start(change))

    def start(self, change: Command) -> Running | None:
        """Record a change; of several together, those that have a purpose."""
        for each in change.parts or (change,):
            if each.purpose:
                undo = (*each.undo, *((self._shown,) if self._shown else ()))
                self._plan.changes.append(each._replace(undo=undo) if self._shown else each)
                self._shown = None
            if each.argv[:3] == ("ip", "link", "add"):
                self._plan.stand_ins.add(each.argv[each.argv.index("name") + 1])
        return super().start(change) if change.changes_nothing else None

    def on_unwind(self, action: Callable[[], object], shown: Command | None = None) -> None:
        """Have a script undo the next change with the command that is shown for that."""
        self._shown = shown
        super().on_unwind(action)
