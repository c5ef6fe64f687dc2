"""What a killed ADD has left: ADD of the same attachment takes it over, DEL and GC remove it."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import Steps
from lab import MEMORY, Node, Space
from runtime import Runtime, host_local, network

LEASED = network(ipam=host_local("10.1.0.0/24"))
KILLS = {
    "before the move": "kill -KILL $PPID; exit",
    "after the move": 'real "$@"; kill -KILL $PPID; exit',
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_add_again_takes_over_what_a_killed_add_has_left(
    node: Node, runtime: Runtime, tmp_path: Path, kill: str, mode: str
) -> None:
    node.master()
    container = node.container()
    killed_at_the_move(runtime, container, tmp_path, kill)

    runtime.add(container, {**LEASED, "mode": mode}).result()

    assert container.ipvlan("net1")["mode"] == mode
    assert node.host.links().keys() == {"lo", "eth0"}
    assert len(node.leases()) == 1
    runtime.delete(container, LEASED).succeeds()
    assert not MEMORY.exists()


def test_add_again_takes_over_the_lease_of_a_killed_add(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    steps = Steps(tmp_path, "/usr/lib/cni/host-local")
    environment = {"PATH": steps.environment["PATH"], "CNI_PATH": steps.environment["CNI_PATH"]}
    runtime.add(container, LEASED, **environment).result()
    allocating = next(step.number for step in steps.taken if step.words.startswith("host-local"))
    runtime.delete(container, LEASED).succeeds()
    steps.forget()
    steps.at(allocating, 'real "$@"; kill -KILL $PPID; exit')
    assert runtime.add(container, LEASED, **environment).status < 0
    assert len(node.leases()) == 1

    runtime.add(container, LEASED).result()

    assert len(node.leases()) == 1


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_gc_removes_what_a_killed_add_has_left(
    node: Node, runtime: Runtime, tmp_path: Path, kill: str
) -> None:
    node.master()
    container = node.container()
    killed_at_the_move(runtime, container, tmp_path, kill)

    runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()

    assert container.links().keys() == {"lo"}
    assert node.host.links().keys() == {"lo", "eth0"}
    assert not MEMORY.exists()


def killed_at_the_move(runtime: Runtime, container: Space, directory: Path, kill: str) -> None:
    """Let an ADD be killed when it moves its link; others, in other modes, come and go before."""
    steps = Steps(directory)
    runtime.add(container, LEASED, **steps.environment).result()
    moving = next(step.number for step in steps.taken if " netns /" in step.words)
    runtime.delete(container, LEASED).succeeds()
    steps.forget()
    steps.at(moving, kill)
    assert runtime.add(container, LEASED, **steps.environment).status < 0


@pytest.mark.parametrize("removal", ["DEL", "GC"])
def test_what_a_killed_add_has_left_on_the_host_is_named_when_it_stands_in_the_way(
    node: Node, runtime: Runtime, tmp_path: Path, removal: str
) -> None:
    node.master()
    container, other = node.container(), node.container()
    killed_at_the_move(runtime, container, tmp_path, KILLS["before the move"])
    conf = {**LEASED, "mode": "l3"}
    (left,) = node.host.links().keys() - {"lo", "eth0"}

    refused = runtime.add(other, conf, CNI_CONTAINERID="other")

    assert refused.error()["code"] == 104
    assert f"{left} on the host, half made by a killed call: its DEL, or GC," in refused.stderr
    if removal == "DEL":
        runtime.delete(container, LEASED).succeeds()
    else:
        runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()
    runtime.add(other, conf, CNI_CONTAINERID="other").result()


@pytest.mark.parametrize("removal", ["DEL", "DEL without the namespace", "GC"])
def test_what_a_killed_add_has_left_on_a_master_in_the_container_is_removed(
    node: Node, runtime: Runtime, tmp_path: Path, removal: str
) -> None:
    container = node.container()
    container.ip("link add name eth0 type dummy")
    container.ip("link set dev eth0 up")
    conf = {**LEASED, "linkInContainer": True}
    steps = Steps(tmp_path)
    runtime.add(container, conf, **steps.environment).result()
    naming = next(step.number for step in steps.taken if " alias " in step.words)
    runtime.delete(container, conf).succeeds()
    steps.forget()
    steps.at(naming, "kill -KILL $PPID; exit")
    assert runtime.add(container, conf, **steps.environment).status < 0
    assert len(container.links()) == 3

    if removal == "GC":
        runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()
    else:
        runtime.delete(container if removal == "DEL" else "", conf).succeeds()

    assert container.links().keys() == {"lo", "eth0"}
    assert not MEMORY.exists()
