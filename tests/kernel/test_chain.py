"""As a later plugin of a chain: what becomes of the result of the one before."""

from typing import Any

import pytest
from runtime import network, static
from scene import Scene

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


def test_the_container_takes_over_a_previous_result_of_any_version(scene: Scene) -> None:
    scene.node.master("eth1")
    for version, document in PREVIOUS_RESULTS.items():
        previous = {"cniVersion": version, **document, "dns": DNS}

        added = scene.add(master="eth1", ipam=None, prevResult=previous)

        mac = scene.one.links()["net1"]["address"]
        assert added.result == {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "net1", "mac": mac, "sandbox": scene.one.path}],
            "ips": [IP],
            "routes": [ROUTE],
            "dns": DNS,
        }
        assert scene.one.addresses("net1") == [ADDRESS]
        assert [route["gateway"] for route in scene.one.routes()] == [ROUTE["gw"]]
        added.delete()


def test_the_single_interface_of_the_previous_result_is_the_master(scene: Scene) -> None:
    scene.node.master("eth1")
    scene.host.ip("route add default dev eth0")
    added = scene.add(master=None, ipam=None, prevResult=BY_INTERFACE)
    assert scene.node.master_of(scene.one) == "eth1"
    added.delete()

    added = scene.add(master=None, ipam=static("10.1.0.2/24"), prevResult=BY_INTERFACE)
    assert added.result["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]  # IPAM counts first
    assert len(added.result["interfaces"]) == 1
    assert scene.one.addresses("net1") == ["10.1.0.2/24"]

    names: tuple[list[dict[str, str]], ...] = ([], [{"name": ""}], OTHERS_INTERFACES)
    for interfaces in names:
        scene.refuses(
            102, "prevResult", at=scene.two, master=None, prevResult={"interfaces": interfaces}
        )


# The host's eth0 and the container's are two interfaces, though they share a name.
@pytest.mark.parametrize("master", ["eth0", "eth1"])
def test_what_other_plugins_have_given_stays_in_the_result(scene: Scene, master: str) -> None:
    if master == "eth1":
        scene.node.master(master)
    previous = {
        "interfaces": [{"name": master}, *OTHERS_INTERFACES],  # the first is not in the result
        "ips": [{**OTHERS_ADDRESS, "interface": 2}],
        "routes": [OTHERS_ROUTE],
        "dns": DNS,
    }
    ipam = static(ADDRESS, gateway=GATEWAY, routes=[{"dst": "10.7.0.0/16"}])

    result = scene.add(master=master, ipam=ipam, prevResult=previous).result

    assert result["interfaces"][:2] == OTHERS_INTERFACES
    assert [each["name"] for each in result["interfaces"]] == ["vethe1f2", "eth0", "net1"]
    own = {"interface": 2, "address": ADDRESS, "gateway": GATEWAY}
    assert result["ips"] == [OTHERS_ADDRESS, own]
    assert result["routes"] == [OTHERS_ROUTE, {"dst": "10.7.0.0/16", "gw": GATEWAY}]
    assert result["dns"] == DNS
    assert scene.one.addresses("net1") == [ADDRESS]
    assert [route["dst"] for route in scene.one.routes()] == ["10.7.0.0/16"]


def test_check_finds_routes_of_another_interface(scene: Scene) -> None:
    scene.one.ip("link add name eth0 up type dummy")
    scene.one.ip("address add 10.244.0.9/24 dev eth0")
    scene.one.ip("route add default via 10.244.0.1 dev eth0")
    ips, routes = [OTHERS_ADDRESS], [OTHERS_ROUTE]
    previous = {"interfaces": OTHERS_INTERFACES, "ips": ips, "routes": routes}
    added = scene.add(ipam=static(ADDRESS), prevResult=previous)
    added.check()
    scene.one.ip("route delete default")
    assert added.check("the route to 0.0.0.0/0 via 10.244.0.1 is missing")["code"] == 110


def test_a_master_in_the_container_made_by_the_chain_is_not_in_the_result(scene: Scene) -> None:
    scene.one.ip("link add name inner0 type dummy")
    ips = [{"interface": 0, "address": ADDRESS}]
    for place in ({"sandbox": scene.one.path}, {}):
        previous = {"interfaces": [{"name": "inner0", **place}], "ips": ips}

        added = scene.add(master=None, linkInContainer=True, ipam=None, prevResult=previous)

        assert [each["name"] for each in added.result["interfaces"]] == ["net1"]
        assert added.result["ips"] == ips
        assert scene.one.links()["net1"]["link"] == "inner0"
        added.delete()

    # Of two interfaces of a name, the container's is the master.
    on_host = {"name": "inner0", "mac": "02:00:00:00:00:01"}
    interfaces = [on_host, {"name": "inner0", "sandbox": scene.one.path}]
    previous = {"interfaces": interfaces, "ips": [{"interface": 1, "address": ADDRESS}]}
    conf = network(master="inner0", linkInContainer=True, prevResult=previous)

    result = scene.add(conf, ipam=None).result

    assert [each["name"] for each in result["interfaces"]] == ["inner0", "net1"]
    assert result["interfaces"][0] == on_host
    assert result["ips"] == [{"interface": 1, "address": ADDRESS}]
