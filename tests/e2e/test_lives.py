"""Whole lives of containers, with the real IPAM plugins."""

from __future__ import annotations

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import MEMORY, Node, Space
from runtime import Runtime, call_environment, host_local, network, static, stdin_of

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

    assert result == {
        "cniVersion": "0.3.1",
        "interfaces": [
            {
                "name": "net1",
                "mac": node.host.links()["eth1000"]["address"],
                "sandbox": container.path,
            }
        ],
        "ips": [
            {
                "version": "4",
                "interface": 0,
                "address": "10.10.10.2/24",
                "gateway": "10.10.10.1",
            }
        ],
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
    gateway = router(node)
    conf = network(
        mode=mode,
        ipam=host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "10.9.0.0/16"}]),
    )
    first, second = node.container(), node.container()
    for container, name in ((first, "one"), (second, "two")):
        container.sysctl("net/ipv6/conf/default/accept_dad", 0)
        runtime.add(container, conf, CNI_CONTAINERID=name).result()

    ping(first, "10.1.0.3")
    ping(second, "fd00:1::2")
    # Containers in layer 3 mode have no neighbours: the router needs a route to them.
    gateway.ip("route replace 10.1.0.0/24 dev eth0")
    if mode == "l2":
        ping(first, "10.1.0.1")
        ping(second, "10.9.9.9")
    assert node.leases() == ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"]


def test_addresses_are_released(node: Node, runtime: Runtime) -> None:
    node.master()
    # Of this subnet's addresses one is the gateway's and one a container's.
    conf = network(cniVersion="0.4.0", ipam=host_local("10.1.0.0/30"))
    container = node.container()
    for number in range(3):
        name = {"CNI_CONTAINERID": f"c{number}"}
        runtime.add(container, conf, **name).result()
        assert node.leases() == ["10.1.0.2"]
        runtime.delete(container, conf, **name).succeeds()

    assert node.leases() == []
    assert not MEMORY.exists()


def test_check_follows_a_life(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    conf = network(cniVersion="0.4.0", ipam=host_local("10.1.0.0/24"))
    result = runtime.add(container, conf).result()

    runtime.check(container, conf, result).succeeds()

    container.ip("link set dev net1 down")
    error = runtime.check(container, conf, result).error()
    assert error["cniVersion"] == "0.4.0"
    assert error["code"] == 110
    assert "down" in error["msg"]


def test_status_follows_the_master(node: Node, runtime: Runtime, fake_ipam: FakeIpam) -> None:
    node.master()
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    runtime.status(conf, CNI_PATH=fake_ipam.path).succeeds()

    node.host.ip("link set dev eth0 down")

    error = runtime.status(conf, CNI_PATH=fake_ipam.path).error()
    assert (error["cniVersion"], error["code"]) == ("1.1.0", 51)
    assert "down" in error["msg"]


def test_an_address_may_come_from_the_runtime(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    conf = network(
        ipam={"type": "static"},
        capabilities={"ips": True},
        runtimeConfig={"ips": ["10.1.0.77/24"]},
    )

    runtime.add(container, conf).result()

    assert container.addresses("net1") == ["10.1.0.77/24"]


def test_an_address_may_come_from_the_arguments(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    arguments = "IgnoreUnknown=1;IP=10.1.0.78/24;GATEWAY=10.1.0.1;K8S_POD_NAME=pod"

    conf = network(ipam={"type": "static"})
    result = runtime.add(container, conf, CNI_ARGS=arguments).result()

    assert result["ips"][0]["gateway"] == "10.1.0.1"
    assert container.addresses("net1") == ["10.1.0.78/24"]


def test_containers_may_start_all_at_once(node: Node, ipvlan: Executable) -> None:
    node.master()
    conf = network(ipam=host_local("10.1.0.0/24"))
    containers = [node.container() for _ in range(4)]

    calls = [
        ipvlan.start(
            call_environment("ADD", container, CNI_CONTAINERID=f"c{number}"), stdin_of(conf)
        )
        for number, container in enumerate(containers)
    ]
    results = [call.end().result() for call in calls]

    addresses = {result["ips"][0]["address"] for result in results}
    assert addresses == {f"10.1.0.{number}/24" for number in (2, 3, 4, 5)}
    assert {container.addresses("net1")[0] for container in containers} == addresses


def test_of_two_modes_that_start_at_once_one_wins(node: Node, ipvlan: Executable) -> None:
    node.master()
    containers = {mode: node.container() for mode in ("l2", "l3")}

    calls = {
        mode: ipvlan.start(
            call_environment("ADD", container, CNI_CONTAINERID=mode),
            stdin_of(network(mode=mode, ipam=static(f"10.1.0.{len(mode)}{mode[1]}/24"))),
        )
        for mode, container in containers.items()
    }
    answers = {mode: call.end() for mode, call in calls.items()}

    (winner,) = [mode for mode, answer in answers.items() if answer.status == 0]
    (loser,) = set(answers) - {winner}
    assert answers[loser].error()["code"] == 104
    assert containers[winner].ipvlan("net1")["mode"] == winner
    assert containers[loser].links().keys() == {"lo"}


def router(node: Node) -> Space:
    """Make a gateway at the other end of the master's wire, with an address behind it."""
    gateway = node.master_on_a_wire()
    gateway.ip("address add 10.1.0.1/24 dev eth0")
    gateway.ip("address add 10.9.9.9/16 dev lo")
    gateway.ip("link set dev lo up")
    return gateway


def ping(space: Space, address: str) -> None:
    space.run("ping", "-n", "-c", "1", "-W", "3", address)
