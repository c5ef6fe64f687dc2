"""Every file in examples/ is valid, and works on a kernel as its comment describes."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from executable import Executable
from lab import NetNS, Node, run
from libcni import Attachment, Libcni, without_files
from runtime import PLUGINS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NETWORKS = sorted(path.name for path in EXAMPLES.iterdir() if path.name != "ipvpod0.yaml")


@pytest.fixture
def libcni(node: Node, ipvlan: Executable) -> Libcni:
    """A node with every master that the examples name, made as their comments describe."""
    for number in range(1000, 1005):
        node.make_master(f"eth{number}")
    node.host.ip("link add name bond0 type bond mode active-backup miimon 100")
    for name in ("eth1003", "eth1004"):
        node.host.ip(f"link set dev {name} down")
        node.host.ip(f"link set dev {name} master bond0")
    node.host.ip("link set dev bond0 up")
    node.host.ip("address add 10.10.100.200/24 dev eth1000")
    return Libcni(str(Path(ipvlan.path).parent), PLUGINS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_example_works(node: Node, libcni: Libcni, ipvlan: Executable, name: str) -> None:
    network, container = read(name), node.make_container()
    before = without_files(node.snapshot())
    attachment = Attachment(container.path, requests={"ips": ["10.10.80.2/24"]})
    status = (ipvlan.path, "status", "-c", str(EXAMPLES / name))
    assert run(*status) == "ready\n"
    libcni.add(network, attachment)
    assert run(*status) == "ready\n"
    conf = network["plugins"][0]
    is_asked_for = conf.get("capabilities", {}).get("ips", False)
    has_own = is_asked_for or name == "ipvlan0.yaml"  # others can be used by many pods
    assert conf["ipam"]["type"] == ("static" if has_own else "host-local")
    link = container.ipvlan("net1")
    assert link["up"]
    assert (link["mode"], link["flag"]) == (conf.get("mode", "l2"), conf.get("flag", "bridge"))
    assert link["mtu"] == conf.get("mtu", 1500)
    vlan = f".{conf['vlan']}" if "vlan" in conf else ""
    assert node.find_master(container) == conf["master"] + vlan
    assert len(container.addresses("net1")) == max(1, len(conf["ipam"].get("ranges", [])))
    expected = {route["dst"] for route in conf["ipam"].get("routes", [])}
    assert expected - {"0.0.0.0/0", "::/0"} <= destinations(container)
    assert ({"0.0.0.0/0", "::/0"} & expected == set()) == ("default" not in destinations(container))
    if network["cniVersion"] != "0.3.1":
        libcni.check(network, attachment)
    libcni.delete(network, attachment)
    assert without_files(node.snapshot()) == before


def test_later_plugins_build_on_it_and_delete_leaves_nothing(node: Node, libcni: Libcni) -> None:
    network, container = read("chain.conflist"), node.make_container()
    attachment = Attachment(container.path)
    ipvlan, tuning = network["plugins"]
    ipvlan["ipam"]["ranges"].append([{"subnet": "fd00:1::/64"}])
    tuning["mtu"] = 1400
    network["plugins"].append({"type": "sbr"})
    before = without_files(node.snapshot())
    result = libcni.add(network, attachment)
    assert [each["address"] for each in result["ips"]] == container.addresses("net1")
    assert container.addresses("net1") == ["10.10.60.2/24", "fd00:1::2/64"]
    assert container.sysctl("net/core/somaxconn") == "500"
    assert container.ipvlan("net1")["mtu"] == 1400
    rules = container.query("-4", "rule", "show")
    assert [rule["src"] for rule in rules if rule["table"] == "100"] == ["10.10.60.2"]
    libcni.check(network, attachment)
    libcni.delete(network, attachment)
    assert without_files(node.snapshot()) == before


def test_pod_of_the_document_gets_the_network_that_it_names(node: Node, libcni: Libcni) -> None:
    pod = yaml.safe_load((EXAMPLES / "ipvpod0.yaml").read_text())
    (selection,) = json.loads(pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"])
    definitions = [yaml.safe_load(path.read_text()) for path in EXAMPLES.glob("*.yaml")]
    (definition,) = (each for each in definitions if each["metadata"]["name"] == selection["name"])
    name = f"IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod['metadata']['name']}"
    attachment = Attachment((sandbox := node.make_container()).path, args=name)
    network = as_list(json.loads(definition["spec"]["config"]))

    result = libcni.add(network, attachment)

    mac = node.host.links()["eth1000"]["address"]
    address = {"address": "10.10.10.2/24", "gateway": "10.10.10.1"}
    assert result == {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": "net1", "mac": mac, "sandbox": sandbox.path}],
        "ips": [{"version": "4", "interface": 0, **address}],
    }
    assert sandbox.addresses("net1") == ["10.10.10.2/24"]
    libcni.delete(network, attachment)
    assert sandbox.links().keys() == {"lo"}


def read(name: str) -> dict[str, Any]:
    text = (EXAMPLES / name).read_text()
    document: dict[str, Any] = json.loads(
        yaml.safe_load(text)["spec"]["config"] if name.endswith(".yaml") else text
    )
    return as_list(document)


def as_list(document: dict[str, Any]) -> dict[str, Any]:
    if "plugins" in document:
        return document
    return {**{key: document[key] for key in ("cniVersion", "name")}, "plugins": [document]}


def destinations(container: NetNS) -> set[str]:
    return {route["dst"] for route in container.routes()}
