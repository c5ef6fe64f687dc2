"""Running external commands with sh.

A command's three streams are files in memory, not pipes: a child that outlives
the command and keeps them open can't hold us up, output of any size fits, and
sh has nothing to read, so it needs no threads (its foreground mode).
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from fcntl import F_DUPFD_CLOEXEC, fcntl

from cni_ipvlan.iproute import lean_sh
from cni_ipvlan.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from cni_ipvlan.iproute.commands import Argv

_STANDARD_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FIRST_FREE_DESCRIPTOR = 3
EXEC_FAILED = 127  # the status by which a shell says that a program could not be executed

_running: set[int] = set()  # the process IDs of children that have not ended
_stopping: list[int] = []  # the signal, once we have been asked to stop


def _spawnve(_mode: int, program: str, argv: list[str], environment: Mapping[str, str]) -> int:
    """Do what os.spawnve(P_WAIT, …) does, without fork, and so that the child can be signalled."""
    child = os.posix_spawn(
        program,
        argv,
        environment,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE,),  # Python ignores it, and a child would inherit that
    )
    _running.add(child)
    if _stopping:  # came while the child was started: nobody knew it yet
        os.kill(child, signal.SIGTERM)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        _running.discard(child)


sh = lean_sh.load(_spawnve)


class Completed(NamedTuple):
    """How a command ended; a negative status is the number of the signal that killed it."""

    argv: Argv
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float


class Event(NamedTuple):
    """A command that ended: how, what it was for, and what takes it back.

    Of several ip commands in one ip, ``batch`` holds the lines.
    """

    completed: Completed
    purpose: str
    undo: tuple[Argv, ...] = ()
    batch: tuple[str, ...] = ()


class ProgramNotFoundError(Exception):
    """A program that no directory of the search path has."""

    def __init__(self, program: str, searched: str) -> None:
        super().__init__(program, searched)
        self.program = program
        self.searched = searched


class CommandError(Exception):
    """A command that failed, with everything known about it.

    ``purpose`` is what it was for, as the object of "cannot"; it may be empty.
    """

    def __init__(self, completed: Completed, purpose: str = "") -> None:
        super().__init__(completed)
        self.argv = completed.argv
        self.purpose = purpose
        self.status = completed.status
        output = completed.stderr.strip() or completed.stdout.strip()
        self.answer = output.decode("utf-8", "replace")


class InterruptedBySignalError(Exception):
    """The caller asked us to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number).name


class Runner:
    """Runs commands, found along ``path`` and then in the standard directories.

    ``observe`` is told of each command when it has ended.
    """

    def __init__(self, path: str, observe: Callable[[Event], None]) -> None:
        self._search_path = ":".join(part for part in (path, _STANDARD_DIRECTORIES) if part)
        # Nothing of the caller's environment changes what ip prints or does.
        self._environment = {"PATH": self._search_path, "LC_ALL": "C"}
        self._observe = observe
        self._programs: dict[str, Callable[..., None]] = {}

    def run(
        self,
        argv: Argv,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        purpose: str = "",
        undo: tuple[Argv, ...] = (),
    ) -> Completed:
        """Run a command to its end; every status is an answer.

        ``environment`` replaces the bare one that commands get; ``purpose`` and
        ``undo`` are for the observer. Raises ProgramNotFoundError.
        """
        program = self._find(argv[0])
        started, refusal = time.monotonic(), ""
        with _Streams(stdin) as streams:
            try:
                program(*argv[1:], _fg=True, _env=dict(environment or self._environment))
                status = 0
            except sh.ErrorReturnCode as error:
                status = error.exit_code
            except KeyError as error:  # sh has no name for a real-time signal
                status = -int(error.args[0])
            except OSError as error:
                status, refusal = EXEC_FAILED, f"cannot execute {argv[0]}: {error.strerror}"
            stdout, stderr = streams.outputs()
        stderr = refusal.encode() or stderr
        completed = Completed(argv, status, stdout, stderr, time.monotonic() - started)
        lines = stdin.decode("utf-8", "replace").splitlines() if "-batch" in argv else ()
        self._observe(Event(completed, purpose, undo, tuple(lines)))
        return completed

    def _find(self, program: str) -> Callable[..., None]:
        if program not in self._programs:
            try:
                self._programs[program] = sh.Command(
                    program, search_paths=self._search_path.split(":")
                )
            except sh.CommandNotFound:
                raise ProgramNotFoundError(program, self._search_path) from None
        return self._programs[program]


class _Streams:
    """Puts memory files in the place of descriptors 0, 1 and 2 while a child starts and runs."""

    def __init__(self, stdin: bytes) -> None:
        self._files: list[int] = []
        self._saved: list[int] = []
        try:
            # Everything that may fail comes before the streams are touched.
            for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
                self._files.append(os.memfd_create(name))
                self._saved.append(fcntl(descriptor, F_DUPFD_CLOEXEC, _FIRST_FREE_DESCRIPTOR))
            os.write(self._files[0], stdin)
            os.lseek(self._files[0], 0, os.SEEK_SET)
        except OSError:
            self._close()
            raise

    def __enter__(self) -> _Streams:
        for descriptor, file in enumerate(self._files):
            os.dup2(file, descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor, saved in enumerate(self._saved):
            os.dup2(saved, descriptor)
        self._close()

    def _close(self) -> None:
        for descriptor in (*self._files, *self._saved):
            os.close(descriptor)

    def outputs(self) -> tuple[bytes, bytes]:
        """Return what stdout and stderr hold."""
        return _content(self._files[1]), _content(self._files[2])


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


class Interrupts:
    """SIGTERM, SIGINT and SIGHUP, held back until no command is under way.

    A signal is passed on to the running child, so that a command which hangs
    ends; ``check`` then raises. While undoing, ``held`` keeps them from ending
    anything.
    """

    def __init__(self) -> None:
        self._caught = 0
        self._holding = False

    def install(self) -> None:
        """Take over from the dispositions and the mask that the caller left us."""
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._catch)

    def check(self) -> None:
        """Raise InterruptedBySignalError when a signal has come."""
        if self._caught and not self._holding:
            raise InterruptedBySignalError(self._caught)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing interrupt what is done meanwhile."""
        self._holding = True
        _stopping.clear()
        try:
            yield
        finally:
            self._holding = False

    def _catch(self, number: int, _frame: FrameType | None) -> None:
        if self._holding or self._caught:
            return
        self._caught = number
        _stopping.append(number)
        for child in _running:
            os.kill(child, signal.SIGTERM)
