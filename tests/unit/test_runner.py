"""iproute.runner: small real programs, run to their end whatever they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import (
    CommandError,
    Completed,
    InterruptedBySignalError,
    Interrupts,
    ProgramNotFoundError,
    Runner,
    UnusableArgumentError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEGABYTES = 5 << 20


def ignore(_command: Command, _completed: Completed) -> None:
    """Records what an observer is called with."""


@pytest.fixture
def runner() -> Runner:
    return Runner("/usr/bin:/bin", ignore, Interrupts())


@pytest.mark.parametrize("status", [0, 1, 2, 126, 128, 130, 143, 255])
def test_exit_status(runner: Runner, status: int) -> None:
    assert runner.run(Command(("sh", "-c", f"exit {status}"))).status == status


@pytest.mark.parametrize("number", [1, 2, 6, 9, 10, 13, 14, 15, 34])
def test_signal_that_killed_a_command_is_a_negative_status(runner: Runner, number: int) -> None:
    assert runner.run(Command(("sh", "-c", f"kill -{number} $$"))).status == -number


def test_streams_are_kept_apart(runner: Runner) -> None:
    done = runner.run(Command(("sh", "-c", "cat; echo out; echo err >&2"), stdin=b"in\n"))
    assert (done.stdout, done.stderr) == (b"in\nout\n", b"err\n")


def test_command_without_input_reads_none(runner: Runner) -> None:
    assert runner.run(Command(("cat",))).stdout == b""


def test_arguments_arrive_as_they_are(runner: Runner) -> None:
    words = ("", "*", "$HOME", "-x", "it's", 'a"b', "a\\b", "a\nb", "~", "é", "\udcff", "a=b", "%s")
    done = runner.run(Command(("printf", "%s\\0", *words)))
    assert tuple(map(os.fsdecode, done.stdout.split(b"\0")[:-1])) == words


def test_megabytes_go_in_and_come_out_of_both_streams(runner: Runner) -> None:
    data = os.urandom(1 << 16) * (MEGABYTES >> 16)
    done = runner.run(Command(("tee", "/dev/stderr"), stdin=data))
    assert done.stdout == data
    assert done.stderr == data[: 1 << 20] + b"\n(the rest was dropped)\n"


def test_output_without_an_end_is_ended(runner: Runner) -> None:
    done = runner.run(Command(("yes",)))
    assert done.status == -signal.SIGKILL
    assert done.killed_because == "it printed more than 16 MiB"


def test_child_that_is_left_behind_delays_nothing(runner: Runner) -> None:
    done = runner.run(Command(("sh", "-c", "sleep 60 & echo $!")))
    os.kill(int(done.stdout), signal.SIGKILL)
    assert done.status == 0
    assert done.seconds < 30


def test_command_leads_a_process_group_of_its_own(runner: Runner) -> None:
    done = runner.run(Command(("sh", "-c", "echo $$; ps -o pgid= -p $$")))
    process, group = done.stdout.split()
    assert process == group


def test_child_that_keeps_the_streams_open_delays_nothing(runner: Runner) -> None:
    started = time.monotonic()
    done = runner.run(Command(("sh", "-c", "sleep 5 & echo $!")))
    assert time.monotonic() - started < 4
    os.kill(int(done.stdout), signal.SIGKILL)


def test_terminal_is_never_offered(runner: Runner) -> None:
    script = "for n in 0 1 2; do [ -t $n ] && echo terminal; done; true"
    assert runner.run(Command(("sh", "-c", script))).stdout == b""


def test_pipe_without_a_reader_ends_a_child(runner: Runner) -> None:
    """Python ignores SIGPIPE; a child that did would go on writing for ever."""
    assert runner.run(Command(("sh", "-c", "kill -PIPE $$"))).status == -signal.SIGPIPE
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN


def test_environment_is_a_search_path_and_plain_language(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("IPROUTE2_CONF", "somewhere")
    assert runner.run(Command(("env",))).stdout.splitlines() == [
        b"PATH=/usr/bin:/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"LC_ALL=C",
    ]


def test_environment_can_be_replaced_whole(runner: Runner) -> None:
    done = runner.run(Command(("env",), environment={"CNI_COMMAND": "ADD", "ODD": "a\udcff=\n"}))
    assert done.stdout == b"CNI_COMMAND=ADD\nODD=a\xff=\n\n"


@pytest.mark.parametrize("path", ["", ":", "/nowhere"])
def test_standard_directories_are_searched_last(path: str) -> None:
    assert Runner(path, ignore, Interrupts()).run(Command(("true",))).status == 0


def test_first_directory_of_the_search_path_counts(tmp_path: Path) -> None:
    script(tmp_path / "true", "#!/bin/sh\necho mine\n")
    runner = Runner(str(tmp_path), ignore, Interrupts())
    assert runner.run(Command(("true",))).stdout == b"mine\n"


def test_missing_program_is_named(runner: Runner) -> None:
    with pytest.raises(ProgramNotFoundError) as caught:
        runner.run(Command(("no-such-program", "x")))
    assert caught.value.program == "no-such-program"
    assert "/usr/sbin" in caught.value.searched


def test_program_given_by_its_path(runner: Runner, tmp_path: Path) -> None:
    path = tmp_path / "a plugin's"
    script(path, "#!/bin/sh\necho here\n")
    assert runner.run(Command((str(path),))).stdout == b"here\n"
    path.chmod(0o644)
    with pytest.raises(ProgramNotFoundError):
        Runner("", ignore, Interrupts()).run(Command((str(path),)))


@pytest.mark.parametrize("content", ["#!/no/such/interpreter\n", "no program\n", ""])
def test_file_that_cannot_be_executed_is_a_failure_with_a_message(
    runner: Runner, tmp_path: Path, content: str
) -> None:
    script(tmp_path / "broken", content)
    done = runner.run(Command((str(tmp_path / "broken"),)))
    assert done.status == 127
    assert done.stderr.startswith(b"cannot execute ")


def test_observer_is_called_for_every_command_that_ended() -> None:
    observed: list[tuple[Command, Completed]] = []
    runner = Runner("", lambda *each: observed.append(each), Interrupts())
    commands = [Command(("true",), "do nothing"), Command(("false",))]
    ended = [runner.run(command) for command in commands]
    assert observed == list(zip(commands, ended, strict=True))
    assert 0 < ended[0].seconds < 5


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Sees to it that a test leaves the descriptors as they were."""

    def state() -> dict[str, tuple[int, int]]:
        found = {}
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            try:
                status = os.fstat(int(name))
            except OSError:
                continue
            found[name] = (status.st_dev, status.st_ino)
        return found

    before = state()
    yield
    assert state() == before


