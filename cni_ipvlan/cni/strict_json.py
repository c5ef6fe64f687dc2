"""JSON as RFC 8259 defines it, without Python's extensions."""

from __future__ import annotations

import sys

from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8


def decode(data: bytes) -> Any:
    """Return the document in ``data``: UTF-8, with or without a byte order mark.

    Raises ValueError for everything else, including NaN, Infinity, numbers beyond
    a double's range, and nesting too deep for Python.
    """
    text = data.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    try:
        return json.loads(text, parse_constant=refuse_constant, parse_float=finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode(document: dict[str, Any]) -> bytes:
    """Return a document as indented JSON; raises ValueError for what JSON can't express."""
    return json.dumps(document, indent=4, allow_nan=False).encode("ascii") + b"\n"


def refuse_constant(constant: str) -> None:
    """Refuse NaN and Infinity, which Python's json takes; raises ValueError."""
    raise ValueError(f"{constant} is not JSON")


def finite(text: str) -> float:
    """Return a number that a double can hold; raises ValueError."""
    number = float(text)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"the number {text} is too large")
    return number
