"""A command that hangs and takes no SIGTERM: the caller kills the plugin, and DEL cleans up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from doubles import Steps
from executable import Executable
from injection import CONF, IPAM, prepare, record
from lab import Node, wait_until
from runtime import PLUGINS, Runtime, call_environment, stdin_of

PATIENCE_SECONDS = 30
# It has done its work and goes on; or it has not, and dies at last without having done it.
HANGS = {
    "after its work": 'trap "" TERM; real "$@" >/dev/null; echo $$ >{hung}; exec sleep 60',
    "before its work": 'trap "" TERM; echo $$ >{hung}; exec sleep 60',
}


@pytest.mark.parametrize("name", HANGS)
def test_delete_removes_what_is_left_when_a_command_hangs_forever(
    node: Node, ipvlan: Executable, runtime: Runtime, tmp_path: Path, name: str
) -> None:
    node.master()
    container = node.container()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")
    recorded = record(runtime, container, steps)
    prepare(container)
    before = node.snapshot()
    changing = [step for step in recorded if {"add", "set", "ADD"} & set(step.words.split()[1:3])]
    assert len(changing) > 1
    for step in changing[list(HANGS).index(name) :: len(HANGS)][:1]:
        steps.forget()
        hung = tmp_path / f"hung-{step.number}"
        steps.at(step.number, HANGS[name].format(hung=hung))
        environment = {**call_environment("ADD", container), **steps.environment}
        call = ipvlan.start(environment, stdin_of(CONF))
        wait_until(partial(has_text, hung))

        call.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the command
            call.process.wait(timeout=0.5)
        call.process.kill()
        call.process.communicate(timeout=PATIENCE_SECONDS)
        assert call.process.returncode == -signal.SIGKILL
        began = time.monotonic()
        runtime.delete(container, CONF).succeeds()

        assert time.monotonic() - began < PATIENCE_SECONDS
        os.kill(int(hung.read_text()), signal.SIGKILL)
        prepare(container)
        assert node.snapshot() == before, step


def has_text(path: Path) -> bool:
    return path.exists() and path.read_text() != ""
