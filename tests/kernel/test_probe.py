"""ipvlan probe, with a second host on the master's wire."""

import json
from typing import Any

import pytest
from lab import LEASES, Space, wait_until, without_program
from people import ipvlan
from runtime import network, static
from scene import Scene

GATEWAY = "10.1.0.1"
CONF = network(ipam=static("10.1.0.2/24", gateway=GATEWAY, routes=[{"dst": "0.0.0.0/0"}]))
pytestmark = pytest.mark.scene(master="wire")


@pytest.fixture
def attached(scene: Scene) -> Scene:
    """Have a container, and its gateway on the master's wire."""
    scene.neighbour.ip(f"address add {GATEWAY}/24 dev eth0")
    scene.add(CONF)
    return scene


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


def test_all_is_well(attached: Scene) -> None:
    attached.add(at=attached.two)

    with attached.unchanged():
        found = probe(attached.one, "--to", GATEWAY)

    assert {each["state"] for each in found["findings"]} == {"ok"}
    assert "mode l2 bridge" in found["link"]["text"]
    assert f"{GATEWAY} answers" in found["gateway"]["text"]
    assert "1500 bytes" in found["path"]["text"]
    assert "10.1.0.2" in found["conflict"]["text"]
    assert attached.two.path in found["beside"]["text"]
    assert found["verdict"] == "everything answers"


def test_links_that_are_down(attached: Scene) -> None:
    attached.one.ip("link set dev net1 down")
    found = probe(attached.one, status=1)
    assert "net1 is down" in found["verdict"]
    assert "ip link set dev net1 up" in found["next"]
    attached.one.ip("link set dev net1 up")

    attached.neighbour.ip("link set dev eth0 down")
    wait_until(lambda: "LOWER_UP" not in attached.host.links()["eth0"]["flags"])
    assert "without carrier" in probe(attached.one, status=1)["verdict"]

    attached.host.ip("link set dev eth0 down")
    found = probe(attached.one, status=1)
    assert found["master"]["state"] == "problem"
    assert "eth0" in found["master"]["text"]


def test_beyond_the_gateway_and_without_it(attached: Scene) -> None:
    mac = attached.neighbour.links()["eth0"]["address"]
    found = probe(attached.one, "--to", "10.9.0.1", status=1)
    assert found["gateway"]["state"] == "ok"
    assert found["verdict"] == f"10.9.0.1 does not answer; its gateway {GATEWAY} ({mac}) is there"

    attached.neighbour.ip("address flush dev eth0")
    attached.one.ip("neighbour flush dev net1")
    found = probe(attached.one, status=1)
    assert found["verdict"] == f"nobody answers for {GATEWAY} on the network of the master"


def test_a_host_that_drops_ping(attached: Scene) -> None:
    attached.neighbour.sysctl("net/ipv4/icmp_echo_ignore_all", 1)
    found = probe(attached.one)
    assert found["gateway"]["state"] == "warning"
    assert "does not answer ping" in found["verdict"]


@pytest.mark.scene(master="wire", host=("10.1.0.10/24",))
def test_no_route_and_the_host_itself(scene: Scene) -> None:
    scene.add()
    found = probe(scene.one, "--to", "10.9.0.1", status=1)
    assert "10.1.0.0/24" in found["route"]["text"]
    assert found["verdict"] == "the container has no route to 10.9.0.1"

    found = probe(scene.one, "--to", "10.1.0.10", status=1)
    assert found["verdict"].startswith("10.1.0.10 is this host")


def test_a_smaller_mtu_on_the_way(attached: Scene) -> None:
    """The gateway sends on what it gets over a link with MTU 1400."""
    neighbour, far = attached.neighbour, attached.node.namespace("far")
    neighbour.ip(f"link add name far0 mtu 1400 up type veth peer name far1 netns {far.path}")
    neighbour.ip("address add 10.9.0.2/24 dev far0")
    far.ip("link set dev far1 mtu 1400 up")
    far.ip("address add 10.9.0.1/24 dev far1")
    far.ip("route add default via 10.9.0.2")
    neighbour.sysctl("net/ipv4/ip_forward", 1)

    found = probe(attached.one, "--to", "10.9.0.1")

    assert found["reach"]["state"] == "ok"
    assert found["path"]["state"] == "warning"
    assert "at most 1400 bytes" in found["path"]["text"]


@pytest.mark.scene(master="wire", dad=True)
def test_another_host_has_the_address(attached: Scene) -> None:
    attached.neighbour.ip("address add 10.1.0.2/24 dev eth0")
    found = probe(attached.one, status=1)
    assert attached.neighbour.links()["eth0"]["address"].upper() in found["conflict"]["text"]
    attached.neighbour.ip("address delete 10.1.0.2/24 dev eth0")

    attached.neighbour.ip("address add fd00:1::2/64 dev eth0 nodad")
    attached.one.ip("address add fd00:1::2/64 dev net1")
    wait_until(lambda: "fd00:1::2" in attached.one.ip("-6 address show dev net1 dadfailed"))
    found = probe(attached.one, status=1)
    assert found["verdict"].startswith("another host on the network has fd00:1::2/64")


def test_dns_servers_of_the_kept_result(attached: Scene) -> None:
    servers = {"nameservers": [GATEWAY, "10.1.0.77", "-f"]}
    result = attached.add(at=attached.two, dns=servers).result
    kept = LEASES / "results" / "net-two-net1"
    kept.parent.mkdir()
    kept.write_text(json.dumps({"kind": "cniCacheV1", "result": result}))

    found = probe(attached.two, status=1)

    asked = [each for each in found["findings"] if each["subject"] == "dns"]
    assert [each["state"] for each in asked] == ["ok", "problem", "problem"]
    assert asked[1]["text"] == "nobody answers for 10.1.0.77 on the network of the master"
    assert asked[2]["text"] == "'-f' is not an address, so no resolver can ask it"


def test_of_several_interfaces_one_must_be_named(attached: Scene) -> None:
    attached.one.ip("link add name other0 type dummy")
    attached.add(name="two", ipam=static("10.1.0.3/24"), CNI_IFNAME="net2")

    said = ipvlan("probe", "--netns", attached.one.path)
    assert (said.status, "net1, net2" in said.err) == (2, True)
    assert "net2" in probe(attached.one, "--ifname", "net2")["link"]["text"]

    said = ipvlan("probe", "--netns", attached.two.path)
    assert (said.status, "no ipvlan interface" in said.err) == (2, True)


def test_missing_programs_are_named(attached: Scene) -> None:
    with without_program("arping"):
        found = probe(attached.one)
    assert found["not asked"]["state"] == "warning"
    assert "iputils-arping" in found["not asked"]["advice"]
    assert found["gateway"]["state"] == "ok"

    with without_program("ping"):
        assert "iputils-ping" in probe(attached.one)["not asked"]["advice"]
