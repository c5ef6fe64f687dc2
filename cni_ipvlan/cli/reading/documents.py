"""The documents of a file, in JSON or YAML, and what keeps it from being read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cni_ipvlan.cli.reading import json_text, yaml_text
from cni_ipvlan.cli.reading.part import SyntaxFault, json_path

if TYPE_CHECKING:
    from cni_ipvlan.cli.reading.part import Part, Path

_MOST_CHARACTERS = 2 << 20  # YAML takes some seconds for so many, and half a gigabyte at worst
JSON_SUFFIXES = (".conf", ".conflist", ".json")
_YAML_SUFFIXES = (".yaml", ".yml")
# An action of Go's text/template, which Helm uses: {{ .Values.x }}, {{- if …, {{ include "x" … }}
_ACTION = re.compile(r"\{\{-?\s*(?:[.$/]|[a-zA-Z]\w*\b)[^{}]*\}\}")


class ConfigError(Exception):
    """What is wrong with a file: a sentence, and the place if it is known.

    ``document`` is counted from 1; ``path`` leads to the place in it.
    """

    def __init__(
        self,
        text: str,
        source: str = "",
        line: int | None = None,
        document: int = 1,
        path: Path = (),
    ) -> None:
        super().__init__(text)
        self.text = text
        self.source = source
        self.line = line
        self.document = document
        self.path = path

    def __str__(self) -> str:
        """Return the sentence, with the place before it."""
        parts = [f"{self.source}:{self.line}" if self.line else self.source]
        if self.document > 1:
            parts.append(f"document {self.document}")
        if self.path:
            parts.append(json_path(self.path))
        return ": ".join(filter(None, (*parts, self.text)))


def read(source: str, text: str) -> list[tuple[int, Part]]:
    """Return the documents of a file, each with its number; raises ConfigError."""
    if not text.strip():
        raise ConfigError("the file is empty", source)
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"it has more than {_MOST_CHARACTERS >> 20} MiB", source)
    try:
        return [(1, json_text.parse(text))]
    except SyntaxFault as fault:
        begins_as_json = text.lstrip("\ufeff \t\r\n").startswith("{")
        if source.endswith(JSON_SUFFIXES) or (
            begins_as_json and not source.endswith(_YAML_SUFFIXES)
        ):
            why = template_in(text) or f"it is not valid JSON: {fault}"
            raise ConfigError(why, source, fault.line) from None
    return _yaml(source, text)


def _yaml(source: str, text: str) -> list[tuple[int, Part]]:
    try:
        found = yaml_text.parse(text)
    except SyntaxFault as fault:
        why = template_in(text) or f"it can't be read as JSON or YAML: {fault}"
        raise ConfigError(why, source, fault.line) from None
    if not found:
        raise ConfigError("the file has nothing but comments", source)
    return found


def template_in(text: str) -> str:
    """Return a sentence about the first action of a template in a text; empty without any."""
    action = _ACTION.search(text)
    if action is None:
        return ""
    shown = " ".join(action.group().split())
    return f"it is a template, as Helm has them ({shown}); render it first: helm template CHART"
