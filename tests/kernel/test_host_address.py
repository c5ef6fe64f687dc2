"""A container never gets an address that the host has on the master: it would cut the host off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from doubles import Steps
from lab import Node
from people import ipvlan, options
from runtime import PLUGINS, Conf, Runtime, host_local, network, refusal, static
from shells import run_by


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
        "10.1.0.10/28 is the host's own address; the container would take its packets"
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


def test_those_beside_it_are_fine(node: Node, runtime: Runtime) -> None:
    node.two_masters()
    node.host.ip("address add 10.1.0.1/24 dev eth1")
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
    assert "10.1.0.2/24 is the host's own address" in out
    after = node.snapshot()
    assert (after, node.leases()) == (before, [])


CONTAINED = (
    "the range of {} contains {}, which is the host's own on eth0; a container may get it; set "
    "rangeStart and rangeEnd so that the host's address is not between"
)
EQUAL = (
    "the container would get {}, which is the host's own on eth0, and take its packets; give the "
    "container another address"
)


def pool(**options: Any) -> Conf:
    return {"type": "host-local", "subnet": "10.1.0.0/24", **options}


@pytest.mark.parametrize("master", ["eth0", "uplink", None])
@pytest.mark.parametrize(
    ("ipam", "said"),
    [
        (pool(), f"$.ipam: {CONTAINED.format('10.1.0.0/24', '10.1.0.7')}"),
        (
            host_local("10.2.0.0/24", "fd00:1::/64"),
            f"$.ipam.ranges[1][0]: {CONTAINED.format('fd00:1::/64', 'fd00:1::7')}",
        ),
        (static("10.1.0.9/24", "10.1.0.7/16"), f"$.ipam.addresses[1]: {EQUAL.format('10.1.0.7')}"),
        (static("fd00:1:0::7/64"), f"$.ipam.addresses[0]: {EQUAL.format('fd00:1::7')}"),
        (pool(rangeStart="10.1.0.8"), ""),
        (pool(rangeEnd="10.1.0.6"), ""),
        (pool(gateway="10.1.0.7"), ""),  # which it gives to nobody
        (static("10.1.0.2/24"), ""),
    ],
)
def test_validate_reports_it(
    node: Node, tmp_path: Path, ipam: Conf, said: str, master: str | None
) -> None:
    addressed_master(node)
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=ipam, master=master)))

    typed = ipvlan("validate", str(conf))

    if said:
        assert (typed.status, typed.out) == (1, f"{conf}:1: {said}\n")
    else:
        assert typed.fine() == "1 network: no problems\n"


@pytest.mark.parametrize(
    "options",
    [
        {"master": "eth9"},  # which another machine may have
        {"master": "eth1"},
        {"linkInContainer": True},
        {"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]}, "master": None},
    ],
)
def test_validate_does_not_compare_what_is_elsewhere(
    node: Node, tmp_path: Path, options: dict[str, Any]
) -> None:
    addressed_master(node)
    node.master("eth1")
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=pool(), **options)))
    assert ipvlan("validate", str(conf)).fine() == "1 network: no problems\n"


def test_validate_looks_without_an_ip_that_works_at_the_file_alone(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addressed_master(node)
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(network(ipam=pool())))
    (tmp_path / "ip").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ipvlan("validate", str(conf)).fine() == "1 network: no problems\n"


def test_validate_looks_at_each_master_once(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addressed_master(node)
    node.master("eth1")
    steps = Steps(tmp_path / "steps")
    confs = tmp_path / "confs"
    confs.mkdir()
    for number in range(6):
        conf = network(ipam=pool(), name=f"n{number}", master=("eth0", "eth1", "eth9")[number % 3])
        (confs / f"{number}.conf").write_text(json.dumps(conf))
    monkeypatch.setenv("PATH", steps.environment["PATH"])

    said = ipvlan("validate", str(confs))

    assert said.out.count("the host's own on eth0") == 2
    assert len(steps.taken) == 4  # if one is absent, all links are listed


def addressed_master(node: Node) -> None:
    node.master()
    node.host.ip("link property add dev eth0 altname uplink")
    for address in ("10.1.0.7/24", "fd00:1::7/64 nodad"):
        node.host.ip(f"address add {address} dev eth0")
    node.host.ip("route add default dev eth0")
