"""Errors that a tenant can read never name others; root's log has the rest.

The cause of each of these errors is another container, or an interface of the host.
"""

import pytest
from lab import LOGS
from person import Person
from runtime import Conf, network, static
from scene import Scene

# What the host has besides eth0 and hosts0: options, names that only root reads, words of the
# answer. tests/kernel/test_refusals.py has more of them.
SCENES: dict[str, tuple[list[str], Conf, list[str], int, str]] = {
    "a near guess": ([], {"master": "hosts"}, ["hosts0"], 102, "cannot find the master"),
    "no default route": ([], {"master": None}, ["hosts0"], 102, "set the option master"),
    "a port": (
        ["link add name theirs0 type bridge", "link set dev eth0 master theirs0"],
        *({}, ["theirs0"], 103, "is a port of a bridge"),
    ),
    "macvlan elsewhere": (
        ["link add name theirs0 link eth0 type macvlan", "link set dev theirs0 netns victim"],
        *({}, ["victim", "theirs0"], 103, "cannot create an ipvlan interface of eth0"),
    ),
}


@pytest.mark.parametrize("case", SCENES)
def test_what_the_host_has(scene: Scene, case: str) -> None:
    commands, options, names, code, words = SCENES[case]
    scene.node.master("hosts0")
    scene.node.namespace("victim")
    for command in commands:
        scene.host.ip(command)

    error = scene.refuses(code, words, hidden=names, **options)

    assert ("did you mean 'hosts0'?" in error["private"]) == (case == "a near guess")


def test_the_owner_of_the_address(scene: Scene) -> None:
    victim = scene.node.namespace("victim")
    scene.add(at=victim, name="a", CNI_CONTAINERID="first", CNI_IFNAME="theirs0")

    scene.refuses(106, hidden=["theirs0", "victim", "first"], name="b")


def test_tenants_see_what_is_in_their_own_container(scene: Scene) -> None:
    scene.one.ip("link add name own0 up type dummy")
    scene.one.ip("address add 10.2.0.2/24 dev own0")
    scene.one.ip("route add default via 10.2.0.1 dev own0")
    ipam = static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])

    route = "the container has the route 0.0.0.0/0 via 10.2.0.1 dev own0"
    scene.refuses(107, route, ipam=ipam)
    scene.refuses(102, "did you mean 'own0'?", master="own1", linkInContainer=True)


@pytest.mark.scene(master="")
def test_status_names_no_more_than_add_and_root_at_a_shell_reads_everything(
    scene: Scene, person: Person
) -> None:
    scene.node.master("hosts0")
    conf = network(cniVersion="1.1.0", master="hosts")

    answer = scene.runtime.status({**conf, "logFile": "log", "logLevel": "error"})
    status, out, err = person.types(f"ipvlan status -c {person.writes(conf)}")

    assert "hosts0" not in f"{answer.error()}"
    assert "hosts0" in answer.stderr
    assert "hosts0" in (LOGS / "log").read_text()
    assert (status, out) == (1, "")
    assert err.count("did you mean 'hosts0'?") == 1
