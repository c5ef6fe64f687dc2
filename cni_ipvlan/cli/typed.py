"""In errors, what a person has typed instead of the CNI variables that it became."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_ipvlan.cni.errors import CniError

_ADVICE = "try: "


def renamed(error: CniError, names: Mapping[str, str]) -> CniError:
    """Return an error whose message and advice name variables as in ``names``.

    Only the first name in a line is the plugin's; later ones may be part of a value.
    Commands and answers stay as they were.
    """
    if names:
        error.msg = _renamed(error.msg, names)
        lines = error.details.split("\n")
        error.details = "\n".join(
            _renamed(line, names) if line.startswith(_ADVICE) else line for line in lines
        )
    return error


def _renamed(line: str, names: Mapping[str, str]) -> str:
    variables = rf"\b(?:{'|'.join(map(re.escape, names))})\b"
    return re.sub(variables, lambda found: names[found[0]], line, count=1)
