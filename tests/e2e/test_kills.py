"""A killed ADD: DEL waits for what it has left running. tests/faults has every other step."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from doubles import Steps
from executable import Executable
from lab import Node, wait_until
from person import Person
from runtime import Runtime, call_environment, network, stdin_of


def test_delete_waits_for_the_command_that_a_killed_add_left_running(
    node: Node, ipvlan: Executable, runtime: Runtime, person: Person, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    steps = Steps(tmp_path)
    runtime.add(container, network(), **steps.environment).result()
    making = next(each.number for each in steps.taken if "type ipvlan mode" in each.words)
    runtime.delete(container, network()).succeeds()
    steps.forget()
    goes_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(making, f'kill -KILL $PPID; {goes_on}; real "$@"; touch {tmp_path}/over; exit')
    environment = call_environment("ADD", container, **steps.environment)
    add = ipvlan.start(environment, stdin_of(network()))
    assert add.process.wait(60) == -signal.SIGKILL

    stderr = tmp_path / "stderr"
    line = f"ipvlan del -c {person.writes(network())} --netns container1 --container-id one -v"
    with stderr.open("w") as file:
        delete = subprocess.Popen(line.split(), stderr=file, env=person.environment)
    waiting = (
        "waiting for the lock of the interface net1 of the container one, which another process"
    )
    wait_until(lambda: f"{waiting} process holds\n" in stderr.read_text())
    (tmp_path / "go").touch()

    assert delete.wait(60) == 0
    add.end()
    assert stderr.read_text().count("waiting") == 1
    assert (tmp_path / "over").exists()
    assert node.snapshot() == before
