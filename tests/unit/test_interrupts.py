"""iproute.runner: signals and limits, each in a separate process."""

import subprocess
import sys
import textwrap

import pytest

DRIVER = """
import os, resource, signal, sys, time
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.runner import Runner
for number in (signal.SIGHUP, signal.SIGINT):  # whoever runs the tests may ignore them
    signal.signal(number, signal.SIG_DFL)
interrupts = Interrupts()
runner = Runner("", lambda *_: None, interrupts)

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def say_which():
    try:
        interrupts.check()
    except InterruptedBySignalError as error:
        say(error.signal)
"""


def outcome(body: str) -> list[str]:
    """Return the lines that a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER + textwrap.dedent(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",  # or Python would import from here what is not installed
        check=False,
        timeout=20,
    )
    return done.stdout.splitlines()


def test_a_child_has_only_its_streams_which_stay_when_there_is_no_descriptor_left() -> None:
    """The answer must get out even then."""
    message = outcome("""
        with open(os.devnull):  # which no child has; 3 is the directory that it lists
            assert runner.run(Command(("ls", "/proc/self/fd"))).stdout == b"0\\n1\\n2\\n3\\n"
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
        say_which()
        with interrupts.deferred():
            os.posix_spawn = spawn
            say(runner.run(Command(("true",))).status)
    """
    assert outcome(program) == ["-15", "SIGTERM", "0"]


def test_command_that_ignores_a_signal_is_killed_with_its_children() -> None:
    program = """
        from cni_ipvlan.iproute import running as module
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


@pytest.mark.parametrize(("seconds", "signals"), [(0.3, 0), (100.0, 2)])
def test_plugin_that_undoes_has_its_time_until_a_signal(seconds: float, signals: int) -> None:
    """But not that of a command."""
    program = f"""
        from cni_ipvlan.iproute import running as module
        module._PATIENCE_WITH_PLUGINS = ({seconds}, 100.0, 0.1)
        interrupts.install()
        for _ in range({signals}):
            os.kill(os.getpid(), signal.SIGTERM)
        with interrupts.deferred():
            say(runner.run(Command(("sleep", "60"), environment={{"A": ""}})).status)
            say(runner.run(Command(("sleep", "0.5"))).status)
    """
    assert outcome(program) == ["-9", "0"]


def test_caller_that_ignored_and_blocked_signals_is_overruled() -> None:
    """But not nohup(1), nor a shell that starts a job in the background."""
    message = outcome("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        interrupts.install()
        say(runner.run(Command(("sh", "-c", "exit 3"))).status)
        say(runner.run(Command(("sh", "-c", "kill -TERM $$"))).status)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        say_which()
        """)
    assert message == ["3", "-15", "SIGTERM"]


def test_signal_that_comes_while_they_are_held_counts_afterwards_and_the_first_is_named() -> None:
    message = outcome("""
        os.setpgid(0, 0)  # to which the second one goes, and not to the command that undoes
        interrupts.install()
        with interrupts.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            interrupts.check()
            say(runner.run(Command(("sh", "-c", "kill -TERM -- -$PPID; exit 3"))).status)
        say_which()
        """)
    assert message == ["3", "SIGHUP"]
