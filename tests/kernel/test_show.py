"""What a person is shown of a node: in order, what was asked for, and what is amiss."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import LEASES, MEMORY, Node, Space, run, wait_until
from person import Person
from runtime import Conf, Runtime, call_environment, host_local, network, static

LEASED = network(ipam=host_local("10.1.0.0/24"))
NETWORKS = Path("/etc/cni/net.d")
OF_NET = LEASES / "networks" / "net"


def document(person: Person, options: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(person.succeeds(f"ipvlan show --json {options}"))
    assert found["notSeen"] == []
    return found


def attachments(person: Person, options: str = "") -> list[dict[str, Any]]:
    masters = document(person, options)["masters"]
    return [each for master in masters for each in master["attachments"]]


def interfaces(person: Person, options: str = "") -> list[tuple[str, str]]:
    """Return the containers' names and the interfaces that are shown, the same in text and JSON."""
    found = attachments(person, options)
    text = person.succeeds(f"ipvlan show {options}")
    for each in found:
        assert f"─ {each['interface']}  in {each['netns']}  " in text
    assert sum(" in /run/" in line for line in text.splitlines()) == len(found)
    return [(Path(each["netns"]).name, each["interface"]) for each in found]


def problems(person: Person) -> list[list[str]]:
    """Return the problems of each interface, the same in text and JSON."""
    found = [each["problems"] for each in attachments(person)]
    lines = [line for line in person.succeeds("ipvlan show").splitlines() if "MTU" in line]
    shown = [line for line in lines if line.startswith(("├", "└"))]
    for each, line in zip(found, shown, strict=True):
        for known in ("unfinished", "no record", "no lease"):
            assert (known in each) == line.endswith(known)
    return found


def leftovers(person: Person) -> list[tuple[str, str, str]]:
    """Return kind, problem and container of the leftovers, as many in text as in JSON."""
    found = document(person)["leftovers"]
    _, head, text = person.succeeds("ipvlan show").partition("leftovers\n")
    assert bool(head) == bool(found)
    for each, line in zip(found, text.splitlines(), strict=True):
        assert f"─ {each['kind']} " in line
        assert f"network {each['network']}  container {each['containerID']}" in line
        assert line.endswith(each["problem"])
    return [(each["kind"], each["problem"], each["containerID"]) for each in found]


@contextmanager
def configured(*configurations: Conf) -> Iterator[None]:
    """Give the node networks in /etc/cni/net.d, which has none before."""
    NETWORKS.mkdir(parents=True, exist_ok=True)
    files = [NETWORKS / f"90-show-{number}.conf" for number in range(len(configurations))]
    try:
        for file, conf in zip(files, configurations, strict=True):
            file.write_text(json.dumps(conf))
        yield
    finally:
        for file in files:
            file.unlink()


@pytest.fixture
def crowd(node: Node, runtime: Runtime) -> None:
    """Three containers on eth9, one of them also on eth10."""
    node.master("eth10")
    node.master("eth9")
    for number in (10, 9, 2):
        conf = network(master="eth9", ipam=static(f"10.1.0.{number}/24"))
        place = node.namespace(f"pod{number}")
        runtime.add(place, conf, CNI_CONTAINERID=f"abcde{number:02}").result()
    conf = network(master="eth10", name="other", ipam=static("10.2.0.1/24"))
    runtime.add("/run/netns/pod9", conf, CNI_IFNAME="net10", CNI_CONTAINERID="x").result()
    runtime.add(
        "/run/netns/pod9",
        {**conf, "ipam": static("10.2.0.2/24")},
        CNI_IFNAME="net9",
        CNI_CONTAINERID="x",
    ).result()


def test_it_is_sorted_with_numbers_as_people_count(crowd: None, person: Person) -> None:
    assert [each["master"] for each in document(person)["masters"]] == ["eth9", "eth10"]
    assert interfaces(person) == [
        ("pod2", "net1"),
        ("pod9", "net1"),
        ("pod10", "net1"),
        ("pod9", "net9"),
        ("pod9", "net10"),
    ]


