"""ipvlan probe, with a second host on the master's wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import LEASES, Node, Space, run, wait_until, without_program
from people import ipvlan
from runtime import Conf, Runtime, network, static

GATEWAY = "10.1.0.1"
ADDRESSES = static("10.1.0.2/24", gateway=GATEWAY, routes=[{"dst": "0.0.0.0/0"}])
CONF = network(ipam=ADDRESSES)


@pytest.fixture
def neighbour(node: Node) -> Space:
    """The gateway, on the master's wire."""
    other = node.master_on_a_wire()
    other.ip(f"address add {GATEWAY}/24 dev eth0")
    return other


@pytest.fixture
def container(node: Node) -> Space:
    return node.container()


def attached(runtime: Runtime, container: Space, conf: Conf = CONF) -> dict[str, Any]:
    return runtime.add(container, conf, CNI_CONTAINERID=f"id-{Path(container.path).name}").result()


def probe(container: Space, *arguments: str, status: int = 0) -> dict[str, Any]:
    """Return what a probe reports; findings by subject, the worst of each."""
    said = ipvlan("probe", "--netns", container.path, *arguments, "--json")
    assert said.status == status, said.out + said.err
    document: dict[str, Any] = json.loads(said.out)
    worst: dict[str, dict[str, str]] = {}
    for each in document["findings"]:
        if each["state"] != "ok" or each["subject"] not in worst:
            worst[each["subject"]] = each
    return {**document, **worst}


@pytest.mark.usefixtures("neighbour")
def test_all_is_well(runtime: Runtime, container: Space) -> None:
    attached(runtime, container)

    found = probe(container, "--to", GATEWAY)

    assert {each["state"] for each in found["findings"]} == {"ok"}
    assert "mode l2 bridge" in found["link"]["text"]
    assert f"{GATEWAY} answers" in found["gateway"]["text"]
    assert "1500 bytes" in found["path"]["text"]
    assert "10.1.0.2" in found["conflict"]["text"]
    assert found["verdict"] == "everything answers"


@pytest.mark.usefixtures("neighbour")
def test_it_changes_nothing(node: Node, runtime: Runtime, container: Space) -> None:
    attached(runtime, container)
    before = node.snapshot()

    probe(container, "--to", "10.1.0.77", status=1)

    assert node.snapshot() == before


@pytest.mark.usefixtures("neighbour")
def test_link_is_down(runtime: Runtime, container: Space) -> None:
    attached(runtime, container)
    container.ip("link set dev net1 down")

    found = probe(container, status=1)

    assert "net1 is down" in found["verdict"]
    assert "ip link set dev net1 up" in found["next"]


def test_the_wire_is_cut(node: Node, runtime: Runtime, container: Space, neighbour: Space) -> None:
    attached(runtime, container)
    neighbour.ip("link set dev eth0 down")
    wait_until(lambda: "LOWER_UP" not in node.host.links()["eth0"]["flags"])

    found = probe(container, status=1)

    assert "without carrier" in found["verdict"]


@pytest.mark.usefixtures("neighbour")
def test_the_master_is_down(runtime: Runtime, container: Space) -> None:
    attached(runtime, container)
    run("ip", "link", "set", "dev", "eth0", "down")

    found = probe(container, status=1)

    assert found["master"]["state"] == "problem"
    assert "eth0" in found["master"]["text"]


def test_the_gateway_is_gone(runtime: Runtime, container: Space, neighbour: Space) -> None:
    attached(runtime, container)
    neighbour.ip("address flush dev eth0")

    found = probe(container, status=1)

    assert found["verdict"] == f"nobody answers for {GATEWAY} on the network of the master"


def test_beyond_the_gateway(runtime: Runtime, container: Space, neighbour: Space) -> None:
    attached(runtime, container)
    mac = neighbour.links()["eth0"]["address"]

    found = probe(container, "--to", "10.9.0.1", status=1)

    assert found["gateway"]["state"] == "ok"
    assert found["verdict"] == f"10.9.0.1 does not answer; its gateway {GATEWAY} ({mac}) is there"


def test_a_host_that_drops_ping(runtime: Runtime, container: Space, neighbour: Space) -> None:
    attached(runtime, container)
    neighbour.sysctl("net/ipv4/icmp_echo_ignore_all", 1)

    found = probe(container)

    assert found["gateway"]["state"] == "warning"
    assert "does not answer ping" in found["verdict"]


@pytest.mark.usefixtures("neighbour")
def test_no_route(runtime: Runtime, container: Space) -> None:
    attached(runtime, container, network(ipam=static("10.1.0.2/24")))

    found = probe(container, "--to", "10.9.0.1", status=1)

    assert "10.1.0.0/24" in found["route"]["text"]
    assert found["verdict"] == "the container has no route to 10.9.0.1"


