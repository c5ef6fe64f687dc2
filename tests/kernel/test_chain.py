"""As a later plugin of a chain: what becomes of the result of the one before."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Node
from runtime import Runtime, network, static

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

BY_FAMILY = {"ip4": {"ip": ADDRESS, "gateway": GATEWAY, "routes": [ROUTE]}}
IP = {"interface": 0, "address": ADDRESS, "gateway": GATEWAY}
BY_INTERFACE = {
    "interfaces": [{"name": "eth1", "mac": "02:00:00:00:00:01"}],
    "ips": [IP],
    "routes": [ROUTE],
}
WITH_FAMILY = {**BY_INTERFACE, "ips": [{**IP, "version": "4"}]}
PREVIOUS_RESULTS: dict[str, dict[str, Any]] = {
    "0.1.0": BY_FAMILY,
    "0.2.0": BY_FAMILY,
    "0.3.0": WITH_FAMILY,
    "0.3.1": WITH_FAMILY,
    "0.4.0": WITH_FAMILY,
    "1.0.0": BY_INTERFACE,
    "1.1.0": BY_INTERFACE,
}


@pytest.mark.parametrize("version", PREVIOUS_RESULTS)
def test_the_container_takes_over_a_previous_result_of_any_version(
    node: Node, runtime: Runtime, version: str
) -> None:
    node.master("eth1")
    container = node.container()
    previous = {"cniVersion": version, **PREVIOUS_RESULTS[version], "dns": DNS}
    conf = network(master="eth1", ipam=None, prevResult=previous)

    result = runtime.add(container, conf).result()

    assert result == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {
                "name": "net1",
                "mac": container.links()["net1"]["address"],
                "sandbox": container.path,
            }
        ],
        "ips": [IP],
        "routes": [ROUTE],
        "dns": DNS,
    }
    assert container.addresses("net1") == [ADDRESS]
    assert [route["gateway"] for route in container.routes()] == [ROUTE["gw"]]


def test_the_single_interface_of_the_previous_result_is_the_master(
    node: Node, runtime: Runtime
) -> None:
    node.two_masters()
    container = node.container()

    runtime.add(container, network(master=None, ipam=None, prevResult=BY_INTERFACE)).result()

    assert node.master_of(container) == "eth1"


@pytest.mark.parametrize("interfaces", [[], [{"name": ""}], OTHERS_INTERFACES])
def test_without_a_master_a_previous_result_has_to_have_a_single_named_interface(
    node: Node, runtime: Runtime, interfaces: list[dict[str, str]]
) -> None:
    node.master("eth0")
    node.host.ip("route add default dev eth0")
    conf = network(master=None, prevResult={"interfaces": interfaces})

    error = runtime.add(node.container(), conf).error()

    assert error["code"] == 102
    assert "prevResult" in error["msg"]


def test_ipam_counts_before_the_addresses_that_the_master_hands_over(
    node: Node, runtime: Runtime
) -> None:
    node.master("eth1")
    container = node.container()
    conf = network(master=None, ipam=static("10.1.0.2/24"), prevResult=BY_INTERFACE)

    result = runtime.add(container, conf).result()

    assert result["ips"] == [{"interface": 0, "address": "10.1.0.2/24"}]
    assert len(result["interfaces"]) == 1
    assert container.addresses("net1") == ["10.1.0.2/24"]


# The host's eth0 and the container's are two interfaces, though they share a name.
@pytest.mark.parametrize("master", ["eth0", "eth1"])
def test_what_other_plugins_have_given_the_container_stays_in_the_result(
    node: Node, runtime: Runtime, master: str
) -> None:
    node.master(master)
    container = node.container()
    previous = {
        "interfaces": OTHERS_INTERFACES,
        "ips": [OTHERS_ADDRESS],
        "routes": [OTHERS_ROUTE],
        "dns": DNS,
    }
    ipam = static(ADDRESS, gateway=GATEWAY, routes=[{"dst": "10.7.0.0/16"}])
    conf = network(master=master, ipam=ipam, prevResult=previous)

    result = runtime.add(container, conf).result()

    assert result["interfaces"][:2] == OTHERS_INTERFACES
    assert [each["name"] for each in result["interfaces"]] == ["vethe1f2", "eth0", "net1"]
    assert result["ips"] == [
        OTHERS_ADDRESS,
        {"interface": 2, "address": ADDRESS, "gateway": GATEWAY},
    ]
    assert result["routes"] == [OTHERS_ROUTE, {"dst": "10.7.0.0/16", "gw": GATEWAY}]
    assert result["dns"] == DNS
    assert container.addresses("net1") == [ADDRESS]
    assert [route["dst"] for route in container.routes()] == ["10.7.0.0/16"]


@pytest.mark.parametrize("has_sandbox", [True, False])
def test_a_master_in_the_container_that_the_chain_has_made_is_not_in_the_result(
    node: Node,
    runtime: Runtime,
    has_sandbox: bool,  # noqa: FBT001
) -> None:
    container = node.container()
    container.ip("link add name inner0 type dummy")
    place = {"sandbox": container.path} if has_sandbox else {}
    previous = {
        "interfaces": [{"name": "inner0", **place}],
        "ips": [{"interface": 0, "address": ADDRESS}],
    }
    conf = network(master=None, linkInContainer=True, ipam=None, prevResult=previous)

    result = runtime.add(container, conf).result()

    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    assert result["ips"] == [{"interface": 0, "address": ADDRESS}]
    assert container.links()["net1"]["link"] == "inner0"


def test_of_two_interfaces_of_a_name_the_containers_is_the_master_there(
    node: Node, runtime: Runtime
) -> None:
    container = node.container()
    container.ip("link add name inner0 type dummy")
    on_host = {"name": "inner0", "mac": "02:00:00:00:00:01"}
    previous = {
        "interfaces": [on_host, {"name": "inner0", "sandbox": container.path}],
        "ips": [{"interface": 1, "address": ADDRESS}],
    }
    conf = network(master="inner0", linkInContainer=True, ipam=None, prevResult=previous)

    result = runtime.add(container, conf).result()

    assert [each["name"] for each in result["interfaces"]] == ["inner0", "net1"]
    assert result["interfaces"][0] == on_host
    assert result["ips"] == [{"interface": 1, "address": ADDRESS}]


def test_a_previous_result_that_makes_no_sense_is_refused(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    conf = network(prevResult={"ips": [{"address": "10.1.0.2"}]})

    error = runtime.add(container, conf).error()

    assert error["code"] == 6
    assert "prevResult" in error["msg"]
    assert "10.1.0.2" in error["msg"]
    assert node.snapshot() == before
