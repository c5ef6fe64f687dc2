"""Network configurations in the file formats that people use.

These are plugin configurations, lists (.conflist), and Kubernetes manifests with
NetworkAttachmentDefinitions, in YAML or JSON. Each ipvlan entry is returned with the name and
version that a runtime would give it.
"""

import os
import stat
import sys
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from cni_ipvlan.cli import reading
from cni_ipvlan.cli.reading import JSON_SUFFIXES, ConfigError, Document
from cni_ipvlan.cni import SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.cni.delegate import INTERFACE_PLUGINS
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Path

DIRECTORY = "/etc/cni/net.d"
# Where libcni caches the result of each attachment, with its configuration, in a file called
# NETWORK-CONTAINER-IFNAME; Multus has a directory of its own.
RESULTS = "/var/lib/cni/results"
RESULT_DIRECTORIES = (RESULTS, "/var/lib/cni/multus/results")
_MOST_BYTES = 16 << 20  # of a file; the largest, a capture of a call, may have nearly as many
_MOST_NETWORKS = 1000  # in a file; some checks compare each with every other
_RELEASE_LAST = {"host-local": 1, "static": 2, "": 2}  # IPAM plugins; see select_stores
_LIST_KEYS = ("name", "cniVersion")  # what libcni copies from a list into its plugins
Config = dict[str, Any]
_Types = tuple[str, ...]  # of plugins


class NetworkConfig(NamedTuple):
    """One configuration for the plugin, and its document.

    ``path`` (keys and indexes) leads to it in ``root``, the document, also into strings of JSON.
    ``before`` and ``after`` are the types of the other plugins in its list. ``definition`` is the
    name of its NetworkAttachmentDefinition, prefixed with the namespace if it has one.
    """

    source: str
    path: Path
    config: Config
    root: Document
    before: _Types = ()
    after: _Types = ()
    definition: str = ""

    @property
    def name(self) -> str:
        """The network's name, or an empty string."""
        name = self.config.get("name")
        return name if isinstance(name, str) else ""

    @property
    def version(self) -> str:
        """Its CNI version."""
        return str(self.config.get("cniVersion") or VERSION_WHEN_ABSENT)

    @property
    def label(self) -> str:
        """The name that selects it."""
        return self.definition or self.name or "(without a name)"

    @property
    def store(self) -> tuple[str, str]:
        """Where it allocates addresses: its IPAM plugin, and the directory of host-local."""
        return netconf.ipam_type(self.config), netconf.lease_directory(self.config)

    def path_in_document(self, path: Path) -> Path:
        """Return the path in the document of a path in the configuration."""
        is_of_list = self.path[-2:-1] == ("plugins",) and path[:1] and path[0] in _LIST_KEYS
        return (*(self.path[:-2] if is_of_list else self.path), *path)


Networks = dict[str, list[NetworkConfig]]  # by name


class Contents(NamedTuple):
    """What a file has: networks, and what is wrong with other parts of it."""

    networks: list[NetworkConfig]
    faults: list[ConfigError]


def read_source(source: str) -> str:
    """Return the text of a regular file, or of standard input for ``-``; raises ConfigError.

    The file's type is checked first, since opening a pipe may wait, and a device may react.
    """
    try:
        if source == "-":
            text = read_standard_input()
        elif stat.S_ISREG(os.stat(source).st_mode) or os.path.isdir(source):
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(descriptor, "rb") as file:
                text = _read_bytes(source, file)
        else:
            why = "it is not a regular file; give - and redirect it to standard input"
            raise ConfigError(f"cannot read {source}: {why}")
        return text.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {source}: it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", error)
        raise ConfigError(f"cannot read {source}: {words}") from None


def read_standard_input() -> bytes:
    """Return the standard input; raises ConfigError if it is too long, or closed."""
    if sys.stdin is None:  # as Python has it where it is closed
        raise ConfigError("cannot read -: standard input is closed")
    return _read_bytes("-", sys.stdin.buffer)


