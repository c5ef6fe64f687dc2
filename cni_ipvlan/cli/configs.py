"""Network configurations in the file formats that people use.

These are plugin configurations, lists (.conflist), and Kubernetes manifests with
NetworkAttachmentDefinitions, in YAML or JSON. Each ipvlan entry is returned with
the name and version that a runtime would give it.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAD_KIND = "NetworkAttachmentDefinition"
_SHOWN = 60  # characters of a wrong value
JSON_SUFFIXES = (".conf", ".conflist", ".json")

Path = tuple["str | int", ...]


class ConfigError(Exception):
    """A file that can't be used; the message is one sentence."""


class NoSuchNetworkError(ConfigError):
    """A file that has no network of a name."""


class NetworkConfig(NamedTuple):
    """One configuration for the plugin, and its location.

    ``path`` (keys and indexes) leads to it in the document. If the value there is
    a string of JSON, as in a NetworkAttachmentDefinition, ``text`` is that string
    and ``inner_path`` the path inside it. ``definition`` is the definition's
    name, prefixed with its namespace if it has one.
    """

    source: str
    document: int
    path: Path
    text: str | None
    inner_path: Path
    config: dict[str, Any]
    definition: str = ""

    @property
    def name(self) -> str:
        """The network's name, or an empty string."""
        name = self.config.get("name")
        return name if isinstance(name, str) else ""

    @property
    def is_chained(self) -> bool:
        """Whether it follows another plugin in a list."""
        path = self.inner_path if self.text is not None else self.path
        return path[-2:-1] == ("plugins",) and path[-1] != 0

    @property
    def label(self) -> str:
        """The name to select it by."""
        return self.definition or self.name or "(without a name)"

    def is_called(self, name: str) -> bool:
        """Whether ``name`` selects it."""
        return name in (self.name, self.definition, self.definition.rpartition("/")[2])


def read_source(source: str) -> str:
    """Return the text of a file, or of standard input for ``-``; raises ConfigError."""
    try:
        if source == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        with open(source, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {source}: it is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {source!r}: {error}") from None


def load(source: str, text: str) -> list[NetworkConfig]:
    """Return every ipvlan configuration in a text; raises ConfigError if it can't be parsed."""
    return [
        network
        for number, document in enumerate(_documents(source, text))
        for network in _in_document(source, number, (), document)
    ]


def choose(source: str, network: str | None) -> NetworkConfig:
    """Return the selected configuration; raises ConfigError unless exactly one matches."""
    candidates = load(source, read_source(source))
    if not candidates:
        raise ConfigError(f"{source} has no configuration of type ipvlan")
    chosen = [each for each in candidates if network is None or each.is_called(network)]
    if not chosen:
        raise NoSuchNetworkError(
            f"{source} has no network {network!r}; it has: {_labels(candidates)}"
        )
    if len(chosen) == 1:
        return chosen[0]
    if len({each.label for each in chosen}) == 1:
        raise ConfigError(
            f"{source} has the network {chosen[0].label} {len(chosen)} times; "
            "move the one to use into a file of its own"
        )
    raise ConfigError(
        f"{source} has several networks: {_labels(chosen)}; choose one with --network"
    )


def _labels(networks: Sequence[NetworkConfig]) -> str:
    return ", ".join(each.label for each in networks)


def _documents(source: str, text: str) -> list[Any]:
    try:
        return [_decoded(text)]
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") or source.endswith(JSON_SUFFIXES):
            raise ConfigError(f"{source} is not valid JSON: {error}") from None
    return _yaml_documents(source, text)


def _decoded(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _yaml_documents(source: str, text: str) -> list[Any]:
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            f"{source} is not JSON, and reading YAML needs PyYAML "
            f"({sys.executable} -m pip install PyYAML, or Debian's python3-yaml)"
        ) from None
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{source} is neither JSON nor YAML: {message}") from None
    try:
        # A plugin is given JSON, so what JSON can't express is an error.
        return [json.loads(json.dumps(each, allow_nan=False)) for each in documents]
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source} has a value that JSON can't express: {error}") from None


def _in_document(source: str, number: int, path: Path, document: Any) -> list[NetworkConfig]:
    """Return what is in a document, or at ``path`` in it."""
    if not isinstance(document, dict):
        raise ConfigError(f"{source} is {_shown(document)}; a network configuration is needed")
    if document.get("kind") == _NAD_KIND:
        return _in_definition(source, number, (*path, "spec", "config"), document)
    items = document.get("items")
    if isinstance(items, list) and "kind" in document:
        return [
            network
            for index, item in enumerate(items)
            for network in _in_document(source, number, (*path, "items", index), item)
        ]
    if "kind" in document and "apiVersion" in document:
        return []  # another Kubernetes object, such as a Pod
    return [
        NetworkConfig(source, number, (*path, *inner), None, (), config)
        for inner, config in _in_configuration(document, source)
    ]


def _in_definition(
    source: str, number: int, path: Path, document: dict[str, Any]
) -> list[NetworkConfig]:
    metadata = _object(document, "metadata")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    text = _object(document, "spec").get("config")
    if not isinstance(text, str) or not text.strip():
        return []  # Multus then reads a file on the node with the definition's name
    where = f"{source}: the config of {name!r}"
    try:
        inner = _decoded(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from None
    if not isinstance(inner, dict):
        raise ConfigError(f"{where} is {_shown(inner)}; a JSON object is needed")
    # Multus names a configuration after its definition when it has no name of its own.
    inner.setdefault("name", name)
    definition = f"{namespace}/{name}" if namespace else str(name or "")
    return [
        NetworkConfig(source, number, path, text, inner_path, config, definition)
        for inner_path, config in _in_configuration(inner, where)
    ]


def _in_configuration(document: dict[str, Any], where: str) -> list[tuple[Path, dict[str, Any]]]:
    """Copy a list's name and version into each of its plugins, as libcni does."""
    plugins = document.get("plugins")
    if plugins is None:
        is_ipvlan = document.get("type", "ipvlan") == "ipvlan"
        return [((), document)] if is_ipvlan else []
    if not isinstance(plugins, list):
        raise ConfigError(f"{where}: plugins is {_shown(plugins)}; a list is needed")
    given = {key: document[key] for key in ("name",) if key in document}
    version = _version(document)
    if version is not None:
        given["cniVersion"] = version
    return [
        (("plugins", index), {**plugin, **given})
        for index, plugin in enumerate(plugins)
        if isinstance(plugin, dict) and plugin.get("type") == "ipvlan"
    ]


def _version(document: dict[str, Any]) -> object:
    """Return the highest version that a list names, as libcni does."""
    several = document.get("cniVersions")
    named = [document.get("cniVersion"), *(several if isinstance(several, list) else ())]
    readable = [each for each in named if isinstance(each, str) and _numbers(each)]
    return max(readable, key=_numbers) if several and readable else document.get("cniVersion")


def _numbers(version: str) -> list[int]:
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []


def _object(document: dict[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
