"""Network configurations in the forms people have at hand.

A plugin configuration, a list (.conflist), Kubernetes manifests with
NetworkAttachmentDefinitions in YAML or JSON: from each come the entries for
ipvlan, with the name and version that a runtime would give them.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

_NAD_KIND = "NetworkAttachmentDefinition"


class ConfigError(Exception):
    """What is wrong with a file, in a sentence."""


class NetworkConfig(NamedTuple):
    """One configuration for the plugin, and where it stands.

    ``path`` leads to it in the document (keys and indexes); ``text`` is set when
    it is JSON in a string there, as in a NetworkAttachmentDefinition, and then
    ``inner_path`` leads on inside of it.
    """

    source: str
    document: int
    path: tuple[str | int, ...]
    text: str | None
    inner_path: tuple[str | int, ...]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The network's name, or an empty string."""
        name = self.config.get("name")
        return name if isinstance(name, str) else ""


def read_source(source: str) -> str:
    """Return the text of a file, or of standard input for ``-``; raises ConfigError."""
    try:
        if source == "-":
            return sys.stdin.read()
        with open(source, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {source}: it is not UTF-8 text") from None


def load(source: str, text: str) -> list[NetworkConfig]:
    """Return every ipvlan configuration in a text; raises ConfigError when it can't be read."""
    found = []
    for number, document in enumerate(_documents(source, text)):
        found += _in_document(source, number, document, ())
    return found


def choose(source: str, network: str | None) -> NetworkConfig:
    """Return the one configuration meant; raises ConfigError when that is not clear."""
    candidates = load(source, read_source(source))
    if not candidates:
        raise ConfigError(f"{source} has no configuration of type ipvlan")
    if network is not None:
        chosen = [each for each in candidates if each.name == network]
        if not chosen:
            names = ", ".join(each.name or "(unnamed)" for each in candidates)
            raise ConfigError(f"{source} has no network {network!r}; it has: {names}")
        candidates = chosen
    if len(candidates) > 1:
        names = ", ".join(each.name or "(unnamed)" for each in candidates)
        raise ConfigError(f"{source} has several networks: {names}; choose one with --network")
    return candidates[0]


def _documents(source: str, text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("{") or source.endswith((".conf", ".conflist", ".json")):
            raise ConfigError(f"{source} is not valid JSON: {error}") from None
    try:
        import yaml
    except ImportError:
        raise ConfigError(
            f"{source} is not JSON; to read YAML, PyYAML is needed "
            "(pip install 'cni-ipvlan[yaml]', or Debian's python3-yaml)"
        ) from None
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{source} is neither JSON nor YAML: {message}") from None


def _in_document(
    source: str, number: int, document: Any, path: tuple[str | int, ...]
) -> list[NetworkConfig]:
    if not isinstance(document, dict):
        raise ConfigError(f"{source} holds {type(document).__name__} where an object is needed")
    if document.get("kind") == _NAD_KIND:
        return _in_definition(source, number, document, path)
    if isinstance(document.get("items"), list) and "kind" in document:
        found = []
        for index, item in enumerate(document["items"]):
            found += _in_document(source, number, item, (*path, "items", index))
        return found
    if "kind" in document and "apiVersion" in document:
        return []  # another Kubernetes object, a Pod say
    entries = _in_configuration(document, source)
    return [
        NetworkConfig(source, number, (*path, *inner), None, (), config)
        for inner, config in entries
    ]


def _in_definition(
    source: str, number: int, document: dict[str, Any], path: tuple[str | int, ...]
) -> list[NetworkConfig]:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    spec = document.get("spec")
    text = spec.get("config") if isinstance(spec, dict) else None
    if not isinstance(text, str) or not text.strip():
        return []  # Multus then reads a file on the node, named as the definition
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: the config of {name!r} is not valid JSON: {error}") from None
    if not isinstance(inner, dict):
        raise ConfigError(f"{source}: the config of {name!r} is no JSON object")
    # Multus names a configuration after its definition when it has no name of its own.
    inner.setdefault("name", name)
    return [
        NetworkConfig(source, number, (*path, "spec", "config"), text, inner_path, config)
        for inner_path, config in _in_configuration(inner, source)
    ]


def _in_configuration(
    document: dict[str, Any], source: str
) -> list[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """A list's name and version go into each of its plugins, as libcni does it."""
    plugins = document.get("plugins")
    if plugins is None:
        is_ours = document.get("type", "ipvlan") == "ipvlan"
        return [((), document)] if is_ours else []
    if not isinstance(plugins, list):
        raise ConfigError(f"{source}: plugins is no list")
    given: dict[str, Any] = {
        key: document[key] for key in ("name", "cniVersion") if key in document
    }
    return [
        (("plugins", index), {**plugin, **given})
        for index, plugin in enumerate(plugins)
        if isinstance(plugin, dict) and plugin.get("type") == "ipvlan"
    ]
