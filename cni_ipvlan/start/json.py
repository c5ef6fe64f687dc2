"""json, without the module re, which takes longer than a call's documents take to decode."""

from __future__ import annotations

from contextlib import suppress

from cni_ipvlan.start import stand_ins

TYPE_CHECKING = False
if TYPE_CHECKING:
    import json
    from typing import Any
else:
    json = stand_ins.load("json", {"re": stand_ins.RE})

_WHITE_SPACE = " \t\n\r"

JSONDecodeError = json.JSONDecodeError
dumps = json.dumps


def loads(text: str | bytes, **hooks: Any) -> Any:
    """Return what json.loads returns; ``hooks`` are its keyword arguments."""
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    document = text.strip(_WHITE_SPACE)
    value, end = None, -1
    with suppress(json.JSONDecodeError):
        value, end = json.JSONDecoder(**hooks).raw_decode(document)
    # If there is a fault, json.loads says where.
    return value if end == len(document) else json.loads(text, **hooks)
