"""Read JSON as strictly as the plugin does, with the line of each value.

Python's json has no positions of values, keeps silent about repeated keys, and does not tell
what people write that JSON does not have.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from typing import Any

from cni_ipvlan.cli.reading.part import MOST_DIGITS, MOST_LEVELS, Part, SyntaxFault, too_deep
from cni_ipvlan.cni.strict_json import finite, refuse_constant

_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"\w+|.?")


def _integer(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"it has a number of more than {MOST_DIGITS} characters")
    return int(text)


_LOOSE_DECODER = json.JSONDecoder(strict=False)
_DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite, parse_int=_integer)
_IN_OTHER_LANGUAGES = {"True": "true", "False": "false", "None": "null", "undefined": "null"}


def parse(text: str, first_line: int = 1) -> Part:
    """Return the document; raises SyntaxFault. ``first_line`` is the number of the first line."""
    scanner = _Scanner(text, first_line, _DECODER)
    if text.startswith("\ufeff"):
        raise scanner.fault(0, "it starts with a byte order mark, which runtimes refuse")
    part, end = scanner.read(0)
    if end < len(text):
        raise scanner.unexpected(end, "the end")
    return part


def parse_string(part: Part) -> Part:
    """Return the document in a string, with the lines that its values have in the file.

    Raises SyntaxFault, with the file's line.
    """
    raw = part.raw
    if raw is not None and raw.is_literal:
        return parse(part.value, raw.line)
    try:
        found = parse(part.value)
    except SyntaxFault as fault:
        place = _located(part)
        line = place.line if isinstance(place, SyntaxFault) else part.line
        raise SyntaxFault(line, str(fault)) from None
    place = _located(part)
    return found.on_lines_of(place if isinstance(place, Part) else Part(None, part.line))


def _located(part: Part) -> Part | SyntaxFault:
    """Read JSON as it stands in the file, where YAML breaks a string's lines without meaning."""
    if part.raw is None:
        return Part(None, part.line)
    text = part.raw.text
    try:
        start = max(0, text.find("{"))
        return _Scanner(text, part.raw.line, _LOOSE_DECODER).read(start)[0]
    except SyntaxFault as fault:
        return fault


class _Scanner:
    """Reads values from a text; its methods take an index in it."""

    def __init__(self, text: str, first_line: int, decoder: json.JSONDecoder) -> None:
        self._text = text
        self._first_line = first_line
        self._decoder = decoder
        self._level = 0
        self._breaks = [index for index, each in enumerate(text) if each == "\n"]

    def fault(self, index: int, why: str) -> SyntaxFault:
        """Return what is wrong at an index."""
        return SyntaxFault(self._line(index), why)

    def unexpected(self, index: int, wanted: str) -> SyntaxFault:
        """Return that something else was wanted, with a word about what people write there."""
        rest = self._text[index : index + 40]
        if not rest:
            return self.fault(index, f"it ends where {wanted} should be")
        if rest.startswith(("//", "/*", "#")):
            return self.fault(index, "it has a comment, which JSON does not have")
        if rest[0] == "'":
            return self.fault(index, "it has single quotes; JSON has double quotes only")
        word = _WORD.match(rest)
        found = word.group() if word else rest[0]
        meant = _IN_OTHER_LANGUAGES.get(found)
        if meant:
            return self.fault(index, f"it has {found}; JSON writes {meant}")
        return self.fault(index, f"it has {found!r} where {wanted} should be")

    def read(self, index: int) -> tuple[Part, int]:
        """Return the value after any white space, and the index of what follows it."""
        index = self._skip(index)
        read = {"{": self._object, "[": self._list}.get(self._text[index : index + 1])
        if read is None:
            value, end = self._scalar(index, "a value")
            return Part(value, self._line(index)), self._skip(end)
        self._level += 1
        if self._level > MOST_LEVELS:
            raise too_deep(self._line(index))
        found = read(index)
        self._level -= 1
        return found

    def _object(self, start: int) -> tuple[Part, int]:
        parts: dict[str | int, Part] = {}
        repeated = []
        index = self._skip(start + 1)
        while not self._ends(index, "}"):
            if self._text[index : index + 1] != '"':
                raise self.unexpected(index, "a key in double quotes")
            line = self._line(index)
            key, index = self._scalar(index, "a key")
            index = self._skip(index)
            if self._text[index : index + 1] != ":":
                raise self.unexpected(index, f"a colon after {json.dumps(key)}")
            part, index = self.read(index + 1)
            if key in parts:
                repeated.append(key)
            parts[key] = part._replace(line=line)
            index = self._next(index, "}")
        value = {key: part.value for key, part in parts.items()}
        return Part(value, self._line(start), parts, tuple(repeated)), self._skip(index + 1)

    def _list(self, start: int) -> tuple[Part, int]:
        parts: dict[str | int, Part] = {}
        index = self._skip(start + 1)
        while not self._ends(index, "]"):
            parts[len(parts)], index = self.read(index)
            index = self._next(index, "]")
        value = [part.value for part in parts.values()]
        return Part(value, self._line(start), parts), self._skip(index + 1)

    def _ends(self, index: int, closing: str) -> bool:
        return self._text[index : index + 1] == closing

    def _next(self, index: int, closing: str) -> int:
        """Return where the next member starts, or the closing bracket is."""
        if self._ends(index, closing):
            return index
        if self._text[index : index + 1] != ",":
            raise self.unexpected(index, f"a comma or {closing}")
        following = self._skip(index + 1)
        if self._ends(following, closing):
            raise self.fault(
                index, f"it has a trailing comma before {closing}, which JSON does not allow"
            )
        return following

    def _scalar(self, index: int, wanted: str) -> tuple[Any, int]:
        try:
            return self._decoder.raw_decode(self._text, index)
        except json.JSONDecodeError as error:
            if error.msg.startswith("Expecting"):
                raise self.unexpected(index, wanted) from None
            raise self.fault(error.pos, error.msg.removesuffix(" at").lower()) from None
        except ValueError as error:  # of the strict decoder
            raise self.fault(index, str(error)) from None

    def _skip(self, index: int) -> int:
        space = _SPACE.match(self._text, index)
        return space.end() if space else index

    def _line(self, index: int) -> int:
        return self._first_line + bisect_left(self._breaks, index)
