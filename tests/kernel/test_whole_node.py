"""What doctor and show tell of a whole node, and a dry run on one that lacks ipvlan."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lab import Node, own, run
from person import Person
from runtime import Runtime, host_local, network, static

NO_SOCKET = "/run/cni/dhcp.sock does not exist"


def test_doctor_names_what_is_wrong_and_what_to_do(
    node: Node, person: Person, runtime: Runtime
) -> None:
    node.master(mtu=1400)
    other = node.container()
    runtime.add(other, network(ipam=static("10.1.0.9/24")), CNI_CONTAINERID="other").result()
    conf = person.writes(
        network(mode="l3", ipam=host_local("10.1.0.0/30", routes=[{"dst": "0.0.0.0/0"}]))
    )
    leases = Path("/var/lib/cni/networks/net")
    leases.mkdir(parents=True)
    (leases / "10.1.0.2").touch()

    status, out, _ = person.types(f"ipvlan doctor -c {conf} --netns /run/netns/gone")
    found = json.loads(person.types(f"ipvlan doctor -c {conf} --json")[1])["findings"]

    assert status == 1
    lines = [re.sub(" +", " ", line) for line in out.splitlines()]
    assert "ok permission this user may change networks and enter namespaces" in lines
    assert "problem namespace /run/netns/gone: No such file or directory" in lines
    assert (
        "problem ipam 1 of 1 addresses of 10.1.0.0/30 are leased, in /var/lib/cni/networks/net"
    ) in lines
    assert (
        "problem conflicts the master 'eth0' is used in mode l2 bridge; this network wants l3 "
        "bridge"
    ) in lines
    assert f" found: an interface runs in that mode: net1 in {other.path} (container other)" in (
        lines
    )
    by_subject = {each["subject"]: each["state"] for each in found}
    assert by_subject["master"] == "ok"
    assert by_subject["iproute2"] == "ok"
    run("ip", "link", "set", "dev", "eth0", "down")
    assert "warning master the master 'eth0' is down" in re.sub(
        " +", " ", person.types(f"ipvlan doctor -c {conf}")[1]
    )


@pytest.mark.parametrize(
    ("conf", "subject", "words"),
    [
        ({"master": "eth7"}, "master", "cannot find the master 'eth7'"),
        (
            {"ipam": {"type": "dhcp"}},
            "ipam",
            f"{NO_SOCKET}\n{' ' * 26}start its daemon on this node: systemctl enable --now ",
        ),
        ({"master": "eth1"}, "conflicts", "eth1 already carries macvlan: taker0 in "),
    ],
)
def test_doctor_finds(
    node: Node, person: Person, conf: dict[str, Any], subject: str, words: str
) -> None:
    node.master()
    node.master("eth1")
    place = node.container_of_a_process()
    run("ip", "link", "add", "name", "taker0", "link", "eth1", "type", "macvlan")
    run("ip", "link", "set", "dev", "taker0", "netns", place.path)
    file = person.writes(network(**conf))

    status, out, _ = person.types(f"ipvlan doctor -c {file}")

    assert status == 1
    wanted = re.escape(words.format(file=file))
    assert re.search(rf"^problem +{subject} +{wanted}", out, re.MULTILINE), out


def test_doctor_looks_at_the_nodes_own_configurations(node: Node, person: Person) -> None:
    node.master()
    good = person.succeeds("ipvlan doctor")
    assert "warning  plugins        /usr/lib/cni/ipvlan is a different program: " in good
    directory = Path("/etc/cni/net.d")
    files = {
        "10-test-a.conf": network(),
        "11-test-b.conf": network(mode="l7"),
        "12-test-c.conf": {"type": "lo"},
    }
    with own(directory):
        for name, conf in files.items():
            (directory / name).write_text(json.dumps(conf))
        status, out, _ = person.types("ipvlan doctor")
    assert status == 1
    lines = [re.sub(" +", " ", line) for line in out.splitlines()]
    assert f"ok configuration {directory}/10-test-a.conf: network net" in lines
    wrong = f'problem configuration {directory}/11-test-b.conf: $.mode: mode is "l7"; '
    assert any(line.startswith(wrong) for line in lines)
    assert "12-test-c.conf" not in out


def test_show_draws_what_each_master_carries(node: Node, person: Person, runtime: Runtime) -> None:
    node.master()
    node.master("eth1", mtu=9000, up=False)
    assert person.succeeds("ipvlan show") == "no ipvlan interfaces\n"
    one, two = node.container(), node.container_of_a_process()
    runtime.add(one, network(mode="l3"), CNI_CONTAINERID="c1").result()
    run("ip", "link", "add", "name", "byhand", "link", "eth1", "type", "ipvlan", "mode", "l3s")
    run("ip", "link", "set", "dev", "byhand", "netns", two.path)
    run("ip", "link", "add", "name", "tap", "link", "eth1", "type", "ipvtap", "mode", "l3s")
    run("ip", "link", "set", "dev", "tap", "netns", two.path)
    one.ip("link add name inner type dummy")
    one.ip("link add name nested link inner type ipvlan mode l2 private")

    printed = person.succeeds("ipvlan show")
    document = json.loads(person.succeeds("ipvlan show --json"))

    fe80 = one.ask("-6", "address", "show", "dev", "net1")[0]["addr_info"][0]["local"]
    assert printed.splitlines() == [
        "eth0  up, MTU 1500, mode l3 bridge",
        f"└─ net1  in {one.path}  container c1  MTU 1500  10.1.0.2/24 {fe80}/64",
        "eth1  down, MTU 9000, mode l3s bridge",
        f"├─ byhand  in {two.path}  down  MTU 9000  no addresses",
        f"└─ tap  in {two.path}  ipvtap  down  MTU 9000  no addresses",
        f"inner in {one.path}  mode l2 private",
        f"└─ nested  in {one.path}  down  MTU 1500  no addresses",
    ]
    assert [each["master"] for each in document["masters"]] == [
        "eth0",
        "eth1",
        f"inner in {one.path}",
    ]
    (attachment,) = document["masters"][0]["attachments"]
    assert (attachment["containerID"], attachment["problems"]) == ("c1", [])
    assert (document["leftovers"], document["notSeen"]) == ([], [])


@pytest.mark.usefixtures("no_ipvlan")
def test_a_dry_run_works_without_ipvlan_in_the_kernel(node: Node, person: Person) -> None:
    node.master()
    node.container()
    about = f"-c {person.writes(network())} --netns container1"

    script = person.succeeds(f"ipvlan add {about} --dry-run")
    status, out, _ = person.types("ipvlan doctor")

    assert "\n# assumed: the kernel has ipvlan, or can load it (" in script
    assert "type ipvlan mode l2 bridge" in script
    assert status == 1
    assert re.search(r"^problem +kernel +.* blocks it$", out, re.MULTILINE)
