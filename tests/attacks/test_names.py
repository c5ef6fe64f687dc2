"""Names and paths that mislead: a dangling link, long IDs, equal digests, a namespace replaced."""

import os
import shutil
from pathlib import Path

import pytest
from attacker import files_about
from doubles import FakeIpam, Steps
from executable import Executable
from lab import MEMORY, Space
from runtime import Conf, call_environment, network, stdin_of
from scene import Scene


def test_a_dangling_symlink_in_place_of_the_registry_fails_add_but_not_delete(scene: Scene) -> None:
    added = scene.add()
    shutil.rmtree(MEMORY)
    MEMORY.symlink_to("/run/nothing")
    try:
        scene.refuses(5, f"{MEMORY}", at=scene.two)
        added.delete()
        assert scene.one.links().keys() == {"lo"}
    finally:
        MEMORY.unlink()


def test_a_container_id_of_255_bytes_is_recorded(scene: Scene) -> None:
    name = "c" * 255

    added = scene.add(CNI_CONTAINERID=name)

    assert files_about(name)
    added.delete()
    assert not files_about(name)


@pytest.mark.parametrize("name", ["ipvlan-probe", "ivprobe0"])
def test_an_interface_that_is_called_as_a_trial_makes_nothing_fail(scene: Scene, name: str) -> None:
    scene.host.ip(f"link add name {name} type dummy")
    with scene.unchanged():
        scene.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()
        scene.add(vlan=8).delete()


# Two names whose digests have the same first 25 bits, which were once all of a network's key.
COLLIDING = ("kube-prod", "n21567")


def gc_conf(name: str) -> Conf:
    return network(cniVersion="1.1.0", name=name, ipam=None)


@pytest.mark.parametrize(("name", "collector"), [COLLIDING, COLLIDING[::-1]])
def test_gc_of_a_network_leaves_another_alone_whose_digest_is_equal(
    scene: Scene, name: str, collector: str
) -> None:
    added = scene.add(name=name)
    remembered = files_about("one")

    scene.runtime.gc(gc_conf(collector)).succeeds()

    assert remembered
    assert files_about("one") == remembered
    added.check()


def test_gc_of_a_network_leaves_the_link_of_another_alone_whose_digest_is_equal(
    scene: Scene, ipvlan: Executable, tmp_path: Path
) -> None:
    """One that a killed ADD has left on the host: it belongs to its own network's GC."""
    name, collector = COLLIDING
    steps = Steps(tmp_path / "steps")
    environment = {**call_environment("ADD", scene.one), **steps.environment}
    conf = stdin_of(network(name=name))
    steps.at(step_of(ipvlan, environment, conf, steps, "before the move"), "kill -KILL $PPID; exit")
    assert ipvlan(environment, conf).status < 0
    left = scene.host.links().keys() - {"lo", "eth0"}

    scene.runtime.gc(gc_conf(collector)).succeeds()

    assert left
    assert scene.host.links().keys() - {"lo", "eth0"} == left
    scene.runtime.gc(gc_conf(name)).succeeds()
    assert scene.host.links().keys() == {"lo", "eth0"}


# During an ADD, CNI_NETNS changes to a new namespace or to another container's.
ELSEWHERE = {
    "a new namespace": "ip netns del {name}; ip netns add {name}",
    "another container": "umount --lazy {path}; mount --bind {other} {path}",
}


@pytest.mark.parametrize("change", list(ELSEWHERE))
@pytest.mark.parametrize("moment", ["before the move", "after the move"])
def test_an_add_whose_namespace_is_replaced_fails_and_touches_no_other(
    scene: Scene, ipvlan: Executable, tmp_path: Path, change: str, moment: str
) -> None:
    container, other = scene.one, scene.two
    scene.add(at=other)
    moved = f"nsenter --net={container.path} ip link show net1 2>&1"
    wait = f"until {moved}; do :; done >&2" if moment == "after the move" else ":"
    script = f"PATH={os.environ['PATH']}; {wait}\n" + ELSEWHERE[change].format(
        name=Path(container.path).name, path=container.path, other=other.path
    )
    untouched = scene.node.snapshot()[other.path]
    environment = call_environment("ADD", container, CNI_CONTAINERID="misled")
    conf = stdin_of(network(ipam=scene.ipam(ips=["10.1.0.2/24"])))
    steps = Steps(tmp_path / "steps", scene.fake.program)
    steps.at(step_of(ipvlan, environment, conf, steps, moment), script)
    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        answer = ipvlan({**environment, **steps.environment}, conf)

        first = Space(f"/proc/{os.getpid()}/fd/{descriptor}")
        assert answer.error()["code"] in {4, 11}
        assert first.links().keys() == {"lo"}
        if change == "a new namespace":
            assert container.links().keys() == {"lo"}
        assert scene.node.snapshot()[other.path] == untouched
        assert scene.host.links().keys() == {"lo", "eth0"}
        assert files_about("misled") == []
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
