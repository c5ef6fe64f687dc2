"""Whole lives of containers, with the real IPAM plugins."""

import pytest
from attacker import hints
from lab import Node
from runtime import Runtime, host_local, network

# The example of the document that this plugin implements.
EXAMPLE = {
    "cniVersion": "0.3.1",
    "name": "ipvlan0",
    "type": "ipvlan",
    "master": "eth1000",
    "mode": "l2",
    "ipam": {
        "type": "static",
        "addresses": [{"address": "10.10.10.2/24", "gateway": "10.10.10.1"}],
    },
}


def test_the_documents_example_lives_and_dies(node: Node, runtime: Runtime) -> None:
    node.master("eth1000")
    container = node.container()
    before = node.snapshot()

    result = runtime.add(container, EXAMPLE).result()

    mac = node.host.links()["eth1000"]["address"]
    (address,) = result.pop("ips")
    assert result == {
        "cniVersion": "0.3.1",
        "interfaces": [{"name": "net1", "mac": mac, "sandbox": container.path}],
    }
    assert address == {
        "version": "4",
        "interface": 0,
        "address": "10.10.10.2/24",
        "gateway": "10.10.10.1",
    }
    assert container.ipvlan("net1") == {"mode": "l2", "flag": "bridge", "mtu": 1500, "up": True}
    assert node.master_of(container) == "eth1000"
    assert container.addresses("net1") == ["10.10.10.2/24"]
    runtime.delete(container, EXAMPLE).succeeds()
    assert node.snapshot() == before


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_containers_reach_each_other_and_the_gateway(
    node: Node, runtime: Runtime, mode: str
) -> None:
    gateway = node.master_on_a_wire()
    gateway.ip("address add 10.1.0.1/24 dev eth0")
    gateway.ip("address add 10.9.9.9/16 dev lo")
    gateway.ip("link set dev lo up")
    ipam = host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "10.9.0.0/16"}])
    conf = network(mode=mode, ipam=ipam)
    first, second = node.container(), node.container()
    for container, name in ((first, "one"), (second, "two")):
        container.sysctl("net/ipv6/conf/default/accept_dad", 0)
        result = runtime.add(container, conf, CNI_CONTAINERID=name).result()
        runtime.check(container, conf, result, CNI_CONTAINERID=name).succeeds()

    first.run("ping", "-n", "-c", "1", "-W", "3", "10.1.0.3")
    second.run("ping", "-n", "-c", "1", "-W", "3", "fd00:1::2")
    if mode == "l2":  # the router needs a route to those in layer 3 mode
        first.run("ping", "-n", "-c", "1", "-W", "3", "10.1.0.1")
        second.run("ping", "-n", "-c", "1", "-W", "3", "10.9.9.9")
    assert node.leases() == ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"]


def test_status_and_gc_of_a_network(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    conf = network(cniVersion="1.1.0", ipam=None)
    runtime.status(conf).succeeds()
    runtime.add(container, network()).result()

    runtime.gc(conf, [("one", "net1")]).succeeds()
    assert "net1" in container.links()
    assert hints("one")
    node.remove(container)
    runtime.gc(conf).succeeds()

    assert not hints("one")
    node.host.ip("link set dev eth0 down")
    error = runtime.status(conf).error()
    assert (error["cniVersion"], error["code"]) == ("1.1.0", 51)
