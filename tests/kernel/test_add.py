"""What ADD makes of a configuration, seen in the kernel."""

import pytest
from runtime import Conf, static
from setup import Setup

from cni_ipvlan.state.attachment import AttachmentId


@pytest.mark.parametrize(
    ("mode", "flag", "mtu"),
    [("l2", "bridge", 1500), ("l3", "private", 68), ("l3s", "vepa", 1280), ("l2", "private", 1400)],
)
def test_the_interface_has_what_was_asked_for(setup: Setup, mode: str, flag: str, mtu: int) -> None:
    before = setup.host.links()
    addresses = ["10.1.0.2/24", "fd00::2/64"]  # IPv6 needs an MTU of 1280
    ipam = static(*(addresses if mtu >= 1280 else addresses[:1]))
    assert setup.add(mode=mode, flag=flag, mtu=mtu, ipam=ipam).stderr == ""
    assert setup.container.ipvlan("net1") == {"mode": mode, "flag": flag, "mtu": mtu, "up": True}
    assert setup.host.links() == before  # and leaves nothing on the host


def test_the_result_is_read_back_from_the_kernel(setup: Setup) -> None:
    addresses = ["10.1.0.2/24", "10.1.1.2/32", "fd00:1::2/64"]

    added = setup.add(ipam=static(*addresses, gateway="10.1.0.1"))

    mac = setup.container.links()["net1"]["address"]
    assert added.result == {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "net1", "mac": mac, "sandbox": setup.container.path}],
        "ips": [
            {"interface": 0, "address": addresses[0], "gateway": "10.1.0.1"},
            *({"interface": 0, "address": each} for each in addresses[1:]),
        ],
    }
    assert setup.container.addresses("net1") == addresses
    (link,) = setup.container.query("address", "show", "dev", "net1")
    broadcasts = [each.get("broadcast") for each in link["addr_info"]]
    assert broadcasts[:2] == ["10.1.0.255", None]
    assert setup.container.sysctl("net/ipv4/conf/net1/arp_notify") == "1"
    assert setup.container.sysctl("net/ipv6/conf/net1/ndisc_notify") == "1"
    for state in ("down", "up"):
        setup.container.ip(f"link set dev net1 {state}")
    assert setup.container.addresses("net1") == addresses


def test_a_misspelt_option_gets_a_warning_and_others_none(setup: Setup) -> None:
    added = setup.add(mtuu="anything")
    assert "'mtuu'" in added.stderr
    assert "'mtu'" in added.stderr
    added.delete()
    valid_keys: Conf = {
        "runtimeConfig": {"portMappings": [{"hostPort": 80}]},
        "args": {"cni": {"labels": []}},
        "capabilities": {"ips": True},
        "somebody.example/key": [1, {"deep": None}],
    }
    assert setup.add(**valid_keys).stderr == ""


@pytest.mark.setup(up=False)
def test_add_is_possible_on_a_master_that_is_down(setup: Setup) -> None:
    added = setup.add()
    assert setup.container.addresses("net1") == ["10.1.0.2/24"]
    down = "the master 'eth0' is down, so no packets get through; try: ip link set dev eth0 up"
    assert added.stderr == f"one net1: {down}"


@pytest.mark.setup(master="")
def test_the_master_may_live_in_the_container(setup: Setup) -> None:
    setup.container.ip("link add name inner0 type dummy")
    before = setup.host.links()

    added = setup.add(master="inner0", linkInContainer=True, mode="l3")

    assert setup.container.links()["net1"]["link"] == "inner0"
    assert setup.container.ipvlan("net1")["mode"] == "l3"
    assert setup.container.links()["net1"]["ifalias"] == AttachmentId("net", "one", "net1").label
    assert setup.host.links() == before
    added.check()
    setup.container.ip("link add name inner1 type dummy")
    added.check("'inner1'", master="inner1")
    added.delete()
    assert setup.container.links().keys() == {"lo", "inner0", "inner1"}
