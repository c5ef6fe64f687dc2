"""Names and paths that mislead: a dangling link, a trial's name, a namespace replaced."""

import os
from pathlib import Path

import pytest
from attacker import files_about
from doubles import FakeIpam, Steps
from executable import Executable
from lab import Space
from runtime import call_environment, network, stdin_of
from scene import Scene


@pytest.mark.parametrize("name", ["ipvlan-probe", "ivprobe0"])
def test_an_interface_that_is_called_as_a_trial_makes_nothing_fail(scene: Scene, name: str) -> None:
    scene.host.ip(f"link add name {name} type dummy")
    with scene.unchanged():
        scene.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()
        scene.add(vlan=8).delete()


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
