"""Errors about a master: missing, taken, in another mode, too small (docs/errors.md)."""

from __future__ import annotations

from typing import Any

import pytest
from lab import Node, run
from runtime import Runtime, network, refusal, static

LOG_HAS_IT = "the node's log has the rest"


def test_a_master_that_is_not_there(node: Node, runtime: Runtime) -> None:
    for name in ("wlan0", "eth10", "br-lan"):
        node.master(name)

    error = refusal(node, runtime, network(master="eth0"))

    assert error["code"] == 102
    assert error["msg"] == "cannot find the master 'eth0'"
    assert error["details"].splitlines() == [
        "looked in: the host's namespace",
        "try: correct the option master",
        LOG_HAS_IT,
    ]
    assert error["private"].splitlines() == [
        "refused net1: found there, nearest name first: eth10, wlan0, lo, br-lan",
        "refused net1: did you mean 'eth10'?",
    ]


def test_a_master_unlike_all_that_are_there(node: Node, runtime: Runtime) -> None:
    node.master("wlan0")

    error = refusal(node, runtime, network(master="eth0"))

    assert error["msg"] == "cannot find the master 'eth0'"
    assert "found there: " in error["private"]
    assert "meant" not in error["private"]


def test_a_master_that_is_not_there_among_very_many(node: Node, runtime: Runtime) -> None:
    for number in range(30):
        node.master(f"port{number}", up=False)

    error = refusal(node, runtime, network(master="prt29"))

    found, guess = error["private"].splitlines()
    assert found.endswith(" and 11 more")
    assert guess.endswith("did you mean 'port29'?")


def test_a_master_that_only_the_container_has(node: Node, runtime: Runtime) -> None:
    container = node.container()
    container.ip("link add name eth0 type dummy")

    error = runtime.add(container, network()).error()

    assert error["code"] == 102
    assert "linkInContainer" in error["details"]