@pytest.mark.usefixtures("neighbour")
def test_the_host_itself(node: Node, runtime: Runtime, container: Space) -> None:
    node.host.ip("address add 10.1.0.10/24 dev eth0")
    attached(runtime, container)

    found = probe(container, "--to", "10.1.0.10", status=1)

    assert found["verdict"].startswith("10.1.0.10 is this host")


def test_a_smaller_mtu_on_the_way(runtime: Runtime, container: Space, neighbour: Space) -> None:
    """The gateway sends on what it gets over a link with MTU 1400."""
    attached(runtime, container)
    neighbour.ip("link add name far0 mtu 1400 type veth peer name far1")
    neighbour.ip("link set dev far0 up")
    neighbour.ip("address add 10.9.0.2/24 dev far0")
    run("ip", "netns", "add", "far")
    neighbour.ip("link set dev far1 netns /run/netns/far")
    for words in (
        "link set dev far1 mtu 1400 up",
        "address add 10.9.0.1/24 dev far1",
        "route add default via 10.9.0.2",
    ):
        run("ip", "-n", "far", *words.split())
    neighbour.sysctl("net/ipv4/ip_forward", 1)

    found = probe(container, "--to", "10.9.0.1")

    assert found["reach"]["state"] == "ok"
    assert found["path"]["state"] == "warning"
    assert "at most 1400 bytes" in found["path"]["text"]


def test_another_host_has_the_address(runtime: Runtime, container: Space, neighbour: Space) -> None:
    attached(runtime, container)
    neighbour.ip("address add 10.1.0.2/24 dev eth0")

    found = probe(container, status=1)

    assert neighbour.links()["eth0"]["address"].upper() in found["conflict"]["text"]


def test_another_host_has_the_ipv6_address(
    runtime: Runtime, container: Space, neighbour: Space
) -> None:
    attached(runtime, container)
    neighbour.ip("address add fd00:1::2/64 dev eth0 nodad")
    container.ip("address add fd00:1::2/64 dev net1")
    container.run("sleep", "2")

    found = probe(container, status=1)

    assert found["verdict"].startswith("another host on the network has fd00:1::2/64")


@pytest.mark.usefixtures("neighbour")
def test_what_stands_beside(node: Node, runtime: Runtime, container: Space) -> None:
    attached(runtime, container)
    other = node.container()
    attached(runtime, other, network(ipam=static("10.1.0.3/24")))

    assert other.path in probe(container)["beside"]["text"]


@pytest.mark.usefixtures("neighbour")
def test_dns_servers_of_the_kept_result(runtime: Runtime, container: Space) -> None:
    servers = {"nameservers": [GATEWAY, "10.1.0.77", "-f"]}
    result = attached(runtime, container, {**CONF, "dns": servers})
    kept = LEASES / "results" / f"net-id-{Path(container.path).name}-net1"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"kind": "cniCacheV1", "result": result}))

    found = probe(container, status=1)

    asked = [each for each in found["findings"] if each["subject"] == "dns"]
    assert [each["state"] for each in asked] == ["ok", "problem", "problem"]
    assert asked[1]["text"] == "nobody answers for 10.1.0.77 on the network of the master"
    assert asked[2]["text"] == "'-f' is not an address, so no resolver can ask it"


@pytest.mark.usefixtures("neighbour")
def test_of_several_interfaces_one_must_be_named(runtime: Runtime, container: Space) -> None:
    attached(runtime, container)
    container.ip("link add name other0 type dummy")
    runtime.add(
        container, {**CONF, "ipam": static("10.1.0.3/24"), "name": "two"}, CNI_IFNAME="net2"
    ).result()

    said = ipvlan("probe", "--netns", container.path)
    assert (said.status, "net1, net2" in said.err) == (2, True)

    assert "net2" in probe(container, "--ifname", "net2")["link"]["text"]


def test_there_is_no_interface(container: Space) -> None:
    said = ipvlan("probe", "--netns", container.path)

    assert said.status == 2
    assert "no ipvlan interface" in said.err


@pytest.mark.usefixtures("neighbour")
def test_names_with_escape_sequences_do_not_reach_the_terminal(
    runtime: Runtime, container: Space
) -> None:
    runtime.add(container, CONF, CNI_IFNAME="\x1b[31mred").result()

    said = ipvlan("probe", "--netns", container.path)

    assert "red" in said.out
    assert "\x1b" not in said.out


@pytest.mark.usefixtures("neighbour")
def test_missing_programs_are_named(runtime: Runtime, container: Space) -> None:
    attached(runtime, container)

    with without_program("arping"):
        found = probe(container)
    assert found["not asked"]["state"] == "warning"
    assert "iputils-arping" in found["not asked"]["advice"]
    assert found["gateway"]["state"] == "ok"

    with without_program("ping"):
        assert "iputils-ping" in probe(container)["not asked"]["advice"]
