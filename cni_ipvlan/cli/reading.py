"""Text in JSON or YAML: its values, their lines, and what keeps it from being read.

json.loads and PyYAML decide what a text means. A stranger may have written it, so what it can
ask for is bounded.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from cni_ipvlan.cni.strict_json import MOST_LEVELS, TOO_DEEP, explain_syntax_error, loads
from cni_ipvlan.config.netconf import Path

JSON_SUFFIXES = (".conf", ".conflist", ".json")
YAML_SUFFIXES = (".yaml", ".yml")

DUPLICATE = "duplicate key; the last one is used"
_MOST_CHARACTERS = 2 << 20  # at worst, YAML takes a minute and a gigabyte for so many
_MOST_REPEATED = 100_000  # values that aliases repeat; aliases of aliases could make billions
_MOST_ITEMS = 1000  # of a list; some checks compare each with every other
_MOST_DIGITS = 100  # characters of a number

# A lexeme of valid JSON, but for colons; or a line break.
_LEXEME = re.compile(r'\n|"(?:[^"\\]|\\.)*"|[][{},]|[^][{}:,"\s]+')
_TAG = "tag:yaml.org,2002:"
_NON_STRING_TAGS = tuple(_TAG + kind for kind in ("null", "bool", "int", "float"))


@dataclass(unsafe_hash=True)
class ConfigError(Exception):
    """What is wrong with a file: a sentence, and its line and path if they are known.

    ``document`` counts from 1; ``path`` leads to the value in it.
    """

    text: str
    source: str = ""
    line: int | None = None
    document: int = 1
    path: Path = ()
    is_warning: bool = False

    def __str__(self) -> str:
        parts = [f"{self.source}:{self.line}" if self.line else self.source]
        parts += ["warning"] if self.is_warning else []
        parts += [f"document {self.document}"] if self.document > 1 else []
        parts += [json_path(self.path)] if self.path else []
        return ": ".join(filter(None, (*parts, self.text)))


class Document(NamedTuple):
    """A value, and the line of each key and each item in it; lines and documents count from 1.

    ``duplicates`` has the keys that an object has more than once; the last one is used.
    ``blocks`` has the first lines of YAML's block strings, whose lines are lines of the file.
    """

    value: Any
    lines: dict[Path, int]
    duplicates: dict[Path, list[str]]
    blocks: dict[Path, int]
    number: int = 1

    def find_line(self, path: Path) -> int:
        """Return the line of the value at a path, or of the nearest value around it."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]

    def check_lists(self) -> "Document":
        """Return the document; raises ConfigError if a list in it is too long."""
        for path, line in self.lines.items():
            if path[-1:] == (_MOST_ITEMS,):
                text = f"a list has more than {_MOST_ITEMS} items"
                raise ConfigError(text, line=line, document=self.number)
        return self


def json_path(path: Path) -> str:
    """Return a path of keys and indexes as JSONPath."""
    return "$" + "".join(
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{json.dumps(step)}]"
        for step in path
    )