def _read_bytes(source: str, file: BinaryIO) -> bytes:
    text = file.read(_MOST_BYTES + 1) or b""
    if len(text) > _MOST_BYTES:
        raise ConfigError(f"cannot read {source}: it has more than {_MOST_BYTES >> 20} MiB")
    return text


def read(source: str, text: str | None = None) -> Contents:
    """Return every ipvlan configuration in a source, and what is wrong; ``text`` is its text."""
    contents = Contents([], [])
    try:
        for document in reading.read(source, read_source(source) if text is None else text):
            _Reader(source, document, contents).read(document.value, ())
    except ConfigError as error:
        contents.faults.append(error)
    return contents


def read_directory() -> Contents:
    """Return the networks in the directory of this node; raises OSError."""
    names = sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []
    files = [read(os.path.join(DIRECTORY, name)) for name in names if name.endswith(JSON_SUFFIXES)]
    networks = [network for each in files for network in each.networks]
    return Contents(networks, [fault for each in files for fault in each.faults])


def read_cache(*names: str) -> Iterator[tuple[str, Config]]:
    """Yield the files of these names, by default all, that libcni caches, and their contents.

    In these, the text of the configuration is decoded.
    """
    for directory in RESULT_DIRECTORIES:
        for name in names or list_directory(directory):
            file = os.path.join(directory, name)
            with suppress(ConfigError, ValueError):
                entry = reading.parse_object(read_source(file))
                yield file, {**entry, "config": b64decode(str(entry.get("config", ""))).decode()}


def read_networks() -> Networks:
    """Return the networks of this node by name, and those that libcni caches with attachments.

    Networks of other plugins have an empty list; files that can't be read are left out.
    """
    texts = []
    for file in (os.path.join(DIRECTORY, name) for name in list_directory(DIRECTORY)):
        with suppress(ConfigError):
            texts += [(file, read_source(file))] if file.endswith(JSON_SUFFIXES) else []
    networks: Networks = {}
    for file, text in (*texts, *((file, each["config"]) for file, each in read_cache())):
        networks.setdefault(str(reading.parse_object(text).get("name")), [])
        for network in read(file, text).networks:
            networks.setdefault(network.name, []).append(network)
    return networks


def select_stores(networks: Iterable[NetworkConfig]) -> list[NetworkConfig]:
    """Return one network for each place where they allocate addresses, the first to release first.

    GC removes the record of an attachment, which an IPAM plugin needs that is asked later.
    host-local, however, finds its leases without records, and static has none.
    """
    stores: dict[tuple[str, str], NetworkConfig] = {}
    for each in networks:
        stores.setdefault(each.store, each)
    places = sorted(stores, key=lambda place: _RELEASE_LAST.get(place[0], 0))
    return [stores[place] for place in places]


def list_directory(directory: str) -> list[str]:
    """Return the names in a directory; none if it can't be read."""
    with suppress(OSError, ValueError):  # ValueError, if its name has a NUL
        return sorted(os.listdir(directory))
    return []


