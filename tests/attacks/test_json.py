"""Invalid JSON: a number or a byte order mark that only one side can read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node
from runtime import Runtime, call_environment, network, stdin_of

ADDRESS = '"ips": [{"address": "10.1.0.2/24"}]'
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '[1.0, {"y": -9e9999}]']
MARK = b"\xef\xbb\xbf"


def strictly(stdout: bytes) -> Any:
    """Return a document as a runtime in Go reads it."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(stdout, parse_constant=refuse)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "STATUS", "GC"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_configuration_with_an_invalid_number_is_refused(
    ipvlan: Executable, verb: str, value: str
) -> None:
    conf = f'{{"cniVersion": "1.1.0", "name": "net", "dns": {{"x": {value}}}}}'

    answer = ipvlan(call_environment(verb, "/run/netns/none"), conf.encode())

    assert answer.error()["code"] == 6
    strictly(answer.stdout)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_an_invalid_number_from_an_ipam_plugin_is_refused(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, value: str
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    fake_ipam.on("ADD", f"""echo '{{{ADDRESS}, "dns": {{"x": {value}}}}}'""")

    answer = runtime.add(container, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert answer.error()["code"] == 109
    strictly(answer.stdout)
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert node.snapshot() == before


@pytest.mark.parametrize("code", ["0", "-7", "4294967296", "1e999", "7.0", "true", '"7"', "null"])
def test_an_invalid_error_code_is_replaced(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, code: str
) -> None:
    node.master()
    fake_ipam.on("ADD", f"""echo '{{"code": {code}, "msg": "no room"}}'; exit 1""")

    conf = network(ipam=fake_ipam.conf)
    error = runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path).error()

    assert error["code"] == 109
    assert "no room" in f"{error}"


def test_a_byte_order_mark_is_ignored_on_both_sides(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    conf = stdin_of(network(ipam=fake_ipam.conf))
    fake_ipam.on("ADD", f"printf '\\357\\273\\277'; echo '{{{ADDRESS}}}'")
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)

    runtime.raw(MARK + conf, environment).result()

    assert container.addresses("net1") == ["10.1.0.2/24"]
    # Plugins in Go stumble over the mark.
    assert fake_ipam.stdin("ADD") == conf


@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_a_byte_order_mark_does_not_hide_the_version(ipvlan: Executable, version: str) -> None:
    stdin = MARK + stdin_of({"cniVersion": version})

    assert ipvlan({"CNI_COMMAND": "VERSION"}, stdin).result()["cniVersion"] == version