def test_filters_leave_what_was_asked_for(crowd: None, node: Node, person: Person) -> None:
    run("ip", "link", "property", "add", "dev", "eth10", "altname", "uplink")
    of_pod9 = [("pod9", name) for name in ("net1", "net9", "net10")]
    assert interfaces(person, "--netns pod9") == of_pod9
    assert interfaces(person, "--netns /run/netns/pod9") == of_pod9
    assert interfaces(person, "--master eth10") == of_pod9[1:]
    assert interfaces(person, "--master uplink") == of_pod9[1:]
    assert interfaces(person, "--netns pod9 --master eth9") == of_pod9[:1]
    assert interfaces(person, "--container-id abcde10") == [("pod10", "net1")]
    assert interfaces(person, "--container-id abcde0") == [("pod2", "net1"), ("pod9", "net1")]
    assert interfaces(person, "--container-id x") == of_pod9[1:]
    assert interfaces(person, "--container-id abc") == []
    assert person.succeeds("ipvlan show --master eth1") == "no ipvlan interfaces\n"
    run("ip", "link", "add", "name", "own", "link", "eth9", "type", "ipvlan", "mode", "l2")
    (own,) = attachments(person, f"--netns {os.getpid()}")
    assert (own["interface"], own["netns"]) == ("own", None)


def test_what_is_left_over_is_filtered_as_well(node: Node, person: Person) -> None:
    node.master()
    conf = person.writes(LEASED)
    for name in ("one", "two"):
        node.namespace(name)
        person.succeeds(f"ipvlan add -c {conf} --netns {name} --container-id {name}")
    for name in ("one", "two"):
        run("ip", "-n", name, "link", "delete", "dev", "net1")
    (OF_NET / "10.1.0.99").write_text("three\r\nnet1")

    def left(options: str) -> list[str]:
        return [each["containerID"] for each in document(person, options)["leftovers"]]

    assert left("") == ["one", "two", "three"]
    assert left("--netns two") == ["two"]
    assert left("--master eth0") == ["one", "two"]
    assert left("--container-id three") == ["three"]


def test_a_namespace_that_is_none_is_an_error_that_names_the_option(person: Person) -> None:
    for given, why in (("/gone", "No such file"), ("/etc/passwd", "it is not a namespace")):
        status, out, err = person.types(f"ipvlan show --netns {given}")
        assert (status, out) == (2, "")
        assert err.startswith(f"ipvlan: Invalid value for '--netns': {given}: {why}")


