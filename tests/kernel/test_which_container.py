"""A person names a container by its namespace, or by its ID: the right one is meant."""

import base64
import json
from pathlib import Path

import pytest
from lab import MEMORY, NAMED, Node, Space, run
from people import Person
from runtime import Conf, host_local, network

LEASED = network(ipam=host_local("169.254.20.0/24"))


@pytest.fixture(autouse=True)
def _prepared(node: Node, person: Person) -> None:
    node.master()
    person.writes(LEASED)


def attach(person: Person, place: str, container_id: str) -> None:
    person.succeeds(f"ipvlan add -c net.conf --netns {place} --container-id {container_id}")


def delete(person: Person, words: str) -> str:
    return person.succeeds(f"ipvlan del -c net.conf --netns {words}")


def refuses(person: Person, status: int, words: str, *expected: str) -> None:
    said = person.types(f"ipvlan del {words}")
    assert said[:2] == (status, "")
    assert [each for each in expected if each not in said[2]] == [], said


def shown(person: Person) -> dict[str, str]:
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


def test_an_add_says_its_made_up_id_and_how_to_take_it_back(node: Node, person: Person) -> None:
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
        there = "; there is net1 of the network net, container one, in /run/netns/container1"
        refuses(person, 2, f"-c {other} --netns container1", no_such, there)
        one = "--netns container1 --container-id one"
        refuses(person, 1, f"-c {other} {one}", "in the network 'other'", there)
        refuses(person, 1, f"-c net.conf {one} --ifname eth1", "interface 'eth1'", there)
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


POD = "--args 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0'"
ID = "0123456789abcdef"


def keep(config: Conf) -> None:
    """Have libcni's result of the attachment, with its configuration."""
    kept = Path("/var/lib/cni/results")
    kept.mkdir(parents=True, exist_ok=True)
    encoded = base64.b64encode(json.dumps(config).encode()).decode()
    (kept / f"net-{ID}-net1").write_text(json.dumps({"kind": "cniCacheV1", "config": encoded}))


@pytest.mark.parametrize("word", [ID, ID[:12], "web-0", "default/web-0"])
def test_one_that_is_recorded_needs_no_configuration(node: Node, person: Person, word: str) -> None:
    node.container()
    node.container()
    attach(person, "container2", "other")
    keep({"cniVersion": "1.0.0", "name": "net", "plugins": [LEASED, {"type": "portmap"}]})
    before = node.snapshot()
    attach(person, "container1", f"{ID} {POD}")

    script = person.succeeds(f"ipvlan del --container-id {word} --dry-run")
    assert "ip link delete dev net1" in script
    assert person.types(f"ipvlan del --container-id {word}") == (0, "", "")

    assert node.snapshot() == before
    refuses(person, 2, f"--container-id {word}", f"no container or pod {word!r} is recorded")


def test_without_a_kept_configuration_it_says_what_stays_leased(node: Node, person: Person) -> None:
    container = node.container()
    attach(person, "container1", ID)
    status, out, err = person.types(f"ipvlan del --container-id {ID}")
    assert (status, out) == (0, "")
    lease = "169.254.20.2/24, /var/lib/cni/networks/net/169.254.20.2; to release it"
    assert lease in err
    assert container.links().keys() == {"lo"}
    assert node.leases() == ["169.254.20.2"]
    person.succeeds(err.partition("file: ")[2].strip().replace("FILE", "net.conf"))
    assert node.leases() == []


def test_one_of_several_that_are_recorded_is_chosen(node: Node, person: Person) -> None:
    node.container()
    for name in ("net1", "net2"):
        attach(person, f"/var{NAMED}/container1", f"{ID} --ifname {name}")

    several = f"'{ID}' has several attachments; choose of: net1 of the network net, container {ID}"
    refuses(person, 2, f"--container-id {ID}", several)
    refuses(person, 2, f"--container-id {ID} --ifname eth5", "has no such attachment; choose of: ")
    person.writes({key: LEASED[key] for key in LEASED if key != "name"}, "nameless.conf")
    for words in ("-c nameless.conf --ifname net1", "--netns container1"):
        person.succeeds(f"ipvlan del --container-id {ID} {words}")
    assert shown(person) == {}
    refuses(person, 2, "", "Missing option '-c'")
    refuses(person, 2, "-c net.conf", "Missing option '--netns'")


def test_a_forged_label_makes_a_person_delete_nobody_else(node: Node, person: Person) -> None:
    victim, forger = node.container(), node.container()
    for number, name in ((1, "victim"), (2, "forger")):
        attach(person, f"container{number}", name)
    forger.run("ip", "link", "set", "dev", "net1", "alias", victim.links()["net1"]["ifalias"])
    delete(person, "container2")
    assert "net1" in victim.links()
    assert node.leases() == ["169.254.20.2"]


def test_containers_of_a_gone_namespace_are_known_by_its_name(node: Node, person: Person) -> None:
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
