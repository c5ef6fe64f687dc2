"""SIGKILL at any step of an ADD: the next DEL, or GC, removes what it left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from doubles import Steps
from injection import CONF, IPAM, prepare, record
from runtime import PLUGINS, call_environment, network, stdin_of

if TYPE_CHECKING:
    from pathlib import Path

    from doubles import FakeIpam
    from executable import Executable
    from lab import Node
    from runtime import Runtime


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


def test_gc_leaves_an_add_alone_that_is_under_way(
    node: Node, ipvlan: Executable, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    answer = '{"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.2/24"}]}'
    fake_ipam.on("ADD", f"until [ -e go ]; do sleep 0.05; done; echo '{answer}'")
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = ipvlan.start(environment, stdin_of(conf))
    fake_ipam.wait_for("ADD")

    runtime.gc(conf, CNI_PATH=fake_ipam.path).succeeds()
    (fake_ipam.directory / "go").touch()

    result = call.end().result()
    assert container.addresses("net1") == ["10.1.0.2/24"]
    runtime.check(container, conf, result, CNI_PATH=fake_ipam.path).succeeds()
