"""A person names a container by its namespace, or by its ID: the right one is meant."""

import json
from pathlib import Path

import pytest
from lab import MEMORY, NAMED, Node, Space, run
from person import Person
from runtime import host_local, network

LEASED = network(ipam=host_local("10.1.0.0/24"))


@pytest.fixture(autouse=True)
def _prepared(node: Node, person: Person) -> None:
    node.master()
    person.writes(LEASED)


def attach(person: Person, place: str, container_id: str) -> None:
    person.succeeds(f"ipvlan add -c net.conf --netns {place} --container-id {container_id}")


def delete(person: Person, words: str) -> str:
    return person.succeeds(f"ipvlan del -c net.conf --netns {words}")


def refuses(person: Person, status: int, words: str, *expected: str) -> None:
    """Have DEL fail with words in its error, and nothing printed."""
    said = person.types(f"ipvlan del {words}")
    assert said[:2] == (status, "")
    assert [each for each in expected if each not in said[2]] == [], said


def shown(person: Person) -> dict[str, str]:
    """Return the containers that show names, with their networks."""
    masters = json.loads(person.succeeds("ipvlan show --json"))["masters"]
    found = [each for master in masters for each in master["attachments"]]
    return {each["containerID"]: each["network"] for each in found}


def test_names_are_right_after_namespaces_were_used_again(node: Node, person: Person) -> None:
    for number in (1, 2, 3, 4):
        web = node.namespace("web")
        attach(person, "web", f"k{number}")
        node.remove(web)
    before = node.leases()
    node.namespace("web")
    attach(person, "web", "last")

    assert shown(person) == {"last": "net"}
    assert len(before) == 4
    delete(person, "web")
    assert node.leases() == before


def test_an_add_says_the_id_that_it_made_up_and_how_to_take_it_back(
    node: Node, person: Person
) -> None:
    node.container()
    add = "ipvlan add -c net.conf --netns container1"
    before = node.snapshot()

    status, _, err = person.types(f"{add} --ifname eth1")

    assert status == 0
    (container_id,) = shown(person)
    assert f"container ID {container_id}" in err
    _, _, command = err.partition("; to detach it: ")
    person.succeeds(command.strip())
    assert node.snapshot() == before
    for option in ("--dry-run", "--container-id one"):  # which need no word about it
        assert person.types(f"{add} {option}")[::2] == (0, "")


def test_what_is_not_meant_is_reported_and_left_alone(node: Node, person: Person) -> None:
    container = node.container()
    attach(person, "container1", "one")
    other = person.writes({**LEASED, "name": "other"}, "other.conf")
    words = "nothing of the container 'on' with the interface 'net1'", "did you mean 'one'?"
    label = container.links()["net1"]["ifalias"]
    for alias in ("", label):
        container.run("ip", "link", "set", "dev", "net1", "alias", alias)
        before = node.snapshot()
        refuses(person, 1, "-c net.conf --netns container1 --container-id on", *words)
        no_such = "no attachment 'net1' of the network 'other'"
        refuses(person, 2, f"-c {other} --netns container1", no_such)
        assert node.snapshot() == before

    # A label without a record is shown, but not acted on.
    run("rm", "-r", str(MEMORY))
    give = "give its container ID with --container-id"
    refuses(person, 2, "-c net.conf --netns container1", give)
    assert shown(person) == {"one": "net"}
    third = person.writes({**LEASED, "mode": "l3"}, "third.conf")
    said = person.types(f"ipvlan doctor -c {third}")[1]
    assert f"net1 in {container.path} (container one)" in said
    delete(person, "container1 --container-id one")
    assert container.links().keys() == {"lo"}


def test_a_forged_label_makes_a_person_delete_nobody_else(node: Node, person: Person) -> None:
    victim, forger = node.container(), node.container()
    for number, name in ((1, "victim"), (2, "forger")):
        attach(person, f"container{number}", name)
    forger.run("ip", "link", "set", "dev", "net1", "alias", victim.links()["net1"]["ifalias"])

    delete(person, "container2")

    assert "net1" in victim.links()
    assert node.leases() == ["10.1.0.2"]


def test_containers_of_a_namespace_that_is_gone_are_known_by_its_name(
    node: Node, person: Person
) -> None:
    node.namespace("lives")
    attach(person, "lives", "lives")
    # Both are there from the start, so that none can have the other's inode number.
    spaces = {name: node.namespace(name) for name in ("one", "two")}
    for name, space in spaces.items():
        web = Space(f"{NAMED}/web")
        Path(web.path).touch()
        run("mount", "--bind", space.path, web.path)
        attach(person, "web", name)
        for each in (web, space):
            node.remove(each)

    refuses(person, 2, "-c net.conf --netns web", "one", "two")

    assert len(node.leases()) == 3
    delete(person, "web --container-id one")
    delete(person, "web")
    assert len(node.leases()) == 1
