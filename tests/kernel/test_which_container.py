"""A user names a container by its namespace or by its ID, and the right one is chosen."""

import base64
import json
from pathlib import Path

import pytest
from command_line import User
from lab import NETNS_DIRECTORY, RECORDS, NetNS, Node, run
from runtime import Conf, host_local, network

from cni_ipvlan.state.registry import Registry

LEASED = network(ipam=host_local("169.254.20.0/24"))


@pytest.fixture(autouse=True)
def _prepared(node: Node, user: User) -> None:
    node.make_master()
    user.write_conf(LEASED)


def attach(user: User, namespace: str, container_id: str) -> None:
    user.check_output(f"ipvlan add -c net.conf --netns {namespace} --container-id {container_id}")


def delete(user: User, words: str) -> str:
    return user.check_output(f"ipvlan del -c net.conf --netns {words}")


def expect(user: User, status: int, words: str, *expected: str) -> None:
    result = user.run(f"ipvlan del {words}")
    assert result[:2] == (status, "")
    assert [each for each in expected if each not in result[2]] == [], result


def show_addresses(user: User) -> dict[str, str]:
    masters = json.loads(user.check_output("ipvlan show --json"))["masters"]
    entries = [each for master in masters for each in master["attachments"]]
    return {each["containerID"]: each["network"] for each in entries}


def test_names_are_right_after_namespaces_were_used_again(node: Node, user: User) -> None:
    for number in (1, 2, 3, 4):
        web = node.make_namespace("web")
        attach(user, "web", f"k{number}")
        node.remove(web)
    before = node.leases()
    node.make_namespace("web")
    attach(user, "web", "last")

    assert show_addresses(user) == {"last": "net"}
    assert len(before) == 4
    delete(user, "web")
    assert node.leases() == before


def test_an_add_says_its_made_up_id_and_how_to_take_it_back(node: Node, user: User) -> None:
    node.make_container()
    add = "ipvlan add -c net.conf --netns container1"
    before = node.snapshot()
    status, _, err = user.run(f"{add} --ifname eth1")
    assert status == 0
    (container_id,) = show_addresses(user)
    assert f"container ID {container_id}" in err
    _, _, command = err.partition("; to detach it: ")
    user.check_output(command.strip())
    assert node.snapshot() == before
    for option in ("--dry-run", "--container-id one"):  # which need no word about it
        assert user.run(f"{add} {option}")[::2] == (0, "")


def test_what_is_not_meant_is_reported_and_left_alone(node: Node, user: User) -> None:
    container = node.make_container()
    attach(user, "container1", "one")
    other = user.write_conf({**LEASED, "name": "other"}, "other.conf")
    words = "nothing of the container 'on' with the interface 'net1'", "container one"
    label = container.links()["net1"]["ifalias"]
    for alias in ("", label):
        container.run("ip", "link", "set", "dev", "net1", "alias", alias)
        before = node.snapshot()
        expect(user, 1, "-c net.conf --netns container1 --container-id on", *words)
        no_such = "network 'other', ifname 'net1' is recorded"
        hint = "; there is net1 in /run/netns/container1 (container one) of the network net"
        expect(user, 2, f"-c {other} --netns container1", no_such, hint)
        identity = "--netns container1 --container-id one"
        expect(user, 1, f"-c {other} {identity}", "in the network 'other'", hint)
        expect(user, 1, f"-c net.conf {identity} --ifname eth1", "interface 'eth1'", hint)
        assert node.snapshot() == before
    # One that a script has made has a label, but no record.
    attach(user, "container1", "one --ifname net2")
    Registry().remove(next(each for each in Registry().all_records() if each.ifname == "net2"))
    delete(user, "container1 --container-id one --ifname net2")
    assert container.links().keys() == {"lo", "net1"}
    # A label without a record is shown, but not acted on.
    run("rm", "-r", str(RECORDS))
    give = "give its container ID with --container-id"
    expect(user, 2, "-c net.conf --netns container1", give)
    assert show_addresses(user) == {"one": "net"}
    file = user.write_conf({**LEASED, "mode": "l3"}, "third.conf")
    output = user.run(f"ipvlan doctor -c {file}")[1]
    assert f"net1 in {container.path} (container one)" in output
    delete(user, "container1 --container-id one")
    assert container.links().keys() == {"lo"}


