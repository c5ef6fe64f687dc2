"""What container runtimes share: runs the plugins of a list as the CNI specification defines.

See sections 3 and 4 of the specification; the cache is as libcni keeps it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab import Space

Document = dict[str, Any]


class PluginError(Exception):
    """A plugin has failed; ``document`` is its error."""

    def __init__(self, plugin: str, document: Document) -> None:
        super().__init__(f"{plugin}: {document}")
        self.plugin = plugin
        self.document = document


class Attachment(NamedTuple):
    container_id: str
    netns: str
    ifname: str


class Libcni:
    """Runs the plugins found in ``path`` for the networks of a node."""

    def __init__(self, path: Sequence[str], cache: Path) -> None:
        self._path = path
        self._cache = cache

    def add(self, network: Document, container: Space, container_id: str, ifname: str) -> Document:
        """Run ADD of each plugin in turn; each is given the result of the one before."""
        attachment = Attachment(container_id, container.path, ifname)
        result: Document | None = None
        for plugin in network["plugins"]:
            result = self._run("ADD", network, plugin, attachment, result)
        assert result is not None
        self._remember(network, attachment, result)
        return result

    def check(self, network: Document, container: Space, container_id: str, ifname: str) -> None:
        """Run CHECK of each plugin, with the last result of ADD."""
        if network.get("disableCheck"):
            return
        attachment = Attachment(container_id, container.path, ifname)
        result = self._result(network, attachment)
        for plugin in network["plugins"]:
            self._run("CHECK", network, plugin, attachment, result)

    def delete(self, network: Document, netns: str, container_id: str, ifname: str) -> None:
        """Run DEL of each plugin from the last to the first; ``netns`` is empty if it is gone."""
        attachment = Attachment(container_id, netns, ifname)
        result = self._result(network, attachment)
        for plugin in reversed(network["plugins"]):
            self._run("DEL", network, plugin, attachment, result)
        self._file(network, attachment).unlink(missing_ok=True)

    def cached(self) -> list[str]:
        """Return the names of the cache's files."""
        return sorted(file.name for file in self._cache.glob("*"))

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
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": attachment.container_id,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.ifname,
            "CNI_PATH": ":".join(self._path),
        }
        done = subprocess.run(
            [self._find(plugin["type"])],
            input=json.dumps(conf).encode(),
            env=environment,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise PluginError(plugin["type"], json.loads(done.stdout))
        return json.loads(done.stdout) if command == "ADD" else None

    def _find(self, name: str) -> Path:
        return next(file for place in self._path if (file := Path(place, name)).exists())

    def _file(self, network: Document, attachment: Attachment) -> Path:
        name = f"{network['name']}-{attachment.container_id}-{attachment.ifname}"
        return self._cache / name

    def _remember(self, network: Document, attachment: Attachment, result: Document) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        document = {
            "kind": "cniCacheV1",
            "containerId": attachment.container_id,
            "ifName": attachment.ifname,
            "networkName": network["name"],
            "result": result,
        }
        self._file(network, attachment).write_text(json.dumps(document))

    def _result(self, network: Document, attachment: Attachment) -> Document | None:
        file = self._file(network, attachment)
        if not file.exists():
            return None
        result: Document = json.loads(file.read_text())["result"]
        return result
