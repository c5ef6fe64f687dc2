"""The document on stdout, in each version of the protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from doubles import FakeIpam
from lab import Node
from runtime import Runtime, call_environment, network, stdin_of

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
DNS = {"nameservers": ["10.1.0.53"], "search": ["example.org"]}
ROUTES = [{"dst": "10.7.0.0/16", "gw": "10.1.0.9"}, {"dst": "fd00:7::/64"}]
# The versions that the IPAM plugin supports, by its own answer.
STATIC = {
    "type": "static",
    "addresses": [
        {"address": "10.1.0.2/24", "gateway": "10.1.0.1"},
        {"address": "fd00:1::2/64", "gateway": "fd00:1::1"},
    ],
    "routes": ROUTES,
    "dns": DNS,
}
BY_FAMILY = {
    "ip4": {
        "ip": "10.1.0.2/24",
        "gateway": "10.1.0.1",
        "routes": [{"dst": "10.7.0.0/16", "gw": "10.1.0.9"}],
    },
    "ip6": {
        "ip": "fd00:1::2/64",
        "gateway": "fd00:1::1",
        "routes": [{"dst": "fd00:7::/64", "gw": "fd00:1::1"}],
    },
}
IPS = [
    {"interface": 0, "address": "10.1.0.2/24", "gateway": "10.1.0.1"},
    {"interface": 0, "address": "fd00:1::2/64", "gateway": "fd00:1::1"},
]
IPS_WITH_FAMILY = [{**IPS[0], "version": "4"}, {**IPS[1], "version": "6"}]
FILLED_ROUTES = [ROUTES[0], {**ROUTES[1], "gw": "fd00:1::1"}]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_of_add_has_the_shape_of_the_version(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, version: str
) -> None:
    node.master(mtu=1450)
    container = node.container()
    container.sysctl("net/ipv6/conf/default/accept_dad", 0)
    ipam: dict[str, Any] = STATIC
    if version == "1.1.0":  # which Debian's plugins do not know yet
        ipam = fake_ipam.conf
        addresses = [{key: each[key] for key in ("address", "gateway")} for each in IPS]
        answer = {"cniVersion": version, "ips": addresses, "routes": ROUTES, "dns": DNS}
        fake_ipam.answers("ADD", answer)
    interface = {
        "name": "net1",
        "mac": node.host.links()["eth0"]["address"],
        "sandbox": container.path,
    }
    by_interface = {"interfaces": [interface], "ips": IPS, "routes": FILLED_ROUTES}
    with_family = {**by_interface, "ips": IPS_WITH_FAMILY}
    shapes: dict[str, dict[str, Any]] = {
        "0.1.0": BY_FAMILY,
        "0.2.0": BY_FAMILY,
        "0.3.0": with_family,
        "0.3.1": with_family,
        "0.4.0": with_family,
        "1.0.0": by_interface,
        "1.1.0": {**by_interface, "interfaces": [{**interface, "mtu": 1450}]},
    }

    conf = network(cniVersion=version, ipam=ipam)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

    assert result == {"cniVersion": version, **shapes[version], "dns": DNS}


@pytest.mark.parametrize("version", ["0.1.0", "0.4.0", "1.0.0"])
def test_empty_dns_is_left_out(node: Node, runtime: Runtime, version: str) -> None:
    node.master()

    result = runtime.add(node.container(), network(cniVersion=version, dns={})).result()

    assert "dns" not in result
    assert "routes" not in result


def test_a_configuration_without_a_version_is_one_of_0_1_0(node: Node, runtime: Runtime) -> None:
    node.master()

    result = runtime.add(node.container(), network(cniVersion=None)).result()

    assert result == {"cniVersion": "0.1.0", "ip4": {"ip": "10.1.0.2/24"}}


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("0.2.0", "1.1.0"), ("0.4.0", "0.2.0"), ("1.0.0", "0.3.1"), ("1.0.0", "1.1.0")],
)
def test_the_ipam_plugin_may_answer_in_another_version(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, asked: str, answered: str
) -> None:
    node.master()
    shapes: dict[str, dict[str, Any]] = {
        "0.2.0": {"ip4": {"ip": "10.1.0.2/24"}},
        "0.3.1": {"ips": [{"version": "4", "address": "10.1.0.2/24"}]},
        "1.1.0": {"ips": [{"address": "10.1.0.2/24"}], "routes": []},
    }
    fake_ipam.answers("ADD", {"cniVersion": answered, **shapes[answered]})
    container = node.container()

    conf = network(cniVersion=asked, ipam=fake_ipam.conf)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()

    assert result["cniVersion"] == asked
    assert container.addresses("net1") == ["10.1.0.2/24"]


@pytest.mark.parametrize(
    ("stdin", "version"),
    [(b"", "1.1.0"), (b"{}", "0.1.0"), (b'{"cniVersion": "0.4.0"}', "0.4.0")],
)
def test_version_lists_all_versions(runtime: Runtime, stdin: bytes, version: str) -> None:
    answer = runtime.raw(stdin, {"CNI_COMMAND": "VERSION"})

    assert answer.result() == {"cniVersion": version, "supportedVersions": VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_delete_is_possible_in_each_version(node: Node, runtime: Runtime, version: str) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network()).result()

    runtime.delete(container, network(cniVersion=version, ipam=None)).succeeds()

    assert container.links().keys() == {"lo"}


def test_a_result_is_one_document_and_a_line_break(node: Node, runtime: Runtime) -> None:
    node.master()

    answer = runtime.raw(stdin_of(network(mtuu=5)), call_environment("ADD", node.container()))

    document, end = json.JSONDecoder().raw_decode(answer.stdout.decode())
    assert document["interfaces"]
    assert answer.stdout[end:] == b"\n"
    assert "mtuu" in answer.stderr
