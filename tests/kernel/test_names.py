"""Any name of an interface works, and any path to a namespace, that the kernel accepts."""

import os
from pathlib import Path

import pytest
from lab import NetNS, run
from runtime import Conf, network, static
from sampling import sample
from setup import Setup

UNUSUAL_NAMES = ["-x", "a#b", "ünï"]
OTHER_NAMES = [
    *("dev", "up", "type", "name", "ma", "link", "all0"),
    *("a@b", 'a"b', "a'b", "$x", "a\\b", "a*b", "a=b", "a;b", "[a]", "~", "a,b"),
    *("eth0.100", "--help", "日本語", "exactly15bytes!", "1", "0x1f"),
]
PREVIOUS = {"ips": [{"address": "10.1.0.2/24"}]}


@pytest.mark.parametrize("name", UNUSUAL_NAMES + OTHER_NAMES)
def test_a_container_lives_and_dies_with_any_name(setup: Setup, name: str) -> None:
    setup.node.make_master(name)
    run("ip", "route", "add", "default", "dev", name)
    ipam = static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
    for master in (name, None):  # by its name, and since it is the default route's interface
        with setup.unchanged():
            added = setup.add(master=master, ipam=ipam, CNI_IFNAME=name)

            assert added.result["interfaces"][0]["name"] == name
            assert setup.container.ipvlan(name)["up"]
            assert setup.node.find_master(setup.container, name) == name
            assert setup.container.sysctl(f"net/ipv4/conf/{name}/arp_notify") == "1"
            assert [route["gateway"] for route in setup.container.routes()] == ["10.1.0.1"]
            added.check()
            conf = network(cniVersion="1.1.0", master=master, ipam=None)
            setup.runtime.status(conf).succeeds()
            added.delete()


@pytest.mark.parametrize("length", [10, 40, 127])
@pytest.mark.parametrize("in_container", [False, True])
def test_the_master_may_have_an_altname(setup: Setup, length: int, *, in_container: bool) -> None:
    home = setup.container if in_container else setup.host
    home.ip("link add name real0 up type dummy")
    altname = "ä" + "x" * (length - 2)
    home.ip(f"link property add dev real0 altname {altname}")
    conf = network(cniVersion="1.1.0", master=altname, linkInContainer=in_container)
    with setup.unchanged():
        setup.runtime.status({**conf, "ipam": None}).succeeds()
        added = setup.add(conf, ipam=None, prevResult=PREVIOUS)

        assert [each["name"] for each in added.result["interfaces"]] == ["net1"]
        if in_container:
            assert setup.container.links()["net1"]["link"] == "real0"
        else:
            assert setup.node.find_master(setup.container) == "real0"
        added.check(prevResult=added.result)
        other: Conf = {"master": "real0", "mode": "l3", "prevResult": PREVIOUS}
        error = setup.expect_error(104, conf=conf, ipam=None, CNI_IFNAME="net2", **other)
        assert "'real0'" in error["msg"]
        added.delete()


def test_the_chain_may_hand_over_its_master_by_an_altname(setup: Setup) -> None:
    setup.host.ip("link property add dev eth0 altname a-longer-name-for-eth0")
    previous = {
        "interfaces": [{"name": "a-longer-name-for-eth0"}],
        "ips": [{"address": "10.1.0.2/24", "interface": 0}],
    }
    result = setup.add(master=None, ipam=None, prevResult=previous).result
    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    assert result["ips"] == [{"address": "10.1.0.2/24", "interface": 0}]


# The kernel refuses these names, and ADD must not stop halfway.
def test_a_name_that_no_interface_can_have_leaves_nothing(setup: Setup) -> None:
    for name in ("lo", "all", "default", "eth%d", "à"):
        with setup.unchanged():
            assert setup.runtime.add(setup.container, network(), CNI_IFNAME=name).error()["msg"]
            setup.runtime.delete(setup.container, network(), CNI_IFNAME=name).succeeds()


def add_and_delete(setup: Setup, container: NetNS) -> None:
    with setup.unchanged():
        added = setup.add(at=container)

        assert added.result["interfaces"][0]["sandbox"] == container.path
        assert container.ipvlan("net1")["up"]
        assert container.addresses("net1") == ["10.1.0.2/24"]
        added.check()
        added.delete()


def test_namespaces_of_any_kind_are_containers(setup: Setup, tmp_path: Path) -> None:
    add_and_delete(setup, setup.node.make_anonymous_container())
    for name in sample(["sandbox", "with space", "-x", "it's $HOME"], 1):
        add_and_delete(setup, setup.node.make_mounted_container(tmp_path / name))
    for name in sample(["cni-8d7c", "-x", "with space", "123"], 1):
        add_and_delete(setup, setup.node.make_namespace(name))
    (tmp_path / "link").symlink_to(setup.container.path)
    add_and_delete(setup, NetNS(str(tmp_path / "link")))


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


def test_what_is_no_network_namespace_is_refused(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for relative, (message, advice) in REFUSED.items():
        path = str(tmp_path / relative)
        error = setup.expect_error(4, message, "try: ", advice, CNI_NETNS=path)
        assert error["msg"].startswith(f"CNI_NETNS is {path!r}; ")
        setup.runtime.delete(path, network()).succeeds()


@pytest.mark.setup(host=("10.1.0.10/24",))
@pytest.mark.parametrize("path", ["/run/netns/host", "/proc/self/ns/net"])
def test_its_own_namespace_is_refused_unless_that_is_overridden(setup: Setup, path: str) -> None:
    message = f"CNI_NETNS is {path!r}; ", "the namespace the plugin itself runs in", "needs none"
    setup.expect_error(4, *message, CNI_NETNS=path)
    for conf in (network(), network(hostAccess=True)):
        with setup.unchanged():
            result = setup.runtime.add(path, conf, CNI_NETNS_OVERRIDE="true").result()
            setup.runtime.check(path, conf, result, CNI_NETNS_OVERRIDE="1").succeeds()
            assert setup.host.addresses("net1") == ["10.1.0.2/24"]
            setup.runtime.delete(path, conf, CNI_NETNS_OVERRIDE="1").succeeds()


def test_delete_does_not_look_for_a_container_in_the_plugins_own_namespace(setup: Setup) -> None:
    run("ip", "link", "add", "link", "eth0", "name", "net1", "type", "ipvlan")
    with setup.unchanged():
        setup.runtime.delete(setup.host, network()).succeeds()
