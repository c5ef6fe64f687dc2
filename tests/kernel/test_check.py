"""CHECK: every change since ADD is found, all at once."""

import pytest
from lab import LEASES, run
from runtime import host_local, network, static
from setup import Setup

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


def test_check_finds_nothing_wrong_with_a_sound_attachment(setup: Setup) -> None:
    added = setup.add(CONF)
    added.check()
    assert added.check("'eth9'", master="eth9")["code"] == 110
    for previous, code in ((None, 7), ({}, 110), ({"interfaces": [{"name": "net1"}]}, 110)):
        conf = network(prevResult=previous)
        error = setup.runtime.call("CHECK", setup.container, conf).error()
        assert (error["code"], "prevResult" in error["msg"]) == (code, True)


def test_check_finds_each_change_and_all_before(setup: Setup) -> None:
    added = setup.add(CONF)
    setup.node.make_master("eth1")
    expected: list[str] = []
    for command, words in CHANGES.values():
        run("ip", *command.split())
        expected += words
        with setup.unchanged():
            assert added.check(*words)["code"] == 110
    added.check(*{*expected} - {"10.1.0.1"}, "'eth1'", master="eth1")
    setup.container.ip("link delete dev net1")
    assert added.check("no interface", "net1")["code"] == 110
    setup.container.ip("link add name net1 type dummy")
    assert added.check("dummy", "ipvlan")["code"] == 110


@pytest.mark.setup(master="")
@pytest.mark.parametrize(
    ("master", "change"),
    [
        *((each, "set dev bond0 type bond active_slave eth1") for each in ("bond0", "bond0.7")),
        ("br0", "add name port address 00:00:00:00:00:02 master br0 type dummy"),
    ],
)
def test_check_follows_a_master_whose_address_changes(
    setup: Setup, master: str, change: str
) -> None:
    setup.host.ip("link add name br0 up type bridge")
    setup.host.ip("link add name bond0 type bond mode active-backup fail_over_mac active")
    for name in ("eth0", "eth1"):
        setup.node.make_master(name, up=False)
        setup.host.ip(f"link set dev {name} master bond0")
    setup.host.ip("link set dev bond0 up")
    setup.host.ip("link add link bond0 name bond0.7 type vlan id 7")
    setup.host.ip("link set dev bond0.7 up")
    added = setup.add(CONF, master=master)
    before = setup.container.links()["net1"]["address"]

    setup.host.ip(f"link {change}")

    assert setup.container.links()["net1"]["address"] != before
    added.check()


@pytest.mark.parametrize("master", ["eth0", None, "eth[0-9]"])
def test_check_finds_another_master(setup: Setup, master: str | None) -> None:
    setup.node.make_master("eth1")
    setup.host.ip("route add default dev eth0")
    added = setup.add(master=master)
    setup.host.ip("route replace default dev eth1")
    added.check()  # a new default route does not mislead it
    setup.container.ip("link delete dev net1")
    setup.host.ip("link set dev eth1 address " + added.result["interfaces"][0]["mac"])
    setup.host.ip("link add link eth1 name moved type ipvlan mode l2")
    setup.host.ip(f"link set dev moved netns {setup.container.path} name net1")
    setup.container.ip("address add 10.1.0.2/24 dev net1")
    setup.container.ip("link set dev net1 up")

    assert added.check("master")["code"] == 110


@pytest.mark.parametrize("mtu", [0, 68, 1279, 1280, 1499, 1500])
def test_only_an_mtu_that_is_configured_must_not_change(setup: Setup, mtu: int) -> None:
    added = setup.add(mtu=mtu)
    added.check()
    setup.container.ip(f"link set dev net1 mtu {mtu - 1 if mtu > 68 else mtu + 69}")
    added.check(*["MTU"] * bool(mtu))
    setup.container.ip("link set dev net1 mtu 9000")
    added.check("its MTU is 9000, the master's is 1500: larger packets are lost")


def test_an_address_of_no_interface_is_looked_for(setup: Setup) -> None:
    added = setup.add(CONF)
    added.result["ips"][0]["interface"] = 7
    added.check()
    added.result["ips"][0]["address"] = "10.1.0.9/24"
    assert added.check("10.1.0.9/24")["code"] == 110


def test_check_asks_the_ipam_plugin(setup: Setup) -> None:
    added = setup.add(ipam=host_local("10.1.0.0/24"))
    added.check()
    (LEASES / "networks" / "net" / "10.1.0.2").unlink()
    error = added.check("host-local: ")
    assert error["msg"].endswith("container one")
    advice = "\ntry: delete the attachment and add it again: its lease in /var/lib/cni/networks/net"
    assert advice in error["details"]
    assert "validate" not in error["details"]
    added.container.ip("link delete dev net1")
    details = added.check("there is no interface 'net1'")["details"]
    assert details.startswith("try: delete the attachment and add it again\nalso: host-local: ")
    assert advice in details

    attachment = setup.add(at=setup.container2, ipam=setup.ipam(ips=["10.1.0.3/24"]))
    setup.ipam("CHECK", code=42, msg="who is it?", details="x", status=1)
    error = attachment.check("who is it?")
    assert (error["code"], error["msg"]) == (42, "who is it?")
    assert error["details"].startswith("x\n")


def test_check_knows_the_namespace_by_any_path(setup: Setup) -> None:
    process = setup.node.make_anonymous_container()
    run("ip", "netns", "attach", "both", process.path.split("/")[2])
    paths = ["/run/netns/both", "/var/run/netns/both", process.path]
    for added in (paths[0], paths[2]):
        result = setup.runtime.add(added, network()).result()
        for checked in paths:
            setup.runtime.check(checked, network(), result).succeeds()
        setup.runtime.delete(added, network()).succeeds()


def test_check_reports_a_sandbox_elsewhere(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    added = setup.add(CONF)
    setup.node.make_namespace("other")
    monkeypatch.chdir("/run/netns")
    message = f"prevResult has no interface 'net1' in the namespace {setup.container.path}"
    sandboxes = ["", "/run/netns/gone", "/run/netns/other", "container1"]
    for sandbox in (*sandboxes, "/run/netns/\0", "/\ud800"):
        added.result["interfaces"][0]["sandbox"] = sandbox
        assert added.check(message)["code"] == 110
