"""Any name that the kernel accepts works, for the master and in the container."""

import pytest
from lab import run
from runtime import Conf, network, static
from scene import Scene

ODD = ["-x", "a#b", "ünï"]
OTHERS = [
    *("dev", "up", "type", "name", "ma", "link", "all0"),
    *("a@b", 'a"b', "a'b", "$x", "a\\b", "a*b", "a=b", "a;b", "[a]", "~", "a,b"),
    *("eth0.100", "--help", "日本語", "exactly15bytes!", "1", "0x1f"),
]
PREVIOUS = {"ips": [{"address": "10.1.0.2/24"}]}


@pytest.mark.parametrize("name", ODD + OTHERS)
def test_a_container_lives_and_dies_with_any_name(scene: Scene, name: str) -> None:
    scene.node.master(name)
    run("ip", "route", "add", "default", "dev", name)
    ipam = static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
    for master in (name, None):  # by its name, and since it is the default route's interface
        with scene.unchanged():
            added = scene.add(master=master, ipam=ipam, CNI_IFNAME=name)

            assert added.result["interfaces"][0]["name"] == name
            assert scene.one.ipvlan(name)["up"]
            assert scene.node.master_of(scene.one, name) == name
            assert scene.one.sysctl(f"net/ipv4/conf/{name}/arp_notify") == "1"
            assert [route["gateway"] for route in scene.one.routes()] == ["10.1.0.1"]
            added.check()
            conf = network(cniVersion="1.1.0", master=master, ipam=None)
            scene.runtime.status(conf).succeeds()
            added.delete()


@pytest.mark.parametrize("length", [10, 40, 127])
@pytest.mark.parametrize("in_container", [False, True])
def test_the_master_may_have_an_altname(scene: Scene, length: int, *, in_container: bool) -> None:
    home = scene.one if in_container else scene.host
    home.ip("link add name real0 up type dummy")
    altname = "ä" + "x" * (length - 2)
    home.ip(f"link property add dev real0 altname {altname}")
    conf = network(cniVersion="1.1.0", master=altname, linkInContainer=in_container)
    with scene.unchanged():
        scene.runtime.status({**conf, "ipam": None}).succeeds()
        added = scene.add(conf, ipam=None, prevResult=PREVIOUS)

        assert [each["name"] for each in added.result["interfaces"]] == ["net1"]
        if in_container:
            assert scene.one.links()["net1"]["link"] == "real0"
        else:
            assert scene.node.master_of(scene.one) == "real0"
        added.check(prevResult=added.result)
        other: Conf = {
            "master": "real0",
            "mode": "l3",
            "prevResult": PREVIOUS,
            "CNI_IFNAME": "net2",
        }
        error = scene.refuses(104, conf=conf, ipam=None, **other)
        assert "'real0'" in error["msg"]
        added.delete()


def test_the_chain_may_hand_over_its_master_by_an_altname(scene: Scene) -> None:
    scene.host.ip("link property add dev eth0 altname a-longer-name-for-eth0")
    previous = {
        "interfaces": [{"name": "a-longer-name-for-eth0"}],
        "ips": [{"address": "10.1.0.2/24", "interface": 0}],
    }

    result = scene.add(master=None, ipam=None, prevResult=previous).result

    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    assert result["ips"] == [{"address": "10.1.0.2/24", "interface": 0}]


# Not only does the kernel refuse them; ADD must not come to a halt halfway.
def test_a_name_that_no_interface_can_have_leaves_nothing(scene: Scene) -> None:
    for name in ("lo", "all", "default"):
        with scene.unchanged():
            assert scene.runtime.add(scene.one, network(), CNI_IFNAME=name).error()["msg"]
