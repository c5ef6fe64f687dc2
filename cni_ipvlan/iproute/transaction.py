"""Transactions: changes with an undo each; all of them are made, or none."""

from __future__ import annotations

from functools import partial
from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.commands import prints_json
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import EXEC_FAILED, CommandError, Completed

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.iproute.commands import Argv, Command
    from cni_ipvlan.iproute.runner import Runner


class Transaction:
    """Runs commands; an exception that leaves its context undoes their changes in reverse order.

    IPAM plugins release last, since they may hang. Each undo is best effort and
    independent of the others. Afterwards ``leftovers`` lists what could not be
    undone, and ``has_undone`` is whether everything was (and there was something).
    ``see`` and ``do`` raise CommandError, ProgramNotFoundError,
    UnreadableAnswerError and InterruptedBySignalError.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._undos: list[Callable[[], None]] = []
        self._cleanups: list[Callable[[], object]] = []
        self._releases: list[Callable[[], None]] = []
        self.leftovers: list[str] = []
        self.has_undone = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        had_undos = bool(self._undos or self._releases)
        with self._runner.interrupts.held():
            for undos in (self._undos, self._cleanups, self._releases):
                while undos:
                    self._try(undos.pop())
        self.has_undone = had_undos and not self.leftovers

    def see(self, query: Command) -> bytes | None:
        """Run a query; return its output, or None if it is not permitted (in a dry run)."""
        completed = self._run(query)
        return nothing(query.argv) if completed.status else completed.stdout

    def do(self, change: Command) -> Completed | None:
        """Make a change; return how it ended, or None if it was not made (in a dry run).

        Its undo is registered first, since the command may fail halfway.
        """
        before = len(self._undos), len(self._releases)
        for undo in change.undo:
            undos = self._undos if undo.environment is None else self._releases
            undos.append(partial(self._undo, undo))
        completed = self._run(change)
        if not completed.was_run:  # there is nothing to undo
            del self._undos[before[0] :], self._releases[before[1] :]
        return completed

    def on_unwind(self, action: Callable[[], object]) -> None:
        """Call ``action`` if the transaction fails, after the commands' changes are undone."""
        self._cleanups.append(action)

    def _run(self, command: Command) -> Completed:
        if command.parts and not command.argv:
            return self._run_one_by_one(command)
        self._runner.interrupts.check()
        completed = self._runner.run(command)
        self._runner.interrupts.check()
        if completed.status and not (
            command.any_status or command.may_fail or (command.absent_ok and is_absent(completed))
        ):
            raise _failure(command, completed)
        is_batch = bool(command.parts) and completed.status == 0
        return _checked(command, completed) if is_batch else completed

    def _run_one_by_one(self, command: Command) -> Completed:
        parts = [(part.argv, self._run(part)) for part in command.parts]
        printed = [completed.stdout.strip() for argv, completed in parts if prints_json(argv)]
        seconds = sum(completed.seconds for _, completed in parts)
        return Completed(0, b"\n".join(printed), b"", seconds)

    def _try(self, undo: Callable[[], object]) -> None:
        try:
            undo()
        except CommandError as error:
            self.leftovers.append(f"{join(error.argv)}: {error.answer or error.status}")
        except Exception as error:  # noqa: BLE001 - the other undos must still run
            self.leftovers.append(str(error) or type(error).__name__)

    def _undo(self, undo: Command) -> None:
        if undo.only_if is not None and not undo.only_if():
            return
        completed = self._runner.run(undo)
        # A plugin's "not found" may be about something other than its allocation.
        is_gone = undo.environment is None and is_absent(completed)
        if completed.status and not is_gone:
            raise CommandError(undo, completed)


def nothing(query: Argv) -> bytes:
    """Return what a query prints when it finds nothing."""
    return b"[]" if prints_json(query) else b""


def is_absent(completed: Completed) -> bool:
    """Whether a command was run and failed because its object does not exist."""
    return completed.status != EXEC_FAILED and causes.is_absent(completed.stderr)


def _failure(command: Command, completed: Completed) -> CommandError:
    """Return the failure of a command; for an ``ip -batch``, of the line that failed."""
    message, _, number = completed.stderr.rstrip().rpartition(b"Command failed -:")
    if command.parts and number.isdigit() and 0 < int(number) <= len(command.parts):
        part = command.parts[int(number) - 1]
        return CommandError(part, completed._replace(stderr=message))
    return CommandError(command, completed)


def _checked(command: Command, completed: Completed) -> Completed:
    """Return the output of an ``ip -batch`` with one line for each query."""
    lines = [line for line in completed.stdout.split(b"\n") if line]
    if len(lines) != sum(prints_json(part.argv) for part in command.parts):
        raise UnreadableAnswerError(completed.stdout.decode("utf-8", "replace"))
    return completed._replace(stdout=b"\n".join(lines))
