"""A fake runner for tests of transactions."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest

from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction

CONTAINER = Namespace("/var/run/netns/c", "c", (4, 1))
ABSENT = b'Cannot find device "x"\n'


class FakeInterrupts:
    """A signal that comes at a chosen moment."""

    def __init__(self) -> None:
        self.came = False
        self.holding = False

    def check(self) -> None:
        if self.came and not self.holding:
            raise InterruptedBySignalError(signal.SIGTERM)

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holding = True
        yield
        self.holding = False


class FakeRunner:
    """Records what it ran; fails, answers or calls back as set for a command."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.finished: list[str] = []
        self.stdins: list[bytes] = []
        self.purposes: list[str] = []
        self.environments: list[Mapping[str, str] | None] = []
        self.statuses: dict[str, int] = {}
        self.outputs: dict[str, list[bytes]] = {}
        self.errors: dict[str, bytes] = {}
        self.raises: dict[str, Exception] = {}
        self.not_run: list[str] = []
        self.after: dict[str, Callable[[], None]] = {}
        self.interrupts = FakeInterrupts()

    def start(self, command: Command) -> Running:
        running = Running(command, {}, Interrupts())
        running.completed = self._completed(command)
        running._process = 0 if running.completed.was_run else -1
        return running

    def run(self, command: Command) -> Completed:
        return self.finish(self.start(command))

    def first_line(self, _running: Running) -> Completed | None:
        """Answer whole, as a process that does not stay."""
        return None

    def finish(self, running: Running, _words: bytes = b"") -> Completed:
        assert running.completed
        self.finished.append(" ".join(running.command.entered_argv))
        return running.completed

    def _completed(self, command: Command) -> Completed:
        line = " ".join(command.entered_argv)
        self.ran.append(line)
        self.stdins.append(command.stdin)
        self.purposes.append(command.purpose)
        self.environments.append(command.environment)
        if line in self.raises:
            raise self.raises[line]
        self.after.get(line, lambda: None)()
        outputs = self.outputs.get(line, [b""])
        output = outputs.pop(0) if len(outputs) > 1 else outputs[0]
        stderr, was_run = self.errors.get(line, b"no"), line not in self.not_run
        return Completed(self.statuses.get(line, 0), output, stderr, 0.0, was_run=was_run)

    def fails(self, line: str, stderr: bytes = b"no") -> None:
        self.statuses[line] = 2
        self.errors[line] = stderr


class World:
    def __init__(self) -> None:
        self.runner = FakeRunner()
        self.interrupts = self.runner.interrupts
        self.tx = Transaction(cast("Runner", self.runner))

    def change(self, name: str, *undos: Command) -> None:
        undo = undos or (Command(("undo", name)),)
        self.tx.run(Command(("do", name), f"do {name}", undo=undo))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Run what is in the block as a transaction that fails after it, and so is undone."""
        with pytest.raises(ZeroDivisionError), self.tx:  # noqa: PT012 - which is what it is for
            yield
            raise ZeroDivisionError
