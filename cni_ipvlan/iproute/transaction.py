"""Changes with an undo beside each: all of them happen, or none."""

from __future__ import annotations

import time
from functools import partial
from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.commands import batch, in_namespace, prints_json
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import EXEC_FAILED, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Completed, Runner

    T = TypeVar("T")

_POLL_SECONDS = 0.05


class Undo(NamedTuple):
    """What takes a change back. A thing already gone is no failure.

    ``only_if``, when given, is asked first whether there is something to take back.
    """

    argv: Argv
    inside: Namespace | None = None
    stdin: bytes = b""
    environment: Mapping[str, str] | None = None
    parameters: Mapping[str, str] | None = None
    only_if: Callable[[], bool] | None = None

    def whole(self) -> Argv:
        """The argument vector with what leads into the namespace, as a shell needs it."""
        return (*with_parameters(self.parameters), *in_namespace(self.inside, self.argv))


class Change(NamedTuple):
    """A command, and what it is for."""

    argv: Argv
    purpose: str


class Program(NamedTuple):
    """A program that is no command of ours: a delegated plugin, with all it is given.

    ``parameters`` are those variables of its environment that are meant for it.
    """

    argv: Argv
    environment: Mapping[str, str]
    stdin: bytes
    parameters: Mapping[str, str]
    changes_nothing: bool = False

    def whole(self) -> Argv:
        """The argument vector with the parameters before it, as a shell needs it."""
        return (*with_parameters(self.parameters), *self.argv)

    def as_undo(self) -> Undo:
        """Return the run of it as what takes a change back."""
        return Undo(self.argv, None, self.stdin, self.environment, self.parameters)


def with_parameters(parameters: Mapping[str, str] | None) -> Argv:
    """Return the words before a command that give it its parameters."""
    if not parameters:
        return ()
    return ("env", *(f"{key}={value}" for key, value in sorted(parameters.items())))


def nothing(query: Argv) -> bytes:
    """Return what a query prints that finds nothing."""
    return b"[]" if prints_json(query) else b""


def is_absent(completed: Completed) -> bool:
    """Whether a command failed because what it was about is not there, and not the command."""
    return completed.status != EXEC_FAILED and causes.is_absent(completed.stderr)


