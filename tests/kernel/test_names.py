"""Any name of an interface works, and any path to a namespace, that the kernel accepts."""

import os
from pathlib import Path

import pytest
from lab import Space, run
from runtime import Conf, network, static
from sampling import sample
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
        other: Conf = {"master": "real0", "mode": "l3", "prevResult": PREVIOUS}
        error = scene.refuses(104, conf=conf, ipam=None, CNI_IFNAME="net2", **other)
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
            scene.runtime.delete(scene.one, network(), CNI_IFNAME=name).succeeds()


def live_and_die(scene: Scene, container: Space) -> None:
    with scene.unchanged():
        added = scene.add(at=container)

        assert added.result["interfaces"][0]["sandbox"] == container.path
        assert container.ipvlan("net1")["up"]
        assert container.addresses("net1") == ["10.1.0.2/24"]
        added.check()
        added.delete()


def test_namespaces_of_any_kind_are_containers(scene: Scene, tmp_path: Path) -> None:
    live_and_die(scene, scene.node.container_of_a_process())
    for name in sample(["sandbox", "with space", "-x", "it's $HOME"], 1):
        live_and_die(scene, scene.node.container_mounted_at(tmp_path / name))
    for name in sample(["cni-8d7c", "-x", "with space", "123"], 1):
        live_and_die(scene, scene.node.namespace(name))
    (tmp_path / "link").symlink_to(scene.one.path)
    live_and_die(scene, Space(str(tmp_path / "link")))


# Paths below a directory with a file and a pipe, and what is said of them.
REFUSED = {
    "/run/netns/gone": ("there is no such file", "the container may have ended already"),
    "file": ("it is not a namespace", "give the path of a network namespace"),
    ".": ("it is not a namespace", "give the path of a network namespace"),
    "pipe": ("it is not a namespace", "give the path of a network namespace"),
    "file/below": ("Not a directory", "give the path of a network namespace"),
    "loop": ("Too many levels of symbolic links", "give the path of a network namespace"),
    "x" * 256: ("File name too long", "give the path of a network namespace"),
    "/proc/self/ns/uts": ("but not a network namespace", "give the path of a network"),
}


def test_what_is_no_network_namespace_is_refused(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for relative, (why, advice) in REFUSED.items():
        path = str(tmp_path / relative)
        error = scene.refuses(4, why, "try: ", advice, CNI_NETNS=path)
        assert error["msg"].startswith(f"CNI_NETNS is {path!r}; ")
        scene.runtime.delete(path, network()).succeeds()


@pytest.mark.parametrize("path", ["/run/netns/host", "/proc/self/ns/net"])
def test_its_own_namespace_is_refused_unless_that_is_overridden(scene: Scene, path: str) -> None:
    why = f"CNI_NETNS is {path!r}; ", "the namespace the plugin itself runs in", "needs none"
    scene.refuses(4, *why, CNI_NETNS=path)
    with scene.unchanged():
        result = scene.runtime.add(path, network(), CNI_NETNS_OVERRIDE="true").result()
        scene.runtime.check(path, network(), result, CNI_NETNS_OVERRIDE="1").succeeds()
        assert scene.host.addresses("net1") == ["10.1.0.2/24"]
        scene.runtime.delete(path, network(), CNI_NETNS_OVERRIDE="1").succeeds()


def test_delete_does_not_look_for_a_container_in_the_plugins_own_namespace(scene: Scene) -> None:
    run("ip", "link", "add", "link", "eth0", "name", "net1", "type", "ipvlan")
    with scene.unchanged():
        scene.runtime.delete(scene.host, network()).succeeds()
