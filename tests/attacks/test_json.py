"""Invalid JSON: a number or a byte order mark that only one side can read.

tests/unit/test_request.py and test_delegate.py have every form of them.
"""

import json
from typing import Any

import pytest
from doubles import FakeIpam
from lab import Node
from runtime import Runtime, call_environment, network, stdin_of

ADDRESS = '"ips": [{"address": "10.1.0.2/24"}]'
NO_NUMBERS = ["NaN", "-Infinity", "1e999", '[1.0, {"y": -9e9999}]']


def strictly(stdout: bytes) -> Any:
    """Return a document as a runtime in Go reads it."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(stdout, parse_constant=refuse)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_an_invalid_number_is_refused_from_either_side(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, value: str
) -> None:
    node.master()
    container, before = node.container(), node.snapshot()
    fake_ipam.on("ADD", f"""echo '{{{ADDRESS}, "dns": {{"x": {value}}}}}'""")
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    conf = network(ipam=fake_ipam.conf, dns={"x": 7})
    for stdin, code in ((stdin_of(conf).replace(b"7", value.encode()), 6), (stdin_of(conf), 109)):
        answer = runtime.raw(stdin, environment)

        assert answer.error()["code"] == code
        strictly(answer.stdout)
        assert node.snapshot() == before
    assert fake_ipam.calls == ["ADD", "DEL"]


def test_a_byte_order_mark_is_ignored_on_both_sides(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    conf = stdin_of(network(ipam=fake_ipam.conf))
    fake_ipam.on("ADD", f"printf '\\357\\273\\277'; echo '{{{ADDRESS}}}'")
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)

    runtime.raw(b"\xef\xbb\xbf" + conf, environment).result()

    assert container.addresses("net1") == ["10.1.0.2/24"]
    assert fake_ipam.stdin("ADD") == conf  # plugins in Go stumble over the mark
