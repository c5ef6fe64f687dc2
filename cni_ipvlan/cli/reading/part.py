"""A value that was read, and its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Path = tuple["str | int", ...]
MOST_LEVELS = 100  # of values in values
MOST_DIGITS = 100  # and other characters of a number


class SyntaxFault(Exception):  # noqa: N818 - what is wrong is a text, not the program
    """What keeps a text from being read, and its line."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def too_deep(line: int) -> SyntaxFault:
    """Return that values are nested too deeply."""
    return SyntaxFault(line, f"it is nested too deeply: more than {MOST_LEVELS} levels")


class Raw(NamedTuple):
    """How a string stands in the file: its text there, and on which line that starts.

    If it is ``literal``, the lines of the string are those of the file.
    """

    text: str
    line: int
    is_literal: bool


class Part(NamedTuple):
    """A value, the line of its key (counted from 1), and its parts.

    ``repeated`` are keys of a mapping that are there more than once; the last counts.
    ``foreign`` is what a value is that JSON can't express, or empty. ``raw`` is given
    for a string that may be on several lines.
    """

    value: Any
    line: int
    parts: dict[str | int, Part] = {}  # noqa: RUF012 - never changed
    repeated: tuple[str, ...] = ()
    foreign: str = ""
    raw: Raw | None = None

    def find(self, path: Sequence[str | int]) -> Part:
        """Return the part at a path, or its nearest existing ancestor."""
        found = self
        for step in path:
            if step not in found.parts:
                break
            found = found.parts[step]
        return found

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Part]]:
        """Yield all parts, each after its parent."""
        yield path, self
        for step, part in self.parts.items():
            yield from part.walk((*path, step))

    def on_lines_of(self, other: Part) -> Part:
        """Return the part with the lines of another of the same form.

        What the other lacks gets the line of what it would be in.
        """
        parts = {
            step: part.on_lines_of(other.parts.get(step) or Part(None, other.line))
            for step, part in self.parts.items()
        }
        return self._replace(line=other.line, parts=parts)


def json_path(path: Path) -> str:
    """Return a path of keys and indexes as JSONPath."""
    return "$" + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
        for step in path
    )