POD = "--args 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0'"
ID = "0123456789abcdef"


def cache_result(config: Conf) -> None:
    """Write libcni's cached result of the attachment, with its configuration."""
    directory = Path("/var/lib/cni/results")
    directory.mkdir(parents=True, exist_ok=True)
    encoded = base64.b64encode(json.dumps(config).encode()).decode()
    (directory / f"net-{ID}-net1").write_text(json.dumps({"kind": "cniCacheV1", "config": encoded}))


@pytest.mark.parametrize("word", [ID, ID[:12], "web-0", "default/web-0"])
def test_one_that_is_recorded_needs_no_configuration(node: Node, user: User, word: str) -> None:
    node.make_container()
    node.make_container()
    attach(user, "container2", "other")
    cache_result({"cniVersion": "1.0.0", "name": "net", "plugins": [LEASED, {"type": "portmap"}]})
    before = node.snapshot()
    attach(user, "container1", f"{ID} {POD}")
    script = user.check_output(f"ipvlan del --container-id {word} --dry-run")
    assert "ip link delete dev net1" in script
    assert user.run(f"ipvlan del --container-id {word}") == (0, "", "")
    assert node.snapshot() == before
    expect(user, 2, f"--container-id {word}", f"no attachment with container {word!r} is")


def test_without_a_kept_configuration_it_says_what_stays_leased(node: Node, user: User) -> None:
    container = node.make_container()
    attach(user, "container1", ID)
    status, out, err = user.run(f"ipvlan del --container-id {ID}")
    assert (status, out) == (0, "")
    lease = "what may stay leased: /var/lib/cni/networks/net/169.254.20.2; to release it"
    assert lease in err
    assert container.links().keys() == {"lo"}
    assert node.leases() == ["169.254.20.2"]
    user.check_output(err.partition("file: ")[2].strip().replace("FILE", "net.conf"))
    assert node.leases() == []


def test_one_of_several_that_are_recorded_is_chosen(node: Node, user: User) -> None:
    node.make_container()
    for name in ("net1", "net2"):
        attach(user, f"/var{NETNS_DIRECTORY}/container1", f"{ID} --ifname {name}")
    for each in [*Registry().all_records()]:  # as if ADDs of both in another container were killed
        Registry().write(each._replace(netns_identity=(1, 1), is_complete=False, ifindex=0))

    several = f"container '{ID}' is recorded; there is net1 in /var/run/netns/container1"
    expect(user, 2, f"--container-id {ID}", several)
    expect(user, 2, f"--container-id {ID} --ifname eth5", "'eth5' is recorded; there is net1")
    user.write_conf({key: LEASED[key] for key in LEASED if key != "name"}, "nameless.conf")
    for words in ("-c nameless.conf --ifname net1", "--netns container1"):
        user.check_output(f"ipvlan del --container-id {ID} {words}")
    assert show_addresses(user) == {}
    expect(user, 2, "", "Missing option '-c'")
    expect(user, 2, "-c net.conf", "Missing option '--netns'")


def test_a_forged_label_makes_a_person_delete_nobody_else(node: Node, user: User) -> None:
    victim, forger = node.make_container(), node.make_container()
    for number, name in ((1, "victim"), (2, "forger")):
        attach(user, f"container{number}", name)
    forger.run("ip", "link", "set", "dev", "net1", "alias", victim.links()["net1"]["ifalias"])
    delete(user, "container2")
    assert "net1" in victim.links()
    assert node.leases() == ["169.254.20.2"]


def test_containers_of_a_gone_namespace_are_known_by_its_name(node: Node, user: User) -> None:
    node.make_namespace("lives")
    attach(user, "lives", "lives")
    # Both namespaces exist from the start, so that they have different inode numbers.
    namespaces = {name: node.make_namespace(name) for name in ("one", "two")}
    for name, namespace in namespaces.items():
        web = NetNS(f"{NETNS_DIRECTORY}/web")
        Path(web.path).touch()
        run("mount", "--bind", namespace.path, web.path)
        attach(user, "web", name)
        for each in (web, namespace):
            node.remove(each)

    expect(user, 2, "-c net.conf --netns web", "one", "two")

    assert len(node.leases()) == 3
    delete(user, "web --container-id one")
    delete(user, "web")
    assert len(node.leases()) == 1
