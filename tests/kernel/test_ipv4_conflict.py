"""checkIPv4Conflict: ADD asks the network whether another host uses an address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Node, Space, run, without_program
from people import ipvlan
from runtime import Runtime, host_local, network, refusal, static

CONF = network(ipam=host_local("10.1.0.0/24"), checkIPv4Conflict=True)
FIRST = "10.1.0.2/24"


def mac_of(space: Space) -> str:
    return str(space.links()["eth0"]["address"]).upper()


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_an_address_of_another_host_is_refused(node: Node, runtime: Runtime, mode: str) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip(f"address add {FIRST} dev eth0")

    error = refusal(node, runtime, {**CONF, "mode": mode})

    assert error["code"] == 106
    assert "10.1.0.2" in error["msg"]
    assert mac_of(neighbour) in error["msg"]


def test_an_address_of_another_hosts_container_is_refused(node: Node, runtime: Runtime) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("link add link eth0 name slave type ipvlan mode l2")
    elsewhere = node.container()
    neighbour.ip(f"link set dev slave netns {elsewhere.path}")
    elsewhere.ip(f"address add {FIRST} dev slave")
    elsewhere.ip("link set dev slave up")

    error = refusal(node, runtime, CONF)

    assert error["code"] == 106
    assert mac_of(neighbour) in error["msg"]


def test_every_address_is_asked_for(node: Node, runtime: Runtime) -> None:
    node.master_on_a_wire().ip("address add 10.3.0.2/24 dev eth0")
    addresses = static("10.1.0.2/24", "fd00:1::2/64", "10.3.0.2/24")

    error = refusal(node, runtime, {**CONF, "ipam": addresses})

    assert "10.3.0.2" in error["msg"]


def test_a_free_address_is_used(node: Node, runtime: Runtime) -> None:
    node.master_on_a_wire().ip("address add 10.1.0.9/24 dev eth0")
    container = node.container()

    runtime.add(container, CONF).result()

    assert container.addresses("net1") == [FIRST]


def test_without_the_option_no_host_is_asked(node: Node, runtime: Runtime) -> None:
    node.master_on_a_wire().ip(f"address add {FIRST} dev eth0")

    runtime.add(node.container(), {**CONF, "checkIPv4Conflict": False}).result()


def test_a_master_in_the_container_is_asked_there(node: Node, runtime: Runtime) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip(f"address add {FIRST} dev eth0")
    container = node.container()
    run("ip", "link", "set", "dev", "eth0", "netns", container.path)
    container.ip("link set dev eth0 up")

    error = refusal(node, runtime, {**CONF, "linkInContainer": True}, container)

    assert mac_of(neighbour) in error["msg"]


def test_a_master_that_is_down_cannot_be_asked(node: Node, runtime: Runtime) -> None:
    node.master(up=False)

    error = refusal(node, runtime, CONF)

    assert error["code"] == 100
    assert 'Interface "eth0" is down' in error["msg"]


def test_a_master_without_arp_has_no_conflicts(node: Node, runtime: Runtime) -> None:
    node.master()
    run("ip", "link", "set", "dev", "eth0", "arp", "off")

    runtime.add(node.container(), CONF).result()


def test_without_arping_it_is_named(node: Node, runtime: Runtime) -> None:
    node.master()

    with without_program("arping"):
        error = refusal(node, runtime, CONF)

    assert error["code"] == 113
    assert "iputils-arping" in error["details"]


def test_a_dry_run_shows_the_question(node: Node, tmp_path: Path) -> None:
    node.master()
    file = tmp_path / "conf"
    file.write_text(json.dumps({**CONF, "ipam": static(FIRST)}))

    shown = ipvlan("add", "-c", str(file), "--netns", node.container().path, "--dry-run").fine()

    assert "\narping -D -w 1 -I eth0 10.1.0.2  #" in shown