class _Reader(NamedTuple):
    """Adds the networks of a document, and what is wrong with it, to the contents of a file."""

    source: str
    root: Document
    contents: Contents

    def read(self, value: Any, path: Path) -> None:
        """Read a whole document, or an item of a Kubernetes list at ``path``."""
        if not isinstance(value, dict):
            self._fault(path, f"it is {quote(value)}; a network configuration is needed")
        elif value.get("kind") == "NetworkAttachmentDefinition":
            self._read_definition(value, (*path, "spec", "config"))
        elif isinstance(value.get("items"), list) and "kind" in value:
            for index, item in enumerate(value["items"]):
                self.read(item, (*path, "items", index))
        elif not ("kind" in value and "apiVersion" in value):
            self._read_configuration(value, path)
        # Others are Kubernetes objects without networks, such as a Pod.

    def _fault(self, path: Path, text: str, line: int | None = None) -> None:
        line = line or self.root.find_line(path)
        fault = ConfigError(text, self.source, line, self.root.number, path)
        self.contents.faults.append(fault)

    def _read_definition(self, value: Config, path: Path) -> None:
        config = netconf.value_at(value, "spec", "config")
        if config is None or not str(config).strip():
            return  # Multus then reads the file that is named like the definition.
        if not isinstance(config, str):
            kind = "a mapping" if isinstance(config, dict) else quote(config)
            text = f"config is {kind}; it must be a string of JSON: write config: |, then the JSON"
            self._fault(path, text)
            return
        block = self.root.blocks.get(path)  # of other strings, no lines are known
        try:
            inner = reading.parse_json(config, block or 1)
        except ConfigError as error:
            text = f"it is not valid JSON: {error.text}"
            self._fault(path, text, error.line if block else None)
            return
        if not isinstance(inner.value, dict):
            self._fault(path, f"it is {quote(inner.value)}; a JSON object is needed")
            return
        duplicates = {(*path, *each): keys for each, keys in inner.duplicates.items()}
        self.root.duplicates.update(duplicates)
        if block:
            self.root.lines.update({(*path, *each): line for each, line in inner.lines.items()})
        names = (netconf.value_at(value, "metadata", key) for key in ("namespace", "name"))
        namespace, name = (str(each or "") for each in names)
        if name:
            # Multus names a configuration after its definition when it has no name of its own.
            inner.value.setdefault("name", name)
        label = f"{namespace}/{name}" if namespace else name
        self._read_configuration(inner.value, path, label)

    def _read_configuration(self, value: Config, path: Path, definition: str = "") -> None:
        """Read a configuration, or a list, also of a definition with that label."""
        plugins = value.get("plugins")
        if plugins is None:
            self._add_plugin(value, path, definition=definition)
        elif isinstance(plugins, list):
            self._read_list(value, path, definition)
        else:
            self._fault((*path, "plugins"), f"plugins is {quote(plugins)}; a list is needed")

    def _read_list(self, value: Config, path: Path, definition: str) -> None:
        """Read a list's plugins with its name and version instead of their own, as in libcni."""
        inherited = {key: value[key] for key in _LIST_KEYS if key in value}
        if isinstance(versions := value.get("cniVersions"), list) and versions:
            versions = [*versions, value.get("cniVersion")]
            supported = [each for each in SUPPORTED_VERSIONS if each in versions]
            inherited |= {"cniVersion": supported[-1]} if supported else {}
        plugins = [each if isinstance(each, dict) else {} for each in value["plugins"]]
        types = tuple(str(plugin.get("type") or "one without a type") for plugin in plugins)
        for index, plugin in enumerate(plugins):
            place = (*path, "plugins", index)
            if "ipvlan" in types and not isinstance(plugin.get("type"), str):
                text = f"it is {quote(value['plugins'][index])}; a plugin with a type is needed"
                self._fault(place, text)
            context = {"before": types[:index], "after": types[index + 1 :]}
            own = {key: plugin[key] for key in plugin if key not in _LIST_KEYS} | inherited
            self._add_plugin(own, place, definition=definition, **context)

    def _add_plugin(self, plugin: Config, path: Path, **context: Any) -> None:
        kind = plugin.get("type")
        if kind == "ipvlan":
            if len(self.contents.networks) == _MOST_NETWORKS:
                raise ConfigError(f"the file has more than {_MOST_NETWORKS} networks", self.source)
            network = NetworkConfig(self.source, path, plugin, self.root, **context)
            self.contents.networks.append(network)
        elif kind not in INTERFACE_PLUGINS and netconf.is_typo(str(kind), "ipvlan"):
            self._fault((*path, "type"), f"type is {kind!r}; did you mean ipvlan?")
