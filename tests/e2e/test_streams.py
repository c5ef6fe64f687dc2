"""A result that can't be delivered is undone; closed streams do no harm."""

import os
import shlex
import subprocess

import pytest
from executable import Executable
from lab import Node, records
from runtime import call_environment, host_local, network, stdin_of

CONF = network(ipam=host_local("10.1.0.0/24"))
# Redirections that make a stdout which takes nothing.
DEAF = {
    "closed": ">&-",
    "full": ">/dev/full",
    "read only": ">&3 3</dev/null",
    "without a reader": ">&4",
}


@pytest.mark.parametrize("deaf", DEAF)
def test_add_undoes_everything_when_its_result_cannot_be_delivered(
    node: Node, ipvlan: Executable, deaf: str
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    status, stderr = redirected(ipvlan, "ADD", container.path, DEAF[deaf])

    assert status == 1, stderr
    assert stderr
    assert node.snapshot() == before


def test_stderr_may_be_closed(node: Node, ipvlan: Executable) -> None:
    node.master()
    container = node.container()

    status, _ = redirected(ipvlan, "ADD", container.path, "<&-")
    assert status == 1  # stdin may not

    status, _ = redirected(ipvlan, "ADD", container.path, "2>&-")

    assert status == 0
    assert container.addresses("net1") == ["10.1.0.2/24"]
    assert container.links().keys() == {"lo", "net1"}


def test_delete_needs_no_stdout(node: Node, ipvlan: Executable) -> None:
    node.master()
    container = node.container()
    ipvlan(call_environment("ADD", container), stdin_of(CONF)).result()

    status, _ = redirected(ipvlan, "DEL", container.path, ">/dev/full")

    assert status == 0
    assert container.links().keys() == {"lo"}
    assert node.leases() == []
    assert records() == []


def redirected(ipvlan: Executable, verb: str, netns: str, redirections: str) -> tuple[int, bytes]:
    """Call with redirections of bash; return the exit status and what is on stderr.

    Descriptor 4 is a pipe without a reader.
    """
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
