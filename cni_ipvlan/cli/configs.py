"""Network configurations in the file formats that people use.

These are plugin configurations, lists (.conflist), and Kubernetes manifests with
NetworkAttachmentDefinitions or ConfigMaps, in YAML or JSON; each may hold Multus's own
configuration with its delegates. Each ipvlan entry is returned with the name and
version that a runtime would give it.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.reading import documents, json_text
from cni_ipvlan.cli.reading.documents import JSON_SUFFIXES, ConfigError
from cni_ipvlan.cli.reading.part import MOST_DIGITS, Part, SyntaxFault
from cni_ipvlan.cni.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from cni_ipvlan.cli.reading.part import Path

__all__ = [
    "JSON_SUFFIXES",
    "ConfigError",
    "Contents",
    "NetworkConfig",
    "choose",
    "load",
    "read",
    "read_source",
]

_NAD_KIND = "NetworkAttachmentDefinition"
_MOST_BYTES = 16 << 20  # of a file; the largest, a capture of a call, may have nearly as many
# Some checks compare each of them with every other.
_MOST_NETWORKS = 1000  # in a file
_MOST_PLUGINS = 100  # in a list
_MOST_ITEMS = 1000  # in any list of a configuration
_OF_THE_LIST = ("name", "cniVersion")  # what libcni copies from a list into its plugins
_NOTHING = Part(None, 1)


class NoSuchNetworkError(ConfigError):
    """A file that has no network of a name."""


class NetworkConfig(NamedTuple):
    """One configuration for the plugin, and its place.

    ``path`` (keys and indexes) leads to it in the document with that number, through
    strings of JSON; ``root`` is the document or, in such a string, what the string has,
    and ``root_path`` leads there. ``before`` and ``after`` are the types of the other
    plugins in its list. ``definition`` is the name of its NetworkAttachmentDefinition,
    prefixed with the namespace if it has one.
    """

    source: str
    document: int
    path: Path
    config: dict[str, Any]
    root: Part = _NOTHING
    root_path: Path = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    definition: str = ""

    @property
    def name(self) -> str:
        """The network's name, or an empty string."""
        name = self.config.get("name")
        return name if isinstance(name, str) else ""

    @property
    def is_chained(self) -> bool:
        """Whether it follows another plugin in a list."""
        return bool(self.before)

    @property
    def label(self) -> str:
        """The name to select it by."""
        return self.definition or self.name or "(without a name)"

    def is_called(self, name: str) -> bool:
        """Whether ``name`` selects it."""
        return name in (self.name, self.definition, self.definition.rpartition("/")[2])

    def place(self, path: Path) -> Path:
        """Return the path in the document of a path in the configuration."""
        is_of_list = self.path[-2:-1] == ("plugins",) and path[:1] and path[0] in _OF_THE_LIST
        return (*(self.path[:-2] if is_of_list else self.path), *path)

    def line(self, path: Path) -> int:
        """Return the line of a path in the document, or of its nearest existing ancestor."""
        return self.root.find(path[len(self.root_path) :]).line


class Contents(NamedTuple):
    """What a file has: networks, and what is wrong with other parts of it."""

    networks: list[NetworkConfig]
    faults: list[ConfigError]


def read_source(source: str) -> str:
    """Return the text of a regular file, or of standard input for ``-``; raises ConfigError."""
    try:
        text = standard_input() if source == "-" else _content(source)
        return text.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {source}: it is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"cannot read {source}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {source!r}: {error}") from None


def standard_input() -> bytes:
    """Return what standard input has; raises ConfigError if that is too much."""
    return _bounded("-", sys.stdin.buffer)


def _bounded(source: str, file: BinaryIO) -> bytes:
    text = file.read(_MOST_BYTES + 1) or b""
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"cannot read {source}: it has more than {_MOST_BYTES >> 20} MiB")
    return text


def _content(source: str) -> bytes:
    """Return what a regular file has; raises OSError, ConfigError.

    It is looked at before it is opened, since that may wait, or have an effect on a device.
    """
    if not stat.S_ISREG(os.stat(source).st_mode) and not os.path.isdir(source):
        raise ConfigError(
            f"cannot read {source}: it is not a regular file; "
            "give - for standard input, and lead it there"
        )
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        return _bounded(source, file)


