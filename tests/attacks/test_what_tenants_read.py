"""Errors that a tenant can read never name others; root's log has the rest.

The cause of each of these errors is another container, or an interface of the host.
"""

import json

import pytest
from lab import LOGS, Node
from person import Person
from runtime import Answer, Conf, Runtime, network, static

NAMES = ("hosts0", "victim", "theirs0")
# What the host has besides eth0 and hosts0: options, names that root reads, words of the answer.
# tests/kernel/test_refusals.py has more of them.
TAKEN = "link add name theirs0 link eth0 type macvlan"
SCENES: dict[str, tuple[list[str], Conf, list[str], str]] = {
    "a near guess": ([], {"master": "hosts"}, ["did you mean 'hosts0'?"], "cannot find the master"),
    "no default route": ([], {"master": None}, ["hosts0"], "set the option master"),
    "a port": (
        ["link add name theirs0 type bridge", "link set dev eth0 master theirs0"],
        *({}, ["theirs0"], "is a port of a bridge"),
    ),
    "macvlan elsewhere": (
        [TAKEN, "link set dev theirs0 netns victim"],
        *({}, ["victim", "theirs0"], "is taken by macvlan"),
    ),
}


def is_only_reported_to_root(answer: Answer, *names: str) -> None:
    """The answer names none of them; stderr and the log each name them once."""
    error = answer.error()
    text = json.dumps(error)
    assert not [name for name in NAMES if name in text], text
    assert error["msg"]
    log = (LOGS / "log").read_text().splitlines()
    failure = [line for line in log if " failed: " in line][-1]
    lines = answer.stderr.splitlines()
    assert len(set(lines)) == len(lines)
    for name in names:
        assert name in answer.stderr
        assert name in failure


def logged(conf: Conf) -> Conf:
    return {**conf, "logFile": "log", "logLevel": "error"}


@pytest.mark.parametrize("scene", SCENES)
def test_what_the_host_has(node: Node, runtime: Runtime, scene: str) -> None:
    commands, options, names, words = SCENES[scene]
    for name in ("eth0", "hosts0"):
        node.master(name)
    node.namespace("victim")
    for command in commands:
        node.host.ip(command)

    answer = runtime.add(node.container(), logged(network(**options)))

    is_only_reported_to_root(answer, *names)
    assert words in answer.stdout.decode()


def test_the_owner_of_the_address(node: Node, runtime: Runtime) -> None:
    node.master()
    place = node.namespace("victim")
    runtime.add(place, network(name="a"), CNI_CONTAINERID="first", CNI_IFNAME="theirs0").result()

    answer = runtime.add(node.container(), logged(network(name="b")))

    is_only_reported_to_root(answer, "theirs0", "victim", "first")
    assert "first" not in answer.stdout.decode()
    assert answer.error()["code"] == 106


def test_tenants_see_what_is_in_their_own_container(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    container.ip("link add name own0 up type dummy")
    container.ip("address add 10.2.0.2/24 dev own0")
    container.ip("route add default via 10.2.0.1 dev own0")
    conf = network(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}]))

    route = runtime.add(container, logged(conf)).error()
    master = runtime.add(container, logged(network(master="own1", linkInContainer=True))).error()

    assert "the container has the route 0.0.0.0/0 via 10.2.0.1 dev own0" in route["details"]
    assert "did you mean 'own0'?" in master["details"]


def test_status_names_no_more_than_add_and_root_at_a_shell_reads_everything(
    node: Node, runtime: Runtime, person: Person
) -> None:
    node.master("hosts0")
    conf = network(cniVersion="1.1.0", master="hosts")

    answer = runtime.status(logged(conf))
    status, out, err = person.types(f"ipvlan status -c {person.writes(conf)}")

    is_only_reported_to_root(answer, "hosts0")
    assert (status, out) == (1, "")
    assert err.count("did you mean 'hosts0'?") == 1
