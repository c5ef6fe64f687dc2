"""Check the plugins that a runtime would find: this one, and the IPAM plugin of a network.

No other file is executed, and each of these once, with a limit of time.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from cni_ipvlan.cli.calls import USUAL, as_typed
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import DELEGATE_FAILED, CniError
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.doctor.tools import SearchPath, Tools
    from cni_ipvlan.iproute.running import Completed

_NAME = "ipvlan"
_SECONDS = 5.0
_INSTALL = "scripts/install-node installs it there"


def examine(tools: Tools) -> Iterator[Finding]:
    """Yield the findings about the directories, and about the ipvlan in them."""
    directories = tools.path.directories
    text = f"searched in this order: {', '.join(directories)} ({tools.path.origin})"
    yield Finding(OK, "plugins", text)
    for directory in directories:
        try:
            os.listdir(directory)
        except OSError as error:
            yield Finding(WARNING, "plugins", f"{directory}: {error.strerror}")
    found = _found(tools.path)
    state = WARNING if found else PROBLEM
    for path in _dangling(tools.path):
        text = f"{path} is a link to {os.readlink(path)}, which does not exist"
        yield Finding(state, "plugins", text, f"remove it; {_INSTALL}")
    if found:
        yield _identity(tools, found)
    else:
        yield Finding(PROBLEM, "plugins", "none of these directories has ipvlan", _INSTALL)


def ipam(tools: Tools, plugin: str, version: str) -> Iterator[Finding]:
    """Yield the findings about an IPAM plugin, for a configuration of a CNI version."""
    try:
        path = delegate.find(plugin, tools.path.directories)
    except CniError as error:
        if not tools.path.set_by:
            error.add_details(f"these are {tools.path.origin}")
        raise as_typed(error, {"CNI_PATH": tools.path.set_by or USUAL}) from None
    spoken = _versions(tools, path, version)
    if spoken and version not in spoken:
        text = f"{path} does not support CNI {version}, which is the configuration's cniVersion"
        advice = f"set cniVersion to {spoken[-1]}, or install a newer {plugin}"
        yield Finding(PROBLEM, "ipam", text, advice)
    elif not spoken:
        text = f"{path} does not answer VERSION, so it may not support CNI {version}"
        yield Finding(
            WARNING, "ipam", text, f"{path} should be a CNI plugin; file {path} says more"
        )
    else:
        yield Finding(OK, "ipam", f"{path} supports CNI {version}")
    yield from _apart(tools.path, path)


def _found(path: SearchPath) -> str:
    """Return the path of the ipvlan that a runtime would call; empty if there is none."""
    candidates = (os.path.join(directory, _NAME) for directory in path.directories)
    return next(filter(os.path.isfile, candidates), "")


def _dangling(path: SearchPath) -> Iterator[str]:
    for directory in path.directories:
        link = os.path.join(directory, _NAME)
        if os.path.islink(link) and not os.path.exists(link):
            yield link


def _identity(tools: Tools, path: str) -> Finding:
    """Run ``path`` as nobody's plugin: without CNI_COMMAND, a plugin says what it is."""
    if not os.access(path, os.X_OK):
        return Finding(PROBLEM, "plugins", f"{path} is not executable", f"chmod +x {path}")
    answer = _run(tools, path, {})
    printed = answer.stderr.decode("utf-8", "replace").strip()
    first, _, rest = printed.partition("\n")
    if answer.killed_because:
        return Finding(PROBLEM, "plugins", f"{path} was killed: {answer.killed_because}")
    if not answer.was_run:
        text = _interpreter(path) or first
        return Finding(PROBLEM, "plugins", text, f"install it again: {_INSTALL}")
    if printed == about():
        return Finding(OK, "plugins", f"{path} is this program")
    if answer.status:
        text = f"{path} does not run: {first or f'exit status {answer.status}'}"
        return Finding(PROBLEM, "plugins", text, f"{rest}\ninstall it again: {_INSTALL}".strip())
    return Finding(WARNING, "plugins", f"{path} is a different program: {first[:60]}", _INSTALL)


def _interpreter(path: str) -> str:
    """Return a sentence about the interpreter of a script if it is missing; empty otherwise."""
    with open(path, "rb") as file:
        first = file.readline(256)
    words = first[2:].split() if first.startswith(b"#!") else []
    if not words or os.path.exists(words[0]):
        return ""
    return f"{path} can't be executed: its interpreter {os.fsdecode(words[0])} does not exist"


def _versions(tools: Tools, path: str, version: str) -> list[str]:
    """Return the versions of CNI that a plugin names, oldest first; empty if it names none."""
    if path not in tools.versions:
        asked = {"cniVersion": version}
        tools.versions[path] = _run(tools, path, {"CNI_COMMAND": "VERSION"}, asked)
    answer = tools.versions[path]
    if not answer.was_run:
        raise delegate.not_executed(answer.stderr.decode("utf-8", "replace").strip(), path)
    if answer.killed_because:
        msg = f"{path} was killed when it was asked for VERSION: {answer.killed_because}"
        raise CniError(DELEGATE_FAILED, msg)
    try:
        versions = json.loads(answer.stdout)["supportedVersions"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return list(map(str, versions)) if isinstance(versions, list) else []


def _run(
    tools: Tools, path: str, parameters: dict[str, str], config: dict[str, str] | None = None
) -> Completed:
    environment = {"PATH": os.environ.get("PATH", ""), **parameters}
    stdin = json.dumps(config).encode() if config else b""
    command = Command((path,), stdin=stdin, environment=environment, seconds=_SECONDS)
    return tools.runner.run(command)


def _apart(search: SearchPath, path: str) -> Iterator[Finding]:
    """Yield a warning if a runtime that has only one of the usual directories would not find it.

    Runtimes have one directory each, but which one is in their own configuration.
    """
    own = _found(search)
    if search.set_by or not own:
        return
    name = os.path.basename(path)
    for directory in search.directories:
        if all(os.path.exists(os.path.join(directory, each)) for each in (name, _NAME)):
            return
    text = f"{own} and {path} are in different directories; most runtimes search only one"
    yield Finding(WARNING, "ipam", text, f"ln -s {path} {os.path.dirname(own)}/")
