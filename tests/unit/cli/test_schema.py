"""validate --schema prints a JSON Schema for editors, which knows every kind of document."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import ipvlan
from jsonschema import Draft202012Validator

from cni_ipvlan.config import netconf

EXAMPLES = Path(__file__).parents[3] / "examples"
NETWORK = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
KIND = "NetworkAttachmentDefinition"
TUNING = {"type": "tuning", "sysctl": {}}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(ipvlan("validate", "--schema").check_output())
    Draft202012Validator.check_schema(printed)
    return printed


def faults(schema: dict[str, Any], document: Any) -> list[str]:
    """Return the paths of what is wrong, also in a string that the schema says is JSON."""
    config = document.get("spec", {}).get("config")  # what the schema has editors look into
    parts = [document] if config is None else [document, json.loads(config)]
    return sorted(
        ".".join(map(str, error.absolute_path)) or error.message
        for subschema in parts
        for error in Draft202012Validator(schema).iter_errors(subschema)
    )


def test_the_examples_are_valid(schema: dict[str, Any]) -> None:
    ipvlan("validate", *map(str, EXAMPLES.iterdir())).check_output()
    for file in EXAMPLES.iterdir():
        assert faults(schema, yaml.safe_load(file.read_text())) == [], file


@pytest.mark.parametrize(
    ("document", "paths"),
    [
        ({**NETWORK, "mode": "l5"}, ["mode"]),
        ({**NETWORK, "mtu": "1400", "ipam": {"type": "a/b"}}, ["ipam.type", "mtu"]),
        ({**NETWORK, "dns": {"search": "x"}}, ["dns.search"]),
        ({"name": "net", "plugins": [TUNING, {"type": "ipvlan", "flag": "x"}]}, ["plugins.1.flag"]),
        ({"name": "net", "plugins": [{"type": "ipvlan"}, TUNING], "disableCheck": "true"}, []),
        ({"name": "-", "plugins": [{}]}, ["name", "plugins.0"]),
        ({"name": "net", "type": "macvlan", "mode": "bridge"}, []),
        # Neither a string nor one of the modes; and a configuration that is elsewhere.
        ({"kind": KIND, "spec": {"config": json.dumps({**NETWORK, "mode": 1})}}, ["mode", "mode"]),
        ({"kind": KIND, "spec": {}}, []),
    ],
    ids=json.dumps,
)
def test_finds_faults(schema: dict[str, Any], document: dict[str, Any], paths: list[str]) -> None:
    assert faults(schema, document) == paths


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, rule in schema.get("properties", {}).items():
        yield name, rule
        yield from properties(rule)


def test_it_has_every_option_each_with_a_description(schema: dict[str, Any]) -> None:
    assert netconf.load_schema()["$id"] == "urn:cni-ipvlan:netconf"
    assert schema["$id"] == "urn:cni-ipvlan:documents"
    assert schema["$defs"]["options"]["properties"] == netconf.load_schema()["properties"]
    options = properties(netconf.load_schema())
    assert [name for name, rule in options if "description" not in rule] == []
    # With --schema, the file is not read.
    printed = ipvlan("validate", "--json", "--schema", "/no/such/file").check_output()
    assert json.loads(printed) == schema
    # What a manifest holds is described as a document.
    config = schema["$defs"]["definition"]["properties"]["spec"]["properties"]["config"]
    assert config["contentMediaType"] == "application/json"
    assert config["contentSchema"] == {"$ref": "#"}
