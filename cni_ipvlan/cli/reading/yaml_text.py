"""Read YAML, with the line of each value, and what JSON can't express."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.reading.part import (
    MOST_DIGITS,
    MOST_LEVELS,
    Part,
    Raw,
    SyntaxFault,
    too_deep,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_REPEATED = 100_000  # parts of a file, by aliases; those of aliases make billions
_TAG = "tag:yaml.org,2002:"
_NAMES = {"timestamp": "a timestamp", "binary": "binary data", "set": "a set"}


def parse(text: str) -> list[tuple[int, Part]]:
    """Return the documents that are not empty, numbered from 1; raises SyntaxFault."""
    import yaml

    try:
        return list(_documents(yaml.SafeLoader(text), text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = ", ".join(filter(None, (error.context, error.problem)))
        raise SyntaxFault(mark.line + 1 if mark else 1, why) from None
    except (yaml.YAMLError, ValueError) as error:
        raise SyntaxFault(1, " ".join(str(error).split())) from None
    except RecursionError:  # of PyYAML
        raise too_deep(1) from None


def _documents(loader: Any, text: str) -> Iterator[tuple[int, Part]]:
    number, reader = 0, _Reader(loader, text)
    while loader.check_node():
        number += 1
        part = reader.part(loader.get_node())
        if part.value is not None:
            yield number, part


class _Sized(NamedTuple):
    """A part, how many parts it has with its aliases written out, and how deep they are."""

    part: Part
    size: int
    levels: int


class _Reader:
    """Turns the nodes of a file into parts; what an alias repeats is one object."""

    def __init__(self, loader: Any, text: str) -> None:
        self._loader = loader
        self._text = text
        self._done: dict[int, _Sized] = {}
        self._open: set[int] = set()
        self._repeated = 0

    def part(self, node: Any) -> Part:
        """Return the node of a document as a part; raises SyntaxFault."""
        self._done.clear()
        return self._sized(node).part

    def _sized(self, node: Any) -> _Sized:
        line = _line(node)
        if id(node) in self._open:
            raise SyntaxFault(line, "it contains itself")
        if id(node) in self._done:
            self._repeated += self._done[id(node)].size
            if self._repeated > _MOST_REPEATED:
                raise SyntaxFault(line, "it is too large, perhaps because of its aliases")
        else:
            self._open.add(id(node))
            self._done[id(node)] = self._new(node)
            self._open.discard(id(node))
            if self._done[id(node)].levels > MOST_LEVELS:
                raise too_deep(line)
        return self._done[id(node)]

    def _new(self, node: Any) -> _Sized:
        if node.id == "scalar":
            return _Sized(self._scalar(node), 1, 0)
        parts: dict[str | int, Part] = {}
        size = levels = 0
        for each in self._merged(node):
            parts.update(each.part.parts)
            size, levels = size + each.size, max(levels, each.levels - 1)
        for key, value, line in self._members(node):
            each = self._sized(value)
            parts[key] = each.part._replace(line=line)
            size, levels = size + each.size, max(levels, each.levels)
        values = {key: part.value for key, part in parts.items()}
        value = values if node.id == "mapping" else list(values.values())
        part = Part(value, _line(node), parts, _repeated(node), _foreign(node))
        return _Sized(part, size + 1, levels + 1)

    def _merged(self, node: Any) -> Iterator[_Sized]:
        """Yield the mappings that a mapping has by its keys <<, the one that counts most last."""
        for key, value in node.value if node.id == "mapping" else ():
            if not _is_merge(key):
                continue
            for each in reversed(value.value) if value.id == "sequence" else (value,):
                if each.id != "mapping":
                    raise SyntaxFault(_line(key), "<< needs a mapping, or a list of mappings")
                yield self._sized(each)

    def _members(self, node: Any) -> Iterator[tuple[str | int, Any, int]]:
        """Yield the keys (or indexes), values and lines of a collection."""
        if node.id == "sequence":
            for index, value in enumerate(node.value):
                yield index, value, _line(value)
            return
        for key, value in node.value:
            if _is_merge(key):
                continue
            if key.id != "scalar":
                raise SyntaxFault(_line(key), "a key must be a string")
            yield key.value, value, _line(key)

    def _scalar(self, node: Any) -> Part:
        line, foreign = _line(node), _foreign(node)
        if foreign:
            return Part(node.value, line, foreign=foreign)
        if node.tag == f"{_TAG}str":
            return Part(node.value, line, raw=self._raw(node))
        if len(node.value) > MOST_DIGITS:
            raise SyntaxFault(line, f"it has a number of more than {MOST_DIGITS} characters")
        value = self._loader.construct_object(node)
        if isinstance(value, float) and not math.isfinite(value):
            return Part(node.value, line, foreign="no finite number")
        return Part(value, line)

    def _raw(self, node: Any) -> Raw | None:
        if node.style == '"':
            return None  # its escapes are not JSON's
        text = self._text[node.start_mark.index : node.end_mark.index]
        if node.style not in ("|", ">"):
            return Raw(text, _line(node), is_literal=False)
        return Raw(text.partition("\n")[2], _line(node) + 1, is_literal=node.style == "|")


def _line(node: Any) -> int:
    line: int = node.start_mark.line
    return line + 1


def _repeated(node: Any) -> tuple[str, ...]:
    """Return the keys that a mapping has more than once."""
    if node.id != "mapping":
        return ()
    keys = Counter(key.value for key, _ in node.value if not _is_merge(key))
    return tuple(key for key, count in keys.items() if count > 1)


def _is_merge(key: Any) -> bool:
    return bool(key.tag == f"{_TAG}merge")


def _foreign(node: Any) -> str:
    """Return what a node is that JSON can't express, by its tag; empty for all else."""
    kind = node.tag.removeprefix(_TAG)
    if kind in ("str", "null", "bool", "int", "float", "map", "seq"):
        return ""
    return _NAMES.get(kind, f"a value with the tag {kind}")
