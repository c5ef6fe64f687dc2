"""JSON as RFC 8259 defines it, without Python's extensions."""

from __future__ import annotations

import sys

from cni_ipvlan.cni.errors import shortened
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import Any

_EXPLANATIONS = {  # of Python's messages, which name the rule of a grammar
    "Expecting property name": "a key in double quotes is missing",
    "Expecting ',' delimiter": "a comma or a closing bracket is missing",
    "Expecting ':' delimiter": "a colon is missing after a key",
    "Expecting value": "a value is missing, or is a word without quotes",
    "Invalid control character": "a string has a line break or a tab, or lacks its closing quote",
    "Unterminated string": "a string lacks its closing quote",
    "Invalid \\": "a string has a backslash, which JSON writes as two",
    "Extra data": "something follows its end",
    "Unexpected UTF-8 BOM": "it starts with a byte order mark, which runtimes refuse",
    "Illegal trailing comma": "it has a trailing comma, which JSON does not allow",
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8
MOST_LEVELS = 100  # of nesting; Python's own limit depends on its version
TOO_DEEP = f"it is nested too deeply: more than {MOST_LEVELS} levels"


def decode(data: bytes) -> Any:
    """Return the document in ``data``: UTF-8, with or without a byte order mark.

    Raises ValueError for everything else, including NaN, Infinity, numbers beyond
    a double's range, and deep nesting.
    """
    try:
        document = loads(data.removeprefix(BYTE_ORDER_MARK).decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        text = explain_syntax_error(error)
        raise ValueError(f"{text}: line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    containers, levels = [document], 0
    while containers := [each for each in containers if isinstance(each, (dict, list))]:
        levels += 1
        if levels > MOST_LEVELS:
            raise ValueError(TOO_DEEP)
        values = (each.values() if isinstance(each, dict) else each for each in containers)
        containers = [value for each in values for value in each]
    return document


def loads(text: str) -> Any:
    """Return the document in a text; raises JSONDecodeError, or ValueError about a number."""
    return json.loads(
        text, parse_constant=_refuse_constant, parse_float=_parse_number, parse_int=_parse_integer
    )


def explain_syntax_error(error: json.JSONDecodeError) -> str:
    """Return a sentence about what is wrong with a document."""
    matches = (text for start, text in _EXPLANATIONS.items() if error.msg.startswith(start))
    return next(matches, error.msg)


def encode(document: dict[str, Any]) -> bytes:
    """Return a document as indented JSON; raises ValueError for what JSON can't express."""
    return json.dumps(document, indent=4, allow_nan=False).encode("ascii") + b"\n"


def quote(value: object) -> str:
    """Return a value as JSON, shortened for a message."""
    return shortened(json.dumps(value))


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _parse_number(text: str) -> float:
    number = float(text)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"the number {shortened(text)} is too large")
    return number


def _parse_integer(text: str) -> int:
    _parse_number(text)  # Python converts no more than 4,300 digits
    return int(text)