@pytest.mark.usefixtures("descriptors")
def test_descriptors_are_as_before_after_a_command(runner: Runner) -> None:
    runner.run(Command(("sh", "-c", "echo x; exit 3"), stdin=b"in"))


@pytest.mark.usefixtures("descriptors")
def test_descriptors_are_as_before_after_a_failure() -> None:
    def fail(_command: Command, _completed: Completed) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Runner("", fail, Interrupts()).run(Command(("true",)))
    with pytest.raises(ProgramNotFoundError):
        Runner("", fail, Interrupts()).run(Command(("no-such-program",)))


def test_error_quotes_stderr_or_else_stdout() -> None:
    def answer(stdout: bytes, stderr: bytes) -> str:
        return CommandError(Command(("x",)), Completed(1, stdout, stderr, 0.0)).answer

    assert answer(b"out\n", b"err\n") == "err"
    assert answer(b"out\n", b" \n") == "out"
    assert answer(b"", b"a\xffb") == "a\ufffdb"


def test_interruption_has_the_signals_name() -> None:
    assert InterruptedBySignalError(15).signal == "SIGTERM"


# Tests that change signals or limits run in a separate process.

DRIVER = """
import os, resource, signal, sys, time
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import Interrupts, InterruptedBySignalError, Runner
interrupts = Interrupts()
runner = Runner("", lambda *_: None, interrupts)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def script(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def drive(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",  # or Python would import from here what is not installed
    )


def outcome(body: str) -> list[str]:
    output, _ = drive(body).communicate(timeout=20)
    return output.splitlines()


def test_child_has_its_three_streams_and_no_other_descriptor() -> None:
    message = outcome("""
        with open(os.devnull):
            say(runner.run(Command(("ls", "/proc/self/fd"))).stdout.split())
        """)
    assert message == ["[b'0', b'1', b'2', b'3']"]  # 3 is the directory it lists


def test_streams_stay_when_there_is_no_descriptor_left() -> None:
    """The answer must get out even then."""
    message = outcome("""
        runner.run(Command(("true",)))
        for limit in range(12, 2, -1):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 4096))
            try:
                runner.run(Command(("true",)))
            except OSError as error:
                say(limit, error.strerror)
            else:
                say(limit, "ran")
        """)
    assert [line.split()[0] for line in message] == [str(limit) for limit in range(12, 2, -1)]
    assert message[0] == "12 ran"
    assert message[-1] == "3 Too many open files"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signal_ends_the_running_command_and_then_us(number: signal.Signals) -> None:
    process = drive("""
        interrupts.install()
        say("ready")
        done = runner.run(Command(("sleep", "30")))
        try:
            interrupts.check()
        except InterruptedBySignalError as error:
            say(done.status, error.signal)
        """)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)  # for the command to start
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert output == f"-15 {number.name}\n"


def test_signal_that_comes_while_a_command_is_started_ends_it() -> None:
    program = """
        interrupts.install()
        spawn = os.posix_spawn

        def spawn_and_be_told(*arguments, **options):
            child = spawn(*arguments, **options)
            os.kill(os.getpid(), signal.SIGTERM)
            return child

        os.posix_spawn = spawn_and_be_told
        say(runner.run(Command(("sleep", "60"))).status)
        try:
            interrupts.check()
        except InterruptedBySignalError as error:
            say(error.signal)
        with interrupts.held():
            os.posix_spawn = spawn
            say(runner.run(Command(("true",))).status)
    """
    assert outcome(program) == ["-15", "SIGTERM", "0"]


def test_command_that_ignores_a_signal_is_killed_with_its_children() -> None:
    program = """
        from cni_ipvlan.iproute import runner as module
        module._PATIENCE_WITH_PLUGINS = (10.0, 0.3, 0.1)
        interrupts.install()
        os.kill(os.getpid(), signal.SIGTERM)
        script = "trap '' TERM; sleep 60 & echo $!; wait"
        done = runner.run(Command(("sh", "-c", script), environment={"A": ""}))
        say(done.status, done.killed_because)
        child = int(done.stdout)
        try:
            while open(f"/proc/{child}/stat").read().split()[2] != "Z":
                time.sleep(0.01)
        except FileNotFoundError:
            pass
        say("gone")
    """
    assert outcome(program) == ["-9 it had not ended after 0 s", "gone"]


def test_plugin_that_undoes_has_its_time() -> None:
    program = """
        from cni_ipvlan.iproute import runner as module
        module._PATIENCE_WITH_PLUGINS = (0.3, 10.0, 0.1)
        with interrupts.held():
            say(runner.run(Command(("sleep", "60"), environment={"A": ""})).status)
            say(runner.run(Command(("sleep", "0.5"))).status)
    """
    assert outcome(program) == ["-9", "0"]


def test_another_signal_hurries_a_plugin_and_not_a_command() -> None:
    program = """
        from cni_ipvlan.iproute import runner as module
        module._PATIENCE_WITH_PLUGINS = (10.0, 10.0, 0.1)
        interrupts.install()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        with interrupts.held():
            say(runner.run(Command(("sleep", "60"), environment={"A": ""})).status)
            say(runner.run(Command(("sleep", "0.5"))).status)
    """
    assert outcome(program) == ["-9", "0"]


def test_signal_for_our_group_does_not_reach_a_command_that_undoes() -> None:
    program = """
        os.setpgid(0, 0)
        interrupts.install()
        with interrupts.held():
            say(runner.run(Command(("sh", "-c", "kill -TERM -- -$PPID; sleep 0.2; exit 3"))).status)
    """
    assert outcome(program) == ["3"]


def test_caller_that_ignored_and_blocked_signals_is_overruled() -> None:
    message = outcome("""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        interrupts.install()
        say(runner.run(Command(("sh", "-c", "exit 3"))).status)
        say(runner.run(Command(("sh", "-c", "kill -TERM $$"))).status)
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            interrupts.check()
        except InterruptedBySignalError as error:
            say(error.signal)
        """)
    assert message == ["3", "-15", "SIGTERM"]


def test_signal_that_comes_while_they_are_held_counts_afterwards() -> None:
    message = outcome("""
        interrupts.install()
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            interrupts.check()
            say(runner.run(Command(("sh", "-c", "kill -TERM $PPID; exit 3"))).status)
        try:
            interrupts.check()
        except InterruptedBySignalError as error:
            say(error.signal)
        """)
    assert message == ["3", "SIGTERM"]


def test_first_of_two_signals_is_reported() -> None:
    message = outcome("""
        interrupts.install()
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            interrupts.check()
        except InterruptedBySignalError as error:
            say(error.signal)
        """)
    assert message == ["SIGHUP"]


def test_no_signal_no_interruption() -> None:
    assert outcome("interrupts.install(); interrupts.check(); say('on')") == ["on"]


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_invalid_argument_is_an_error(runner: Runner, word: str) -> None:
    with pytest.raises(UnusableArgumentError) as caught:
        runner.run(Command(("true", word), "try it"))
    assert (caught.value.purpose, caught.value.word) == ("try it", word)
