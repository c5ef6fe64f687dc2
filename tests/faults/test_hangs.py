"""A command that hangs and takes no SIGTERM: the caller kills the plugin, and DEL cleans up."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from executable import Executable
from lab import Node, wait_until
from runtime import call_environment, call_in_process, host_local, network, stdin_of

from cni_ipvlan.state import locks

CONF = network(ipam=host_local("10.1.0.0/24"))
# Stands before ip: when the link is made, it says so, and goes on whatever it is told.
HANGS = """\
#!/bin/sh
case "$*" in *"type ipvlan mode"*) ;; *) exec {ip} "$@" ;; esac
trap 'touch {directory}/told' TERM
{work}
echo $$ >{directory}/new
mv {directory}/new {directory}/hung
while true; do sleep 60; done
"""


# It has done its work and goes on; or it has not, and dies at last without having done it.
@pytest.mark.parametrize("work", ['{ip} "$@"', ""])
def test_delete_removes_what_is_left_when_a_command_hangs_forever(
    node: Node,
    ipvlan: Executable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: str,
) -> None:
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.1)
    node.master()
    container = node.container()
    before = node.snapshot()
    ip = shutil.which("ip")
    tool = tmp_path / "ip"
    tool.write_text(HANGS.format(ip=ip, work=work.format(ip=ip), directory=tmp_path))
    tool.chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    call = ipvlan.start(call_environment("ADD", container, **path), stdin_of(CONF))
    wait_until((tmp_path / "hung").exists)
    hung = int((tmp_path / "hung").read_text())

    call.process.send_signal(signal.SIGTERM)
    wait_until((tmp_path / "told").exists)
    assert call.process.poll() is None  # it waits for the command
    call.process.kill()
    call.process.communicate()
    assert Path(f"/proc/{hung}").exists()
    call_in_process(call_environment("DEL", container), stdin_of(CONF)).succeeds()

    os.killpg(hung, signal.SIGKILL)
    assert node.snapshot() == before
