"""cli.reading: the line on which a part of a configuration starts."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.reading import ConfigError, parse_json
from cni_ipvlan.cni import strict_json

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
# To YAML, U+2028 ends a line, U+007F is no character, and a key is short and on one line.
UNLIKE_YAML = f"""\
{{"type": "ipvlan", "x": "\u2028\x7f\\ud83d\\ude00", "- &a *b": "!c",
"{"k" * 2000}"
\t:\t1e5,\t"mode"
:\t"l9"}}
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
        (CONFLIST, ('odd "key"', 1), 8),
        (CONFLIST, ("absent",), 5),
        (IN_BLOCK, ("mode",), 12),
        (IN_BLOCK, (), 9),
        (IN_QUOTES, ("mode",), 6),
        (ESCAPED, ("mode",), 3),
        (PLAIN, ("mode",), 4),
        (UNLIKE_YAML, ("mode",), 3),
        (PLAIN, ("dns", "search", 0), 3),
        ('\ufeff \n{"type": "ipvlan"}'.lstrip("\ufeff"), ("type",), 2),
    ],
)
def test_the_line_is_found(text: str, path: Path, line: int) -> None:
    (network,) = configs.read("file", text).networks
    assert line_of(network, path) == line


def test_line_of_a_mistake_is_the_files() -> None:
    for text, line in (
        (IN_BLOCK.replace('"l9"', '"l9" 5'), 12),
        (IN_BLOCK.replace('"ipvlan",', '"ipvlan'), 10),
        (IN_QUOTES.replace('"l9"}', '"l9" 5}'), 6),
        (ESCAPED.replace(",", ",,"), 3),
    ):
        (fault,) = configs.read("file", text).faults
        assert fault.line == line
        assert "it is not valid JSON: " in str(fault)


def line_of(network: configs.NetworkConfig, path: Path) -> int:
    return network.root.find_line(network.path_in_document(path))


def documents() -> st.SearchStrategy[Any]:
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    scalars = st.none() | st.booleans() | numbers | st.text()
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )


@given(documents(), st.sampled_from([None, 1, "\t"]))
def test_every_value_of_any_json_has_its_line(value: Any, indent: int | str | None) -> None:
    document = {"type": "ipvlan", "x": value}
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    (network,) = configs.read("file", text).networks
    decoder = json.JSONDecoder()
    for path, expected in _list_values(("x",), value):
        line = line_of(network, path)
        remainder = "\n".join(text.split("\n")[line - 1 :])
        starts = range(len(remainder.split("\n")[0]))
        assert any(_decode(decoder, remainder, start) == expected for start in starts)


TEXTS = st.text(alphabet='{}[],:"\\\n\t\r 0123e+-.tfnaul/#u') | documents().map(json.dumps)


@given(TEXTS | st.builds(str.__add__, TEXTS, TEXTS))
def test_json_is_what_the_plugin_takes_for_it(text: str) -> None:
    try:
        expected = strict_json.decode(text.encode())
    except ValueError:
        with pytest.raises(ConfigError):
            parse_json(text)
    else:
        assert parse_json(text).value == expected


@given(documents(), st.sampled_from(["|", "'", '"', ">", None]), st.sampled_from([None, 1, 4]))
def test_json_in_any_yaml_is_the_same(value: Any, style: str | None, indent: int | None) -> None:
    config = json.dumps({"type": "ipvlan", "x": value}, indent=indent)
    definition = {"kind": "NetworkAttachmentDefinition", "spec": {"config": config}}
    text = yaml.safe_dump(definition, default_style=style)
    assume(yaml.safe_load(text) == definition)  # PyYAML breaks some strings when it folds them
    (network,) = configs.read("file", text).networks
    assert network.config == json.loads(config)
    if style == "|":
        for path, line in network.root.lines.items():
            if path[:2] == network.path:
                assert text.splitlines()[line - 1].strip() in config


def _list_values(path: Path, value: Any) -> list[tuple[Path, Any]]:
    inner: Any = enumerate(value) if isinstance(value, list) else getattr(value, "items", tuple)()
    items = [(path, value)]
    for key, child in inner:
        items += _list_values((*path, key), child)
    return items


def _decode(decoder: json.JSONDecoder, text: str, start: int) -> Any:
    try:
        return decoder.raw_decode(text, start)[0]
    except ValueError:
        return decoder
