"""iproute.transaction: all changes happen, or none, also when several commands run as one."""

# ruff: noqa: PT012 - what is undone when a block is left is what these tests are about
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command, Undo, batch
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction

CONTAINER = Namespace("/var/run/netns/c", "c", (4, 1))
ABSENT = b'Cannot find device "x"\n'


class FakeRunner:
    """Records what it ran; fails or answers as set for a command."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.finished: list[str] = []
        self.statuses: dict[str, int] = {}
        self.outputs: dict[str, bytes] = {}
        self.errors: dict[str, bytes] = {}
        self.raises: dict[str, Exception] = {}
        self.interrupts = Interrupts()

    def start(self, command: Command, **_how: object) -> Running:
        running = Running(command, {}, Interrupts())
        running.completed = self._completed(command)
        running._process = 0
        return running

    def run(self, command: Command) -> Completed:
        return self.finish(self.start(command))

    def finish(self, running: Running) -> Completed:
        assert running.completed
        self.finished.append(" ".join(running.command.entered_argv))
        return running.completed

    def _completed(self, command: Command) -> Completed:
        line = " ".join(command.entered_argv)
        self.ran.append(line)
        if line in self.raises:
            raise self.raises[line]
        output, stderr = self.outputs.get(line, b""), self.errors.get(line, b"no")
        return Completed(self.statuses.get(line, 0), output, stderr, 0.0)

    def fail(self, line: str, stderr: bytes = b"no") -> None:
        self.statuses[line] = 2
        self.errors[line] = stderr


class Driver:
    """Makes changes in a transaction, whose commands a fake runner answers."""

    def __init__(self) -> None:
        self.runner = FakeRunner()
        self.interrupts = self.runner.interrupts
        self.tx = Transaction(cast("Runner", self.runner))

    def change(self, name: str, *undos: Command | Undo) -> None:
        commands = undos or (Command(("undo", name)),)
        undo = tuple(each if isinstance(each, Undo) else Undo(each) for each in commands)
        self.tx.run(Command(("do", name), f"do {name}", undo=undo))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Run what is in the block as a transaction that fails after it, and so is undone."""
        with pytest.raises(ZeroDivisionError), self.tx:
            yield
            raise ZeroDivisionError


@pytest.fixture
def driver() -> Driver:
    return Driver()


def test_first_failure_is_reported_and_the_change_beside_it_is_undone(driver: Driver) -> None:
    driver.runner.fail("do two")
    driver.runner.fail("do three")
    with pytest.raises(CommandError) as excinfo, driver.tx:
        driver.change("one")
        changes = [Command(("do", name), f"do {name}") for name in ("two", "three")]
        undos = [Command(("undo", name)) for name in ("two", "three")]
        started = [
            driver.tx.start(change._replace(undo=(Undo(undo),)))
            for change, undo in zip(changes, undos, strict=True)
        ]
        driver.tx.finish(started[0])
    assert driver.runner.finished[:3] == ["do one", "do two", "do three"]
    assert driver.runner.ran[3:] == ["undo three", "undo two", "undo one"]
    assert excinfo.value.command == started[0].command
    assert excinfo.value.answer == "no"


def test_undo_that_fails_is_a_leftover_and_stops_no_other(driver: Driver) -> None:
    names = ["one", "two", "three", "four", "five", "six"]
    driver.runner.fail("undo two", b"Device or resource busy\n")
    driver.runner.raises["undo three"] = ProgramNotFoundError("undo", "/bin")
    driver.runner.raises["undo four"] = PermissionError(13, "Permission denied")
    driver.runner.raises["undo five"] = UnreadableAnswerError("nonsense")
    driver.runner.raises["undo six"] = MemoryError()

    def forget() -> None:
        driver.runner.ran.append("forget")
        raise OSError(30, "Read-only file system")

    with driver.failing():
        for name in names:
            driver.change(name)
            if name == "one":  # whose undo comes after this, and those of the others before
                driver.tx.on_failure(forget)
    *others, first = (f"undo {name}" for name in reversed(names))
    assert driver.runner.ran[6:] == [*others, "forget", first]
    six, five, four, three, two, forgetting = driver.tx.leftovers
    assert "Read-only file system" in forgetting
    assert six == "MemoryError"
    assert "nonsense" in five
    assert "Permission denied" in four
    assert "undo" in three
    assert two == "undo two: Device or resource busy"


def test_only_the_thing_itself_may_be_gone_already(driver: Driver) -> None:
    driver.runner.fail("undo a", ABSENT)
    with driver.failing():
        driver.change("one", Command(("undo", "a")), Command(("undo", "b")))
    assert (driver.runner.ran[1:], driver.tx.leftovers) == (["undo b", "undo a"], [])
    for line in ("ip undo", "/cni/plugin"):
        driver.runner.fail(line, b"No such file or directory")
    driver.runner.statuses["ip undo"] = 127  # ip itself is not there
    plugin = Command(("/cni/plugin",), environment={})  # what it lacks is no business of ours
    with driver.failing():
        driver.tx.run(Command(("ip", "do"), undo=(Undo(plugin), Undo(Command(("ip", "undo"))))))
    leftovers = [each.partition(": ")[::2] for each in sorted(driver.tx.leftovers)]
    assert leftovers == [(name, "No such file or directory") for name in ("/cni/plugin", "ip undo")]


