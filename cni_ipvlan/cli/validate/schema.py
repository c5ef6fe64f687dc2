"""The JSON Schema for editors: of configurations, of lists, and of manifests that hold them."""

from typing import Any

from cni_ipvlan.config import netconf

_LIST = {
    "description": "A list of plugins, which run one after the other. They get its name.",
    "type": "object",
    "required": ["name", "plugins"],
    "properties": {
        "cniVersion": {"description": "The CNI version of all plugins.", "type": "string"},
        "name": {"$ref": "#/$defs/options/properties/name"},
        "disableCheck": {"description": "Whether CHECK is never called.", "type": "boolean"},
        "plugins": {
            "description": "The configurations of the plugins.",
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["type"],
                "if": {"properties": {"type": {"const": "ipvlan"}}},
                "then": {"$ref": "#/$defs/options"},
            },
        },
    },
}
_CONFIG = {
    "description": "A configuration or a list, as JSON in a string.",
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": "#"},
}
_DEFINITION = {
    "description": "A NetworkAttachmentDefinition of Kubernetes.",
    "properties": {"spec": {"type": "object", "properties": {"config": _CONFIG}}},
}


def of_documents() -> dict[str, Any]:
    """Return a schema for each kind of document; what has nothing of ipvlan is valid.

    The options, with their descriptions, are those of netconf.schema.json.
    """
    options = dict(netconf.schema())
    dialect, _, required = (options.pop(key) for key in ("$schema", "$id", "required"))
    return {
        "$schema": dialect,
        "$id": "urn:cni-ipvlan:documents",
        "title": "Network configurations with the ipvlan plugin",
        "type": "object",
        "allOf": [
            _where({"type": {"const": "ipvlan"}}, "network"),
            _where({"plugins": True}, "list"),
            _where({"kind": {"const": "NetworkAttachmentDefinition"}}, "definition"),
        ],
        "$defs": {
            "options": options,
            "network": {"$ref": "#/$defs/options", "required": required},
            "list": _LIST,
            "definition": _DEFINITION,
        },
    }


def _where(has: dict[str, Any], kind: str) -> dict[str, Any]:
    condition = {"properties": has, "required": list(has)}
    return {"if": condition, "then": {"$ref": f"#/$defs/{kind}"}}
