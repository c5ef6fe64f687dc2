"""Check a document against a JSON Schema that uses only the keywords of our schema.

jsonschema explains what is wrong with a configuration, but importing it takes longer
than the rest of a call, and configurations are nearly always valid. So jsonschema is
imported only if this check fails. tests/unit/test_quick_check.py compares the two.
"""

from __future__ import annotations

from collections.abc import Callable

from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_TYPES: dict[str, type] = {
    "array": list,
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "object": dict,
    "string": str,
}
_ANNOTATIONS = frozenset(("$schema", "$id", "title", "description", "default"))


def is_valid(document: Any, schema: dict[str, Any]) -> bool:
    """Return whether ``document`` is certainly valid; False if a keyword is unknown."""
    return all(
        _obeys(document, keyword, rule)
        for keyword, rule in schema.items()
        if keyword not in _ANNOTATIONS
    )


def _obeys(document: Any, keyword: str, rule: Any) -> bool:
    if keyword not in _CHECKS:
        return False
    kind, check = _CHECKS[keyword]
    return not isinstance(document, kind) or check(document, rule)


def _type(document: Any, kinds: str | list[str]) -> bool:
    return any(_is(document, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _is(document: Any, kind: str) -> bool:
    if isinstance(document, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(document, float):
        return document.is_integer()
    return isinstance(document, _TYPES[kind])


def _enum(document: Any, values: list[Any]) -> bool:
    # 0 and False, 1 and True are equal in Python but not in JSON.
    return any(
        document == value and isinstance(document, bool) == isinstance(value, bool)
        for value in values
    )


def _properties(document: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> bool:
    return all(
        is_valid(document[name], schema) for name, schema in schemas.items() if name in document
    )


def _pattern(document: str, pattern: str) -> bool:
    if pattern in _PATTERNS:
        return _PATTERNS[pattern](document)
    import re

    return re.search(pattern, document) is not None


_OTHERS_IN_NAMES = str.maketrans("", "", "_.-")
# What the schema's patterns ask, since importing re takes longer than the whole check.
_PATTERNS: dict[str, Callable[[str], bool]] = {
    "^[^/]*$": lambda text: "/" not in text,
    "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$": lambda text: (
        text.isascii()
        and text[:1].isalnum()
        and text.removesuffix("\n").translate(_OTHERS_IN_NAMES).isalnum()
    ),
}
# For each keyword, the documents that it is about, and what it asks of them.
_CHECKS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "type": (object, _type),
    "enum": (object, _enum),
    "required": (dict, lambda document, names: all(name in document for name in names)),
    "properties": (dict, _properties),
    "items": (list, lambda document, schema: all(is_valid(each, schema) for each in document)),
    "minItems": (list, lambda document, least: len(document) >= least),
    "maxItems": (list, lambda document, most: len(document) <= most),
    "pattern": (str, _pattern),
    "minimum": ((int, float), lambda document, least: document >= least),
    "maximum": ((int, float), lambda document, most: document <= most),
}