def test_a_master_in_the_container_that_is_not_there(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()

    error = runtime.add(container, network(linkInContainer=True)).error()

    assert error["code"] == 102
    assert f"looked in: the container's namespace {container.path}" in error["details"]
    assert "found there: lo" in error["details"]


def test_no_default_route_to_take_the_master_from(node: Node, runtime: Runtime) -> None:
    node.master()

    error = refusal(node, runtime, network(master=None))

    assert error["code"] == 102
    assert "the host has no default route" in error["msg"]
    assert error["details"] == f"try: set the option master\n{LOG_HAS_IT}"
    assert error["private"] == "refused net1: interfaces there: lo, eth0"


def test_a_master_that_is_down(node: Node, runtime: Runtime) -> None:
    node.master(up=False)
    message = "the master 'eth0' is down, so no packets get through; try: ip link set dev eth0 up"

    answer = runtime.add(node.container(), network())

    assert answer.result()["interfaces"][0]["name"] == "net1"
    assert answer.stderr == f"one net1: {message}"
    status = runtime.status(network(cniVersion="1.1.0")).error()
    assert (status["code"], status["msg"]) == (51, message)


@pytest.mark.parametrize("kind", ["macvlan", "macvtap"])
def test_a_master_taken_by_macvlan_here(node: Node, runtime: Runtime, kind: str) -> None:
    node.master()
    run("ip", "link", "add", "name", "taker0", "link", "eth0", "type", kind)

    error = refusal(node, runtime, network())

    assert error["code"] == 103
    assert error["msg"] == "the master 'eth0' is taken by macvlan"
    assert error["private"] == "refused net1: the macvlan interfaces are: taker0"
    assert "try: use another master, or remove the macvlan interfaces" in error["details"]


def test_a_master_taken_by_macvlan_in_a_container(node: Node, runtime: Runtime) -> None:
    node.master()
    other = node.container()
    run("ip", "link", "add", "name", "taker0", "link", "eth0", "type", "macvlan")
    run("ip", "link", "set", "dev", "taker0", "netns", other.path)

    error = refusal(node, runtime, network())

    assert error["code"] == 103
    assert "the master already serves another kind of link" in error["msg"]
    assert "answer: RTNETLINK answers: Device or resource busy" in error["details"]
    found = f"found: eth0 already carries macvlan: taker0 in {other.path}"
    assert error["private"] == f"refused net1: {found}"
    assert "try: use another master" in error["details"]


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_a_master_taken_by_another_master(node: Node, runtime: Runtime, kind: str) -> None:
    node.master(up=False)
    run("ip", "link", "add", "name", "upper0", "type", kind)
    run("ip", "link", "set", "dev", "eth0", "master", "upper0")

    error = refusal(node, runtime, network())

    assert error["code"] == 103
    assert error["msg"] == f"the master 'eth0' is a port of a {kind}"
    assert error["details"].startswith("try: use that as the master")
    assert error["private"] == "refused net1: it is a port of 'upper0'"


def test_a_master_that_is_an_ipvlan_interface(node: Node, runtime: Runtime) -> None:
    node.master()
    run("ip", "link", "add", "name", "slave0", "link", "eth0", "type", "ipvlan", "mode", "l3")

    error = refusal(node, runtime, network(master="slave0"))

    assert error["code"] == 103
    assert error["msg"] == "the master 'slave0' is itself an ipvlan interface"
    assert error["details"].startswith("try: use the interface below it as the master\n")
    assert error["private"] == "refused net1: the interface below it is 'eth0'"
    assert node.host.ipvlan("slave0")["mode"] == "l3"


def test_another_mode_than_many_containers(node: Node, runtime: Runtime) -> None:
    node.master()
    run("ip", "link", "add", "name", "onhost", "link", "eth0", "type", "ipvlan", "mode", "l2")
    for number in range(2, 6):
        conf = network(ipam=static(f"10.1.0.{number}/24"))
        runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}").result()

    error = refusal(node, runtime, network(mode="l3s", flag="private", ipam=static("10.1.0.9/24")))

    assert error["code"] == 104
    assert error["msg"] == (
        "the master 'eth0' is used in mode l2 bridge; this network wants l3s private"
    )
    _, advice, _ = error["details"].splitlines()
    found = error["private"].removeprefix("refused net1: ")
    assert found.startswith("found: 5 interfaces run in that mode: onhost on the host, net1 in ")
    assert found.count("(container c") == 2
    assert found.endswith(" and 2 more")
    assert advice == "try: use mode l2 and flag bridge here, or another master"


def test_an_mtu_that_is_too_large(node: Node, runtime: Runtime) -> None:
    node.master(mtu=1400)

    error = refusal(node, runtime, network(mtu=1500))

    assert error["code"] == 7
    assert error["msg"] == "mtu is 1500; allowed on the master 'eth0': 68 to 1400"
    dropped, advice, *_ = error["details"].splitlines()
    assert dropped == "packets larger than the master's MTU would be dropped silently"
    assert advice.startswith("try: leave mtu out")


def test_an_mtu_that_is_too_small(node: Node, runtime: Runtime) -> None:
    node.master(mtu=1400)

    error = refusal(node, runtime, network(mtu=60))

    assert error["msg"] == "mtu is 60; allowed on the master 'eth0': 68 to 1400"
    assert error["details"].splitlines()[0] == "an ipvlan interface can't have less"


@pytest.mark.parametrize(
    ("options", "whose"), [({"mtu": 1200}, "mtu"), ({}, "the MTU of the master 'eth0'")]
)
def test_an_mtu_that_is_too_small_for_ipv6(
    node: Node, runtime: Runtime, options: dict[str, Any], whose: str
) -> None:
    node.master(mtu=1500 if options else 1200)

    error = refusal(node, runtime, network(ipam=static("fd00::2/64"), **options))

    assert error["code"] == 7
    assert error["msg"] == f"{whose} is 1200; IPv6 addresses need 1280 or more"
