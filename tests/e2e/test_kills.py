"""SIGKILL at any step of an ADD: the next DEL, or GC, removes what it left."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from doubles import FakeIpam, Steps
from executable import Executable
from injection import CONF, IPAM, prepare, record
from lab import Node, Space, wait_until
from runtime import PLUGINS, Runtime, call_environment, network, stdin_of


def test_delete_removes_what_a_killed_add_left(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")
    recorded = record(runtime, container, steps)
    wrong: dict[str, Any] = {}
    for step in recorded:
        prepare(container)
        before = node.snapshot()
        steps.forget()
        # The command that was under way lives on, and does its work while DEL is there already.
        steps.at(step.number, "kill -KILL $PPID; sleep 0.1")
        assert runtime.add(container, CONF, **steps.environment).status == -signal.SIGKILL

        runtime.delete(container, CONF).succeeds()

        prepare(container)
        if node.snapshot() != before:
            wrong[step.words] = node.snapshot()
    assert wrong == {}
    assert len(recorded) > 8


def test_gc_removes_what_a_killed_add_left_when_the_container_is_gone(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, tmp_path: Path
) -> None:
    node.master()
    fake_ipam.answers("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]})
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    steps = Steps(tmp_path / "steps", fake_ipam.program)
    before = node.snapshot()
    container = node.container()
    runtime.add(container, conf, **steps.environment).result()
    recorded = steps.taken
    runtime.delete(container, conf, CNI_PATH=fake_ipam.path).succeeds()
    node.remove(container)
    wrong: dict[str, Any] = {}
    for step in recorded:
        container = node.container()
        steps.forget()
        steps.at(step.number, 'real "$@"; kill -KILL $PPID')
        assert runtime.add(container, conf, **steps.environment).status == -signal.SIGKILL
        node.remove(container)

        runtime.gc(conf, CNI_PATH=fake_ipam.path).succeeds()

        if node.snapshot() != before:
            wrong[step.words] = node.snapshot()
    assert wrong == {}
    assert len(recorded) > 5


def test_delete_waits_for_the_command_that_a_killed_add_left_running(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    steps = Steps(tmp_path, f"{PLUGINS}/static")
    orphan = f'kill -KILL $PPID; sleep 3; real "$@"; touch {tmp_path}/over; exit'
    steps.at(step_of(steps, runtime, container, "type ipvlan mode"), orphan)
    assert runtime.add(container, network(), **steps.environment).status == -signal.SIGKILL

    runtime.delete(container, network()).succeeds()

    wait_until((tmp_path / "over").exists)
    assert node.snapshot() == before


def test_gc_leaves_an_add_alone_that_is_under_way(
    node: Node, ipvlan: Executable, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    steps = Steps(tmp_path, f"{PLUGINS}/static")
    pause = f"touch {tmp_path}/reached; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(step_of(steps, runtime, container, "link set"), pause)
    conf = network(cniVersion="1.1.0", ipam=None)
    environment = call_environment("ADD", container, **steps.environment)
    call = ipvlan.start(environment, stdin_of(network()))
    wait_until((tmp_path / "reached").exists)

    runtime.gc(conf).succeeds()
    (tmp_path / "go").touch()

    result = call.end().result()
    assert container.addresses("net1") == ["10.1.0.2/24"]
    runtime.check(container, network(), result).succeeds()


def step_of(steps: Steps, runtime: Runtime, container: Space, words: str) -> str:
    """Return the number of the step of an ADD whose command has these words."""
    runtime.add(container, network(), **steps.environment).result()
    (number,) = [step.number for step in steps.taken if words in step.words]
    runtime.delete(container, network()).succeeds()
    steps.forget()
    return number
