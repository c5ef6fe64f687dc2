"""JSON as other languages understand it (RFC 8259), which is less than Python's."""

from __future__ import annotations

import json
import sys

from cni_ipvlan._namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode(data: bytes) -> Any:
    """Return the document in ``data``: UTF-8, with or without a byte order mark.

    Raises ValueError for everything else: NaN, Infinity, a number out of a
    double's range, and nesting too deep for Python are no JSON either.
    """
    text = data.removeprefix(_BYTE_ORDER_MARK).decode("utf-8")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode(document: dict[str, Any]) -> bytes:
    """Return a document as the lines to print; raises ValueError for what JSON has no word for."""
    return json.dumps(document, indent=4, allow_nan=False).encode("ascii") + b"\n"


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if abs(number) > sys.float_info.max:
        raise ValueError(f"the number {text} is too large")
    return number