def read(source: str, text: str) -> Contents:
    """Return every ipvlan configuration in a text, and what is wrong with the text."""
    found = Contents([], [])
    try:
        for number, part in documents.read(source, text):
            _Document(source, number, found).read(part, ())
    except ConfigError as error:
        found.faults.append(error)
    return found


def load(source: str, text: str) -> list[NetworkConfig]:
    """Return every ipvlan configuration in a text; raises ConfigError if anything is wrong."""
    found = read(source, text)
    if found.faults:
        raise found.faults[0]
    return found.networks


def choose(source: str, network: str | None) -> NetworkConfig:
    """Return the selected configuration; raises ConfigError unless exactly one matches."""
    candidates, faults = read(source, read_source(source))
    chosen = [each for each in candidates if network is None or each.is_called(network)]
    if faults and (network is None or not chosen):
        raise faults[0]
    if not candidates:
        raise ConfigError(f"{source} has no configuration of type ipvlan")
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


class _Document:
    """Collects the networks of one document, and what is wrong with it."""

    def __init__(self, source: str, number: int, found: Contents) -> None:
        self._source = source
        self._number = number
        self._found = found

    def read(self, part: Part, path: Path) -> None:
        """Read a whole document, or an item of a Kubernetes list at ``path``."""
        document = part.value
        if not isinstance(document, dict):
            self._fault(part, path, f"it is {_shown(document)}; a network configuration is needed")
        elif document.get("kind") == _NAD_KIND:
            self._definition(part, path)
        elif isinstance(document.get("items"), list) and "kind" in document:
            for index, item in part.parts["items"].parts.items():
                self.read(item, (*path, "items", index))
        elif document.get("kind") == "ConfigMap":
            self._config_map(part, path)
        elif not ("kind" in document and "apiVersion" in document):
            self._configurations(part, path, _Owner(part, path))
        # else another Kubernetes object, such as a Pod

    def _fault(self, part: Part, path: Path, text: str, line: int | None = None) -> None:
        error = ConfigError(text, self._source, line or part.line, self._number, path)
        self._found.faults.append(error)

    def _definition(self, part: Part, path: Path) -> None:
        spec = _member(part, "spec")
        self._repeated(part, path)
        self._repeated(spec, (*path, "spec"))
        config = _member(spec, "config")
        place = (*path, "spec", "config")
        if config.value is None:
            return  # Multus then reads a file on the node with the definition's name
        if not isinstance(config.value, str):
            kind = "a mapping" if isinstance(config.value, dict) else _shown(config.value)
            text = f"config is {kind}; it must be a string of JSON: write config: |, then the JSON"
            self._fault(config, place, text)
        elif config.value.strip():
            self._in_string(config, place, _metadata(part))

    def _repeated(self, part: Part, path: Path) -> None:
        for key in part.repeated:
            text = f"{key} is there more than once; only the last counts"
            self._fault(part.parts[key], (*path, key), text)

    def _config_map(self, part: Part, path: Path) -> None:
        """Read those values that are about ipvlan; others may be in any format."""
        for key, value in _member(part, "data").parts.items():
            if isinstance(value.value, str) and '"ipvlan"' in value.value:
                self._in_string(value, (*path, "data", key), ("", ""))

    def _in_string(self, part: Part, path: Path, metadata: tuple[str, str]) -> None:
        try:
            inner = json_text.parse_string(part)
        except SyntaxFault as fault:
            why = documents.template_in(part.value) or f"it is not valid JSON: {fault}"
            self._fault(part, path, why, fault.line)
            return
        if not isinstance(inner.value, dict):
            self._fault(part, path, f"it is {_shown(inner.value)}; a JSON object is needed")
            return
        namespace, name = metadata
        if name:
            # Multus names a configuration after its definition when it has no name of its own.
            inner.value.setdefault("name", name)
        label = f"{namespace}/{name}" if namespace else name
        self._configurations(inner, path, _Owner(inner, path, definition=label))

    def _configurations(self, part: Part, path: Path, owner: _Owner) -> None:
        """Read a configuration, a list, or those that Multus delegates to."""
        document = part.value
        plugins = document.get("plugins")
        if plugins is not None and not isinstance(plugins, list):
            text = f"plugins is {_shown(plugins)}; a list is needed"
            self._fault(_member(part, "plugins"), (*path, "plugins"), text)
        elif plugins is not None:
            self._list(part, path, owner)
        elif isinstance(document.get("delegates"), list):
            self._delegates(part, path, owner)
        elif _is_ours(document, owner):
            self._add(part, document, path, owner)

    def _delegates(self, part: Part, path: Path, owner: _Owner) -> None:
        delegates = _member(part, "delegates")
        self._too_many(delegates, (*path, "delegates"), _MOST_PLUGINS)
        for index, delegate in islice(delegates.parts.items(), _MOST_PLUGINS):
            if isinstance(delegate.value, dict):
                place = (*path, "delegates", index)
                self._configurations(delegate, place, owner._replace(definition=""))

    def _too_many(self, part: Part, path: Path, most: int) -> None:
        if isinstance(part.value, list) and len(part.value) > most:
            self._fault(part, path, f"it has {len(part.value)} items; {most} are read at most")

    def _list(self, part: Part, path: Path, owner: _Owner) -> None:
        """Copy a list's name and version into each of its plugins, as libcni does."""
        document = part.value
        given = {key: document[key] for key in ("name",) if key in document}
        version = _version(document)
        if version is not None:
            given["cniVersion"] = version
        self._too_many(_member(part, "plugins"), (*path, "plugins"), _MOST_PLUGINS)
        plugins = document["plugins"][:_MOST_PLUGINS]
        for index, plugin in enumerate(plugins):
            if not isinstance(plugin, dict):
                continue
            entry = part.parts["plugins"].parts[index]
            place = (*path, "plugins", index)
            if isinstance(plugin.get("delegates"), list):
                self._delegates(entry, place, owner)
            elif plugin.get("type") == "ipvlan":
                around = owner._replace(
                    before=_types(plugins[:index]), after=_types(plugins[index + 1 :])
                )
                self._add(entry, {**plugin, **given}, place, around)

    def _add(self, part: Part, config: dict[str, Any], path: Path, owner: _Owner) -> None:
        faults = len(self._found.faults)
        if len(self._found.networks) == _MOST_NETWORKS:
            text = f"the file has more than {_MOST_NETWORKS} networks; put them into several"
            raise ConfigError(text, self._source, part.line, self._number, path)
        for step, each in part.walk(path):
            self._too_many(each, step, _MOST_ITEMS)
            template = documents.template_in(each.value) if isinstance(each.value, str) else ""
            if template:
                self._fault(each, step, template)
            elif each.foreign:  # a plugin is given JSON
                text = f"it is {each.foreign} ({each.value}), which JSON does not have; quote it"
                self._fault(each, step, text)
        if len(self._found.faults) == faults:
            network = NetworkConfig(self._source, self._number, path, config, *owner)
            self._found.networks.append(network)


