"""Signals to the whole process group, as of a terminal's ^C: they don't hit the undoing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from attacker import hints
from doubles import Steps
from executable import Executable
from injection import IPAM, disturb
from lab import Node
from runtime import PLUGINS, Answer, Runtime

# At one step, before its work is done, and then at each further one: ^C again and again.
KILLS = 'cp "{directory}/at-$step" "{directory}/at-$((step + 1))"; kill -s {name} -- "-$PPID"'


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_add_undoes_everything_when_its_process_group_is_signalled_all_the_time(
    node: Node, ipvlan: Executable, tmp_path: Path, name: str
) -> None:
    def call(environment: Mapping[str, str], stdin: bytes) -> Answer:
        return ipvlan.start(environment, stdin, leads_group=True).end()

    node.master()
    container = node.container()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")
    script = KILLS.format(name=name, directory=tmp_path)

    wrong = disturb(node, Runtime(call), container, steps, script, expected=f"SIG{name}")

    assert wrong == {}
    assert hints("one") == []
