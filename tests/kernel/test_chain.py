"""The plugin as a later one of a chain: what it makes of the previous result."""

from typing import Any

import pytest
from runtime import network, static
from setup import Setup

ADDRESS = "10.1.0.7/24"
GATEWAY = "10.1.0.1"
ROUTE = {"dst": "10.7.0.0/16", "gw": "10.1.0.9"}
DNS = {"nameservers": ["10.1.0.53"]}
# The result of another plugin that has added another interface to the container.
OTHERS_INTERFACES = [
    {"name": "vethe1f2", "mac": "02:00:00:00:00:01"},
    {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/container1"},
]
OTHERS_ADDRESS = {"interface": 1, "address": "10.244.0.9/24", "gateway": "10.244.0.1"}
OTHERS_ROUTE = {"dst": "0.0.0.0/0", "gw": "10.244.0.1"}

IP = {"interface": 0, "address": ADDRESS, "gateway": GATEWAY}
BY_INTERFACE: dict[str, Any] = {
    "interfaces": [{"name": "eth1", "mac": "02:00:00:00:00:01"}],
    "ips": [IP],
    "routes": [ROUTE],
}
PREVIOUS_RESULTS: dict[str, dict[str, Any]] = {
    "0.2.0": {"ip4": {"ip": ADDRESS, "gateway": GATEWAY, "routes": [ROUTE]}},
    "0.4.0": {**BY_INTERFACE, "ips": [{**IP, "version": "4"}]},
    "1.1.0": BY_INTERFACE,
}


def test_the_container_takes_over_a_previous_result_of_any_version(setup: Setup) -> None:
    setup.node.make_master("eth1")
    for version, document in PREVIOUS_RESULTS.items():
        previous = {"cniVersion": version, **document, "dns": DNS}

        added = setup.add(master="eth1", ipam=None, prevResult=previous)

        mac = setup.container.links()["net1"]["address"]
        assert added.result == {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "net1", "mac": mac, "sandbox": setup.container.path}],
            "ips": [IP],
            "routes": [ROUTE],
            "dns": DNS,
        }
        assert setup.container.addresses("net1") == [ADDRESS]
        assert [route["gateway"] for route in setup.container.routes()] == [ROUTE["gw"]]
        added.delete()


def test_the_single_interface_of_the_previous_result_is_the_master(setup: Setup) -> None:
    setup.node.make_master("eth1")
    setup.host.ip("route add default dev eth0")
    added = setup.add(master=None, ipam=None, prevResult=BY_INTERFACE)
    assert setup.node.find_master(setup.container) == "eth1"
    added.delete()

    added = setup.add(master=None, ipam=static("10.1.0.2/24"), prevResult=BY_INTERFACE)
    assert added.result["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]  # IPAM counts first
    assert len(added.result["interfaces"]) == 1
    assert setup.container.addresses("net1") == ["10.1.0.2/24"]

    names: tuple[list[dict[str, str]], ...] = ([], [{"name": ""}], OTHERS_INTERFACES)
    for interfaces in names:
        setup.expect_error(
            102,
            "prevResult",
            at=setup.container2,
            master=None,
            prevResult={"interfaces": interfaces},
        )


# The host's eth0 and the container's are two interfaces, though they share a name.
@pytest.mark.parametrize("master", ["eth0", "eth1"])
def test_what_other_plugins_have_given_stays_in_the_result(setup: Setup, master: str) -> None:
    if master == "eth1":
        setup.node.make_master(master)
    previous = {
        "interfaces": [{"name": master}, *OTHERS_INTERFACES],  # the first is not in the result
        "ips": [{**OTHERS_ADDRESS, "interface": 2}],
        "routes": [OTHERS_ROUTE],
        "dns": DNS,
    }
    ipam = static(ADDRESS, gateway=GATEWAY, routes=[{"dst": "10.7.0.0/16"}])

    result = setup.add(master=master, ipam=ipam, prevResult=previous).result

    assert result["interfaces"][:2] == OTHERS_INTERFACES
    assert [each["name"] for each in result["interfaces"]] == ["vethe1f2", "eth0", "net1"]
    new_address = {"interface": 2, "address": ADDRESS, "gateway": GATEWAY}
    assert result["ips"] == [OTHERS_ADDRESS, new_address]
    assert result["routes"] == [OTHERS_ROUTE, {"dst": "10.7.0.0/16", "gw": GATEWAY}]
    assert result["dns"] == DNS
    assert setup.container.addresses("net1") == [ADDRESS]
    assert [route["dst"] for route in setup.container.routes()] == ["10.7.0.0/16"]


def test_check_finds_routes_of_another_interface(setup: Setup) -> None:
    setup.container.ip("link add name eth0 up type dummy")
    setup.container.ip("address add 10.244.0.9/24 dev eth0")
    setup.container.ip("route add default via 10.244.0.1 dev eth0")
    ips, routes = [OTHERS_ADDRESS], [OTHERS_ROUTE]
    previous = {"interfaces": OTHERS_INTERFACES, "ips": ips, "routes": routes}
    added = setup.add(ipam=static(ADDRESS), prevResult=previous)
    added.check()
    setup.container.ip("route delete default")
    assert added.check("the route to 0.0.0.0/0 via 10.244.0.1 is missing")["code"] == 110


def test_a_master_in_the_container_made_by_the_chain_is_not_in_the_result(setup: Setup) -> None:
    setup.container.ip("link add name inner0 type dummy")
    ips = [{"interface": 0, "address": ADDRESS}]
    for sandbox in ({"sandbox": setup.container.path}, {}):
        previous = {"interfaces": [{"name": "inner0", **sandbox}], "ips": ips}

        added = setup.add(master=None, linkInContainer=True, ipam=None, prevResult=previous)

        assert [each["name"] for each in added.result["interfaces"]] == ["net1"]
        assert added.result["ips"] == ips
        assert setup.container.links()["net1"]["link"] == "inner0"
        added.delete()

    # If host and container have an interface of this name, the container's is the master.
    on_host = {"name": "inner0", "mac": "02:00:00:00:00:01"}
    interfaces = [on_host, {"name": "inner0", "sandbox": setup.container.path}]
    previous = {"interfaces": interfaces, "ips": [{"interface": 1, "address": ADDRESS}]}
    conf = network(master="inner0", linkInContainer=True, prevResult=previous)

    result = setup.add(conf, ipam=None).result

    assert [each["name"] for each in result["interfaces"]] == ["inner0", "net1"]
    assert result["interfaces"][0] == on_host
    assert result["ips"] == [{"interface": 1, "address": ADDRESS}]
