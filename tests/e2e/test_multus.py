"""Pods that ask for networks in their annotation get them, as Multus passes them on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from executable import Executable
from lab import Node
from libcni import Libcni, PluginError
from multus import ANNOTATION, Multus, Pod
from runtime import PLUGINS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MANIFESTS = {file.name: yaml.safe_load(file.read_text()) for file in EXAMPLES.glob("*.yaml")}
POD = MANIFESTS.pop("ipvpod0.yaml")


@pytest.fixture
def multus(node: Node, ipvlan: Executable, tmp_path: Path) -> Multus:
    for name in ("eth1000", "eth1002"):
        node.master(name)
    path = (str(Path(ipvlan.path).parent), PLUGINS)
    return Multus(Libcni(path, tmp_path / "cache"), MANIFESTS.values())


def asking(*elements: dict[str, Any]) -> str:
    return json.dumps(elements)


def test_the_documents_pod_gets_its_interface(node: Node, multus: Multus) -> None:
    before = node.container(), node.snapshot()
    pod = Pod("ipvpod0", before[0], POD["metadata"]["annotations"][ANNOTATION])

    results = multus.add(pod)

    assert list(results) == ["net1"]
    assert pod.sandbox.addresses("net1") == ["10.10.10.2/24"]
    assert node.master_of(pod.sandbox) == "eth1000"
    multus.delete(pod)
    assert node.snapshot() == before[1]


def test_networks_by_name_and_with_an_interfaces_name(node: Node, multus: Multus) -> None:
    pod = Pod("two", node.container(), "default/private@lan0, checked")

    results = multus.add(pod)

    assert list(results) == ["lan0", "net2"]
    assert pod.sandbox.ipvlan("lan0")["flag"] == "private"
    assert pod.sandbox.addresses("net2") == ["10.10.70.2/24"]
    multus.delete(pod)
    assert pod.sandbox.links().keys() == {"lo"}
    assert node.leases() == []


def test_a_pod_gets_the_addresses_that_it_asks_for(node: Node, multus: Multus) -> None:
    ips = ["10.10.80.7/24", "fd00:80::7/64"]
    pod = Pod("asks", node.container(), asking({"name": "requested", "ips": ips}))

    result = multus.add(pod)["net1"]

    assert [each["address"] for each in result["ips"]] == ips
    assert pod.sandbox.addresses("net1") == ips
    multus.check(pod)
    multus.delete(pod)
    assert pod.sandbox.links().keys() == {"lo"}


def test_without_the_capability_a_request_for_addresses_does_not_arrive(
    node: Node, multus: Multus
) -> None:
    pod = Pod("asks", node.container(), asking({"name": "private", "ips": ["10.10.20.9/24"]}))
    multus.add(pod)
    assert pod.sandbox.addresses("net1") == ["10.10.20.2/24"]


@pytest.mark.parametrize("way", ["capability", "cni-args"])
def test_a_request_for_a_mac_address_is_refused_and_all_networks_are_left(
    node: Node, ipvlan: Executable, tmp_path: Path, way: str
) -> None:
    node.master("eth1000")
    config = json.loads(MANIFESTS["requested.yaml"]["spec"]["config"])
    config["capabilities"]["mac"] = True
    definition = {"metadata": {"name": "mac"}, "spec": {"config": json.dumps(config)}}
    libcni = Libcni((str(Path(ipvlan.path).parent), PLUGINS), tmp_path / "cache")
    multus = Multus(libcni, [MANIFESTS["ipvlan0.yaml"], definition])
    mac = {"mac": "02:00:00:00:00:07"}
    wanted = {"cni-args": mac} if way == "cni-args" else mac
    second = {"name": "mac", "ips": ["10.10.80.7/24"], **wanted}
    pod = Pod("asks", node.container(), asking({"name": "ipvlan0"}, second))
    before = node.snapshot()

    with pytest.raises(PluginError) as failure:
        multus.add(pod)

    error = failure.value.document
    assert error["code"] == 7
    assert "asks for the MAC address" in error["msg"]
    assert "an ipvlan interface always has its master's" in error["msg"]
    assert node.snapshot() == before


def test_the_default_route_is_moved_to_the_network_that_asks_for_it(
    node: Node, multus: Multus
) -> None:
    element = {"name": "private", "default-route": ["10.10.20.1"]}
    pod = Pod("routed", node.container(), asking({"name": "dual-stack"}, element))

    multus.add(pod)

    routes = pod.sandbox.ask("-4", "route", "show", "default")
    assert [(each["gateway"], each["dev"]) for each in routes] == [("10.10.20.1", "net2")]
    multus.delete(pod)
    assert pod.sandbox.links().keys() == {"lo"}


def test_arguments_reach_the_ipam_plugin(node: Node, multus: Multus) -> None:
    """As host-local takes a requested address in them, and static, too."""
    wanted = {"ips": ["10.10.80.8/24"]}
    pod = Pod("asks", node.container(), asking({"name": "requested", "cni-args": wanted}))
    multus.add(pod)
    assert pod.sandbox.addresses("net1") == ["10.10.80.8/24"]
