"""Check a document against a JSON Schema that uses only the keywords of our schema.

jsonschema explains what is wrong with a configuration, but importing it takes longer
than the rest of a call, and configurations are nearly always valid. So jsonschema is
imported only if this check fails. tests/unit/test_quick_check.py compares the two.
"""

from __future__ import annotations

import re

from cni_ipvlan._namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "object": (dict,),
    "string": (str,),
}
_ANNOTATIONS = frozenset(("$schema", "title", "description", "default"))


def is_valid(document: Any, schema: dict[str, Any]) -> bool:
    """Return whether ``document`` is certainly valid; False if a keyword is unknown."""
    return all(
        keyword in _KEYWORDS and _KEYWORDS[keyword](document, rule)
        for keyword, rule in schema.items()
        if keyword not in _ANNOTATIONS
    )


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


def _required(document: Any, names: list[str]) -> bool:
    return not isinstance(document, dict) or all(name in document for name in names)


def _properties(document: Any, schemas: dict[str, dict[str, Any]]) -> bool:
    return not isinstance(document, dict) or all(
        is_valid(document[name], schema) for name, schema in schemas.items() if name in document
    )


def _items(document: Any, schema: dict[str, Any]) -> bool:
    return not isinstance(document, list) or all(is_valid(item, schema) for item in document)


def _pattern(document: Any, pattern: str) -> bool:
    return not isinstance(document, str) or re.search(pattern, document) is not None


def _minimum(document: Any, least: int) -> bool:
    return not _is_number(document) or document >= least


def _maximum(document: Any, most: int) -> bool:
    return not _is_number(document) or document <= most


def _is_number(document: Any) -> bool:
    return isinstance(document, int | float) and not isinstance(document, bool)


_KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "properties": _properties,
    "items": _items,
    "pattern": _pattern,
    "minimum": _minimum,
    "maximum": _maximum,
}
