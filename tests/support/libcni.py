"""What container runtimes share: runs the plugins of a list as the CNI specification defines.

See sections 3 and 4 of the specification.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from runtime import call_environment, stdin_of

Document = dict[str, Any]


class PluginError(Exception):
    """A plugin has failed; ``document`` is its error."""

    def __init__(self, plugin: str, document: Document) -> None:
        super().__init__(f"{plugin}: {document}")
        self.plugin = plugin
        self.document = document


class Attachment(NamedTuple):
    """An interface of a container, as every call names it; ``netns`` is empty if it is gone.

    ``requests`` reach those plugins whose ``capabilities`` name them.
    """

    netns: str
    container_id: str = "one"
    ifname: str = "net1"
    args: str = ""
    requests: Mapping[str, Any] = MappingProxyType({})


class Libcni:
    def __init__(self, path: Sequence[str], cache: Path) -> None:
        self._path = path
        self._cache = cache

    def add(self, network: Document, attachment: Attachment) -> Document:
        result: Document | None = None
        for plugin in network["plugins"]:
            result = self._run("ADD", network, plugin, attachment, result)
        assert result is not None
        self._cache.mkdir(parents=True, exist_ok=True)
        self._file(network, attachment).write_text(json.dumps(result))
        return result

    def check(self, network: Document, attachment: Attachment) -> None:
        result = self._result(network, attachment)
        for plugin in network["plugins"]:
            self._run("CHECK", network, plugin, attachment, result)

    def delete(self, network: Document, attachment: Attachment) -> None:
        result = self._result(network, attachment)
        for plugin in reversed(network["plugins"]):
            self._run("DEL", network, plugin, attachment, result)
        self._file(network, attachment).unlink(missing_ok=True)

    def _run(
        self,
        command: str,
        network: Document,
        plugin: Document,
        attachment: Attachment,
        previous: Document | None,
    ) -> Document | None:
        conf = {**plugin, "name": network["name"], "cniVersion": network["cniVersion"]}
        if previous is not None:
            conf["prevResult"] = previous
        able = [name for name, is_able in conf.get("capabilities", {}).items() if is_able]
        granted = {name: attachment.requests[name] for name in able if name in attachment.requests}
        if granted:
            conf["runtimeConfig"] = granted
        about = {"CNI_CONTAINERID": attachment.container_id, "CNI_IFNAME": attachment.ifname}
        about |= {"CNI_ARGS": attachment.args} if attachment.args else {}
        path = {"PATH": os.environ["PATH"], "CNI_PATH": ":".join(self._path)}
        environment = call_environment(command, attachment.netns, **about, **path)
        argv, stdin = [self._find(plugin["type"])], stdin_of(conf)
        done = subprocess.run(argv, input=stdin, env=environment, capture_output=True, check=False)
        if done.returncode:
            raise PluginError(plugin["type"], json.loads(done.stdout))
        return json.loads(done.stdout) if command == "ADD" else None

    def _find(self, name: str) -> Path:
        return next(file for place in self._path if (file := Path(place, name)).exists())

    def _file(self, network: Document, attachment: Attachment) -> Path:
        name = f"{network['name']}-{attachment.container_id}-{attachment.ifname}"
        return self._cache / name

    def _result(self, network: Document, attachment: Attachment) -> Document | None:
        file = self._file(network, attachment)
        return json.loads(file.read_text()) if file.exists() else None


def without_files(snapshot: Document) -> Document:
    """Return a node's snapshot without files, since tuning leaves directories for its notes."""
    return {key: value for key, value in snapshot.items() if key != "files"}
