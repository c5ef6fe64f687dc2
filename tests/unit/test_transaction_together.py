"""iproute.transaction: several commands run as one."""

from __future__ import annotations

import pytest
from fake_runner import CONTAINER, World

from cni_ipvlan.iproute.commands import Command, together
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError


@pytest.fixture
def world() -> World:
    return World()


UP = ("ip", "link", "set", "dev", "net1", "up")
SHOW = ("ip", "-j", "link", "show", "dev", "net1")
ODD = ("ip", "link", "set", "dev", "it's", "up")
BATCH = "ip netns exec c ip -j -batch -"


def run_all(world: World, *changes: tuple[str, ...]) -> bytes:
    parts = [Command(argv, f"do {argv[-1]}", CONTAINER) for argv in changes]
    done = world.tx.do(together(*parts, Command(SHOW, inside=CONTAINER)))
    assert done is not None
    return done.stdout


def test_changes_are_made_and_read_back_in_one_process(world: World) -> None:
    world.runner.outputs[BATCH] = [b"[1]\n"]
    with world.tx:
        assert run_all(world, UP, UP) == b"[1]"
    assert world.runner.ran == [BATCH]
    assert world.runner.stdins == [
        b"link set dev net1 up\nlink set dev net1 up\nlink show dev net1\n"
    ]
    assert world.runner.purposes == ["do up; do up"]


def test_changes_that_one_process_cannot_take_are_made_one_by_one(world: World) -> None:
    world.runner.outputs["ip netns exec c ip -j link show dev net1"] = [b"[2]\n"]
    with world.tx:
        assert run_all(world, UP, ODD) == b"[2]"
    assert world.runner.ran == [
        "ip netns exec c ip link set dev net1 up",
        "ip netns exec c ip link set dev it's up",
        "ip netns exec c ip -j link show dev net1",
    ]


SWITCH = Command(("tee", "/proc/sys/a", "/proc/sys/b"), "announce", CONTAINER, stdin=b"1\n")


def test_parameters_are_written_in_the_same_process(world: World) -> None:
    combined = together(SWITCH, Command(UP, "do up", CONTAINER))
    assert combined.argv[0] == "sh"
    assert combined.argv[3:] == ("sh", "/proc/sys/a", "/proc/sys/b", "ip", "-batch", "-")
    assert combined.stdin == b"link set dev net1 up\n"
    assert (combined.purpose, combined.parts[0]) == ("announce; do up", SWITCH)


def test_parameters_are_written_first_when_one_process_cannot_take_the_changes(
    world: World,
) -> None:
    switch = SWITCH._replace(may_fail=True)
    world.runner.fails("ip netns exec c tee /proc/sys/a /proc/sys/b", b"tee: no\n")
    with world.tx:
        done = world.tx.do(together(switch, Command(ODD, "do odd", CONTAINER)))
    assert done
    assert done.stderr.startswith(b"tee: no\n")
    assert world.runner.ran[1:] == ["ip netns exec c ip link set dev it's up"]


def test_failure_after_parameters_names_the_change(world: World) -> None:
    changes = [Command((*UP[:-1], each), f"do {each}", CONTAINER) for each in ("up", "down")]
    combined = together(SWITCH, *changes)
    message = b"sh: 1: cannot create /proc/sys/a\nRTNETLINK answers: File exists\n"
    world.runner.fails(" ".join(combined.entered_argv), message + b"Command failed -:2\n")
    with pytest.raises(CommandError) as caught, world.tx:
        world.tx.do(combined)
    assert caught.value.purpose == "do down"


def test_failure_among_several_names_the_change(world: World) -> None:
    world.runner.fails(BATCH, b"RTNETLINK answers: File exists\nCommand failed -:2\n")
    down = (*UP[:-1], "down")
    with pytest.raises(CommandError) as caught, world.tx:
        run_all(world, UP, down)
    assert caught.value.argv == ("ip", "netns", "exec", "c", *down)
    assert caught.value.purpose == "do down"
    assert caught.value.answer == "RTNETLINK answers: File exists"


@pytest.mark.parametrize(
    "message", [b"", b"Cannot open", b"Command failed -:0", b"Command failed -:3"]
)
def test_failure_that_names_no_change_is_that_of_the_batch(world: World, message: bytes) -> None:
    world.runner.fails(BATCH, message)
    with pytest.raises(CommandError) as caught, world.tx:
        run_all(world, UP)
    assert caught.value.argv == tuple(BATCH.split())
    assert caught.value.purpose == "do up"


@pytest.mark.parametrize("printed", [b"", b"[]\n[]\n"])
def test_more_or_fewer_answers_than_queries_are_unreadable(world: World, printed: bytes) -> None:
    world.runner.outputs[BATCH] = [printed]
    with pytest.raises(UnreadableAnswerError), world.tx:
        run_all(world, UP)


def test_queries_in_one_process_have_an_answer_each(world: World) -> None:
    world.runner.outputs["ip -j -batch -"] = [b"[1]\n\n[2]\n"]
    with world.tx:
        assert world.tx.see(together(Command(SHOW), Command(SHOW))) == b"[1]\n[2]"


def test_signal_during_several_changes_is_heard(world: World) -> None:
    world.runner.after[BATCH] = lambda: setattr(world.interrupts, "came", True)
    with pytest.raises(InterruptedBySignalError), world.tx:
        run_all(world, UP)


@pytest.mark.parametrize(
    ("families", "is_one_process"),
    [(("-4", "-4"), True), (("-6", "-6"), True), (("-4", "-6"), False), (("", "-6"), False)],
)
def test_one_process_asks_about_one_family(
    families: tuple[str, str], *, is_one_process: bool
) -> None:
    """ip applies -4 and -6 to every line."""
    words = ("-j", "route", "show", "default")
    queries = [Command(("ip", *filter(None, (each,)), *words)) for each in families]
    assert together(*queries).is_split is not is_one_process
