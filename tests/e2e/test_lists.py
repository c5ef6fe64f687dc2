"""A list of plugins as Multus and container runtimes run it: ipvlan, then tuning, then sbr."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, records
from libcni import Attachment, Libcni, PluginError, without_files
from runtime import PLUGINS

NETWORK: dict[str, Any] = {
    "cniVersion": "0.4.0",
    "name": "net",
    "plugins": [
        {
            "type": "ipvlan",
            "master": "eth0",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.1.0.0/24"}]],
                "routes": [{"dst": "10.7.0.0/16"}],
            },
        },
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1400},
        {"type": "sbr"},
    ],
}


@pytest.fixture
def libcni(node: Node, ipvlan: Executable, tmp_path: Path) -> Iterator[Libcni]:
    node.master()
    yield Libcni((str(Path(ipvlan.path).parent), PLUGINS), tmp_path / "cache")
    shutil.rmtree("/run/cni", ignore_errors=True)  # notes of the plugin tuning


def version(number: str) -> dict[str, Any]:
    return {**copy.deepcopy(NETWORK), "cniVersion": number}


def test_each_plugin_builds_on_the_one_before_and_delete_leaves_nothing(
    node: Node, libcni: Libcni
) -> None:
    network, container = version("1.0.0"), node.container()
    before = without_files(node.snapshot())
    network["plugins"][0]["ipam"]["ranges"].append([{"subnet": "fd00:1::/64"}])
    result = libcni.add(network, Attachment(container.path))
    assert [each["address"] for each in result["ips"]] == ["10.1.0.2/24", "fd00:1::2/64"]
    assert container.addresses("net1") == ["10.1.0.2/24", "fd00:1::2/64"]
    assert container.sysctl("net/core/somaxconn") == "500"
    assert container.ipvlan("net1")["mtu"] == 1400
    rules = container.ask("-4", "rule", "show")
    assert [rule["src"] for rule in rules if rule["table"] == "100"] == ["10.1.0.2"]
    assert "10.7.0.0/16" in {route["dst"] for route in container.routes()}
    libcni.check(network, Attachment(container.path))
    libcni.delete(network, Attachment(container.path))
    assert libcni.cached() == []
    assert without_files(node.snapshot()) == before
    assert records() == []


def test_delete_when_the_namespace_is_gone_and_again(node: Node, libcni: Libcni) -> None:
    container = node.container()
    libcni.add(NETWORK, Attachment(container.path))
    node.remove(container)
    with pytest.raises(PluginError) as failure:
        libcni.delete(NETWORK, Attachment(""))
    assert failure.value.plugin == "sbr"  # so that ipvlan is not called
    assert node.leases() == ["10.1.0.2"]

    network = version("0.4.0")
    del network["plugins"][2]
    for _ in range(2):
        libcni.delete(network, Attachment(""))
    assert libcni.cached() == []
    assert node.leases() == []


def test_delete_after_a_later_plugin_failed_undoes_everything(node: Node, libcni: Libcni) -> None:
    network, container = version("0.4.0"), node.container()
    network["plugins"][1]["sysctl"] = {"net.core.no_such_thing": "1"}
    with pytest.raises(PluginError) as failure:
        libcni.add(network, Attachment(container.path))
    assert failure.value.plugin == "tuning"
    libcni.delete(network, Attachment(container.path))
    assert "net1" not in container.links()
    assert node.leases() == []


def test_a_network_of_1_1_0_is_ready_when_its_plugins_say_so(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    network = version("1.1.0")
    network["plugins"] = [{"type": "ipvlan", "master": "eth0", "ipam": fake_ipam.conf}]
    path = (str(Path(ipvlan.path).parent), *fake_ipam.path.split(":"))
    libcni = Libcni(path, fake_ipam.directory / "cache")
    libcni.status(network)
    assert fake_ipam.calls == ["STATUS"]

    fake_ipam.answers("STATUS", {"code": 50, "msg": "no address is left"}, status=1)
    with pytest.raises(PluginError, match="no address is left") as failure:
        libcni.status(network)
    assert failure.value.document["code"] == 50
