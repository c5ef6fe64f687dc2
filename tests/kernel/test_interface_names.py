"""Any name that the kernel accepts works, for the master and in the container."""

from __future__ import annotations

import pytest
from lab import Node, run
from runtime import Runtime, network, static

NAMES = [
    *("dev", "up", "type", "name", "ma", "link", "all0"),
    *("a@b", "a#b", 'a"b', "a'b", "$x", "a\\b", "a*b", "a=b", "a;b", "[a]", "~", "a,b"),
    *("eth0.100", "-x", "--help", "ünï", "日本語", "exactly15bytes!", "1", "0x1f"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_container_lives_and_dies_with_any_name(node: Node, runtime: Runtime, name: str) -> None:
    run("ip", "link", "add", "name", name, "type", "dummy")
    run("ip", "link", "set", "dev", name, "up")
    container = node.container()
    before = node.snapshot()
    ipam = static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
    conf = network(master=name, ipam=ipam)

    result = runtime.add(container, conf, CNI_IFNAME=name).result()

    assert result["interfaces"][0]["name"] == name
    assert container.ipvlan(name)["up"]
    assert node.master_of(container, name) == name
    assert container.sysctl(f"net/ipv4/conf/{name}/arp_notify") == "1"
    assert [route["gateway"] for route in container.routes()] == ["10.1.0.1"]
    runtime.check(container, conf, result, CNI_IFNAME=name).succeeds()
    runtime.status({**conf, "cniVersion": "1.1.0", "ipam": None}).succeeds()
    runtime.delete(container, conf, CNI_IFNAME=name).succeeds()
    assert node.snapshot() == before


@pytest.mark.parametrize("name", ["ma", "type", "-x", "a@b", "a#b"])
def test_names_that_mean_something_to_ip_work_in_the_container_as_well(
    node: Node, runtime: Runtime, name: str
) -> None:
    container = node.container()
    container.ip("link add name inner0 type dummy")
    container.ip(f"link set dev inner0 name {name}")
    conf = network(master=name, linkInContainer=True)
    ifname = {"CNI_IFNAME": f"{name}2"}
    before = node.snapshot()

    result = runtime.add(container, conf, **ifname).result()

    assert container.links()[f"{name}2"]["link"] == name
    runtime.check(container, conf, result, **ifname).succeeds()
    runtime.delete(container, conf, **ifname).succeeds()
    assert node.snapshot() == before


@pytest.mark.parametrize("length", [10, 40, 127])
@pytest.mark.parametrize("in_container", [False, True])
def test_the_master_may_have_an_altname(
    node: Node,
    runtime: Runtime,
    length: int,
    in_container: bool,  # noqa: FBT001
) -> None:
    container = node.container()
    home = container if in_container else node.host
    home.ip("link add name real0 type dummy")
    home.ip("link set dev real0 up")
    altname = "ä" + "x" * (length - 2)
    home.ip(f"link property add dev real0 altname {altname}")
    conf = network(cniVersion="1.1.0", master=altname, linkInContainer=in_container, ipam=None)
    previous = {"ips": [{"address": "10.1.0.2/24"}]}
    before = node.snapshot()

    runtime.status(conf).succeeds()
    result = runtime.add(container, {**conf, "prevResult": previous}).result()

    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    if in_container:
        assert container.links()["net1"]["link"] == "real0"
    else:
        assert node.master_of(container) == "real0"
    runtime.check(container, conf, result).succeeds()
    other = {**conf, "master": "real0", "mode": "l3", "prevResult": previous}
    error = runtime.add(container, other, CNI_IFNAME="net2").error()
    assert (error["code"], "'real0'" in error["msg"]) == (104, True)
    runtime.delete(container, conf).succeeds()
    assert node.snapshot() == before


def test_the_chain_may_hand_over_its_master_by_an_altname(node: Node, runtime: Runtime) -> None:
    node.master()
    node.host.ip("link property add dev eth0 altname a-longer-name-for-eth0")
    previous = {
        "interfaces": [{"name": "a-longer-name-for-eth0"}],
        "ips": [{"address": "10.1.0.2/24", "interface": 0}],
    }

    result = runtime.add(
        node.container(), network(master=None, ipam=None, prevResult=previous)
    ).result()

    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    assert result["ips"] == [{"address": "10.1.0.2/24", "interface": 0}]


@pytest.mark.parametrize("name", ["-x", 'a"b', "ünï"])
def test_the_default_routes_interface_may_have_any_name(
    node: Node, runtime: Runtime, name: str
) -> None:
    run("ip", "link", "add", "name", name, "type", "dummy")
    run("ip", "link", "set", "dev", name, "up")
    run("ip", "route", "add", "default", "dev", name)
    container = node.container()

    runtime.add(container, network(master=None)).result()

    assert node.master_of(container) == name


# Not only does the kernel refuse them; ADD must not come to a halt halfway.
@pytest.mark.parametrize("name", ["lo", "all", "default"])
def test_a_name_that_no_interface_can_have_leaves_nothing(
    node: Node, runtime: Runtime, name: str
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    assert runtime.add(container, network(), CNI_IFNAME=name).error()["msg"]

    assert node.snapshot() == before
