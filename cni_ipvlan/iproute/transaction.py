"""Changes with an undo beside each: all of them happen, or none."""

from __future__ import annotations

import time
from functools import partial
from shlex import join
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.runner import Completed, Interrupts, Runner

_POLL_SECONDS = 0.05


class Undo(NamedTuple):
    """What takes a change back. A thing already gone is no failure.

    ``only_if``, when given, is asked first whether there is something to take back.
    """

    argv: Argv
    stdin: bytes = b""
    environment: Mapping[str, str] | None = None
    only_if: Callable[[], bool] | None = None


class Transaction:
    """Runs changes; leaving its context by an exception takes them back in reverse.

    Each undo is best effort and independent of the others. ``leftovers`` then
    says, a line each, what could not be taken back.
    """

    def __init__(self, runner: Runner, interrupts: Interrupts) -> None:
        self._runner = runner
        self._interrupts = interrupts
        self._undos: list[Callable[[], None]] = []
        self.leftovers: list[str] = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._unwind()

    def read(self, argv: Argv, *, absent_ok: bool = False) -> bytes:
        """Run a query and return its output; with ``absent_ok``, nothing for a missing link.

        Raises CommandError, ProgramNotFoundError, InterruptedBySignalError.
        """
        return self._finish(argv, absent_ok=absent_ok).stdout

    def on_unwind(self, action: Callable[[], None]) -> None:
        """Call ``action`` if this fails; what it may raise is OSError."""
        self._undos.append(action)

    def run(
        self,
        argv: Argv,
        *,
        purpose: str,
        stdin: bytes = b"",
        undo: tuple[Undo, ...] = (),
        absent_ok: bool = False,
    ) -> None:
        """Make a change. Its undo counts from before it starts: a failure may come halfway."""
        self._undos.extend(partial(self._undo, each) for each in undo)
        self._finish(argv, stdin, purpose=purpose, absent_ok=absent_ok)

    def try_run(self, argv: Argv, *, purpose: str, stdin: bytes = b"") -> str:
        """Make a change that is welcome but not needed; return why it failed, or nothing."""
        try:
            self._finish(argv, stdin, purpose=purpose)
        except CommandError as error:
            return error.answer
        return ""

    def call(
        self,
        argv: Argv,
        *,
        purpose: str,
        stdin: bytes,
        environment: Mapping[str, str],
        undo: tuple[Undo, ...] = (),
    ) -> Completed:
        """Run a program whose every exit status is an answer (a delegated plugin)."""
        self._undos.extend(partial(self._undo, each) for each in undo)
        self._interrupts.check()
        completed = self._runner.run(argv, stdin, environment, purpose)
        self._interrupts.check()
        return completed

    def wait(
        self, argv: Argv, until: Callable[[bytes], bool], *, purpose: str, seconds: float
    ) -> bytes:
        """Repeat a query until ``until`` is true of its output, or time is up; return the last."""
        deadline = time.monotonic() + seconds
        while True:
            output = self._finish(argv, purpose=purpose).stdout
            if until(output) or time.monotonic() >= deadline:
                return output
            # The kernel reports the end of duplicate address detection to nobody
            # who starts listening late: asking again is the sure way.
            time.sleep(_POLL_SECONDS)

    def _finish(
        self, argv: Argv, stdin: bytes = b"", *, purpose: str = "", absent_ok: bool = False
    ) -> Completed:
        self._interrupts.check()
        completed = self._runner.run(argv, stdin, purpose=purpose)
        self._interrupts.check()
        if completed.status and not (absent_ok and causes.is_absent(completed.stderr)):
            raise CommandError(completed, purpose)
        return completed

    def _unwind(self) -> None:
        with self._interrupts.held():
            while self._undos:
                self._try(self._undos.pop())

    def _try(self, undo: Callable[[], None]) -> None:
        try:
            undo()
        except CommandError as error:
            self.leftovers.append(f"{join(error.argv)}: {error.answer or error.status}")
        except (ProgramNotFoundError, UnreadableAnswerError, OSError) as error:
            self.leftovers.append(str(error))

    def _undo(self, undo: Undo) -> None:
        if undo.only_if is not None and not undo.only_if():
            return
        completed = self._runner.run(undo.argv, undo.stdin, undo.environment, "undo")
        if completed.status and not causes.is_absent(completed.stderr):
            raise CommandError(completed)
