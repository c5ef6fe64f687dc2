"""The JSON Schema for editors: of configurations, of lists, and of manifests that hold them."""

from __future__ import annotations

from typing import Any

from cni_ipvlan.config import netconf

_ID = "urn:cni-ipvlan:documents"


def of_documents() -> dict[str, Any]:
    """Return a schema for each kind of document; what has nothing of ipvlan is valid.

    The options, with their descriptions, are those of netconf.schema.json.
    """
    options = dict(netconf.schema())
    dialect, _, required = (options.pop(key) for key in ("$schema", "$id", "required"))
    name = options["properties"]["name"]
    return {
        "$schema": dialect,
        "$id": _ID,
        "title": "Network configurations with the ipvlan plugin",
        "type": "object",
        "allOf": [
            _where("type", "ipvlan", "network"),
            {"if": {"required": ["plugins"]}, "then": {"$ref": "#/$defs/list"}},
            _where("kind", "NetworkAttachmentDefinition", "definition"),
        ],
        "$defs": {
            "options": options,
            "network": {"$ref": "#/$defs/options", "required": required},
            "list": _list(name),
            "definition": _definition(),
        },
    }


def _where(key: str, value: str, kind: str) -> dict[str, Any]:
    """Apply a definition where a key has a value."""
    return {
        "if": {"properties": {key: {"const": value}}, "required": [key]},
        "then": {"$ref": f"#/$defs/{kind}"},
    }


def _list(name: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": "A list of plugins, which run one after the other. They get its name.",
        "type": "object",
        "required": ["name", "plugins"],
        "properties": {
            "cniVersion": {"description": "The CNI version of all plugins.", "type": "string"},
            "name": name,
            "disableCheck": {"description": "Whether CHECK is never called.", "type": "boolean"},
            "plugins": {
                "description": "The configurations of the plugins.",
                "type": "array",
                "minItems": 1,
                "items": {"type": "object", "required": ["type"]}
                | _where("type", "ipvlan", "options"),
            },
        },
    }


def _definition() -> dict[str, Any]:
    config = {
        "description": "A configuration or a list, as JSON in a string.",
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#"},
    }
    return {
        "description": "A NetworkAttachmentDefinition of Kubernetes.",
        "properties": {"spec": {"type": "object", "properties": {"config": config}}},
    }
