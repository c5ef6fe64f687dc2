"""Runs the plugins of a list as runtimes do: sections 3 and 4 of the CNI specification."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from runtime import call_environment, stdin_of

Document = dict[str, Any]


class Attachment(NamedTuple):
    """An interface of a container; ``requests`` reach plugins whose ``capabilities`` name them."""

    netns: str
    args: str = ""
    requests: Mapping[str, Any] = MappingProxyType({})


class Libcni:
    """Attaches one interface at a time, and keeps its result."""

    def __init__(self, *path: str) -> None:
        self._path = path
        self._result: Document = {}

    def add(self, network: Document, attachment: Attachment) -> Document:
        for plugin in network["plugins"]:
            self._result = json.loads(self._run("ADD", network, plugin, attachment))
        return self._result

    def check(self, network: Document, attachment: Attachment) -> None:
        for plugin in network["plugins"]:
            self._run("CHECK", network, plugin, attachment)

    def delete(self, network: Document, attachment: Attachment) -> None:
        for plugin in reversed(network["plugins"]):
            self._run("DEL", network, plugin, attachment)
        self._result = {}

    def _run(self, verb: str, network: Document, plugin: Document, attachment: Attachment) -> bytes:
        conf = {**plugin, "name": network["name"], "cniVersion": network["cniVersion"]}
        if self._result:
            conf["prevResult"] = self._result
        names = [name for name, is_able in conf.get("capabilities", {}).items() if is_able]
        config = {name: attachment.requests[name] for name in names if name in attachment.requests}
        if config:
            conf["runtimeConfig"] = config
        variables = {"CNI_ARGS": attachment.args} if attachment.args else {}
        variables |= {"PATH": os.environ["PATH"], "CNI_PATH": ":".join(self._path)}
        environment = call_environment(verb, attachment.netns, **variables)
        candidates = (Path(place, plugin["type"]) for place in self._path)
        argv, stdin = [next(filter(Path.exists, candidates))], stdin_of(conf)
        done = subprocess.run(argv, input=stdin, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, (plugin, done)
        return done.stdout


def without_files(snapshot: Document) -> Document:
    """Return a node's snapshot without files, since tuning leaves directories for its notes."""
    return {key: value for key, value in snapshot.items() if key != "files"}
