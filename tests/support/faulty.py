"""The plugin in this process, with a fault at a chosen point of its way.

A point is a command that it runs or a system call that it makes for itself. They are found by
recording a call without faults, so that none is forgotten when the plugin changes.
"""

import errno
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import taps
from runtime import Answer

from cni_ipvlan.cni import protocol
from cni_ipvlan.cni.request import read
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.runner import ProgramNotFoundError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.registry import Registry

Work = Callable[[], Completed]
Fault = Callable[[Interrupts, Work], Any]


class Point(NamedTuple):
    """A place to put a fault: the words of a command or system call, and the how manyth of them.

    Not its place among all points: how often output is read depends on how it comes.
    """

    words: str
    occurrence: int
    is_command: bool


class Faults:
    """Counts and records points, and runs the planned faults."""

    def __init__(self, planned: Mapping[Point, Fault] | None = None) -> None:
        self._planned = planned or {}
        self.points: list[Point] = []
        self._counts: Counter[str] = Counter()
        self.interrupts = Interrupts()

    def command(self, command: Command) -> Fault | None:
        words = " ".join(command.entered_argv)
        if command.batch_lines:
            words += f" <<< {command.batch_lines}"
        return self._record(words, is_command=True)

    def system_call(self, name: str, work: Callable[[], Any]) -> Any:
        fault = self._record(name, is_command=False)
        return fault(self.interrupts, work) if fault else work()

    def _record(self, words: str, *, is_command: bool) -> Fault | None:
        self._counts[words] += 1
        point = Point(words, self._counts[words], is_command)
        self.points.append(point)
        return self._planned.get(point)


class KillAt(Faults):
    """Kills the plugin at a point, counted from 1, among all or among the commands only."""

    def __init__(self, number: int, *, of_commands: bool, after_work: bool) -> None:
        super().__init__()
        self._remaining = number
        self._of_commands = of_commands
        faults = (kill_plugin, kill_plugin_after_work)
        self._fault = faults[after_work]

    def _record(self, words: str, *, is_command: bool) -> Fault | None:
        super()._record(words, is_command=is_command)
        self._remaining -= is_command or not self._of_commands
        return None if self._remaining else self._fault


# Faults of a command: what the plugin gets to see, and whether the command's work is done.


def completed(status: int, stdout: bytes = b"", stderr: bytes = b"") -> Completed:
    return Completed(status, stdout, stderr, 0.0)


def fail_at_once(_: Interrupts, work: Work) -> Completed:
    return completed(1, stderr=b"injected")


def fail_after_work(_: Interrupts, work: Work) -> Completed:
    work()
    return completed(1, stderr=b"injected")


def print_half(_: Interrupts, work: Work) -> Completed:
    done = work()
    return done._replace(stdout=done.stdout[: len(done.stdout) // 2])


def interrupt(interrupts: Interrupts, work: Work) -> Completed:
    interrupts._catch(signal.SIGTERM, None)
    return completed(-signal.SIGTERM)


def interrupt_after_work(interrupts: Interrupts, work: Work) -> Completed:
    done = work()
    interrupts._catch(signal.SIGTERM, None)
    return done


def report_missing_program(_: Interrupts, work: Work) -> Completed:
    raise ProgramNotFoundError("it", "/nowhere")


def make_print_fault(stdout: bytes) -> Fault:
    return lambda _, work: work()._replace(stdout=stdout)


COMMAND_FAULTS: dict[str, Fault] = {
    "fails_at_once": fail_at_once,
    "fails_after_its_work": fail_after_work,
    "is_killed_at_once": lambda *_: completed(-signal.SIGKILL),
    "is_killed_after_its_work": lambda _, work: completed(-signal.SIGSEGV, stdout=work().stdout),
    "prints_garbage": make_print_fault(b"\xffno JSON, no number\n"),
    "prints_nothing": make_print_fault(b""),
    "prints_half": print_half,
    "prints_other_json": make_print_fault(b'[{"ifname": 1, "addr_info": {}}]\n'),
    "is_interrupted": interrupt,
    "is_interrupted_after_its_work": interrupt_after_work,
    "is_not_installed": report_missing_program,
}


# Faults of anything.


def refuse(_: Interrupts, work: Callable[[], Any]) -> Any:
    raise OSError(errno.EIO, "injected")


def kill_plugin(_: Interrupts, work: Callable[[], Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_plugin_after_work(_: Interrupts, work: Callable[[], Any]) -> Any:
    work()
    os.kill(os.getpid(), signal.SIGKILL)


def call(environment: Mapping[str, str], stdin: bytes, faults: Faults) -> Answer:
    netconf.load_schema.cache_clear()  # a call is a process of its own
    stdout: list[bytes] = []
    stderr: list[str] = []
    log = Log(stderr.append, environment)
    runner = _FaultyRunner(environment.get("PATH", ""), log.command, faults)
    node = Node(runner, Registry(), lambda: Transaction(runner), log)
    with taps.tap_system_calls(faults.system_call):
        work = partial(perform, node)
        status = protocol.serve(environment, read(stdin), work, stdout.append, log)
    assert len(stdout) <= 1
    return Answer(status, b"".join(stdout), "\n".join(stderr))


def find_points_of_add(environment: Mapping[str, str], stdin: bytes) -> list[Point]:
    """Return the points of an ADD that succeeds, and undo it."""
    faults = Faults()
    call(environment, stdin, faults).result()
    call({**environment, "CNI_COMMAND": "DEL"}, stdin, Faults()).succeeds()
    return faults.points


def call_or_die(environment: Mapping[str, str], stdin: bytes, faults: Faults) -> Answer | None:
    """Call the plugin in a process of its own; return the answer unless a fault killed it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            status, stdout, stderr = call(environment, stdin, faults)
            os.write(writer, json.dumps([status, stdout.decode(), stderr]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL:
        return None
    status, stdout, stderr = json.loads(output)
    return Answer(status, stdout.encode(), stderr)


class _FaultyRunner(Runner):
    def __init__(self, path: str, observe: Callable[..., None], faults: Faults) -> None:
        super().__init__(path, observe, faults.interrupts)
        self._faults = faults

    def start(
        self, command: Command, *, seconds: float = 0.0, then: Command | None = None
    ) -> Running:
        """Start a command, or have its fault happen while others are running."""
        fault, start = self._faults.command(command), super().start
        if fault is None:
            return start(command, seconds=seconds, then=then)
        running = Running(command, {}, self.interrupts)
        running._process = 0  # it counts as run, since it may have done its work
        running.completed = fault(self.interrupts, lambda: self.finish(start(command)))
        return running
