"""A problem in a configuration, and misspelt keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.suggest import nearest_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """A problem: the path to it inside the configuration, and a sentence that describes it."""

    path: Path
    text: str

    @property
    def place(self) -> str:
        """The path in JSONPath notation."""
        return json_path(self.path)


def json_path(path: Path) -> str:
    """Return a path of keys and indexes as JSONPath."""
    return "$" + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
        for step in path
    )


def slips(entry: dict[str, Any], options: Sequence[str], path: Path) -> Iterator[Problem]:
    """Yield the keys that are not options but look like one."""
    for key in entry:
        if key not in options:
            names, is_near = nearest_first(key, options)
            if is_near:
                yield Problem((*path, key), f"{key} is unknown; did you mean {names[0]}?")
