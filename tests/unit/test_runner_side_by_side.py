"""iproute.runner: several commands at once, and what they do to each other."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.running import Completed

DESCRIPTORS = Path("/proc/self/fd")
LONG = Command(("sleep", "30"))
PLUGIN = Command(("sleep", "30"), environment={"A": ""})


def shell(script: str) -> Command:
    return Command(("sh", "-c", script))


@pytest.fixture
def observed() -> list[str]:
    return []


@pytest.fixture
def runner(observed: list[str]) -> Runner:
    def observe(command: Command, completed: Completed | None) -> None:
        if completed is not None:
            observed.append(command.argv[-1])

    return Runner("/usr/bin:/bin", observe, Interrupts())


def test_commands_run_at_the_same_time(runner: Runner) -> None:
    started = time.monotonic()
    running = [runner.start(shell(f"sleep 0.5; echo {number}")) for number in range(3)]
    assert [runner.finish(each).stdout for each in running] == [b"0\n", b"1\n", b"2\n"]
    assert time.monotonic() - started < 1.4


def test_command_that_ended_first_keeps_its_time_and_is_observed_in_order(
    runner: Runner, observed: list[str]
) -> None:
    slow, quick = runner.start(shell("sleep 0.5")), runner.start(shell("exit 3"))
    assert runner.finish(slow).status == 0
    assert quick.completed
    assert runner.finish(quick).status == 3
    assert quick.completed.seconds < 0.4
    assert observed == ["sleep 0.5", "exit 3"]


def test_waiting_for_one_after_another_has_ended_takes_no_cpu_time(runner: Runner) -> None:
    slow, quick = runner.start(shell("sleep 0.5")), runner.start(shell("exit"))
    before = time.process_time()
    runner.finish(slow)
    assert quick.completed
    assert time.process_time() - before < 0.1


def test_more_than_a_pipe_holds_is_read_while_another_is_waited_for(runner: Runner) -> None:
    waiting = runner.start(shell("while [ ! -s /proc/self/fd/0 ]; do sleep 0.05; done"))
    verbose = runner.start(shell("yes | head -c 1000000"))
    while verbose.completed is None:
        runner._attend()
    assert len(verbose.completed.stdout) == 1_000_000
    waiting.kill("the test is over")
    runner.finish(waiting)


def test_signal_reaches_all(runner: Runner) -> None:
    one, other = runner.start(LONG), runner.start(PLUGIN)
    runner.interrupts._catch(signal.SIGTERM, None)
    assert runner.finish(one).status == -signal.SIGTERM
    assert runner.finish(other).status == -signal.SIGTERM


def test_signal_reaches_what_was_started_before_an_undo_but_not_the_undo(runner: Runner) -> None:
    change = runner.start(LONG)
    with runner.interrupts.held():
        undo = runner.start(shell("sleep 0.5; exit 7"))
        runner.interrupts._catch(signal.SIGTERM, None)
        assert runner.finish(undo).status == 7
        assert runner.finish(change).status == -signal.SIGTERM


def test_change_under_way_is_not_bounded_by_an_undo(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cni_ipvlan.iproute.running._PATIENCE_WITH_PLUGINS", (0.2, 0.2, 0.1))
    change = runner.start(Command(("sh", "-c", "sleep 0.6; exit 7"), environment={"A": ""}))
    with runner.interrupts.held():
        undo = runner.start(PLUGIN)
        assert runner.finish(undo).killed_because
    assert runner.finish(change).status == 7


def test_none_is_left_when_waiting_fails(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = runner.start(LONG), runner.start(PLUGIN)
    before = len(list(DESCRIPTORS.iterdir()))

    def fail(_ready: object) -> None:
        raise MemoryError

    monkeypatch.setattr(one, "attend", fail)
    with pytest.raises(MemoryError):
        runner.finish(one)
    assert one.completed
    assert other.completed
    assert before - len(list(DESCRIPTORS.iterdir())) == 6  # two pipes and one for the process
