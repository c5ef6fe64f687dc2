"""A running command: its process, its streams, and its time."""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from cni_ipvlan.iproute.commands import WRITE_AND_RUN, Command, batch
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.namespace import Namespace, NotANamespaceError, keep_open
from cni_ipvlan.start import signal
from cni_ipvlan.start.namedtuple import Any, NamedTuple

_EXEC_FAILED = 127  # a shell's exit status for a program that can't be executed
# What iproute2 (all versions from 5.10) prints for a missing link, namespace or route.
_ABSENT = (
    b"Cannot find device",
    b"does not exist",
    b"No such device",
    b"No such file or directory",
    b"No such process",
)
_DENIED = (b"Operation not permitted", b"Permission denied")
# In bytes. A command that prints more on stdout is killed; more on stderr is dropped.
_MOST_STDOUT = 16 << 20
_MOST_STDERR = 1 << 20
_PIPE = 1 << 20  # its largest capacity, /proc/sys/fs/pipe-max-size: one read empties it
# Seconds that a command may take: for an undo; after one signal; after two signals.
# iproute2's commands wait only for the kernel.
_PATIENCE_WITH_PLUGINS = (10.0, 10.0, 1.0)
_PATIENCE_WITH_COMMANDS = (math.inf, 30.0, 30.0)
# A killed process may be stuck in the kernel; then it is left to init.
_KILL_SECONDS = 5.0
# The query for all links, and what writes kernel parameters when a line has been read.
_SHOW_AND_STAY = f"ip -j -d link show || exit; read -r line || exit 0; {WRITE_AND_RUN}"


class Completed(NamedTuple):
    """How a command ended; a negative status is the number of the signal that killed it.

    ``killed_because`` is why we killed it, if we did. ``was_run`` is whether its program could be
    executed; if not, stderr has the reason. In a dry run, ``meaning`` is what stdout stands for.
    """

    status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    killed_because: str = ""
    was_run: bool = True
    meaning: Any = None

    @property
    def is_assumed(self) -> bool:
        """Whether it was not run, but a dry run assumes that it succeeds."""
        return not (self.was_run or self.status)

    @property
    def is_absent(self) -> bool:
        """Whether it was run and failed because its object does not exist."""
        has_failed = self.status not in (0, _EXEC_FAILED)
        return has_failed and any(words in self.stderr for words in _ABSENT)

    @property
    def is_denied(self) -> bool:
        """Whether it failed because it is not permitted."""
        return self.status != 0 and any(words in self.stderr for words in _DENIED)


