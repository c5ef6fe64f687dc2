"""Signals to the whole group, as of ^C: the undo does its work."""

from pathlib import Path

import pytest
from attacker import files_about
from doubles import Steps
from executable import Executable
from runtime import PLUGINS, call_environment, network, static, stdin_of
from sampling import sample
from scene import Scene

CONF = network(
    ipam=static("10.1.0.2/24", "fd00:1::2/64", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
)
FURTHER = 25  # commands of each tool


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_add_undoes_everything_when_its_process_group_is_signalled_all_the_time(
    scene: Scene, ipvlan: Executable, tmp_path: Path, name: str
) -> None:
    before = scene.node.snapshot()
    steps = Steps(tmp_path, f"{PLUGINS}/static")
    environment = {**call_environment("ADD", scene.one), **steps.environment}
    delete = call_environment("DEL", scene.one)
    ipvlan(environment, stdin_of(CONF)).result()
    recorded = steps.taken
    ipvlan(delete, stdin_of(CONF)).succeeds()
    assert len(recorded) > 8
    for number in sample(range(len(recorded)), 2):
        steps.forget()
        # At one step, before its work is done, and then at each further one: ^C again and again.
        for tool in ("ip", "nsenter", "static"):
            begun = sum(step.number.startswith(f"{tool}-") for step in recorded[:number])
            for later in range(begun + 1, begun + FURTHER):
                steps.at(f"{tool}-{later}", f'kill -s {name} -- "-$PPID"')

        answer = ipvlan.start(environment, stdin_of(CONF), leads_group=True).end()

        assert f"SIG{name}" in f"{answer.error()}", recorded[number]
        assert steps.count("static", "DEL") == steps.count("static", "ADD")
        assert scene.node.snapshot() == before, recorded[number]
    assert files_about("one") == []
