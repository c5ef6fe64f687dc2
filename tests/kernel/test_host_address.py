"""A container never gets an address that the host has on the master: it would cut the host off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from people import ipvlan, options
from runtime import PLUGINS, host_local, network, refusal, static
from shells import run_by

if TYPE_CHECKING:
    from pathlib import Path

    from lab import Node
    from runtime import Runtime


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_an_add_that_gets_it_from_ipam_is_refused_and_gives_it_back(
    node: Node, runtime: Runtime, mode: str
) -> None:
    node.master()
    node.host.ip("address add 10.1.0.10/28 dev eth0")
    conf = network(mode=mode, ipam=host_local("10.1.0.0/28"))
    for number in range(2, 10):
        runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}").result()

    error = refusal(node, runtime, conf)

    assert error["code"] == 106
    assert error["msg"] == (
        "10.1.0.10/28 is the host's own address on the master; the container would take its packets"
    )
    assert "exclude the host's from the IPAM plugin's range" in error["details"]
    assert "10.1.0.10" not in node.leases()
    runtime.add(node.container(), conf, CNI_CONTAINERID="next").result()
    assert "10.1.0.11" in node.leases()


@pytest.mark.parametrize(
    ("of_host", "asked"),
    [
        ("10.1.0.2/32", "10.1.0.2/24"),
        ("fd00:1::2/64", "fd00:1:0:0::2/120"),
        ("::1.2.3.4/128", "::102:304/64"),
    ],
)
def test_it_is_the_same_in_any_spelling(
    node: Node, runtime: Runtime, of_host: str, asked: str
) -> None:
    node.master()
    node.host.ip("link property add dev eth0 altname uplink")
    node.host.ip(f"address add {of_host} dev eth0 nodad")

    error = refusal(node, runtime, network(master="uplink", ipam=static("10.1.0.9/24", asked)))

    assert error["code"] == 106


def test_addresses_elsewhere_and_those_beside_it_are_fine(node: Node, runtime: Runtime) -> None:
    node.two_masters()
    node.host.ip("address add 10.1.0.2/24 dev eth1")
    node.host.ip("address add 10.1.0.3/24 dev eth0")
    assert runtime.add(node.container(), network(ipam=static("10.1.0.2/24"))).result()


def test_the_script_of_a_dry_run_refuses_it_and_gives_it_back(node: Node, tmp_path: Path) -> None:
    node.master()
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=host_local("10.1.0.0/24"))))
    container = node.container()
    given = options(config=str(conf), netns=container.path, cni_path=PLUGINS)
    script = ipvlan("add", "--dry-run", *given).fine()
    node.host.ip("address add 10.1.0.2/24 dev eth0")  # since then
    before = node.snapshot()

    status, out = run_by("dash", script)

    assert status == 1
    assert "10.1.0.2/24 is the host's own address on the master" in out
    after = node.snapshot()
    assert (after, node.leases()) == (before, [])
