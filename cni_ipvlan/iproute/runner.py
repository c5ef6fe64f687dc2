"""Run external commands with sh, one after another or side by side.

Each command gets its own process group, so that a signal to our group (a terminal's ^C, a
runtime's kill) never interrupts an undo. Its output is read while it runs, up to a limit;
a child that outlives the command can't delay us.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.commands import Argv, Command, in_namespace
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.namespace import Namespace, keep_open, leads_to
from cni_ipvlan.iproute.running import Completed, Running, Session, prepare_process
from cni_ipvlan.start import sh as sh_module

_STANDARD_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SLICE_MILLISECONDS = 100  # signals are checked between slices: they don't end poll(2)

sh = sh_module.load()


class ProgramNotFoundError(IprouteError):
    """A program that is not in the search path."""

    def __init__(self, program: str, searched: str) -> None:
        super().__init__(program, searched)
        self.program = program
        self.searched = searched


class CommandError(IprouteError):
    """A command that failed, with everything known about it.

    ``completed`` is how it ended, and ``answer`` what it printed, or why it was killed.
    ``findings`` explain the failure, one per line.
    """

    def __init__(self, command: Command, completed: Completed) -> None:
        super().__init__(command, completed)
        self.command = command
        self.completed = completed
        is_killed = completed.status < 0  # what it has printed is no reason then
        output = completed.stderr.strip() or (b"" if is_killed else completed.stdout.strip())
        self.answer = completed.killed_because or output.decode("utf-8", "replace")
        self.findings: list[str] = []


class UnusableArgumentError(IprouteError):
    """An argument that can't be passed to a command: it has a NUL or can't be encoded."""

    def __init__(self, command: Command, word: str) -> None:
        super().__init__(command, word)
        self.purpose = command.purpose
        self.word = word


class Runner:
    """Runs programs of a bundle, of ``path`` or else of the standard directories.

    ``observe`` is called with each command and None before it runs, and with how it ended
    afterwards.
    """

    def __init__(
        self,
        path: str,
        observe: Callable[[Command, Completed | None], None],
        interrupts: Interrupts,
    ) -> None:
        self.interrupts = interrupts
        directories = f"{own_programs()}:{path}:{_STANDARD_DIRECTORIES}".split(":")
        # An empty or relative one is the caller's current directory, which may be anybody's.
        self._search_path = ":".join(each for each in directories if each.startswith("/"))
        # A fixed environment, so that the caller's can't change what ip prints or does.
        self._environment = {"PATH": self._search_path, "LC_ALL": "C"}
        self._observe = observe
        self._programs: dict[str, Callable[..., None]] = {}
        self._held_namespace: tuple[Namespace, str] | None = None
        self._running: list[Running] = []

    @contextmanager
    def holding(self, netns: Namespace) -> Iterator[None]:
        """Make commands about a namespace use this one, even if its path changes later.

        Raises OSError if the path has changed already.
        """
        outer = self._held_namespace
        with keep_open(netns) as path:
            self._held_namespace = netns, path
            try:
                yield
            finally:
                self._held_namespace = outer

    def run(self, command: Command, *, seconds: float = 0.0) -> Completed:
        """Run a command to its end and return any status; raises what ``start`` does."""
        return self.finish(self.start(command, seconds=seconds))

    def start(
        self, command: Command, *, seconds: float = 0.0, then: Command | None = None
    ) -> Running:
        """Start a command, which runs beside those that were started before.

        It is killed after so many ``seconds``; 0 for never. If it is a query, a change like
        ``then`` may follow it in the same process, where it is. Raises ProgramNotFoundError,
        UnusableArgumentError.
        """
        for each in self._running:
            if each.make_change(command):
                self._observe(command, None)
                return each
        process = prepare_process(command, then) if then else None
        settings = self._environment, self.interrupts, seconds
        running = Session(command, process, *settings) if process else Running(command, *settings)
        argv = self._resolve_namespace(running)
        try:
            bad_word = next((word for word in argv if b"\0" in os.fsencode(word)), None)
        except UnicodeEncodeError as error:  # a lone surrogate, which JSON can hold
            bad_word = error.object
        if bad_word is not None:
            raise UnusableArgumentError(command, bad_word)
        program = self.find(argv[0])
        self._observe(command, None)
        if running.completed is None:
            with running.with_stdin():
                program(*argv[1:], _fg=True, _env=running)
        self._running.append(running)
        return running

    def finish(self, running: Running) -> Completed:
        """Wait for the end of a command, or for the answer of one whose process stays.

        Any status is returned, also that of a failure.
        """
        while (completed := running.completed or running.answer) is None:
            self._poll()
        if not running.is_answered:
            self._observe(running.command, completed)
        running.is_answered = running.completed is None
        return completed

    def _poll(self) -> None:
        """Read for a moment what the running commands print, and notice their ends."""
        self._running = [each for each in self._running if each.completed is None]
        poll = select.poll()
        for each in self._running:
            for descriptor in each.fds:
                poll.register(descriptor, select.POLLIN)
        try:
            ready = {descriptor for descriptor, _ in poll.poll(_SLICE_MILLISECONDS)}
            for each in self._running:
                each.poll(ready)
        except BaseException:
            for each in self._running:
                if each.completed is None:
                    each.kill("it could not be watched")
                    each.end()
            raise

    def _resolve_namespace(self, running: Running) -> Argv:
        """Return an argument vector whose paths of namespaces still lead to these.

        That includes the path in ``ip link set … netns PATH``.
        """
        argv, netns = running.process.argv, running.process.netns
        if self._held_namespace is not None:
            namespace, path = self._held_namespace
            argv = tuple(path if word == namespace.path else word for word in argv)
            if netns is not None and netns.identity == namespace.identity:
                name = namespace.name if leads_to(namespace.path, namespace.identity) else ""
                return in_namespace(namespace._replace(path=path, name=name), argv)
        if netns is not None and not netns.name:
            netns = netns._replace(path=running.keep_open(netns))
        return in_namespace(netns, argv)

    def find(self, program: str) -> Callable[..., None]:
        """Return what runs a program; raises ProgramNotFoundError."""
        if program not in self._programs:
            try:
                self._programs[program] = sh.Command(
                    program, search_paths=self._search_path.split(":")
                )
            except sh.CommandNotFound:
                raise ProgramNotFoundError(program, self._search_path) from None
        return self._programs[program]


def own_programs() -> str:
    """Return the directory of programs that a bundle (scripts/build-bundle) brings; else ""."""
    directory = os.path.join(sys.prefix, "programs")
    return directory if os.path.isdir(directory) else ""
