"""Transactions: changes with an undo each; all of them are made, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial

from cni_ipvlan.iproute.commands import ABSENT, Argv, Command, Undo, batch, in_shell, prints_json
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, Runner
from cni_ipvlan.iproute.running import Completed, Running


class Transaction:
    """Runs commands; an exception that leaves its context undoes their changes in reverse order.

    Each undo is best effort and independent of the others. Afterwards ``leftovers`` lists what
    could not be undone, and ``has_undone`` is whether everything was, and there was something.
    ``run``, ``run_batch``, ``start`` and ``finish`` raise CommandError, ProgramNotFoundError,
    UnreadableAnswerError and InterruptedBySignalError.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._running: dict[int, Running] = {}  # by id(): as dicts, several may be equal
        self._undos: list[Callable[[], object]] = []
        self._exits: list[Callable[[], object]] = []  # each of them is an undo, too
        self.leftovers: list[str] = []
        self.has_undone = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            for running in self._running.values():
                self._end(running)
            while self._exits:
                self._exits.pop()()
            return
        had_undos = len(self._undos) > len(self._exits)
        with self._runner.interrupts.deferred():
            for running in self._running.values():
                running.is_bounded = True
                self._try(partial(self._end, running))
            while self._undos:
                self._try(self._undos.pop())
        self.has_undone = had_undos and not self.leftovers

    def _end(self, running: Running) -> None:
        running.end_input()
        self._runner.finish(running)

    def run(self, command: Command, *, seconds: float = 0.0) -> Completed:
        """Run a query or a change to its end; it is killed after so many seconds, 0 for never."""
        return self.finish(self.start(command, seconds=seconds))

    def run_batch(self, *parts: Command, seconds: float = 0.0) -> Completed:
        """Run ip commands in order until one fails, in one process if that is possible.

        It prints a line for each query.
        """
        command = batch(*parts)
        if command is None:
            return self._run_one_by_one(parts, seconds)
        try:
            completed = self.run(command, seconds=seconds)
        except CommandError as error:
            raise _find_failure(error, command, parts) from None
        if completed.status:
            return completed
        lines = [line for line in completed.stdout.split(b"\n") if line]
        if len(lines) != sum(prints_json(part.argv) for part in parts):
            raise UnreadableAnswerError(completed.stdout.decode("utf-8", "replace"))
        return completed._replace(stdout=b"\n".join(lines))

    def start(
        self, command: Command, *, seconds: float = 0.0, then: Command | None = None
    ) -> Running:
        """Start a command; ``finish`` waits for its end, and other commands may run meanwhile.

        A change's undo is registered now, since the command may fail halfway. A query's process
        stays to make a change like ``then``, if it can.
        """
        self._runner.interrupts.check()
        running = self._runner.start(command, seconds=seconds, then=then)
        self._running[id(running)] = running
        if running.was_run:  # otherwise there is nothing to undo
            for undo in command.undo:
                index = 0 if undo.comes_last else len(self._undos)
                self._undos.insert(index, partial(self._undo, undo, running))
        return running

    def finish(self, running: Running) -> Completed:
        """Wait for the end of a command, or for the answer of a query whose process stays.

        If what a query asks for is absent, and that is no failure, its output is empty JSON.
        """
        if running.completed is not None and id(running) not in self._running:
            return running.completed
        completed = self._runner.finish(running)
        if running.completed is None:
            return completed
        self._running.pop(id(running), None)
        self._runner.interrupts.check()
        command = running.command
        if command.accept == ABSENT and completed.is_absent:
            return completed._replace(stdout=empty_output(command.argv))
        if completed.status and command.accept in ("", ABSENT):
            raise CommandError(command, completed)
        return completed

    def on_failure(self, action: Callable[[], object]) -> None:
        """Call ``action`` if the transaction fails, after all later changes are undone."""
        self._undos.append(action)

    def hold(self, context: AbstractContextManager[object]) -> None:
        """Enter a context; leave it at the end or, on failure, when later changes are undone."""
        context.__enter__()
        exit_context = partial(context.__exit__, None, None, None)
        self._exits.append(exit_context)
        self._undos.append(exit_context)

    def _run_one_by_one(self, parts: Sequence[Command], seconds: float) -> Completed:
        results = [self.run(part, seconds=seconds) for part in parts]
        pairs = zip(parts, results, strict=True)
        outputs = [each.stdout.strip() for part, each in pairs if prints_json(part.argv)]
        stderr = b"".join(each.stderr for each in results)
        return Completed(0, b"\n".join(outputs), stderr, sum(each.seconds for each in results))

    def _try(self, undo: Callable[[], object]) -> None:
        try:
            undo()
        except CommandError as error:
            why = error.answer or error.completed.status
            self.leftovers.append(f"{in_shell(error.command.entered_argv)}: {why}")
        except Exception as error:  # noqa: BLE001 - the other undos must still run
            self.leftovers.append(str(error) or type(error).__name__)

    def _undo(self, undo: Undo, change: Running) -> None:
        if undo.only_if is not None and not undo.only_if():
            return
        command = undo.command._replace(purpose=f"undo: {change.command.purpose}")
        completed = self._runner.run(command)
        # A plugin's "not found" may be about something other than its allocation.
        is_gone = command.environment is None and completed.is_absent
        if completed.status and not is_gone and not _is_same_refusal(completed, change.completed):
            raise CommandError(command, completed)


def empty_output(query: Argv) -> bytes:
    """Return the output of a query that finds nothing."""
    return b"[]" if prints_json(query) else b""


def _is_same_refusal(undo: Completed, change: Completed | None) -> bool:
    """Whether an undo failed as its change did, in the same words: nothing was changed then.

    An IPAM plugin refuses both if it doesn't support the cniVersion, or can't reach its daemon.
    """
    if change is None or not change.status or undo.killed_because:
        return False
    return bool(undo.stdout.strip()) and undo.stdout == change.stdout


def _find_failure(error: CommandError, command: Command, parts: Sequence[Command]) -> CommandError:
    """Return the failure of the line of an ``ip -batch`` that failed, if that is known."""
    message, _, number = error.completed.stderr.rstrip().rpartition(b"Command failed -:")
    lines = len(command.batch_lines)
    if not number.isdigit() or not 0 < int(number) <= lines:
        return error
    return CommandError(parts[int(number) - lines - 1], error.completed._replace(stderr=message))
