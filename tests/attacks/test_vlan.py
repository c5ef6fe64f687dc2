"""vlan takes no packets from a bridge or bond, and removes no interface that others made."""

import os
import shutil
from pathlib import Path

import pytest
from lab import Node
from runtime import Runtime, network, refusal

CONF = network(vlan=8)
# What other programs may have made, by the name that the plugin gives to the VLAN.
FOREIGN = {
    "the same VLAN of another": "link add link other name eth0.8 type vlan id 8",
    "another VLAN of it": "link add link eth0 name eth0.8 type vlan id 9",
    "of another protocol": "link add link eth0 name eth0.8 type vlan protocol 802.1ad id 8",
    "of another kind": "link add name eth0.8 type dummy",
    "by another name as well": "link property add dev other altname eth0.8",
}


@pytest.fixture
def other(node: Node) -> str:
    node.master()
    node.host.ip("link add name other up type dummy")
    return "other"


@pytest.mark.parametrize("kind", ["bridge", "bond"])
def test_on_a_port_none_is_made_and_one_that_root_made_is_used_and_stays(
    node: Node, runtime: Runtime, kind: str
) -> None:
    make_port(node, kind)
    container = node.container()

    error = runtime.add(container, CONF).error()

    assert node.host.links().keys() == {"lo", "eth0", "above"}
    assert error["code"] == 103
    assert f"the master 'eth0' is a port of a {kind}" in error["msg"]
    assert "ip link add link eth0 name NAME type vlan id 8" in error["details"]
    assert status(runtime)["code"] == 50

    node.host.ip("link add link eth0 name eth0.8 up type vlan id 8")
    runtime.status(network(vlan=8, cniVersion="1.1.0", ipam=None)).succeeds()
    runtime.add(container, CONF).result()
    assert node.master_of(container) == "eth0.8"
    runtime.delete(container, CONF).succeeds()
    assert container.links().keys() == {"lo"}
    assert "eth0.8" in node.host.links()


def make_port(node: Node, kind: str) -> None:
    node.master(up=kind == "bridge")
    node.host.ip(f"link add name above up type {kind}")
    node.host.ip("link set dev eth0 master above")
    node.host.ip("link set dev eth0 up")


def status(runtime: Runtime) -> dict[str, object]:
    return runtime.status(network(vlan=8, cniVersion="1.1.0", ipam=None)).error()


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_refused_add_leaves_the_interface_alone_that_has_the_name(
    node: Node, runtime: Runtime, other: str, foreign: str
) -> None:
    node.host.ip(FOREIGN[foreign])

    error = refusal(node, runtime, CONF)  # which compares the node with before

    assert error["code"] == 105
    assert "the host has another interface called 'eth0.8'" in error["msg"]
    assert "ip link add link eth0 name NAME type vlan id 8" in error["details"]
    assert "eth0.8" not in error["msg"].partition("called")[0]
    assert status(runtime)["code"] == 50


@pytest.mark.parametrize(
    "foreign", ["the same VLAN of another", "of another kind", "the very VLAN, made meanwhile"]
)
def test_one_that_another_makes_meanwhile_stays(
    node: Node, runtime: Runtime, other: str, tmp_path: Path, foreign: str
) -> None:
    words = FOREIGN.get(foreign, "link add link eth0 name eth0.8 type vlan id 8")

    runtime.add(node.container(), CONF, PATH=ip_that_is_late(tmp_path, words)).error()

    assert "eth0.8" in node.host.links()
    runtime.gc(network(vlan=8, cniVersion="1.1.0", ipam=None)).succeeds()
    assert "eth0.8" in node.host.links()


def ip_that_is_late(directory: Path, words: str) -> str:
    """Make an ip that lets another make an interface before a VLAN; return its PATH."""
    tool, real = directory / "ip", shutil.which("ip")
    tool.write_text(
        f"""\
#!/bin/sh
case " $* " in
*" exec "*) ;;
*" -batch "*)
    read -r first
    case $first in *"type vlan id"*) {real} {words} ;; esac
    {{ echo "$first"; exec cat; }} | {real} "$@"
    exit
    ;;
esac
exec {real} "$@"
"""
    )
    tool.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    "words",
    [
        "link add link other name eth0.8 alias-of-ours type vlan id 8",
        "link add link eth0 name eth0.8 alias-of-ours type vlan id 8",
        "link add link eth0 name eth0.8 type vlan id 8",
    ],
)
def test_one_that_root_made_in_its_place_stays(
    node: Node, runtime: Runtime, other: str, words: str
) -> None:
    """The record says which VLAN was made here: that one is gone."""
    container = node.container()
    runtime.add(container, CONF).result()
    label = node.host.links()["eth0.8"]["ifalias"]
    node.host.ip("link delete dev eth0.8")
    node.host.ip("link add name spare type dummy")  # which takes the index
    node.host.ip(words.replace(" alias-of-ours", ""))
    if "alias-of-ours" in words:
        node.host.ip(f"link set dev eth0.8 alias {label}")

    runtime.delete(container, CONF).succeeds()

    assert "eth0.8" in node.host.links()


def test_one_that_root_has_renamed_goes_with_its_last_container(
    node: Node, runtime: Runtime, other: str
) -> None:
    container, before = node.container(), node.snapshot()
    runtime.add(container, CONF).result()
    node.host.rename("eth0.8", "storage")
    node.host.ip("link add link other name eth0.8 type vlan id 8")

    runtime.delete(container, CONF).succeeds()

    node.host.ip("link delete dev eth0.8")
    assert node.snapshot() == before
