"""cli.places: the line on which a part of a configuration starts."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ipvlan.cli import configs, places

Path = tuple["str | int", ...]

CONFLIST = """\
{
\t"name": "net", "cniVersion": "1.0.0",
\t"plugins": [
\t\t{"type": "bridge"},
\t\t{
\t\t\t"type": "ipvlan",
\t\t\t"mode": "l9", "odd \\"key\\"": [1,
\t\t\t2]
\t\t}
\t]
}
"""
IN_BLOCK = """\
# a comment
---
---
kind: NetworkAttachmentDefinition
metadata:
  name: one
spec:
  config: |
    {
      "type": "ipvlan",

      "mode": "l9"
    }
"""
IN_QUOTES = """\
apiVersion: v1
kind: List
items:
- kind: NetworkAttachmentDefinition
  spec:
    config: '{
      "type": "ipvlan",
      "plugins": [
        {"type": "ipvlan",
         "mode": "l9"}]
      }'
"""
ESCAPED = """\
kind: NetworkAttachmentDefinition
spec:
  config: "{\\"type\\": \\"ipvlan\\",\\n \\"mode\\": \\"l9\\"}"
"""
PLAIN = """\
type: ipvlan
dns:
  search: [a]
mode: l9
"""


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        (CONFLIST, (), 5),
        (CONFLIST, ("mode",), 7),
        (CONFLIST, ('odd "key"', 1), 8),
        (CONFLIST, ("absent",), 5),
        (IN_BLOCK, ("mode",), 12),
        (IN_BLOCK, (), 9),
        (IN_QUOTES, ("mode",), 10),
        (ESCAPED, ("mode",), 3),
        (PLAIN, ("mode",), 4),
        (PLAIN, ("dns", "search", 0), 3),
        ('\ufeff \n{"type": "ipvlan"}'.lstrip("\ufeff"), ("type",), 2),
    ],
)
def test_the_line_is_found(text: str, path: Path, line: int) -> None:
    (network,) = configs.load("file", text)
    assert places.line_of(text, network, path) == line


def test_json_has_lines_without_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (network,) = configs.load("file", CONFLIST)
    assert places.line_of(CONFLIST, network, ("mode",)) == 7


def documents() -> st.SearchStrategy[Any]:
    scalars = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text()
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )


@given(documents(), st.sampled_from([None, 1, "\t"]))
def test_every_value_of_any_json_is_found_at_its_place(
    value: Any, indent: int | str | None
) -> None:
    document = {"type": "ipvlan", "x": value}
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    (network,) = configs.load("file", text)
    decoder = json.JSONDecoder()
    for path, expected in _everything(("x",), value):
        line = places.line_of(text, network, path)
        assert line is not None
        rest = "\n".join(text.split("\n")[line - 1 :])
        assert any(
            _decoded(decoder, rest, start) == expected for start in range(len(rest.split("\n")[0]))
        )


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    (network,) = configs.load("file", '{"type": "ipvlan"}')
    places.line_of(text, network, ("type",))
    places.line_of(text, network._replace(text=text, path=("a",)), ("type",))


def _everything(path: Path, value: Any) -> list[tuple[Path, Any]]:
    children: dict[Any, Any] = dict(enumerate(value)) if isinstance(value, list) else {}
    children = value if isinstance(value, dict) else children
    found = [(path, value)]
    for key, child in children.items():
        found += _everything((*path, key), child)
    return found


def _decoded(decoder: json.JSONDecoder, text: str, start: int) -> Any:
    try:
        return decoder.raw_decode(text, start)[0]
    except ValueError:
        return decoder
