"""On which line of a file a part of a configuration stands.

JSON is read as the YAML that it is too, for the parser of YAML tells where
everything stands. Without PyYAML, or where it differs, there is no line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_ipvlan.cli.configs import NetworkConfig

_QUOTES = ("'", '"')


def line_of(text: str, network: NetworkConfig, path: Sequence[str | int]) -> int | None:
    """Return the line, from 1, of ``path`` in the configuration, or of what is nearest above it."""
    root = _compose(text, network.document)
    if root is None:
        return None
    node = _descend(root, network.path if network.text is not None else (*network.path, *path))
    if network.text is None:
        return int(node.start_mark.line) + 1
    # JSON in a string: where the string's own text stands in the file tells the lines inside.
    start = node.start_mark.index
    raw = text[start : node.end_mark.index]
    offset = raw.find("{")
    inner = _compose(raw[offset:].rstrip().rstrip("".join(_QUOTES)), 0) if offset >= 0 else None
    if inner is None:
        return int(node.start_mark.line) + 1
    place = _descend(inner, (*network.inner_path, *path))
    return text.count("\n", 0, start + offset) + int(place.start_mark.line) + 1


def _compose(text: str, number: int) -> Any:
    try:
        import yaml
    except ImportError:
        return None
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError):
        return None
    return documents[number] if number < len(documents) else None


def _descend(node: Any, path: Sequence[str | int]) -> Any:
    """Follow keys and indexes as far as they lead."""
    for step in path:
        children = node.value if isinstance(node.value, list) else []
        if isinstance(step, int):
            following = children[step] if step < len(children) else None
        else:
            following = next((value for key, value in children if key.value == step), None)
        if following is None:
            break
        node = following
    return node
