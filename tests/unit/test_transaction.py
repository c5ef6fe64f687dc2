"""iproute.transaction: all changes happen, or none, also when several commands run as one."""

# ruff: noqa: PT012 - what is undone when a block is left is what these tests are about
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import ANY, Command, Undo, batch
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, Runner
from cni_ipvlan.iproute.running import Completed, Running
from cni_ipvlan.iproute.transaction import Transaction

CONTAINER = Namespace("/var/run/netns/c", "c", (4, 1))
ABSENT = b'Cannot find device "x"\n'


class FakeRunner:
    """Records what it ran; fails, answers or calls back as set for a command."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.finished: list[str] = []
        self.commands: list[Command] = []
        self.statuses: dict[str, int] = {}
        self.outputs: dict[str, list[bytes]] = {}
        self.errors: dict[str, bytes] = {}
        self.raises: dict[str, Exception] = {}
        self.not_run: list[str] = []
        self.after: dict[str, Callable[[], None]] = {}
        self.interrupts = Interrupts()

    def start(self, command: Command, **_how: object) -> Running:
        running = Running(command, {}, Interrupts())
        running.completed = self._completed(command)
        running._process = 0 if running.completed.was_run else -1
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
        self.commands.append(command)
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

    def change(self, name: str, *undos: Command | Undo) -> None:
        given = undos or (Command(("undo", name)),)
        undo = tuple(each if isinstance(each, Undo) else Undo(each) for each in given)
        self.tx.run(Command(("do", name), f"do {name}", undo=undo))

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Run what is in the block as a transaction that fails after it, and so is undone."""
        with pytest.raises(ZeroDivisionError), self.tx:
            yield
            raise ZeroDivisionError


@pytest.fixture
def world() -> World:
    return World()


def test_first_failure_is_reported_and_the_change_beside_it_is_undone(world: World) -> None:
    world.runner.fails("do two")
    world.runner.fails("do three")
    with pytest.raises(CommandError) as caught, world.tx:
        world.change("one")
        changes = [Command(("do", name), f"do {name}") for name in ("two", "three")]
        undos = [Command(("undo", name)) for name in ("two", "three")]
        started = [
            world.tx.start(change._replace(undo=(Undo(undo),)))
            for change, undo in zip(changes, undos, strict=True)
        ]
        world.tx.finish(started[0])
    assert world.runner.finished[:3] == ["do one", "do two", "do three"]
    assert world.runner.ran[3:] == ["undo three", "undo two", "undo one"]
    assert caught.value.command == started[0].command
    assert caught.value.answer == "no"


def test_undo_that_fails_is_a_leftover_and_stops_no_other(world: World) -> None:
    names = ["one", "two", "three", "four", "five", "six"]
    world.runner.fails("undo two", b"Device or resource busy\n")
    world.runner.raises["undo three"] = ProgramNotFoundError("undo", "/bin")
    world.runner.raises["undo four"] = PermissionError(13, "Permission denied")
    world.runner.raises["undo five"] = UnreadableAnswerError("nonsense")
    world.runner.raises["undo six"] = MemoryError()

    def forget() -> None:
        world.runner.ran.append("forget")
        raise OSError(30, "Read-only file system")

    with world.failing():
        for name in names:
            world.change(name)
            if name == "one":  # whose undo comes after this, and those of the others before
                world.tx.on_failure(forget)
    *others, first = (f"undo {name}" for name in reversed(names))
    assert world.runner.ran[6:] == [*others, "forget", first]
    six, five, four, three, two, forgetting = world.tx.leftovers
    assert "Read-only file system" in forgetting
    assert six == "MemoryError"
    assert "nonsense" in five
    assert "Permission denied" in four
    assert "undo" in three
    assert two == "undo two: Device or resource busy"


def test_only_the_thing_itself_may_be_gone_already(world: World) -> None:
    world.runner.fails("undo a", ABSENT)
    with world.failing():
        world.change("one", Command(("undo", "a")), Command(("undo", "b")))
    assert (world.runner.ran[1:], world.tx.leftovers) == (["undo b", "undo a"], [])
    for line in ("ip undo", "/cni/plugin"):
        world.runner.fails(line, b"No such file or directory")
    world.runner.statuses["ip undo"] = 127  # ip itself is not there
    plugin = Command(("/cni/plugin",), environment={})  # what it lacks is no business of ours
    with world.failing():
        world.tx.run(Command(("ip", "do"), undo=(Undo(plugin), Undo(Command(("ip", "undo"))))))
    left = [each.partition(": ")[::2] for each in sorted(world.tx.leftovers)]
    assert left == [(name, "No such file or directory") for name in ("/cni/plugin", "ip undo")]


