"""A signal during an ADD: everything is undone, once, and the answer reports it.

tests/faults interrupts it at every step.
"""

import signal
import subprocess

import pytest
from executable import Executable
from lab import sleeps_in, wait_until
from runtime import call_environment
from scene import Scene


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_ends_an_add_that_hangs_and_further_ones_no_undo(scene: Scene, name: str) -> None:
    ipam = scene.ipam(script=f"kill -{name} $PPID; exec sleep 300")
    # It lives for long enough to be ended, if a signal were passed on to it.
    scene.ipam("DEL", script="kill -TERM $PPID; kill -INT $PPID; sleep 0.2; touch released")

    scene.refuses(111, f"SIG{name}", ipam=ipam)

    assert scene.fake.calls == ["ADD", "DEL"]
    assert (scene.fake.directory / "released").exists()


def test_a_signal_before_the_request_changes_nothing(scene: Scene, ipvlan: Executable) -> None:
    environment = call_environment("ADD", scene.one)
    with (
        scene.unchanged(),
        subprocess.Popen(
            [ipvlan.path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process,
    ):
        wait_until(lambda: sleeps_in(process.pid, "pipe_read"))

        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=20) == -signal.SIGTERM
