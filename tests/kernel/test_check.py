"""CHECK: every change since ADD is found, all at once."""

import pytest
from lab import LEASES, run
from runtime import host_local, network, static
from scene import Scene

CONF = network(
    mtu=1400,
    ipam=static("10.1.0.2/24", "10.1.1.2/32", gateway="10.1.0.1", routes=[{"dst": "10.7.0.0/16"}]),
)
MAC = "address 02:00:00:00:00:99"
# The command that changes an attachment (in the container, or on the host) and words for it.
CHANGES = {
    "mode": ("-n container1 link set dev net1 type ipvlan mode l3", ["mode", "l3", "l2"]),
    "flag": ("-n container1 link set dev net1 type ipvlan private", ["flag", "private", "bridge"]),
    "mtu": ("-n container1 link set dev net1 mtu 1300", ["MTU", "1300", "1400"]),
    "mac": (f"link set dev eth0 {MAC}", ["MAC", "02:00:00:00:00:99"]),
    "gateway": ("-n container1 route replace 10.7.0.0/16 via 10.1.0.9", ["7.0.0/16", "10.1.0.1"]),
    "route": ("-n container1 route delete 10.7.0.0/16", ["10.7.0.0/16"]),
    "address": ("-n container1 address delete 10.1.1.2/32 dev net1", ["10.1.1.2/32"]),
    "prefix": ("-n container1 address add 10.1.1.2/31 dev net1", ["10.1.1.2/32"]),
    "down": ("-n container1 link set dev net1 down", ["down"]),
}


def test_check_finds_nothing_wrong_with_a_sound_attachment(scene: Scene) -> None:
    added = scene.add(CONF)
    added.check()
    assert added.check("'eth9'", master="eth9")["code"] == 110
    for previous, code in ((None, 7), ({}, 110), ({"interfaces": [{"name": "net1"}]}, 110)):
        conf = network(prevResult=previous)
        error = scene.runtime.call("CHECK", scene.one, conf).error()
        assert (error["code"], "prevResult" in error["msg"]) == (code, True)


def test_check_finds_each_change_and_all_before(scene: Scene) -> None:
    added = scene.add(CONF)
    scene.node.master("eth1")
    expected: list[str] = []
    for command, words in CHANGES.values():
        run("ip", *command.split())
        expected += words
        with scene.unchanged():
            assert added.check(*words)["code"] == 110
    added.check(*{*expected} - {"10.1.0.1"}, "'eth1'", master="eth1")
    scene.one.ip("link delete dev net1")
    assert added.check("no interface", "net1")["code"] == 110
    scene.one.ip("link add name net1 type dummy")
    assert added.check("dummy", "ipvlan")["code"] == 110


@pytest.mark.scene(master="")
@pytest.mark.parametrize("master", ["bond0", "bond0.7"])
def test_check_follows_a_bond_whose_address_changes(scene: Scene, master: str) -> None:
    scene.host.ip("link add name bond0 type bond mode active-backup fail_over_mac active")
    for name in ("eth0", "eth1"):
        scene.node.master(name, up=False)
        scene.host.ip(f"link set dev {name} master bond0")
    scene.host.ip("link set dev bond0 up")
    scene.host.ip("link add link bond0 name bond0.7 type vlan id 7")
    scene.host.ip("link set dev bond0.7 up")
    added = scene.add(CONF, master=master)
    before = scene.one.links()["net1"]["address"]

    scene.host.ip("link set dev bond0 type bond active_slave eth1")

    assert scene.one.links()["net1"]["address"] != before
    added.check()


@pytest.mark.parametrize("master", ["eth0", None, "eth[0-9]"])
def test_check_finds_another_master(scene: Scene, master: str | None) -> None:
    scene.node.master("eth1")
    scene.host.ip("route add default dev eth0")
    added = scene.add(master=master)
    scene.host.ip("route replace default dev eth1")
    added.check()  # a new default route does not mislead it
    scene.one.ip("link delete dev net1")
    scene.host.ip("link set dev eth1 address " + added.result["interfaces"][0]["mac"])
    scene.host.ip("link add link eth1 name moved type ipvlan mode l2")
    scene.host.ip(f"link set dev moved netns {scene.one.path} name net1")
    scene.one.ip("address add 10.1.0.2/24 dev net1")
    scene.one.ip("link set dev net1 up")

    assert added.check("master")["code"] == 110


@pytest.mark.parametrize("mtu", [0, 68, 1279, 1280, 1499, 1500])
def test_only_an_mtu_that_is_configured_must_not_change(scene: Scene, mtu: int) -> None:
    added = scene.add(mtu=mtu)
    added.check()
    scene.one.ip(f"link set dev net1 mtu {mtu - 1 if mtu > 68 else mtu + 69}")
    added.check(*["MTU"] * bool(mtu))
    scene.one.ip("link set dev net1 mtu 9000")
    added.check("its MTU is 9000, the master's is 1500: larger packets are lost")


def test_an_address_of_no_interface_is_looked_for(scene: Scene) -> None:
    added = scene.add(CONF)
    added.result["ips"][0]["interface"] = 7
    added.check()
    added.result["ips"][0]["address"] = "10.1.0.9/24"
    assert added.check("10.1.0.9/24")["code"] == 110


def test_check_asks_the_ipam_plugin(scene: Scene) -> None:
    added = scene.add(ipam=host_local("10.1.0.0/24"))
    added.check()
    (LEASES / "networks" / "net" / "10.1.0.2").unlink()
    error = added.check("host-local: ")
    assert error["msg"].endswith("container one")
    gone = "\ntry: delete the attachment and add it again: its lease in /var/lib/cni/networks/net"
    assert gone in error["details"]
    assert "validate" not in error["details"]
    added.container.ip("link delete dev net1")
    both = added.check("there is no interface 'net1'")["details"]
    assert both.startswith("try: delete the attachment and add it again\nalso: host-local: ")
    assert gone in both

    asked = scene.add(at=scene.two, ipam=scene.ipam(ips=["10.1.0.3/24"]))
    scene.ipam("CHECK", code=42, msg="who is it?", details="x", status=1)
    error = asked.check("who is it?")
    assert (error["code"], error["msg"]) == (42, "who is it?")
    assert error["details"].startswith("x\n")


def test_check_knows_the_namespace_by_any_path(scene: Scene) -> None:
    process = scene.node.container_of_a_process()
    run("ip", "netns", "attach", "both", process.path.split("/")[2])
    paths = ["/run/netns/both", "/var/run/netns/both", process.path]
    for added in (paths[0], paths[2]):
        result = scene.runtime.add(added, network()).result()
        for checked in paths:
            scene.runtime.check(checked, network(), result).succeeds()
        scene.runtime.delete(added, network()).succeeds()


def test_check_reports_a_sandbox_elsewhere(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    added = scene.add(CONF)
    scene.node.namespace("other")
    monkeypatch.chdir("/run/netns")
    there = f"prevResult has no interface 'net1' in the namespace {scene.one.path}"
    elsewhere = ["", "/run/netns/gone", "/run/netns/other", "container1"]
    for sandbox in (*elsewhere, "/run/netns/\0", "/\ud800"):
        added.result["interfaces"][0]["sandbox"] = sandbox
        assert added.check(there)["code"] == 110
