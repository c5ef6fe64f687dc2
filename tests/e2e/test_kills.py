"""A killed ADD: DEL waits for what it has left running. tests/faults has every other step."""

import signal
from pathlib import Path

from doubles import Steps
from executable import Executable
from lab import LOGS, wait_until
from runtime import call_environment, network, stdin_of
from scene import Scene


def test_delete_waits_for_the_command_that_a_killed_add_left_running(
    scene: Scene, ipvlan: Executable, tmp_path: Path
) -> None:
    before = scene.node.snapshot()
    steps = Steps(tmp_path)
    added = scene.add(**steps.environment)
    making = next(each.number for each in steps.taken if "type ipvlan mode" in each.words)
    added.delete()
    steps.forget()
    goes_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(making, f'kill -KILL $PPID; {goes_on}; real "$@"; touch {tmp_path}/over; exit')
    environment = call_environment("ADD", scene.one, **steps.environment)
    add = ipvlan.start(environment, stdin_of(network()))
    assert add.process.wait(60) == -signal.SIGKILL

    log = LOGS / "delete"
    environment = call_environment("DEL", scene.one, CNI_IPVLAN_LOG=str(log))
    delete = ipvlan.start(environment, stdin_of(network()))
    waiting = "waiting for the lock of the interface net1 of the container one, which another"
    wait_until(lambda: log.exists() and waiting in log.read_text())
    (tmp_path / "go").touch()

    delete.end().succeeds()
    add.end()
    assert log.read_text().count("waiting") == 1
    assert (tmp_path / "over").exists()
    assert scene.node.snapshot() == before