class Running(dict[str, str]):
    """A running command; ``completed`` is None until it has ended.

    It is also its environment, since sh passes that to the function that starts a process. It is
    killed after so many ``seconds``; 0 for never. ``is_bounded`` is whether it may take only a
    limited time. ``process`` is the command that is run for it, which in a Session is another.
    """

    is_answered = False

    def __init__(
        self,
        command: Command,
        environment: Mapping[str, str],
        interrupts: Interrupts,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(command.environment or environment)
        self.command = self.process = command
        self.completed: Completed | None = None
        self._seconds = seconds
        self.is_bounded = self._skips_sigterm = interrupts.is_deferring
        self._interrupts = interrupts
        self._patience = _PATIENCE_WITH_PLUGINS if command.environment else _PATIENCE_WITH_COMMANDS
        self.stdout, self.stderr = bytearray(), bytearray()
        self._pipes: dict[int, bytearray] = {}
        self._kept_namespaces = ExitStack()
        self.started = time.monotonic()
        self._stdin = self._process = self._pidfd = -1
        self._bounded_since = self._killed = 0.0
        self._killed_because = ""

    @contextmanager
    def with_stdin(self) -> Iterator[None]:
        """Set its standard input: a file in memory, so that writing does not wait for a reader."""
        with open(os.memfd_create("stdin"), "w+b") as file:
            self._stdin = file.fileno()
            file.write(self.process.stdin)
            file.seek(0)
            yield

    @property
    def was_run(self) -> bool:
        """Whether its process was started."""
        return self._process >= 0

    @property
    def fds(self) -> tuple[int, ...]:
        """The file descriptors that can be read when it has printed something, or ended."""
        return (self._pidfd, *self._pipes)

    def keep_open(self, netns: Namespace) -> str:
        """Keep a namespace open until the command ends; return a path that leads to it meanwhile.

        If it can't be opened, ``completed`` says why, in the words of nsenter(1).
        """
        try:
            return self._kept_namespaces.enter_context(keep_open(netns))
        except (OSError, NotANamespaceError) as error:
            why = getattr(error, "strerror", None) or error
            text = os.fsencode(f"nsenter: cannot open {netns.path}: {why}")
            self.completed = Completed(1, b"", text, 0.0, was_run=False)
            return netns.path

    def spawn(self, program: str, argv: list[str]) -> int:
        """Start it, and return 0, the exit status that sh expects.

        If it can't be executed, ``completed`` says why.
        """
        try:
            with self._pipe(self.stdout) as stdout, self._pipe(self.stderr) as stderr:
                self._process = os.posix_spawn(
                    program,
                    argv,
                    self,
                    file_actions=(
                        (os.POSIX_SPAWN_DUP2, self._stdin, 0),
                        (os.POSIX_SPAWN_DUP2, stdout, 1),
                        (os.POSIX_SPAWN_DUP2, stderr, 2),
                    ),
                    setpgroup=0,
                    setsigmask=(),
                    # Python ignores these, and the child would inherit that.
                    setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
                )
            self._pidfd = os.pidfd_open(self._process)
        except BaseException as error:
            if self.was_run:
                self.kill("it could not be watched")
                self.end()
            self.close()
            if not isinstance(error, OSError):
                raise
            why = os.fsencode(f"cannot execute {argv[0]}: {error.strerror}")
            failure = Completed(_EXEC_FAILED, b"", why, 0.0, was_run=False)
            self.completed = self.completed or failure
        return 0

    def poll(self, ready: Collection[int]) -> None:
        """Read what it has printed, bound its time, and notice its end."""
        for pipe in self._pipes.keys() & ready:
            self._read(pipe)
        if self._pidfd not in ready:  # if we were stopped meanwhile, it has not taken that time
            self._bound()
        if self._pidfd in ready or self._is_stuck():
            self.end()

    @property
    def answer(self) -> Completed | None:
        """What it has printed, if that is whole before its end; only a Session has that."""
        return None

    def make_change(self, change: Command) -> bool:
        """Have a process that stays make a change, if it can; return whether it does."""
        del change
        return False

    def end_input(self) -> None:
        """Let a process that stays end."""

    def end(self) -> None:
        """Wait for its end, and set ``completed``."""
        for pipe in [*self._pipes]:
            self._read(pipe)  # only once: a child that it left behind may go on writing
        self._signal(signal.SIGKILL)  # children that it left behind, in its process group
        status = 0
        if not self._is_stuck():
            status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        if self._killed_because:  # it may just have ended, but what it printed was dropped
            status = status or -signal.SIGKILL
        self.close()
        output = bytes(self.stdout), bytes(self.stderr)
        self.completed = Completed(status, *output, self.elapsed(), self._killed_because)

    def kill(self, why: str) -> None:
        """Kill it, once."""
        if not self._killed:
            self._killed_because = why
            self._killed = time.monotonic()
            self._signal(signal.SIGKILL)

    @contextmanager
    def _pipe(self, output: bytearray) -> Iterator[int]:
        """Make a pipe whose ``output`` is read without blocking; yield its write end."""
        read, write = os.pipe2(os.O_CLOEXEC)
        self._pipes[read] = output
        with open(write, "wb", buffering=0):
            os.set_blocking(read, False)
            yield write

    def close(self) -> None:
        """Close our ends of its streams."""
        self.end_input()
        self._kept_namespaces.close()
        for descriptor in self.fds:
            if descriptor >= 0:
                os.close(descriptor)
        self._pipes.clear()
        self._pidfd = -1

    def elapsed(self) -> float:
        """Return how long the command has run, in seconds."""
        return time.monotonic() - self.started

    def _read(self, pipe: int) -> None:
        """Read what is available, and keep it up to the limit."""
        try:
            chunk = os.read(pipe, _PIPE)
        except BlockingIOError:
            return
        if not chunk:
            os.close(pipe)
            del self._pipes[pipe]
            return
        output = self._pipes[pipe]
        limit = _MOST_STDOUT if output is self.stdout else _MOST_STDERR
        capacity = max(0, limit - len(output))
        output += chunk[:capacity]
        if len(chunk) > capacity:
            if output is self.stdout:
                self.kill(f"it printed more than {limit >> 20} MiB")
                output.clear()
            elif len(output) == limit:
                output += b"\n(the rest was dropped)\n"

    def _bound(self) -> None:
        """Signal or kill it when it takes too long: in all, after a signal, or for an undo."""
        count, now = self._interrupts.count, time.monotonic()
        if self._seconds and now - self.started >= self._seconds:
            self.kill(f"it had not ended after {self._seconds:g} s")
        if count and not self._skips_sigterm:
            self._skips_sigterm = True
            self._signal(signal.SIGTERM)
        if count or self.is_bounded:
            self._bounded_since = self._bounded_since or now
            waited = now - self._bounded_since
            if waited >= self._patience[count]:
                self.kill(f"it had not ended after {waited:.0f} s")

    def _is_stuck(self) -> bool:
        """Whether it is stuck in the kernel even after SIGKILL, and must be left to init."""
        return bool(self._killed) and time.monotonic() - self._killed >= _KILL_SECONDS

    def _signal(self, number: int) -> None:
        # The process group's number is not reused before the process is waited for.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process, number)


class Session(Running):
    """A query in a container, whose process stays there to make one change.

    That saves the 5 ms to enter the container again. When it ``is_answered``, it can make the
    change, which is its ``command`` then.
    """

    def __init__(
        self,
        query: Command,
        process: Command,
        environment: Mapping[str, str],
        interrupts: Interrupts,
        seconds: float,
    ) -> None:
        super().__init__(query, environment, interrupts, seconds)
        self.process = process
        self.is_answered = False
        self._input = -1

    @contextmanager
    def with_stdin(self) -> Iterator[None]:
        """Set its standard input: a pipe, through which it gets the change."""
        self._stdin, self._input = os.pipe2(os.O_CLOEXEC)
        with open(self._stdin, "rb", buffering=0):
            os.write(self._input, self.process.stdin)
            yield

    @property
    def answer(self) -> Completed | None:
        """What the query has printed; None if it has not, or will not."""
        line, is_whole, _ = self.stdout.partition(b"\n")
        is_open = self._input >= 0
        return Completed(0, bytes(line), b"", self.elapsed()) if is_whole and is_open else None

    def make_change(self, change: Command) -> bool:
        """Have the process make a change, if it can; return whether it does."""
        words, process = b"", self.process
        if not self.is_answered or self.completed or change.netns != process.netns:
            return False
        if process.argv[0] == "sh":
            words = b"\n" + change.stdin if change.argv[3:] == process.argv[3:] else b""
        elif line := batch(change):
            words = line.stdin if {*line.argv} <= {*process.argv} else b""
        if not 0 < len(words) <= select.PIPE_BUF:  # writing more may block
            return False
        del self.stdout[: self.stdout.index(b"\n") + 1]
        self.command, self.is_answered = change, False
        self.started = time.monotonic()
        with suppress(BrokenPipeError):  # it does not listen
            os.write(self._input, words)
        self.end_input()
        return True

    def end_input(self) -> None:
        """Let the process end."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1


def prepare_process(query: Command, change: Command) -> Command | None:
    """Return a command for a query whose process can then make such a change; None if it can't.

    If the change writes kernel parameters, the query must be that for all links.
    """
    if change.argv[0] == "sh":
        return query._replace(argv=("sh", "-c", _SHOW_AND_STAY, *change.argv[3:]))
    return batch(query)
