"""cni.version: the answer to VERSION, for any input."""

from __future__ import annotations

import json

import pytest

from cni_ipvlan.cni import version


@pytest.mark.parametrize(
    ("stdin", "expected"),
    [
        (b"", "1.1.0"),
        (b" \n", "1.1.0"),
        (b'{"cniVersion": "0.3.1"}', "0.3.1"),
        (b'{"cniVersion": "0.3.1", "more": 1}', "0.3.1"),
        (b'{"cniVersion": "7"}', "7"),
        (b"{}", "0.1.0"),
        (b"garbage", "1.1.0"),
    ],
)
def test_version_needs_nothing_and_lists_every_version(stdin: bytes, expected: str) -> None:
    assert json.loads(version.answer(stdin)) == {
        "cniVersion": expected,
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }
