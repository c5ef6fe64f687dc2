"""The place of a problem in a configuration, and misspelt keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cni_ipvlan.config.netconf import Fault
from cni_ipvlan.suggest import nearest_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.configs import Path


def json_path(path: Path) -> str:
    """Return a path of keys and indexes as JSONPath."""
    return "$" + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
        for step in path
    )


def slips(entry: dict[str, Any], options: Sequence[str], path: Path) -> Iterator[Fault]:
    """Yield the keys that are not options but look like one."""
    for key in entry:
        if key not in options:
            names, is_near = nearest_first(key, options)
            if is_near:
                yield Fault((*path, key), f"{key} is unknown; did you mean {names[0]}?")
