"""iproute.runner: real programs, run to their end whatever they do, alone and side by side."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from attacker import is_running
from doubles import write_program
from lab import wait_until

from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import ProgramNotFoundError, Runner, UnusableArgumentError
from cni_ipvlan.iproute.running import Completed

MEGABYTES = 5 << 20


def ignore(_command: Command, _completed: Completed | None) -> None:
    """Records what an observer is called with."""


def shell(script: str) -> Command:
    return Command(("sh", "-c", script))


@pytest.fixture
def runner() -> Runner:
    return Runner("/usr/bin:/bin", ignore, Interrupts())


@pytest.mark.parametrize("status", [0, 255, -9, -13, -34])
def test_status_is_negative_when_a_signal_killed_the_command(runner: Runner, status: int) -> None:
    """SIGPIPE, too, which Python ignores: a child that did would go on writing for ever."""
    end = f"exit {status}" if status >= 0 else f"kill {status} $$"
    before = len(list(DESCRIPTORS.iterdir()))
    assert runner.run(shell(end)).status == status
    assert len(list(DESCRIPTORS.iterdir())) == before
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


def test_stdin_is_not_cut_off_by_a_limit(runner: Runner) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            runner.run(Command(("cat",), stdin=b"more than that"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_command_and_its_children_are_killed_in_time(runner: Runner, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    script = f"(exec 3<>{tmp_path}/pipe; sleep 60 <&3) & echo $!; sleep 60"
    done = runner.run(shell(script), seconds=0.3)
    assert done.status == -signal.SIGKILL
    assert done.killed_because == "it had not ended after 0.3 s"
    assert 0.3 <= done.seconds < 30
    child = int(done.stdout)
    wait_until(lambda: not is_running(child))
    done = runner.run(shell("sleep 60 >&- 2>&- <&- & echo $!; exit 3"), seconds=30)
    assert (done.status, done.killed_because) == (3, "")
    child = int(done.stdout)
    wait_until(lambda: not is_running(child))
    started = runner.start(shell("exit 4"), seconds=0.3)
    time.sleep(0.6)  # as if we were stopped
    done = runner.finish(started)
    assert (done.status, done.killed_because) == (4, "")


def test_nothing_can_fail_after_the_start(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """sh would go back to the current directory then: a change would be made, but not undone."""

    def fail(*_: str) -> str:
        raise OSError

    here = str(Path.cwd())
    monkeypatch.setattr(os, "chdir", fail)
    monkeypatch.setattr(os, "getcwd", fail)
    assert runner.run(shell("pwd")).stdout.decode().strip() == here


def test_directories_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "true", "#!/bin/sh\necho mine\n")
    monkeypatch.chdir(tmp_path)
    for path in ("", ":/nowhere", "/nowhere:.", f"../{tmp_path.name}"):
        assert Runner(path, ignore, Interrupts()).run(Command(("true",))).stdout == b""
    runner = Runner(str(tmp_path), ignore, Interrupts())
    assert runner.run(Command(("true",))).stdout == b"mine\n"
    with pytest.raises(ProgramNotFoundError) as excinfo:
        runner.run(Command(("no-such-program", "x")))
    assert excinfo.value.program == "no-such-program"
    assert "/usr/sbin" in excinfo.value.searched

    (tmp_path / "programs").mkdir()
    write_program(tmp_path / "programs/cat", "#!/bin/sh\nip")
    write_program(tmp_path / "programs/ip", "#!/bin/sh\necho the bundle")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    runner = Runner("/usr/bin:/bin", ignore, Interrupts())
    assert runner.run(Command(("cat",))).stdout == b"the bundle\n"


def test_command_has_streams_and_a_process_group_of_its_own(runner: Runner) -> None:
    done = runner.run(Command(("sh", "-c", "cat; echo out; echo err >&2"), stdin=b"in\n"))
    assert (done.stdout, done.stderr) == (b"in\nout\n", b"err\n")
    assert runner.run(Command(("cat",))).stdout == b""
    terminal = "for n in 0 1 2; do [ -t $n ] && echo terminal; done; true"
    assert runner.run(shell(terminal)).stdout == b""
    process, group = runner.run(shell("echo $$; ps -o pgid= -p $$")).stdout.split()
    assert process == group


def test_arguments_arrive_as_they_are(runner: Runner) -> None:
    words = ("", "*", "$HOME", "-x", "it's", 'a"b', "a\\b", "a\nb", "~", "é", "\udcff", "a=b", "%s")
    done = runner.run(Command(("printf", "%s\\0", *words)))
    assert tuple(map(os.fsdecode, done.stdout.split(b"\0")[:-1])) == words


def test_megabytes_go_in_and_come_out_of_both_streams_but_not_without_end(runner: Runner) -> None:
    data = os.urandom(1 << 16) * (MEGABYTES >> 16)
    done = runner.run(Command(("tee", "/dev/stderr"), stdin=data))
    assert done.stdout == data
    assert done.stderr == data[: 1 << 20] + b"\n(the rest was dropped)\n"
    done = runner.run(Command(("yes",)))
    assert done.status == -signal.SIGKILL
    assert done.killed_because == "it printed more than 16 MiB"
    # A pipe's content is read when its process has ended.
    done = runner.run(shell("head -c 16777217 /dev/zero"))
    assert (done.status, done.stdout) == (-signal.SIGKILL, b"")


def test_environment_is_plain_or_as_given(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("IPROUTE2_CONF", "somewhere")
    assert runner.run(Command(("env",))).stdout.splitlines() == [
        b"PATH=/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"LC_ALL=C",
    ]
    done = runner.run(Command(("env",), environment={"CNI_COMMAND": "ADD", "ODD": "a\udcff=\n"}))
    assert done.stdout == b"CNI_COMMAND=ADD\nODD=a\xff=\n\n"


def test_program_that_was_not_watched_ran(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_process: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", fail)
    done = runner.run(Command(("true",)))
    assert (done.was_run, done.killed_because) == (True, "it could not be watched")


def test_observer_is_called_before_and_after_every_command(tmp_path: Path) -> None:
    observed: list[tuple[Any, ...]] = []
    mark = tmp_path / "mark"
    runner = Runner("", lambda *each: observed.append((*each, mark.exists())), Interrupts())
    first, second = Command(("touch", str(mark)), "do it"), Command(("false",))
    completed = [runner.run(first), runner.run(second)]
    assert observed[:2] == [(first, None, False), (first, completed[0], True)]
    assert observed[2:] == [(second, None, True), (second, completed[1], True)]
    assert 0 < completed[0].seconds < 5


@pytest.mark.parametrize("is_told", [False, True])
def test_a_process_that_stays_is_observed_as_two_commands(tmp_path: Path, *, is_told: bool) -> None:
    write_program(tmp_path / "ip", "#!/bin/sh\nread -r x; echo []; read -r x && sleep 0.1; echo $x")
    observed: list[tuple[Command, Completed | None]] = []
    runner = Runner(str(tmp_path), lambda *each: observed.append(each), Interrupts())
    query = Command(("ip", "-j", "link", "show"))
    change, other = (Command(("ip", "link", "set", "dev", "x", word)) for word in ("up", "down"))
    running = runner.start(query, then=change)
    assert not running.make_change(change)  # before it has answered
    answered = runner.finish(running)
    assert answered.stdout == b"[]"
    assert running.completed is None
    start = time.monotonic()
    wait_until(lambda: time.monotonic() - start > 0.3)
    assert not running.make_change(change._replace(netns=Namespace("/x", "x", (1, 1))))
    end = time.monotonic()
    assert not is_told or (runner.start(change) is running and not running.make_change(other))
    running.end_input()
    completed = runner.finish(running)
    assert [each for each, _ in observed[:2]] == [query, query]
    assert [done for _, done in observed[:2]] == [None, answered]
    assert observed[2:] == ([(change, None), (change, completed)] if is_told else [])
    if is_told:
        assert completed.stdout == b"link set dev x up\n"
        assert 0.1 <= completed.seconds <= time.monotonic() - end


def test_invalid_argument_is_an_error(runner: Runner) -> None:
    for word in ("a\0b", "\ud800"):
        with pytest.raises(UnusableArgumentError) as excinfo:
            runner.run(Command(("true", word), "try it"))
        assert (excinfo.value.purpose, excinfo.value.word) == ("try it", word)


DESCRIPTORS = Path("/proc/self/fd")
LONG = Command(("sleep", "30"))
PLUGIN = Command(("sleep", "30"), environment={"A": ""})


def test_what_takes_a_namespaces_place_is_not_opened(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "ns"
    path.symlink_to("/proc/self/ns/net")
    result = namespace.find(str(path))
    path.unlink()
    os.mkfifo(path)  # who opened it would wait
    done = runner.run(Command(("true",), netns=result), seconds=5)
    assert (done.status, done.was_run, done.killed_because) == (1, False, "")


def test_command_that_ended_first_keeps_its_time_and_is_observed_in_order() -> None:
    observed: list[tuple[Command, Completed | None]] = []
    runner = Runner("", lambda *each: observed.append(each), Interrupts())
    slow, quick = runner.start(shell("sleep 0.5")), runner.start(shell("exit 3"))
    before = time.process_time()
    assert runner.finish(slow).status == 0
    assert time.process_time() - before < 0.2  # it is not asked again and again
    assert quick.completed
    assert runner.finish(quick).status == 3
    assert quick.completed.seconds < slow.completed.seconds  # type: ignore[union-attr]
    assert [each.argv[-1] for each, completed in observed if completed] == ["sleep 0.5", "exit 3"]


def test_more_than_a_pipe_holds_is_read_while_another_is_waited_for(runner: Runner) -> None:
    running = runner.start(shell("while [ ! -s /proc/self/fd/0 ]; do sleep 0.05; done"))
    verbose = runner.start(shell("yes | head -c 1000000"))
    while verbose.completed is None:
        runner._poll()
    assert len(verbose.completed.stdout) == 1_000_000
    running.kill("the test is over")
    runner.finish(running)


def test_signal_reaches_what_was_started_before_an_undo_but_not_the_undo(runner: Runner) -> None:
    change, plugin = runner.start(LONG), runner.start(PLUGIN)
    with runner.interrupts.deferred():
        undo = runner.start(shell("sleep 0.2; exit 7"))
        runner.interrupts._catch(signal.SIGTERM, None)
        assert runner.finish(undo).status == 7
        assert runner.finish(change).status == -signal.SIGTERM
        assert runner.finish(plugin).status == -signal.SIGTERM


def test_change_is_not_bounded_by_an_undo(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cni_ipvlan.iproute.running._PATIENCE_WITH_PLUGINS", (0.2, 0.2, 0.1))
    change = runner.start(Command(("sh", "-c", "sleep 0.6; exit 7"), environment={"A": ""}))
    with runner.interrupts.deferred():
        undo = runner.start(PLUGIN)
        assert runner.finish(undo).killed_because
    assert runner.finish(change).status == 7


def test_none_is_left_when_waiting_fails(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runner.start(LONG), runner.start(PLUGIN)
    before = len(list(DESCRIPTORS.iterdir()))

    def fail(_ready: object) -> None:
        raise MemoryError

    monkeypatch.setattr(first, "poll", fail)
    with pytest.raises(MemoryError):
        runner.finish(first)
    assert first.completed
    assert second.completed
    assert before - len(list(DESCRIPTORS.iterdir())) == 6  # two pipes and one for the process
