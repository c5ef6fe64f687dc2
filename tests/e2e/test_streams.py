"""A result that can't be delivered is undone; closed streams do no harm."""

import os
import shlex
import subprocess

import pytest
from executable import Executable
from lab import records
from runtime import call_environment, host_local, network, stdin_of
from scene import Scene

CONF = network(ipam=host_local("10.1.0.0/24"))
# Redirections that make a stdout which takes nothing.
DEAF = {
    "closed": ">&-",
    "full": ">/dev/full",
    "read only": ">&3 3</dev/null",
    "without a reader": ">&4",
}


@pytest.mark.parametrize("deaf", DEAF)
def test_add_undoes_everything_if_unread(scene: Scene, ipvlan: Executable, deaf: str) -> None:
    with scene.unchanged():
        status, stderr = redirected(ipvlan, "ADD", scene.one.path, DEAF[deaf])
    assert status == 1, stderr
    assert stderr


def test_add_may_lack_stderr_and_delete_stdout(scene: Scene, ipvlan: Executable) -> None:
    with scene.unchanged():
        assert redirected(ipvlan, "ADD", scene.one.path, "<&-")[0] == 1
        assert redirected(ipvlan, "ADD", scene.one.path, "2>&-")[0] == 0
        assert scene.one.addresses("net1") == ["10.1.0.2/24"]
        assert scene.one.links().keys() == {"lo", "net1"}
        assert redirected(ipvlan, "DEL", scene.one.path, ">/dev/full")[0] == 0
        assert records() == []


def redirected(ipvlan: Executable, verb: str, netns: str, redirections: str) -> tuple[int, bytes]:
    """Call with redirections of bash; 4 is a pipe without a reader. Return status and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    script = f"exec 4>&{writer}; exec {shlex.quote(ipvlan.path)} {redirections}"
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            pass_fds=[writer],
            env=call_environment(verb, netns),
            input=stdin_of({**CONF, "mtuu": 5}),
            capture_output=True,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr
