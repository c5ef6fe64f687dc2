"""New addresses are announced: the neighbours on the wire hear of them without asking."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import FakeDhcp
from lab import Node, run, wait_until
from runtime import Conf, Runtime, host_local, network, static
from wire import listening

STATIC = network(ipam=static("10.1.0.2/24", "10.2.0.2/24", "fd00:1::2/64"))
HOST_LOCAL = network(ipam=host_local("10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"))
ANNOUNCED = ["10.1.0.2", "10.2.0.2", "fd00:1::2"]


@pytest.mark.parametrize("conf", [STATIC, HOST_LOCAL], ids=["static", "host-local"])
def test_every_address_is_announced_once(node: Node, runtime: Runtime, conf: Conf) -> None:
    with listening(node.master_on_a_wire(), "eth0") as neighbour:
        runtime.add(node.container(), conf).result()

        wait_until(lambda: sorted(neighbour.announced()) == ANNOUNCED)


def test_an_interface_that_is_up_before_it_has_addresses_announces_them(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    fake_ipam = FakeDhcp(tmp_path)
    ips = [{"address": "10.1.0.2/24"}, {"address": "10.2.0.2/24"}, {"address": "fd00:1::2/64"}]
    fake_ipam.answers("ADD", {"ips": ips})
    container = node.container()
    conf = network(ipam=fake_ipam.conf)
    with listening(node.master_on_a_wire(), "eth0") as neighbour:
        runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

        wait_until(lambda: sorted(neighbour.announced()) == ANNOUNCED)
    assert container.ipvlan("net1")["up"]
    assert container.links()["net1"]["broadcast"] == "ff:ff:ff:ff:ff:ff"


def test_a_master_in_the_container_carries_the_announcements(node: Node, runtime: Runtime) -> None:
    neighbour = node.master_on_a_wire()
    container = node.container()
    run("ip", "link", "set", "dev", "eth0", "netns", container.path)
    container.ip("link set dev eth0 up")
    with listening(neighbour, "eth0") as heard:
        runtime.add(container, {**STATIC, "linkInContainer": True}).result()

        wait_until(lambda: sorted(heard.announced()) == ANNOUNCED)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_modes_without_neighbours_announce_nothing(node: Node, runtime: Runtime, mode: str) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("address add 10.1.0.9/24 dev eth0")
    node.host.ip("address add 10.1.0.8/24 dev eth0")  # these modes route as the host does
    container = node.container()
    with listening(neighbour, "eth0") as heard:
        runtime.add(container, {**STATIC, "mode": mode}).result()

        container.run("sh", "-c", "ping -c 1 -W 1 10.1.0.9 || :")
        wait_until(lambda: heard.has_ping_of("10.1.0.2"))
        assert heard.announced() == []
