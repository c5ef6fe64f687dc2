"""Errors that a tenant can read never name others; root's log has the rest.

The cause of each of these errors is another container, or an interface of the host.
"""

from __future__ import annotations

import json

import pytest
from lab import LOGS, Node, run
from person import Person
from runtime import Answer, Conf, Runtime, network, static

NAMES = ("hosts0", "victim", "theirs0")


def is_only_reported_to_root(answer: Answer, *names: str) -> None:
    """The answer names none of them; stderr and the log each name them once."""
    error = answer.error()
    text = json.dumps(error)
    assert not [name for name in NAMES if name in text], text
    assert error["msg"]
    log = (LOGS / "log").read_text().splitlines()
    (failure,) = (line for line in log if " failed: " in line)
    lines = answer.stderr.splitlines()
    assert len(set(lines)) == len(lines)
    for name in names:
        assert name in answer.stderr
        assert name in failure


def logged(conf: Conf) -> Conf:
    return {**conf, "logFile": "log", "logLevel": "error"}


def test_interfaces_of_the_host_when_the_master_is_not_there(node: Node, runtime: Runtime) -> None:
    node.master("hosts0")
    container = node.container()

    answer = runtime.add(container, logged(network(master="eth0")))

    is_only_reported_to_root(answer, "hosts0")
    assert answer.error()["msg"] == "cannot find the master 'eth0'"
    assert "try: correct the option master" in answer.error()["details"]


def test_a_near_guess_reveals_no_name(node: Node, runtime: Runtime) -> None:
    node.master("hosts0")

    answer = runtime.add(node.container(), logged(network(master="hosts")))

    assert "hosts0" not in answer.stdout.decode()
    assert "did you mean 'hosts0'?" in answer.stderr
    assert "did you mean 'hosts0'?" in (LOGS / "log").read_text()


def test_interfaces_of_the_host_when_there_is_no_default_route(
    node: Node, runtime: Runtime
) -> None:
    node.master("hosts0")

    answer = runtime.add(node.container(), logged(network(master=None)))

    is_only_reported_to_root(answer, "hosts0")
    assert "set the option master" in answer.error()["details"]


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_whose_port_the_master_is(node: Node, runtime: Runtime, kind: str) -> None:
    node.master(up=False)
    run("ip", "link", "add", "name", "hosts0", "type", kind)
    run("ip", "link", "set", "dev", "eth0", "master", "hosts0")

    answer = runtime.add(node.container(), logged(network()))

    is_only_reported_to_root(answer, "hosts0")
    assert f"is a port of a {kind}" in answer.error()["msg"]


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_which_macvlan_has_the_master_on_the_host(node: Node, runtime: Runtime, kind: str) -> None:
    node.master()
    run("ip", "link", "add", "name", "hosts0", "link", "eth0", "type", kind)

    answer = runtime.add(node.container(), logged(network()))

    is_only_reported_to_root(answer, "hosts0")
    assert "is taken by macvlan" in answer.error()["msg"]


def test_which_macvlan_has_the_master_elsewhere(node: Node, runtime: Runtime) -> None:
    node.master()
    victim = node.namespace("victim")
    run("ip", "link", "add", "name", "theirs0", "link", "eth0", "type", "macvlan")
    run("ip", "link", "set", "dev", "theirs0", "netns", victim.path)

    answer = runtime.add(node.container(), logged(network()))

    is_only_reported_to_root(answer, "victim", "theirs0")
    assert answer.error()["code"] == 103


def test_what_is_below_a_master_that_is_an_ipvlan_itself(node: Node, runtime: Runtime) -> None:
    node.master("hosts0")
    run("ip", "link", "add", "name", "slave", "link", "hosts0", "type", "ipvlan")

    answer = runtime.add(node.container(), logged(network(master="slave")))

    is_only_reported_to_root(answer, "hosts0")


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
    container.ip("link add name own0 type dummy")
    container.ip("link set dev own0 up")
    container.ip("address add 10.2.0.2/24 dev own0")
    container.ip("route add default via 10.2.0.1 dev own0")
    conf = network(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}]))

    route = runtime.add(container, logged(conf)).error()
    master = runtime.add(container, logged(network(master="own1", linkInContainer=True))).error()

    assert "the container has the route 0.0.0.0/0 via 10.2.0.1 dev own0" in route["details"]
    assert "did you mean 'own0'?" in master["details"]


def test_status_names_no_more_than_add(node: Node, runtime: Runtime) -> None:
    node.master("hosts0")

    answer = runtime.status(logged(network(cniVersion="1.1.0", master="eth0")))

    is_only_reported_to_root(answer, "hosts0")


def test_root_at_a_shell_reads_everything(node: Node, person: Person) -> None:
    node.master("hosts0")
    node.namespace("c1")
    file = person.writes(network(master="hosts"))

    status, out, err = person.types(f"ipvlan add -c {file} --netns c1")

    assert (status, out) == (1, "")
    assert err.count("did you mean 'hosts0'?") == 1
