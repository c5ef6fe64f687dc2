"""Names and paths that mislead: a dangling link, long IDs, equal digests, a namespace replaced."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacker import hints
from doubles import FakeIpam, Steps
from executable import Executable
from lab import MEMORY, Node, Space
from runtime import Runtime, call_environment, network, static, stdin_of

ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}


@pytest.fixture
def dangling() -> Iterator[None]:
    """Put a dangling symlink in place of the registry."""
    shutil.rmtree(MEMORY, ignore_errors=True)
    MEMORY.symlink_to("/run/nothing")
    yield
    MEMORY.unlink(missing_ok=True)


def test_add_reports_a_dangling_symlink_in_place_of_the_registry(
    node: Node, runtime: Runtime, dangling: None
) -> None:
    node.master()
    container, before = node.container(), node.snapshot()

    error = runtime.add(container, network()).error()

    assert f"{MEMORY}" in f"{error}"
    assert node.snapshot() == before


def test_delete_works_with_a_dangling_symlink_in_place_of_the_registry(
    node: Node, runtime: Runtime, dangling: None
) -> None:
    node.master()
    container = node.container()
    MEMORY.unlink()
    runtime.add(container, network()).result()
    shutil.rmtree(MEMORY)
    MEMORY.symlink_to("/run/nothing")

    runtime.delete(container, network()).succeeds()

    assert container.links().keys() == {"lo"}


def test_a_container_id_of_255_bytes_is_recorded(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    name = "c" * 255

    runtime.add(container, network(), CNI_CONTAINERID=name).result()

    assert hints(name)
    runtime.delete(container, network(), CNI_CONTAINERID=name).succeeds()
    assert not hints(name)


@pytest.mark.parametrize("name", ["ipvlan-probe", "ivprobe0"])
def test_an_interface_that_is_called_as_a_trial_makes_nothing_fail(
    node: Node, runtime: Runtime, name: str
) -> None:
    node.master()
    node.host.ip(f"link add name {name} type dummy")
    container, before = node.container(), node.snapshot()
    conf = network(vlan=8)

    runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()
    runtime.add(container, conf).result()
    runtime.delete(container, conf).succeeds()

    assert node.snapshot() == before


# Two names whose digests have the same first 25 bits, which were once all of a network's key.
COLLIDING = ("kube-prod", "n21567")


@pytest.mark.parametrize(("name", "collector"), [COLLIDING, COLLIDING[::-1]])
def test_gc_of_a_network_leaves_another_alone_whose_digest_is_equal(
    node: Node, runtime: Runtime, name: str, collector: str
) -> None:
    node.master()
    container = node.container()
    conf = network(name=name)
    result = runtime.add(container, conf).result()
    remembered = hints("one")

    runtime.gc(network(cniVersion="1.1.0", name=collector, ipam=None)).succeeds()

    assert remembered
    assert hints("one") == remembered
    runtime.check(container, conf, result).succeeds()


def test_gc_of_a_network_leaves_the_link_of_another_alone_whose_digest_is_equal(
    node: Node, runtime: Runtime, ipvlan: Executable, tmp_path: Path
) -> None:
    """One that a killed ADD has left on the host: it belongs to its own network's GC."""
    node.master()
    name, collector = COLLIDING
    steps = Steps(tmp_path / "steps")
    environment = {**call_environment("ADD", node.container()), **steps.environment}
    conf = stdin_of(network(name=name))
    steps.at(step_of(ipvlan, environment, conf, steps, "before the move"), "kill -KILL $PPID; exit")
    assert ipvlan(environment, conf).status < 0
    left = node.host.links().keys() - {"lo", "eth0"}

    runtime.gc(network(cniVersion="1.1.0", name=collector, ipam=None)).succeeds()

    assert left
    assert node.host.links().keys() - {"lo", "eth0"} == left
    runtime.gc(network(cniVersion="1.1.0", name=name, ipam=None)).succeeds()
    assert node.host.links().keys() == {"lo", "eth0"}


# During an ADD, CNI_NETNS changes to a new namespace or to another container's.
ELSEWHERE = {
    "a new namespace": "ip netns del {name}; ip netns add {name}",
    "another container": "umount --lazy {path}; mount --bind {other} {path}",
}


@pytest.mark.parametrize("change", list(ELSEWHERE))
@pytest.mark.parametrize("moment", ["before the move", "after the move"])
def test_an_add_whose_namespace_is_replaced_fails_and_touches_no_other(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, tmp_path: Path, change: str, moment: str
) -> None:
    node.master()
    container, other = node.container(), node.container()
    others = network(ipam=static("10.1.0.9/24"))
    ipvlan(call_environment("ADD", other, CNI_CONTAINERID="other"), stdin_of(others)).result()
    moved = f"nsenter --net={container.path} ip link show net1 2>&1"
    wait = f"until {moved}; do :; done >&2" if moment == "after the move" else ":"
    script = f"PATH={os.environ['PATH']}; {wait}\n" + ELSEWHERE[change].format(
        name=Path(container.path).name, path=container.path, other=other.path
    )
    untouched = node.snapshot()[other.path]
    fake_ipam.answers("ADD", ADDRESSES)
    environment = call_environment("ADD", container, CNI_CONTAINERID="misled")
    conf = stdin_of(network(ipam=fake_ipam.conf))
    steps = Steps(tmp_path / "steps", fake_ipam.program)
    steps.at(step_of(ipvlan, environment, conf, steps, moment), script)
    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        answer = ipvlan({**environment, **steps.environment}, conf)

        first = Space(f"/proc/{os.getpid()}/fd/{descriptor}")
        assert answer.error()["code"] in {4, 11}
        assert first.links().keys() == {"lo"}
        if change == "a new namespace":
            assert container.links().keys() == {"lo"}
        assert node.snapshot()[other.path] == untouched
        assert node.host.links().keys() == {"lo", "eth0"}
        assert hints("misled") == []
    finally:
        os.close(descriptor)


def step_of(
    ipvlan: Executable, environment: dict[str, str], conf: bytes, steps: Steps, moment: str
) -> str:
    """Return the number of the step in which the link is moved, or of the one beside that."""
    ipvlan({**environment, **steps.environment}, conf).result()
    words = {"set", "netns"}
    moving = next(each.number for each in steps.taken if words <= set(each.words.split()))
    ipvlan({**environment, "CNI_COMMAND": "DEL", **steps.environment}, conf).succeeds()
    steps.forget()
    return f"{FakeIpam.type}-1" if moment == "after the move" else moving
