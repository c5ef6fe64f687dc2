"""A master that is a pattern, or a list of names and patterns: the first that fits counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lab import Node, run
from people import ipvlan, options
from runtime import PLUGINS, Runtime, network, refusal, static

NAMES = ("wan7", "eth1", "ens3", "ens4")  # in the order in which they are made


@pytest.mark.parametrize(
    ("master", "chosen"),
    [
        (["eth1", "ens*"], "eth1"),
        (["eth9", "ens*"], "ens3"),
        (["ens4", "eth1"], "ens4"),
        (["eth9", "uplink", "eth1"], "wan7"),  # by an altname
        ("upl*", "wan7"),
        ("ens*", "ens3"),
        ("ens?", "ens3"),
        ("en[a-z][4-9]", "ens4"),
        ("ens[!3]", "ens4"),
        ("*", "wan7"),  # the loopback interface can't be a master
        (["x*", "e*"], "eth1"),
        (["eth1"], "eth1"),
    ],
)
def test_the_first_entry_that_fits_is_the_master(
    node: Node, runtime: Runtime, master: str | list[str], chosen: str
) -> None:
    several(node)
    container = node.container()
    conf = network(master=master, cniVersion="1.1.0", ipam=None)
    given = {"prevResult": {"ips": [{"address": "10.1.0.2/24"}]}}
    before = node.snapshot()

    runtime.status(conf).succeeds()
    result = runtime.add(container, {**conf, **given}).result()

    assert node.master_of(container) == chosen
    runtime.check(container, conf, result).succeeds()
    other = {**conf, **given, "mode": "l3"}
    error = runtime.add(container, other, CNI_IFNAME="net2").error()
    assert (error["code"], f"{chosen!r}" in error["msg"]) == (104, True)
    runtime.delete(container, conf).succeeds()
    assert node.snapshot() == before


def test_the_order_is_that_of_the_index_whatever_they_are_called(
    node: Node, runtime: Runtime
) -> None:
    several(node)
    node.host.ip("link set dev ens3 down")
    node.host.ip("link set dev ens3 name ens9")
    node.host.ip("link property add dev wan7 altname ensure")
    one, other = node.container(), node.container()

    runtime.add(one, network(master="ens?")).result()
    runtime.add(other, network(master="ens*", ipam=static("10.1.0.3/24")), CNI_IFNAME="a").result()

    assert node.master_of(one) == "ens9"  # although it is down
    assert node.master_of(other, "a") == "wan7"


@pytest.mark.parametrize(
    "making",
    [
        ["ip link add name upper0 type bridge", "ip link set dev ens3 master upper0"],
        ["ip link add name taker0 link ens3 type macvlan"],
        ["ip link set dev ens3 mtu 1200"],
    ],
)
def test_a_pattern_passes_over_what_can_not_be_the_master(
    node: Node, runtime: Runtime, making: list[str]
) -> None:
    several(node)
    for command in making:
        run(*command.split())
    container = node.container()

    runtime.add(container, network(master="ens*", mtu=1400)).result()

    assert node.master_of(container) == "ens4"


def test_a_pattern_passes_over_interfaces_of_attachments(node: Node, runtime: Runtime) -> None:
    """One that is being made has an ``iv`` name on the host; so may one that a killed call left."""
    run("ip", "link", "add", "name", "real0", "type", "dummy")
    for kind in ("ipvlan", "ipvtap"):
        run("ip", "link", "add", "link", "real0", "name", f"iv-{kind}", "type", kind)
    node.master("iv7")
    container = node.container()

    runtime.add(container, network(master="iv*")).result()

    assert node.master_of(container) == "iv7"


def test_a_name_is_not_passed_over(node: Node, runtime: Runtime) -> None:
    several(node)
    run("ip", "link", "add", "name", "upper0", "type", "bridge")
    run("ip", "link", "set", "dev", "ens3", "master", "upper0")

    error = refusal(node, runtime, network(master=["ens3", "ens*"]))

    assert error["code"] == 103
    assert error["msg"] == "the master 'ens3' is a port of a bridge"


@pytest.mark.parametrize("name", ["e*", "eth[1]", "w?"])
def test_an_interface_may_be_called_like_a_pattern(node: Node, runtime: Runtime, name: str) -> None:
    several(node)
    node.master(name)
    container = node.container()

    result = runtime.add(container, network(master=name)).result()

    assert node.master_of(container) == name
    runtime.check(container, network(master=name), result).succeeds()


def test_in_the_container_its_interfaces_are_candidates(node: Node, runtime: Runtime) -> None:
    several(node)
    container = node.container()
    for name in ("ens7", "ens8"):
        container.ip(f"link add name {name} type dummy")
    conf = network(master=["eth1", "ens*"], linkInContainer=True)

    result = runtime.add(container, conf).result()

    assert container.links()["net1"]["link"] == "ens7"
    runtime.check(container, conf, result).succeeds()


def test_if_none_fits_only_root_sees_which_there_are(node: Node, runtime: Runtime) -> None:
    node.two_masters()
    run("ip", "link", "add", "name", "upper0", "type", "bridge")
    run("ip", "link", "set", "dev", "eth1", "master", "upper0")

    error = refusal(node, runtime, network(master=["ens3", "eth[1-9]"]))

    assert error["code"] == 102
    assert error["msg"] == (
        "cannot find a master: no interface that can be one fits 'ens3' or 'eth[1-9]'"
    )
    assert error["details"].splitlines() == [
        "looked in: the host's namespace",
        "try: correct the option master",
        "the node's log has the rest",
    ]
    assert error["private"].splitlines() == [
        "refused net1: found there: lo, eth0, eth1, upper0",
        "refused net1: 'eth1' fits 'eth[1-9]', but the master 'eth1' is a port of a bridge",
    ]


def test_check_compares_with_what_add_has_chosen(node: Node, runtime: Runtime) -> None:
    node.master("ens4")
    container = node.container()
    conf = network(master=["eth1", "ens*"])
    result = runtime.add(container, conf).result()

    node.master("eth1")  # an ADD would take it now
    runtime.check(container, conf, result).succeeds()

    error = runtime.check(container, network(master=["eth1", "w*"]), result).error()
    assert "its master is not 'eth1' or 'w*'" in error["msg"]
    error = runtime.check(container, network(master=["x", "w*"]), result).error()
    assert "its master 'x' or 'w*' does not exist any more" in error["msg"]


def test_check_finds_another_one_that_fits_as_well(node: Node, runtime: Runtime) -> None:
    several(node)
    container = node.container()
    conf = network(master="ens*")
    result = runtime.add(container, conf).result()
    container.ip("link delete dev net1")
    node.host.ip("link set dev ens4 address " + result["interfaces"][0]["mac"])
    node.host.ip("link add link ens4 name moved type ipvlan mode l2")
    node.host.ip(f"link set dev moved netns {container.path} name net1")
    container.ip("address add 10.1.0.2/24 dev net1")
    container.ip("link set dev net1 up")

    error = runtime.check(container, conf, result).error()

    assert (error["code"], "another master" in error["msg"]) == (110, True)


def test_people_are_told_which_one_it_is(node: Node, tmp_path: Path) -> None:
    several(node)
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(master=["eth9", "ens*"])))
    given = options(config=str(conf), netns=node.container().path, cni_path=PLUGINS)

    assert "ens3 is up, MTU 1500" in ipvlan("doctor", *given).fine()
    assert "ip link add link ens3 " in ipvlan("add", "--dry-run", *given).fine()
    ipvlan("add", *given).fine()
    assert ipvlan("show", "--master", "ens3").fine().startswith("ens3  up")


@pytest.mark.parametrize("change", [{"master": ["x", "y*"]}, {"master": "ens*", "mtu": 9000}])
def test_a_dry_run_fails_as_add_does(node: Node, tmp_path: Path, change: dict[str, Any]) -> None:
    several(node)
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(**change)))
    given = options(config=str(conf), netns=node.container().path, cni_path=PLUGINS)

    dry, real = ipvlan("add", "--dry-run", *given), ipvlan("add", *given)

    assert (dry.status, dry.err) == (real.status, real.err)
    assert "no interface that can be one fits" in real.err


def several(node: Node) -> None:
    for name in NAMES:
        node.master(name)
    node.host.ip("link property add dev wan7 altname uplink")
