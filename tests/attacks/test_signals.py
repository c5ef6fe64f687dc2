"""Signals to the whole process group, as by ^C: everything is undone."""

from pathlib import Path

import pytest
from attacker import find_files_with
from doubles import Steps
from executable import Executable
from runtime import PLUGINS, call_environment, network, static, stdin_of
from sampling import sample
from setup import Setup

CONF = network(
    ipam=static("10.1.0.2/24", "fd00:1::2/64", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
)
MORE_COMMANDS = 25  # commands of each tool


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_add_undoes_everything_when_its_process_group_is_signalled_all_the_time(
    setup: Setup, ipvlan: Executable, tmp_path: Path, name: str
) -> None:
    before = setup.node.snapshot()
    steps = Steps(tmp_path, f"{PLUGINS}/static")
    environment = {**call_environment("ADD", setup.container), **steps.environment}
    delete = call_environment("DEL", setup.container)
    ipvlan(environment, stdin_of(CONF)).result()
    records = steps.records
    ipvlan(delete, stdin_of(CONF)).succeeds()
    assert len(records) > 8
    for number in sample(range(len(records)), 2):
        steps.reset()
        # At one step, before its work is done, and then at each further one: ^C again and again.
        for tool in ("ip", "nsenter", "static"):
            count = sum(step.number.startswith(f"{tool}-") for step in records[:number])
            for index in range(count + 1, count + MORE_COMMANDS):
                steps.plan(f"{tool}-{index}", f'kill -s {name} -- "-$PPID"')

        answer = ipvlan.start(environment, stdin_of(CONF), leads_group=True).end()

        assert f"SIG{name}" in f"{answer.error()}", records[number]
        verbs = [step.words.split()[1] for step in steps.records if "static" in step.number]
        assert verbs.count("DEL") == verbs.count("ADD")
        assert setup.node.snapshot() == before, records[number]
    assert find_files_with("one") == []
