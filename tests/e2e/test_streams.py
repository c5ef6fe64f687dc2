"""A result that can't be delivered is undone; closed streams do no harm."""

import os
import shlex
import subprocess

import pytest
from executable import Executable
from lab import find_records
from runtime import call_environment, host_local, network, stdin_of
from setup import Setup

CONF = network(ipam=host_local("10.1.0.0/24"))
# Redirections that make a stdout which can't be written.
DEAF = {
    "closed": ">&-",
    "full": ">/dev/full",
    "read only": ">&3 3</dev/null",
    "without a reader": ">&4",
}


@pytest.mark.parametrize("deaf", DEAF)
def test_add_undoes_everything_if_unread(setup: Setup, ipvlan: Executable, deaf: str) -> None:
    with setup.unchanged():
        status, stderr = redirect(ipvlan, "ADD", setup.container.path, DEAF[deaf])
    assert status == 1, stderr
    assert stderr


def test_add_may_lack_stderr_and_delete_stdout(setup: Setup, ipvlan: Executable) -> None:
    with setup.unchanged():
        assert redirect(ipvlan, "ADD", setup.container.path, "<&-")[0] == 1
        assert redirect(ipvlan, "ADD", setup.container.path, "2>&-")[0] == 0
        assert setup.container.addresses("net1") == ["10.1.0.2/24"]
        assert setup.container.links().keys() == {"lo", "net1"}
        assert redirect(ipvlan, "DEL", setup.container.path, ">/dev/full")[0] == 0
        assert find_records() == []


def redirect(ipvlan: Executable, verb: str, netns: str, redirections: str) -> tuple[int, bytes]:
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


def test_stdin_is_waited_for_even_if_it_does_not_block(ipvlan: Executable) -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with subprocess.Popen(
        [ipvlan.path], stdin=reader, stdout=subprocess.PIPE, env={"CNI_COMMAND": "VERSION"}
    ) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        os.write(writer, b"{}")
        os.close(writer)
        os.close(reader)
        assert b"supportedVersions" in process.communicate()[0]
