"""Invalid JSON: a number or a byte order mark that only one side can read.

tests/unit/test_request.py and test_delegate.py have every form of them.
"""

import json
from typing import Any

import pytest
from runtime import call_environment, network, stdin_of
from scene import Scene

ADDRESS = '"ips": [{"address": "10.1.0.2/24"}]'
NO_NUMBERS = ["NaN", "-Infinity", "1e999", '[1.0, {"y": -9e9999}]']


def strictly(stdout: bytes) -> Any:
    """Return a document as a runtime in Go reads it."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(stdout, parse_constant=refuse)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_an_invalid_number_is_refused_from_either_side(scene: Scene, value: str) -> None:
    ipam = scene.ipam(script=f"""echo '{{{ADDRESS}, "dns": {{"x": {value}}}}}'""")
    environment = call_environment("ADD", scene.one, CNI_PATH=scene.fake.path)
    stdin = stdin_of(network(ipam=ipam, dns={"x": 7}))
    for given, code in ((stdin.replace(b"7", value.encode()), 6), (stdin, 109)):
        with scene.unchanged():
            answer = scene.runtime.raw(given, environment)

        assert answer.error()["code"] == code
        strictly(answer.stdout)
    assert scene.fake.calls == ["ADD", "DEL"]


def test_a_byte_order_mark_is_ignored_on_both_sides(scene: Scene) -> None:
    ipam = scene.ipam(script=f"printf '\\357\\273\\277'; echo '{{{ADDRESS}}}'")
    conf = stdin_of(network(ipam=ipam))
    environment = call_environment("ADD", scene.one, CNI_PATH=scene.fake.path)

    scene.runtime.raw(b"\xef\xbb\xbf" + conf, environment).result()

    assert scene.one.addresses("net1") == ["10.1.0.2/24"]
    assert scene.fake.stdin("ADD") == conf  # plugins in Go stumble over the mark