def test_undo_asks_first_whether_there_is_something_to_undo(driver: Driver) -> None:
    def ask() -> bool:
        raise CommandError(Command(("ip", "link")), Completed(1, b"", b"no", 0.0))

    driver.runner.fail("undo one")
    with driver.failing():
        driver.change("one")
        driver.change("two", Undo(Command(("undo", "two")), ask))
        driver.change("three", Undo(Command(("undo", "three")), lambda: True))
        driver.change("four", Undo(Command(("undo", "four")), lambda: False))
    assert driver.runner.ran[4:] == ["undo three", "undo one"]
    assert driver.tx.leftovers == ["ip link: no", "undo one: no"]
    assert not driver.tx.has_undone


def test_signal_before_a_change_or_a_program_prevents_it(driver: Driver) -> None:
    driver.interrupts._catch(signal.SIGTERM, None)
    for run in (
        lambda: driver.tx.run_batch(Command(("ip", "link")), Command(("ip", "link"))),
        lambda: driver.tx.start(Command(("ip", "link"))),
        lambda: driver.tx.run(Command(("ipam",), "allocate", environment={})),
        lambda: driver.tx.run(Command(("do", "one"), "do one")),
    ):
        with pytest.raises(InterruptedBySignalError), driver.tx:
            run()
    assert driver.runner.ran == []


def test_query_about_something_absent_is_an_error_unless_allowed(driver: Driver) -> None:
    driver.runner.fail("ip link", ABSENT)
    driver.runner.fail("ip route", b"RTNETLINK answers: Operation not permitted\n")
    with driver.tx:
        assert driver.tx.run(Command(("ip", "link"), accept=commands.ABSENT)).stdout == b""
        for command in (Command(("ip", "link")), Command(("ip", "route"), accept=commands.ABSENT)):
            with pytest.raises(CommandError):
                driver.tx.run(command)


UP = ("ip", "link", "set", "dev", "net1", "up")
SHOW = ("ip", "-j", "link", "show", "dev", "net1")
QUOTED = ("ip", "link", "set", "dev", "it's", "up")
SWITCH = Command(("tee", "/proc/sys/a", "/proc/sys/b"), "announce", CONTAINER, stdin=b"1\n")


def test_changes_that_one_process_cannot_take_are_made_one_by_one(driver: Driver) -> None:
    driver.runner.outputs["ip netns exec c ip -j link show dev net1"] = b"[2]\n"
    parts = [Command(argv, "do it", CONTAINER) for argv in (UP, QUOTED)]
    with driver.tx:
        done = driver.tx.run_batch(*parts, Command(SHOW, netns=CONTAINER))
    assert done.stdout == b"[2]"
    assert driver.runner.ran == [
        "ip netns exec c ip link set dev net1 up",
        "ip netns exec c ip link set dev it's up",
        "ip netns exec c ip -j link show dev net1",
    ]


def test_parameters_are_written_in_the_same_process_or_else_first(driver: Driver) -> None:
    combined = batch(SWITCH, Command(UP, "do up", CONTAINER))
    assert combined
    assert combined.argv[0] == "sh"
    assert combined.argv[3:] == ("sh", "/proc/sys/a", "/proc/sys/b", "ip", "-batch", "-")
    assert combined.stdin == b"link set dev net1 up\n"
    assert combined.purpose == "announce; do up"
    switch = SWITCH._replace(accept=commands.OPTIONAL)
    driver.runner.fail("ip netns exec c tee /proc/sys/a /proc/sys/b", b"tee: no\n")
    with driver.tx:
        done = driver.tx.run_batch(switch, Command(QUOTED, "do odd", CONTAINER))
    assert done.stderr.startswith(b"tee: no\n")
    assert driver.runner.ran[1:] == ["ip netns exec c ip link set dev it's up"]


@pytest.mark.parametrize("printed", [b"", b"[1]\n", b"[1]\n[2]\n[3]\n"])
def test_queries_in_one_process_have_an_answer_each(driver: Driver, printed: bytes) -> None:
    shows = Command(SHOW), Command(SHOW)
    driver.runner.outputs["ip -j -batch -"] = b"[1]\n\n[2]\n"
    with driver.tx:
        assert driver.tx.run_batch(*shows).stdout == b"[1]\n[2]"
    driver.runner.outputs["ip -j -batch -"] = printed
    with pytest.raises(UnreadableAnswerError), driver.tx:
        driver.tx.run_batch(*shows)


def test_one_process_asks_about_one_family() -> None:
    """ip applies -4 and -6 to every line."""
    for families, is_split in (("44", False), ("66", False), ("46", True), (" 6", True)):
        options = [() if family == " " else (f"-{family}",) for family in families]
        queries = [Command(("ip", *option, "-j", "route", "show", "default")) for option in options]
        assert (batch(*queries) is None) is is_split
