"""The quick check of a configuration, held against jsonschema."""

import json
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cni_ipvlan.config import netconf
from cni_ipvlan.config.quick_check import is_valid

SCHEMA: dict[str, Any] = json.loads(
    Path(netconf.__file__).with_name("netconf.schema.json").read_text(encoding="utf-8")
)
PROPERTIES: dict[str, Any] = SCHEMA["properties"]

NUMBERS = st.integers() | st.integers(-2, 70000) | st.floats(allow_nan=False)
VALUES = [
    *(None, 0.0, 1.0, 1500.0, 1500.5, 65535, 65536, -1, True, False),
    *("", "l2", "l3", "l3s", "L2", "bridge", "vepa", "ipvlan", "a/b", "net", "_n"),
]
SCALARS = NUMBERS | st.text(max_size=8) | st.sampled_from(VALUES)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
        st.fixed_dictionaries({}, optional={"type": inner, "nameservers": inner, "domain": inner}),
    ),
    max_leaves=6,
)


def draw(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that are often valid by a property's schema, and often just not."""
    values = [ANYTHING]
    if "enum" in schema:
        values.append(st.sampled_from(schema["enum"]))
    if "pattern" in schema:
        values.append(st.from_regex(schema["pattern"]))
    if "properties" in schema:
        parts = {name: draw(part) for name, part in schema["properties"].items()}
        values.append(st.fixed_dictionaries({}, optional=parts))
    if "additionalProperties" in schema:
        values.append(st.dictionaries(st.text(), draw(schema["additionalProperties"]), max_size=2))
    if "items" in schema:
        values.append(st.lists(draw(schema["items"]), max_size=3))
    return st.one_of(values)


CONFIGURATIONS = st.one_of(
    st.fixed_dictionaries({}, optional={name: draw(schema) for name, schema in PROPERTIES.items()}),
    st.fixed_dictionaries(
        {"name": st.just("net"), "type": st.just("ipvlan")},
        optional={name: draw(PROPERTIES[name]) for name in PROPERTIES.keys() - {"name", "type"}},
    ),
    ANYTHING,
)


@settings(max_examples=500)
@given(CONFIGURATIONS)
@example({"name": "net", "type": "ipvlan", "mtu": True})
@example({"name": "net", "type": "ipvlan", "mtu": 1500.0})
@example({"name": "net", "type": "ipvlan", "linkInContainer": 0})
@example({"name": "net\n", "type": "ipvlan"})
def test_quick_check_and_jsonschema_agree(document: Any) -> None:
    assert is_valid(document, SCHEMA) == Draft202012Validator(SCHEMA).is_valid(document)


def test_unknown_keyword_is_left_to_jsonschema() -> None:
    assert not is_valid("xxx", {"minLength": 2})
