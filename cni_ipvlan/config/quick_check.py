"""Check a document against a JSON Schema that uses only the keywords of our schema.

jsonschema explains what is wrong with a configuration, but importing it takes longer
than the rest of a call, and configurations are nearly always valid. So jsonschema is
imported only if this check fails. tests/unit/test_quick_check.py compares the two.
"""

from collections.abc import Callable

from cni_ipvlan.start.namedtuple import Any

_PUNCTUATION = str.maketrans("", "", "_.-")
# The schema's patterns as functions, since importing re takes longer than the whole check.
_PATTERNS: dict[str, Callable[[str], bool]] = {
    "^[^/]*$": lambda text: "/" not in text,
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$": lambda text: (
        text.isascii()
        and text[:1].isalnum()
        and text.removesuffix("\n").translate(_PUNCTUATION).isalnum()
    ),
}
_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    str: "string",
    list: "array",
    dict: "object",
}
_ANNOTATIONS = frozenset(("$schema", "$id", "title", "description", "default"))


def is_valid(document: Any, schema: dict[str, Any]) -> bool:
    """Return whether ``document`` is certainly valid; False if a keyword is unknown."""
    for keyword in schema.keys() - _ANNOTATIONS:
        if keyword not in _CHECKS:
            return False
        types, check = _CHECKS[keyword]
        if isinstance(document, types) and not check(document, schema[keyword]):
            return False
    return True


def _type(document: Any, types: str | list[str]) -> bool:
    is_whole = isinstance(document, float) and document.is_integer()
    name = "integer" if is_whole else _TYPES.get(type(document))
    return name in ([types] if isinstance(types, str) else types)


def _properties(document: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> bool:
    return all(is_valid(document[key], schemas[key]) for key in schemas if key in document)


# For each keyword, the types of the values that it concerns, and their check.
_CHECKS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "type": (object, _type),
    # Enums here have strings and null. As numbers, 1 and True are equal in Python, not in JSON.
    "enum": (object, lambda document, values: document in values),
    "required": (dict, lambda document, names: all(name in document for name in names)),
    "properties": (dict, _properties),
    # Only where the schema names no properties.
    "additionalProperties": (
        dict,
        lambda document, schema: all(is_valid(each, schema) for each in document.values()),
    ),
    "items": (list, lambda document, schema: all(is_valid(each, schema) for each in document)),
    "minItems": (list, lambda document, minimum: len(document) >= minimum),
    "maxItems": (list, lambda document, maximum: len(document) <= maximum),
    "pattern": (str, lambda text, pattern: pattern in _PATTERNS and _PATTERNS[pattern](text)),
    "minimum": ((int, float), lambda document, minimum: document >= minimum),
    "maximum": ((int, float), lambda document, maximum: document <= maximum),
}
