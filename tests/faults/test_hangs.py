"""A signal during an ADD undoes everything, once; after a kill while a command hangs, DEL does."""

import os
import signal
import time
from pathlib import Path

import pytest
from doubles import replace_program
from executable import Executable
from lab import LOGS, wait_until
from patience import extend
from runtime import call_environment, call_in_process, host_local, network, stdin_of
from setup import Setup

from cni_ipvlan.cni.errors import TRY_AGAIN_LATER
from cni_ipvlan.state import locks

CONF = network(ipam=host_local("10.1.0.0/24"))
# It is run instead of ip: it reports when the link is made, and ignores signals.
HANGS = """\
case "$*" in *"type ipvlan mode"*) ;; *) exec $real "$@" ;; esac
trap 'touch {directory}/told' TERM
{work}
echo $$ >{directory}/new
mv {directory}/new {directory}/hung
while true; do sleep 60 & wait; done
"""


# The command has done its work and still runs; or it dies without having done its work.
@pytest.mark.parametrize("work", ['$real "$@"', ""])
def test_delete_alone_removes_what_is_left_when_a_command_hangs_forever(
    setup: Setup, ipvlan: Executable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.1)
    before = setup.node.snapshot()
    path = replace_program(tmp_path, "ip", HANGS.format(work=work, directory=tmp_path))
    call = ipvlan.start(call_environment("ADD", setup.container, PATH=path), stdin_of(CONF))
    wait_until((tmp_path / "hung").exists)
    hung = int((tmp_path / "hung").read_text())

    call.process.send_signal(signal.SIGTERM)
    wait_until((tmp_path / "told").exists)
    assert call.process.poll() is None  # it waits for the command
    call.process.kill()
    call.process.communicate()
    assert Path(f"/proc/{hung}").exists()
    start = time.monotonic()
    again = call_in_process(call_environment("ADD", setup.container), stdin_of(CONF))
    assert again.error()["code"] == TRY_AGAIN_LATER
    call_in_process(call_environment("DEL", setup.container), stdin_of(CONF)).succeeds()
    assert time.monotonic() - start < extend(60)  # for a call that lives, they would wait longer

    os.killpg(hung, signal.SIGKILL)
    assert setup.node.snapshot() == before


def test_delete_waits_for_a_lost_command(setup: Setup, ipvlan: Executable, tmp_path: Path) -> None:
    go, over, log = tmp_path / "go", tmp_path / "over", LOGS / "delete"
    goes_on = f'until [ -e {go} ]; do sleep 0.05; done; $real "$@"; touch {over}; exit'
    script = f'case "$*" in *"type ipvlan mode"*) kill -KILL $PPID; {goes_on} ;; esac'
    path = replace_program(tmp_path, "ip", f'{script}\nexec $real "$@"')
    with setup.unchanged():
        add = ipvlan.start(call_environment("ADD", setup.container, PATH=path), stdin_of(CONF))
        assert add.process.wait(60) == -signal.SIGKILL

        environment = call_environment("DEL", setup.container, CNI_IPVLAN_LOG=str(log))
        delete = ipvlan.start(environment, stdin_of(CONF))
        message = "waiting for the lock of the interface net1 of the container one, which another"
        wait_until(lambda: log.exists() and message in log.read_text())
        go.touch()

        delete.end().succeeds()
        add.end()
    assert log.read_text().count("waiting") == 1
    assert over.exists()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_ends_an_add_that_hangs_and_further_ones_no_undo(setup: Setup, name: str) -> None:
    ipam = setup.ipam(script=f"kill -{name} $PPID; exec sleep 300")
    # It runs for long enough to be killed, if a signal were passed on to it.
    setup.ipam("DEL", script="kill -TERM $PPID; kill -INT $PPID; sleep 0.2; touch released")
    setup.expect_error(111, f"SIG{name}", "; everything was undone", ipam=ipam)
    assert setup.fake.calls == ["ADD", "DEL"]
    assert (setup.fake.directory / "released").exists()