class _Owner(NamedTuple):
    """The last fields of NetworkConfig."""

    root: Part
    root_path: Path
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    definition: str = ""


def _is_ours(document: dict[str, Any], owner: _Owner) -> bool:
    """Whether a configuration is for ipvlan, or lacks its type but is certainly one."""
    looks_so = owner.definition or "cniVersion" in document or "ipam" in document
    return bool(document.get("type", "ipvlan" if looks_so else "") == "ipvlan")


def _member(part: Part, key: str) -> Part:
    return part.parts.get(key) or Part(None, part.line)


def _metadata(part: Part) -> tuple[str, str]:
    """Return the namespace and the name of a Kubernetes object."""
    metadata = _member(part, "metadata")
    values = (_member(metadata, key).value for key in ("namespace", "name"))
    namespace, name = (str(value) if value else "" for value in values)
    return namespace, name


def _types(plugins: Sequence[object]) -> tuple[str, ...]:
    return tuple(str(each.get("type")) for each in plugins if isinstance(each, dict))


def _version(document: dict[str, Any]) -> object:
    """Return the highest version that a list names, as libcni does."""
    several = document.get("cniVersions")
    named = [document.get("cniVersion"), *(several if isinstance(several, list) else ())]
    readable = [each for each in named if isinstance(each, str) and _numbers(each)]
    return max(readable, key=_numbers) if several and readable else document.get("cniVersion")


def _numbers(version: str) -> list[int]:
    parts = version.split(".")
    is_one = all(part.isdecimal() and len(part) <= MOST_DIGITS for part in parts)
    return [int(part) for part in parts] if is_one else []


def _shown(value: object) -> str:
    return shortened(json.dumps(value))
