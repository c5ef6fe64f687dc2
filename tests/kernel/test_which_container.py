"""A person names a container by its namespace, or by its ID: the right one is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import MEMORY, NAMED, Node, Space, run
from person import Person
from runtime import host_local, network

LEASED = network(ipam=host_local("10.1.0.0/24"))


def shown(person: Person) -> dict[str, str]:
    """Return the containers that show names, with their networks."""
    masters = json.loads(person.succeeds("ipvlan show --json"))["masters"]
    found = [each for master in masters for each in master["attachments"]]
    return {each["containerID"]: each["network"] for each in found}


def test_names_are_right_after_namespaces_were_used_again(node: Node, person: Person) -> None:
    node.master()
    conf = person.writes(LEASED)
    for number in (1, 2, 3, 4):
        web = node.namespace("web")
        person.succeeds(f"ipvlan add -c {conf} --netns web --container-id k{number}")
        node.remove(web)
    before = node.leases()
    node.namespace("web")
    person.succeeds(f"ipvlan add -c {conf} --netns web --container-id last")

    assert shown(person) == {"last": "net"}
    assert len(before) == 4
    person.succeeds(f"ipvlan del -c {conf} --netns web")
    assert node.leases() == before


def test_an_add_says_the_id_that_it_made_up_and_how_to_take_it_back(
    node: Node, person: Person
) -> None:
    node.master()
    node.container()
    conf = person.writes(LEASED)
    before = node.snapshot()

    status, _, err = person.types(f"ipvlan add -c {conf} --netns container1 --ifname eth1")

    assert status == 0
    (container_id,) = shown(person)
    assert f"container ID {container_id}" in err
    _, _, command = err.partition("; to detach it: ")
    person.succeeds(command.strip())
    assert node.snapshot() == before
    for option in ("--dry-run", "--container-id one"):  # which need no word about it
        status, _, err = person.types(f"ipvlan add -c {conf} --netns container1 {option}")
        assert (status, err) == (0, "")


@pytest.mark.parametrize("labelled", [True, False])
def test_a_mistyped_id_is_reported_and_touches_nothing(
    node: Node, person: Person, *, labelled: bool
) -> None:
    node.master()
    container = node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    if not labelled:
        container.run("ip", "link", "set", "dev", "net1", "alias", "")
    before = node.snapshot()

    status, out, err = person.types(f"ipvlan del -c {conf} --netns container1 --container-id on")

    assert (status, out) == (1, "")
    assert "ipvlan: there is nothing of the container 'on' with the interface 'net1'" in err
    assert "did you mean 'one'?" in err
    assert node.snapshot() == before
    person.succeeds(f"ipvlan del -c {conf} --netns container1 --container-id one")
    assert container.links().keys() == {"lo"}


def test_a_forged_label_makes_a_person_delete_nobody_else(node: Node, person: Person) -> None:
    node.master()
    victim, forger = node.container(), node.container()
    conf = person.writes(LEASED)
    for number, name in ((1, "victim"), (2, "forger")):
        person.succeeds(f"ipvlan add -c {conf} --netns container{number} --container-id {name}")
    forger.run("ip", "link", "set", "dev", "net1", "alias", victim.links()["net1"]["ifalias"])

    person.succeeds(f"ipvlan del -c {conf} --netns container2")

    assert "net1" in victim.links()
    assert node.leases() == ["10.1.0.2"]


def test_a_label_without_a_record_is_not_acted_on(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    run("rm", "-r", str(MEMORY))

    status, _, err = person.types(f"ipvlan del -c {conf} --netns container1")

    assert (status, "give its container ID with --container-id" in err) == (2, True)
    assert shown(person) == {"one": "net"}
    person.succeeds(f"ipvlan del -c {conf} --netns container1 --container-id one")
    assert container.links().keys() == {"lo"}


def test_a_namespace_that_is_gone_is_called_by_its_name(node: Node, person: Person) -> None:
    node.master()
    conf = person.writes(LEASED)
    before = node.snapshot()
    web = node.namespace("web")
    person.succeeds(f"ipvlan add -c {conf} --netns web")
    node.remove(web)
    assert len(node.leases()) == 1

    person.succeeds(f"ipvlan del -c {conf} --netns web")

    assert node.snapshot() == before


def test_several_containers_of_a_namespace_that_is_gone_are_named(
    node: Node, person: Person
) -> None:
    node.master()
    conf = person.writes(LEASED)
    node.namespace("lives")
    person.succeeds(f"ipvlan add -c {conf} --netns lives --container-id lives")
    # Both are there from the start, so that none can have the other's inode number.
    spaces = {name: node.namespace(name) for name in ("one", "two")}
    for name, space in spaces.items():
        web = Space(f"{NAMED}/web")
        Path(web.path).touch()
        run("mount", "--bind", space.path, web.path)
        person.succeeds(f"ipvlan add -c {conf} --netns web --container-id {name}")
        for each in (web, space):
            node.remove(each)

    status, _, err = person.types(f"ipvlan del -c {conf} --netns web")

    assert status == 2
    assert "one" in err
    assert "two" in err
    assert len(node.leases()) == 3
    for name in ("one", "two"):
        person.succeeds(f"ipvlan del -c {conf} --netns web --container-id {name}")
    assert len(node.leases()) == 1


def test_an_interface_is_looked_for_in_the_network_of_the_configuration(
    node: Node, person: Person
) -> None:
    node.master()
    container = node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    other = person.writes({**LEASED, "name": "other"}, "other.conf")

    status, _, err = person.types(f"ipvlan del -c {other} --netns container1")

    assert (status, "no attachment 'net1' of the network 'other'" in err) == (2, True)
    assert "net1" in container.links()


def test_doctor_names_the_container_by_its_label(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    run("rm", "-r", str(MEMORY))
    other = person.writes({**LEASED, "mode": "l3"}, "other.conf")

    _, out, _ = person.types(f"ipvlan doctor -c {other}")

    assert f"net1 in {container.path} (container one)" in out