def test_it_says_mtu_gateways_and_routes(node: Node, person: Person, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    routes = [
        {"dst": "0.0.0.0/0"},
        {"dst": "10.8.0.0/16", "gw": "10.1.0.9"},
        {"dst": "::/0", "gw": "fd00::1"},
    ]
    ipam = static("10.1.0.2/24", "fd00::2/64", gateway="10.1.0.1", routes=routes)
    runtime.add(container, network(mtu=1400, ipam=ipam)).result()
    container.ip("route add 10.9.0.0/16 dev net1 table 100 metric 7")

    (line,) = person.succeeds("ipvlan show").splitlines()[1:]
    (shown,) = attachments(person)

    assert "  MTU 1400  10.1.0.2/24 fd00::2/64 " in line
    assert (
        "  gateway 10.1.0.1 fd00::1  routes 10.8.0.0/16 via 10.1.0.9, 10.9.0.0/16 table 100" in line
    )
    assert shown["mtu"] == 1400
    assert shown["gateways"] == ["10.1.0.1", "fd00::1"]
    by_dst = {each["dst"]: each for each in shown["routes"]}
    assert by_dst.keys() == {"0.0.0.0/0", "10.8.0.0/16", "10.9.0.0/16", "::/0"}
    assert by_dst["10.8.0.0/16"]["gw"] == "10.1.0.9"
    assert by_dst["10.9.0.0/16"] == {
        "dst": "10.9.0.0/16",
        "gw": None,
        "mtu": None,
        "advmss": None,
        "priority": 7,
        "table": 100,
        "scope": 253,
    }


def test_a_default_route_without_a_gateway_is_a_route(
    node: Node, person: Person, runtime: Runtime
) -> None:
    node.master()
    ipam = static("10.1.0.2/24", routes=[{"dst": "0.0.0.0/0"}])
    runtime.add(node.container(), network(mode="l3", ipam=ipam)).result()

    assert person.succeeds("ipvlan show").endswith("  routes 0.0.0.0/0\n")
    assert attachments(person)[0]["gateways"] == []


def test_leases_are_shown_where_host_local_gave_them(node: Node, person: Person) -> None:
    node.master()
    conf = person.writes(LEASED)
    other = person.writes(network(name="static", ipam=static("10.2.0.2/24")), "other.conf")
    node.container()
    person.succeeds(f"ipvlan add -c {conf} --netns container1")
    person.succeeds(f"ipvlan add -c {other} --netns container1 --ifname net2")

    leased, given = attachments(person)

    assert (leased["leases"], given["leases"]) == (["10.1.0.2"], None)
    assert problems(person) == [[], []]
    assert leftovers(person) == []


@pytest.mark.parametrize("how", ["gone", "another's"])
def test_an_address_without_a_lease_is_said(node: Node, person: Person, how: str) -> None:
    node.master()
    node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    lease = OF_NET / "10.1.0.2"
    if how == "gone":
        lease.unlink()
    else:
        lease.write_text("thief\r\nnet1")

    assert problems(person) == [["no lease"]]
    assert attachments(person)[0]["leases"] == []
    assert leftovers(person) == []  # the address is in use


def test_leases_of_a_directory_that_the_node_is_configured_for(
    node: Node, person: Person, tmp_path: Path
) -> None:
    node.master()
    node.container()
    ipam = host_local("10.1.0.0/24", dataDir=str(tmp_path / "data"))
    conf = network(ipam=ipam)
    with configured(conf):
        person.succeeds(f"ipvlan add -c {person.writes(conf)} --netns container1")
        assert attachments(person)[0]["leases"] == ["10.1.0.2"]
        assert problems(person) == [[]]
        shutil.rmtree(tmp_path / "data")
        assert problems(person) == [["no lease"]]


def test_a_lease_without_an_interface_is_left_over(node: Node, person: Person) -> None:
    node.master()
    node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    for address, text in (("10.1.0.77", "gone\r\nnet1"), ("10.1.0.78", "old")):
        (OF_NET / address).write_text(text)

    assert leftovers(person) == [
        ("lease", "no interface", "gone"),
        ("lease", "no interface", "old"),
    ]
    (first, second) = document(person)["leftovers"]
    assert (first["address"], first["file"]) == ("10.1.0.77", str(OF_NET / "10.1.0.77"))
    assert (first["network"], first["interface"], second["interface"]) == ("net", "net1", None)


def test_leases_survive_a_restart_of_the_node(node: Node, person: Person) -> None:
    node.master()
    node.container()
    conf = person.writes(LEASED)
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    run("ip", "netns", "delete", "container1")
    shutil.rmtree(MEMORY)

    assert leftovers(person) == [("lease", "no interface", "one")]
    person.succeeds(f"ipvlan del -c {conf} --netns container1 --container-id one")
    assert leftovers(person) == []


def test_leases_of_other_plugins_are_none_of_its_business(node: Node, person: Person) -> None:
    OF_NET.mkdir(parents=True)
    (OF_NET / "10.1.0.5").write_text("pod\r\neth0")
    assert leftovers(person) == [("lease", "no interface", "pod")]
    with configured({**LEASED, "type": "bridge"}):
        assert leftovers(person) == []
    kept = LEASES / "results"
    kept.mkdir()
    config = base64.b64encode(json.dumps({**LEASED, "type": "macvlan"}).encode()).decode()
    (kept / "net-pod-eth0").write_text(json.dumps({"kind": "cniCacheV1", "config": config}))
    assert leftovers(person) == []


def test_an_interface_that_another_ipvlan_plugin_made_keeps_its_lease(
    node: Node, person: Person
) -> None:
    node.master()
    container = node.container()
    run("ip", "link", "add", "name", "go", "link", "eth0", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", "go", "netns", container.path, "name", "net1")
    container.ip("address add 10.1.0.5/24 dev net1")
    OF_NET.mkdir(parents=True)
    (OF_NET / "10.1.0.5").write_text("pod\r\nnet1")

    assert leftovers(person) == []
    assert problems(person) == [[]]


def test_a_record_whose_interface_is_gone_is_left_over(node: Node, person: Person) -> None:
    node.master()
    container = node.container()
    conf = person.writes(network())
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    container.ip("link delete dev net1")

    assert leftovers(person) == [("record", "no interface", "one")]
    (left,) = document(person)["leftovers"]
    assert (left["netns"], left["interface"], left["master"]) == (container.path, "net1", "eth0")
    person.succeeds(f"ipvlan del -c {conf} --netns container1 --container-id one")
    assert leftovers(person) == []


def hanging_plugin(directory: Path) -> dict[str, str]:
    """Make an IPAM plugin that writes its process ID, and waits; return the environment."""
    plugin = directory / "hanging"
    plugin.write_text(f"#!/bin/sh\necho $$ >{directory}/called; exec sleep 1000\n")
    plugin.chmod(0o755)
    return {"CNI_PATH": str(directory)}


@contextmanager
def adding(person: Person, container: Space, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Have an ADD that waits for its IPAM plugin."""
    environment = call_environment("ADD", container, **hanging_plugin(directory))
    call = subprocess.Popen(
        ["ipvlan"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**person.environment, **environment},
        start_new_session=True,
    )
    assert call.stdin is not None
    call.stdin.write(json.dumps(network(ipam={"type": "hanging"})).encode())
    call.stdin.close()
    wait_until(lambda: (directory / "called").exists() and "net1" in container.links())
    try:
        yield call
    finally:
        call.kill()
        call.wait()
        os.kill(int((directory / "called").read_text()), signal.SIGKILL)


def test_an_add_that_was_killed_is_unfinished(node: Node, person: Person, tmp_path: Path) -> None:
    node.master()
    container = node.container()
    with adding(person, container, tmp_path) as call:
        assert problems(person) == [[]]  # its call is running
        assert leftovers(person) == []
        call.send_signal(signal.SIGKILL)
        call.wait()
    wait_until(lambda: problems(person) == [["unfinished"]])
    assert leftovers(person) == []

    container.ip("link delete dev net1")
    assert leftovers(person) == [("record", "unfinished", "one")]


def test_a_link_that_never_got_into_its_container_is_unfinished(
    node: Node, person: Person, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    with adding(person, container, tmp_path) as call:
        call.send_signal(signal.SIGKILL)
        call.wait()
    key = container.links()["net1"]["ifalias"].rpartition("/")[2]
    container.ip("link delete dev net1")
    run("ip", "link", "add", "name", f"iv{key}", "link", "eth0", "type", "ipvlan", "mode", "l2")

    wait_until(lambda: problems(person) == [["unfinished"]])
    (shown,) = attachments(person)
    assert (shown["containerID"], shown["netns"]) == ("one", None)
    assert leftovers(person) == []


@pytest.mark.parametrize("how", ["forgotten", "forged"])
def test_a_labelled_interface_that_is_not_recorded_where_it_is(
    node: Node, person: Person, how: str
) -> None:
    node.master()
    one, two = node.container(), node.container()
    conf = person.writes(network())
    person.succeeds(f"ipvlan add -c {conf} --netns container1 --container-id one")
    if how == "forgotten":
        shutil.rmtree(MEMORY)
        assert problems(person) == [["no record"]]
        return
    run("ip", "link", "add", "name", "evil", "link", "eth0", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", "evil", "netns", two.path)
    two.run("ip", "link", "set", "dev", "evil", "alias", one.links()["net1"]["ifalias"])
    assert problems(person) == [[], ["no record"]]


def test_an_interface_made_by_hand_is_not_amiss(node: Node, person: Person) -> None:
    node.master()
    run("ip", "link", "add", "name", "hand", "link", "eth0", "type", "ipvlan", "mode", "l2")
    assert problems(person) == [[]]


@pytest.mark.parametrize("name", ["..", "etc", "~"])
def test_a_label_leads_to_no_file(node: Node, person: Person, name: str) -> None:
    node.master()
    container = node.container()
    run("ip", "link", "add", "name", "evil", "link", "eth0", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", "evil", "netns", container.path)
    container.run("ip", "link", "set", "dev", "evil", "alias", f"cni-ipvlan/{name}/one/evil/key")
    (shown,) = attachments(person)
    assert (shown["network"], shown["leases"]) == (name, None)


@pytest.mark.parametrize("option", ["-w", "--watch"])
def test_watching_needs_a_terminal(person: Person, option: str) -> None:
    status, out, err = person.types(f"ipvlan show {option}")
    assert (status, out) == (2, "")
    assert err.startswith("ipvlan: --watch needs a terminal")
    status, out, err = person.types(f"ipvlan show {option} --json")
    assert (status, err) == (2, "")
    assert json.loads(out)["msg"].startswith("--watch needs a terminal")