def parse_object(text: str) -> dict[str, Any]:
    """Return the JSON object in a text; an empty one if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read(source: str, text: str) -> Iterator[Document]:
    """Yield the documents of a file that are not empty, until one raises ConfigError."""
    if len(text) > _MOST_CHARACTERS:
        raise ConfigError(f"it has more than {_MOST_CHARACTERS >> 20} MiB", source)
    is_json = text.lstrip("\ufeff \t\r\n").startswith("{")
    is_json = source.endswith(JSON_SUFFIXES) or (is_json and not source.endswith(YAML_SUFFIXES))
    try:
        yield from [parse_json(text)] if is_json else parse_yaml(text)
    except ConfigError as error:
        form = "it is not valid JSON" if is_json else "it can't be read as JSON or YAML"
        text = f"{form}: {error.text}"
        raise ConfigError(text, source, error.line, error.document) from None


def parse_json(text: str, first_line: int = 1) -> Document:
    """Return a document as strictly as the plugin reads it; raises ConfigError."""
    try:
        value = loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise ConfigError(explain_syntax_error(error), line=line) from None
    except RecursionError:
        raise ConfigError(TOO_DEEP, line=first_line) from None
    except ValueError as error:  # about a number, which the message quotes
        raise ConfigError(str(error)) from None
    return _locate_values(Document(value, {}, {}, {}), text, first_line).check_lists()


def _locate_values(document: Document, text: str, line: int) -> Document:
    """Find the lines and the repeated keys of valid JSON; raises ConfigError if it is too deep.

    PyYAML could find them, too, but takes 50 seconds and a gigabyte for 2 MiB; this takes two.
    """
    path: list[Any] = []  # the index or key in each open list or object; None before a key
    keys: list[set[str]] = []
    for lexeme in _LEXEME.findall(text):
        if lexeme == "\n":
            line += 1
        elif lexeme in "]}":
            path.pop()
            keys.pop()
        elif lexeme == ",":
            path[-1] = path[-1] + 1 if isinstance(path[-1], int) else None
        elif path and path[-1] is None:
            key = path[-1] = json.loads(lexeme)
            if key in keys[-1]:
                document.duplicates.setdefault(tuple(path[:-1]), []).append(key)
            keys[-1].add(key)
            document.lines[tuple(path)] = line
        else:
            if not path or isinstance(path[-1], int):
                document.lines[tuple(path)] = line
            if lexeme in "[{" and len(path) == MOST_LEVELS:
                raise ConfigError(TOO_DEEP, line=line)
            if lexeme in "[{":
                path.append(0 if lexeme == "[" else None)
                keys.append(set())
    return document


def parse_yaml(text: str) -> Iterator[Document]:
    """Yield the documents that are not empty, until one raises ConfigError."""
    import yaml

    reader = _YamlReader(text)
    try:
        for node in yaml.compose_all(text, yaml.SafeLoader):
            document = reader.read(node)
            if document.value is not None:
                yield document.check_lists()
            reader.number += 1
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or " ".join(str(error).split())
        line = mark.line + 1 if mark else 1
        raise ConfigError(why, line=line, document=reader.number) from None
    except RecursionError:  # of PyYAML
        raise ConfigError(TOO_DEEP, line=1, document=reader.number) from None


class _YamlReader:
    """Turns PyYAML's nodes into values; what JSON can't express, as a timestamp, is a string."""

    def __init__(self, text: str) -> None:
        import yaml

        self.number = 1  # of the document that is being read
        self._constructor = yaml.constructor.SafeConstructor()
        self._remaining_values = len(text) + _MOST_REPEATED

    def read(self, node: Any) -> Document:
        """Return the next document."""
        self._document = Document(None, {}, {}, {}, self.number)
        return self._document._replace(value=self._read_value(node, (), _line_of(node)))

    def _read_value(self, node: Any, path: Path, line: int) -> Any:
        """Return a node's value; note its line, and those of what is in it, in the document."""
        self._remaining_values -= 1
        if self._remaining_values < 0:
            raise self._error(node, "it is too large, perhaps because of its aliases")
        if len(path) > MOST_LEVELS:
            raise self._error(node, TOO_DEEP)
        self._document.lines[path] = line
        if node.id == "scalar":
            return self._read_scalar(node, path)
        if node.id == "sequence":
            items = enumerate(node.value)
            return [self._read_value(each, (*path, index), _line_of(each)) for index, each in items]
        values = {}
        for key, value in node.value:
            if key.id != "scalar" or key.value == "<<":
                raise self._error(key, "a key must be a string, and no merge (<<)")
            if key.value in values:
                self._document.duplicates.setdefault(path, []).append(key.value)
            values[key.value] = self._read_value(value, (*path, key.value), _line_of(key))
        return values

    def _read_scalar(self, node: Any, path: Path) -> Any:
        if node.style == "|":
            self._document.blocks[path] = _line_of(node) + 1
        if node.tag not in _NON_STRING_TAGS:
            return node.value
        if len(node.value) > _MOST_DIGITS:
            raise self._error(node, f"it has a number of more than {_MOST_DIGITS} characters")
        value = self._constructor.construct_object(node)
        is_json = not isinstance(value, float) or math.isfinite(value)
        return value if is_json else node.value

    def _error(self, node: Any, text: str) -> ConfigError:
        return ConfigError(text, line=_line_of(node), document=self.number)


def _line_of(node: Any) -> int:
    return int(node.start_mark.line) + 1