def test_undo_asks_first_whether_there_is_something_to_undo(world: World) -> None:
    def ask() -> bool:
        raise CommandError(Command(("ip", "link")), Completed(1, b"", b"no", 0.0))

    world.runner.fails("undo one")
    with world.failing():
        world.change("one")
        world.change("two", Undo(Command(("undo", "two")), ask))
        world.change("three", Undo(Command(("undo", "three")), lambda: True))
        world.change("four", Undo(Command(("undo", "four")), lambda: False))
    assert world.runner.ran[4:] == ["undo three", "undo one"]
    assert world.tx.leftovers == ["ip link: no", "undo one: no"]
    assert not world.tx.has_undone


def test_plugins_release_last_with_their_stdin_and_environment(world: World) -> None:
    variables = {"CNI_COMMAND": "DEL"}
    release = Command(("release",), "", None, b"input", variables)
    with world.failing():
        world.change("one", Command(("undo", "one"), "", CONTAINER))
        world.change("allocate", Undo(release, comes_last=True))
        world.change("two")
    assert world.runner.ran[3:] == ["undo two", "ip netns exec c undo one", "release"]
    last = world.runner.commands[-1]
    assert (last.stdin, last.environment) == (b"input", variables)
    assert world.tx.has_undone


def test_change_that_could_not_be_executed_is_not_undone(world: World) -> None:
    with world.failing():
        pass
    assert not world.tx.has_undone  # since there was nothing to undo
    world.runner.not_run.append("allocate")
    plugins = Command(("release",), environment={"CNI_COMMAND": "DEL"})
    undo = (Undo(Command(("release",))), Undo(plugins))
    with world.failing():
        world.tx.run(Command(("allocate",), accept=ANY, undo=undo))
    assert world.runner.ran == ["allocate"]
    assert (world.tx.leftovers, world.tx.has_undone) == ([], False)


@pytest.mark.parametrize(
    ("undo_says", "leftovers"),
    [
        (b'{"code": 1, "msg": "incompatible"}', []),
        (b'{"code": 7, "msg": "unknown option"}', ["release: no"]),
        (b"", ["release: no"]),
    ],
)
def test_a_plugin_that_refuses_both_in_the_same_words_has_changed_nothing(
    world: World, undo_says: bytes, leftovers: list[str]
) -> None:
    for line in ("allocate", "release"):
        world.runner.fails(line)
    world.runner.outputs["allocate"] = [b'{"code": 1, "msg": "incompatible"}']
    world.runner.outputs["release"] = [undo_says]
    undo = Command(("release",), environment={})
    with pytest.raises(CommandError), world.tx:
        world.tx.run(Command(("allocate",), "allocate", environment={}, undo=(Undo(undo),)))
    assert world.tx.leftovers == leftovers


def test_signal_during_a_change_undoes_it_while_others_are_held_back(world: World) -> None:
    held: list[bool] = []
    world.runner.after["undo one"] = lambda: held.append(world.interrupts.is_deferring)
    world.runner.after["do two"] = lambda: world.interrupts._catch(signal.SIGTERM, None)
    with pytest.raises(InterruptedBySignalError), world.tx:
        world.change("one")
        world.change("two")
        world.change("three")
    assert world.runner.ran == ["do one", "do two", "undo two", "undo one"]
    assert (held, world.interrupts.is_deferring) == ([True], False)


def test_signal_before_a_change_or_a_program_prevents_it(world: World) -> None:
    world.interrupts._catch(signal.SIGTERM, None)
    for run in (
        lambda: world.tx.run_batch(Command(("ip", "link")), Command(("ip", "link"))),
        lambda: world.tx.start(Command(("ip", "link"))),
        lambda: world.tx.run(Command(("ipam",), "allocate", environment={})),
        lambda: world.tx.run(Command(("do", "one"), "do one")),
    ):
        with pytest.raises(InterruptedBySignalError), world.tx:
            run()
    assert world.runner.ran == []


def test_query_about_something_absent_is_an_error_unless_allowed(world: World) -> None:
    world.runner.fails("ip link", ABSENT)
    world.runner.fails("ip route", b"RTNETLINK answers: Operation not permitted\n")
    with world.tx:
        assert world.tx.run(Command(("ip", "link"), accept=commands.ABSENT)).stdout == b""
        for wrong in (Command(("ip", "link")), Command(("ip", "route"), accept=commands.ABSENT)):
            with pytest.raises(CommandError):
                world.tx.run(wrong)