class Transaction:
    """Runs changes; leaving its context by an exception takes them back in reverse.

    IPAM plugins release last, since they may hang. Each undo is best effort and
    independent of the others. ``leftovers`` then says, a line each, what could not
    be taken back, ``has_undone`` whether there was something and all of it was.
    Commands run ``inside`` a
    network namespace, or in the caller's own for None. Every method may raise
    CommandError, ProgramNotFoundError and InterruptedBySignalError.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._interrupts = runner.interrupts
        self._undos: list[Callable[[], None]] = []
        self._cleanups: list[Callable[[], None]] = []
        self._releases: list[Callable[[], None]] = []
        self.leftovers: list[str] = []
        self.has_undone = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._unwind()

    def read(
        self, argv: Argv, *, inside: Namespace | None = None, absent_ok: bool = False
    ) -> bytes:
        """Run a query and return its output; with ``absent_ok``, none for a missing thing."""
        completed = self._finish(argv, inside, absent_ok=absent_ok)
        return nothing(argv) if completed.status else completed.stdout

    def look(
        self,
        argv: Argv,
        parse: Callable[[bytes], T],
        *,
        unseen: T,  # noqa: ARG002 - Rehearsal's
        inside: Namespace | None = None,
    ) -> T:
        """Run a query and return what it comes to; ``unseen`` is for who may not look."""
        return parse(self.read(argv, inside=inside))

    def read_all(self, queries: Sequence[Argv], *, inside: Namespace | None = None) -> list[bytes]:
        """Run queries, in one process where their words allow it; return the output of each."""
        return self._finish_all([Change(argv, "") for argv in queries], inside)

    def run_all(
        self,
        changes: Sequence[Change],
        query: Argv,
        parse: Callable[[bytes], T],
        *,
        foreseen: T,  # noqa: ARG002 - Rehearsal's
        inside: Namespace | None = None,
    ) -> T:
        """Make changes that need no undo of their own, and read back what they came to.

        In one process where their words allow it; a failure names the change
        all the same. ``foreseen`` is for who makes no changes.
        """
        return parse(self._finish_all([*changes, Change(query, "")], inside)[-1])

    def on_unwind(self, action: Callable[[], None]) -> None:
        """Call ``action`` if this fails, once what commands have changed is undone."""
        self._cleanups.append(action)

    def run(
        self,
        argv: Argv,
        *,
        purpose: str,
        inside: Namespace | None = None,
        stdin: bytes = b"",
        undo: tuple[Undo, ...] = (),
        absent_ok: bool = False,
    ) -> None:
        """Make a change. Its undo counts from before it starts: a failure may come halfway."""
        self._register(undo)
        self._finish(argv, inside, stdin, purpose=purpose, undo=undo, absent_ok=absent_ok)

    def try_run(
        self, argv: Argv, *, purpose: str, inside: Namespace | None = None, stdin: bytes = b""
    ) -> str:
        """Make a change that is welcome but not needed; return why it failed, or nothing."""
        try:
            self._finish(argv, inside, stdin, purpose=purpose)
        except CommandError as error:
            return error.answer
        return ""

    def ask(
        self,
        program: Program,
        parse: Callable[[Completed], T],
        *,
        foreseen: T,  # noqa: ARG002 - Rehearsal's
        purpose: str,
        undo: tuple[Undo, ...] = (),
    ) -> T:
        """Run a program whose every exit status is an answer, for ``parse`` to read."""
        self._register(undo)
        self._interrupts.check()
        completed = self._runner.run(
            program.argv,
            program.stdin,
            program.environment,
            purpose,
            tuple(each.whole() for each in undo),
        )
        self._interrupts.check()
        return parse(completed)

    def wait(
        self,
        argv: Argv,
        until: Callable[[bytes], bool],
        *,
        purpose: str,
        seconds: float,
        in_shell: Argv,  # noqa: ARG002 - Rehearsal's
        inside: Namespace | None = None,
    ) -> bytes:
        """Repeat a query until ``until`` is true of its output, or time is up; return the last.

        ``in_shell`` does the same for who is told and not executed.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                output = self._finish(argv, inside).stdout
            except CommandError as error:
                error.purpose = purpose
                raise
            if until(output) or time.monotonic() >= deadline:
                return output
            # The kernel reports the end of duplicate address detection to nobody
            # who starts listening late: asking again is the sure way.
            time.sleep(_POLL_SECONDS)

    def _finish(
        self,
        argv: Argv,
        inside: Namespace | None,
        stdin: bytes = b"",
        *,
        purpose: str = "",
        undo: tuple[Undo, ...] = (),
        absent_ok: bool = False,
    ) -> Completed:
        self._interrupts.check()
        completed = self._runner.run(
            in_namespace(inside, argv),
            stdin,
            purpose=purpose,
            undo=tuple(each.whole() for each in undo),
        )
        self._interrupts.check()
        if completed.status and not (absent_ok and is_absent(completed)):
            raise CommandError(completed, purpose)
        return completed

    def _finish_all(self, changes: Sequence[Change], inside: Namespace | None) -> list[bytes]:
        """Run commands in order and return the output of those that print any."""
        joined = batch([change.argv for change in changes])
        if joined is None:
            outputs = [
                self._finish(change.argv, inside, purpose=change.purpose).stdout
                for change in changes
            ]
            pairs = zip(changes, outputs, strict=True)
            return [output for change, output in pairs if prints_json(change.argv)]
        argv, stdin = joined
        self._interrupts.check()
        purpose = "; ".join(change.purpose for change in changes if change.purpose)
        completed = self._runner.run(in_namespace(inside, argv), stdin, purpose=purpose)
        self._interrupts.check()
        if completed.status:
            raise _failure_in_batch(completed, changes, inside)
        lines = [line for line in completed.stdout.split(b"\n") if line]
        if len(lines) != sum(prints_json(change.argv) for change in changes):
            raise UnreadableAnswerError(completed.stdout.decode("utf-8", "replace"))
        return lines

    def _register(self, undos: tuple[Undo, ...]) -> None:
        for undo in undos:
            undos_of_kind = self._undos if undo.environment is None else self._releases
            undos_of_kind.append(partial(self._undo, undo))

    def _unwind(self) -> None:
        self.has_undone = bool(self._undos or self._releases)
        with self._interrupts.held():
            self._try_all(self._undos)
            self._try_all(self._cleanups)
            self._try_all(self._releases)
        self.has_undone = self.has_undone and not self.leftovers

    def _try_all(self, undos: list[Callable[[], None]]) -> None:
        while undos:
            self._try(undos.pop())

    def _try(self, undo: Callable[[], None]) -> None:
        try:
            undo()
        except CommandError as error:
            self.leftovers.append(f"{join(error.argv)}: {error.answer or error.status}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are undone
            self.leftovers.append(str(error) or type(error).__name__)

    def _undo(self, undo: Undo) -> None:
        if undo.only_if is not None and not undo.only_if():
            return
        argv = in_namespace(undo.inside, undo.argv)
        completed = self._runner.run(argv, undo.stdin, undo.environment, "undo")
        # What a delegated plugin misses is something else than what it was to release.
        is_gone = undo.environment is None and is_absent(completed)
        if completed.status and not is_gone:
            raise CommandError(completed)


def _failure_in_batch(
    completed: Completed, changes: Sequence[Change], inside: Namespace | None
) -> CommandError:
    """Return the failure of the one command that a failed ``ip -batch`` names."""
    said, _, number = completed.stderr.rstrip().rpartition(b"Command failed -:")
    if not number.isdigit() or not 0 < int(number) <= len(changes):
        return CommandError(completed, changes[0].purpose)
    change = changes[int(number) - 1]
    argv = in_namespace(inside, change.argv)
    return CommandError(completed._replace(argv=argv, stderr=said), change.purpose)
