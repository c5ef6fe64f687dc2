"""Find the line of a file on which part of a configuration starts.

YAML is read by PyYAML, which keeps positions. Python's json does not, so JSON is
read by a scanner of its own.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_ipvlan.cli.configs import NetworkConfig

_SPACE = re.compile(r"[ \t\r\n]*")
# Not strict: in a quoted string of YAML, a JSON string may go on on the next line.
_DECODER = json.JSONDecoder(strict=False)


class Node(NamedTuple):
    """A value: the index in the text where it starts, and its children."""

    start: int
    children: dict[str | int, Node]


def line_of(text: str, network: NetworkConfig, path: Sequence[str | int]) -> int | None:
    """Return the line, counted from 1, of ``path`` or of its nearest existing ancestor."""
    is_json = text.lstrip()[:1] in ("{", "[")
    root = (_json(text, 0) if is_json else None) or _yaml(text, network.document)
    if root is None:
        return None
    if network.text is None:
        return _line(text, _descend(root, (*network.path, *path)).start)
    # JSON in a string: in a block or single quotes, its lines are also lines of the file.
    outer = _descend(root, network.path).start
    inner = _json(text, text.find("{", outer))
    return _line(text, _descend(inner, (*network.inner_path, *path)).start if inner else outer)


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1


def _descend(node: Node, path: Sequence[str | int]) -> Node:
    """Follow keys and indexes as far as they exist."""
    for step in path:
        if step not in node.children:
            break
        node = node.children[step]
    return node


def _json(text: str, start: int) -> Node | None:
    """Return the value at ``start``, or None if it is not JSON."""
    try:
        return _value(text, start)[0]
    except (IndexError, ValueError, RecursionError):
        return None


def _value(text: str, start: int) -> tuple[Node, int]:
    """Return the value after any white space, and the index just behind it."""
    start = _skip(text, start)
    node = Node(start, {})
    if text[start] in "{[":
        return node, _members(text, node)
    return node, _skip(text, _DECODER.raw_decode(text, start)[1])


def _members(text: str, node: Node) -> int:
    is_object = text[node.start] == "{"
    end = _skip(text, node.start + 1)
    while text[end] not in "}]":
        key: str | int = len(node.children)
        if is_object:
            key, end = _DECODER.raw_decode(text, end)
            end = _skip(text, end)
            if not isinstance(key, str) or text[end] != ":":
                raise ValueError(end)
            end += 1
        node.children[key], end = _value(text, end)
        if text[end] == ",":
            end = _skip(text, end + 1)
    return _skip(text, end + 1)


def _skip(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _yaml(text: str, number: int) -> Node | None:
    try:
        import yaml
    except ImportError:
        return None
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        # Empty documents don't count; configs.py skips them, too.
        full = [each for each in documents if each.tag != "tag:yaml.org,2002:null"]
        return _from_yaml(full[number])
    except (yaml.YAMLError, IndexError, ValueError, RecursionError):
        return None


def _from_yaml(node: Any) -> Node:
    children: dict[str | int, Node] = {}
    if node.id == "mapping":
        children = {str(key.value): _from_yaml(value) for key, value in node.value}
    elif node.id == "sequence":
        children = {index: _from_yaml(value) for index, value in enumerate(node.value)}
    return Node(node.start_mark.index, children)