UP = ("ip", "link", "set", "dev", "net1", "up")
SHOW = ("ip", "-j", "link", "show", "dev", "net1")
ODD = ("ip", "link", "set", "dev", "it's", "up")
BATCH = "ip -n c -j -batch -"
SWITCH = Command(("tee", "/proc/sys/a", "/proc/sys/b"), "announce", CONTAINER, stdin=b"1\n")


def run_all(world: World, *changes: tuple[str, ...]) -> bytes:
    parts = [Command(argv, f"do {argv[-1]}", CONTAINER) for argv in changes]
    return world.tx.run_batch(*parts, Command(SHOW, netns=CONTAINER)).stdout


def test_changes_are_made_and_read_back_in_one_process(world: World) -> None:
    world.runner.outputs[BATCH] = [b"[1]\n"]
    with world.tx:
        assert run_all(world, UP, UP) == b"[1]"
    (command,) = world.runner.commands
    assert (world.runner.ran, command.purpose) == ([BATCH], "do up; do up")
    assert command.stdin == b"link set dev net1 up\nlink set dev net1 up\nlink show dev net1\n"


def test_changes_that_one_process_cannot_take_are_made_one_by_one(world: World) -> None:
    world.runner.outputs["ip netns exec c ip -j link show dev net1"] = [b"[2]\n"]
    with world.tx:
        assert run_all(world, UP, ODD) == b"[2]"
    assert world.runner.ran == [
        "ip netns exec c ip link set dev net1 up",
        "ip netns exec c ip link set dev it's up",
        "ip netns exec c ip -j link show dev net1",
    ]


def test_parameters_are_written_in_the_same_process_or_else_first(world: World) -> None:
    combined = batch(SWITCH, Command(UP, "do up", CONTAINER))
    assert combined
    assert combined.argv[0] == "sh"
    assert combined.argv[3:] == ("sh", "/proc/sys/a", "/proc/sys/b", "ip", "-batch", "-")
    assert combined.stdin == b"link set dev net1 up\n"
    assert combined.purpose == "announce; do up"
    switch = SWITCH._replace(accept=commands.OPTIONAL)
    world.runner.fails("ip netns exec c tee /proc/sys/a /proc/sys/b", b"tee: no\n")
    with world.tx:
        done = world.tx.run_batch(switch, Command(ODD, "do odd", CONTAINER))
    assert done.stderr.startswith(b"tee: no\n")
    assert world.runner.ran[1:] == ["ip netns exec c ip link set dev it's up"]


@pytest.mark.parametrize("announced", [(), (SWITCH,)])
def test_failure_of_several_names_the_change(world: World, announced: tuple[Command, ...]) -> None:
    down = (*UP[:-1], "down")
    changes = [Command(argv, f"do {argv[-1]}", CONTAINER) for argv in (UP, down)]
    combined = batch(*announced, *changes)
    assert combined
    why = b"sh: 1: cannot create /proc/sys/a\n" if announced else b""
    answer = why + b"RTNETLINK answers: File exists"
    world.runner.fails(" ".join(combined.entered_argv), answer + b"\nCommand failed -:2\n")
    with pytest.raises(CommandError) as caught, world.tx:
        world.tx.run_batch(*announced, *changes)
    assert caught.value.command == Command(down, "do down", CONTAINER)
    assert caught.value.answer == answer.decode()


def test_failure_that_names_no_change_is_that_of_the_batch(world: World) -> None:
    for message in (b"", b"Command failed -:0", b"Command failed -:3"):
        world.runner.fails(BATCH, message)
        with pytest.raises(CommandError) as caught, world.tx:
            run_all(world, UP)
        assert caught.value.command.purpose == "do up"
        assert caught.value.command.entered_argv == tuple(BATCH.split())


@pytest.mark.parametrize("printed", [b"", b"[1]\n", b"[1]\n[2]\n[3]\n"])
def test_queries_in_one_process_have_an_answer_each(world: World, printed: bytes) -> None:
    shows = Command(SHOW), Command(SHOW)
    world.runner.outputs["ip -j -batch -"] = [b"[1]\n\n[2]\n"]
    with world.tx:
        assert world.tx.run_batch(*shows).stdout == b"[1]\n[2]"
    world.runner.outputs["ip -j -batch -"] = [printed]
    with pytest.raises(UnreadableAnswerError), world.tx:
        world.tx.run_batch(*shows)


def test_one_process_asks_about_one_family() -> None:
    """ip applies -4 and -6 to every line."""
    for families, is_split in (("44", False), ("66", False), ("46", True), (" 6", True)):
        options = [() if family == " " else (f"-{family}",) for family in families]
        queries = [Command(("ip", *option, "-j", "route", "show", "default")) for option in options]
        assert (batch(*queries) is None) is is_split
