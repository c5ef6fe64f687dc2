"""Check the plugins that a runtime would find: this one, and the IPAM plugin of a network.

No other file is executed, and each of these once, with a limit of time.
"""

import json
import os
from collections.abc import Iterator
from shlex import quote
from typing import Any

from cni_ipvlan.cli.calls import DEFAULT_ORIGIN, name_options
from cni_ipvlan.cli.doctor.node import Tools
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.cli.reading import parse_object
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import DELEGATE_FAILED, CniError
from cni_ipvlan.iproute import machine, tc
from cni_ipvlan.iproute.commands import Command, in_shell
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import about, dhcp, explain

_SECONDS = 5.0
_DEFAULT_DIRECTORY = "/opt/cni/bin"  # install-node's
_WHICH = "give those of your runtime with --cni-path"
_FIRST_IS_CALLED = f"a runtime that searches there first calls that one; {_WHICH}"


def examine(tools: Tools) -> Iterator[Finding]:
    """Yield the findings about the directories, and about the ipvlan in them."""
    why = f"set by {tools.origin}" if tools.origin else f"{DEFAULT_ORIGIN}; {_WHICH}"
    text = f"searched in this order: {', '.join(tools.directories)} ({why})"
    yield Finding(OK, "plugins", text)
    for directory in tools.directories:
        try:
            os.listdir(directory)
        except OSError as error:
            yield Finding(WARNING, "plugins", f"{directory}: {error.strerror}")
    first, *others = _find_executables(tools) or [""]
    yield _identify(tools, first)
    for each in others:
        finding = _identify(tools, each)
        if finding.state != OK:
            finding = finding._replace(state=WARNING, advice=_FIRST_IS_CALLED)
        yield finding


def _find_executables(tools: Tools) -> list[str]:
    """Return the paths of ``ipvlan`` that a runtime may call: only the first in a CNI_PATH."""
    candidates = (os.path.join(directory, "ipvlan") for directory in tools.directories)
    executables = list(filter(os.path.isfile, candidates))
    return executables[:1] if tools.origin else executables


def _identify(tools: Tools, path: str) -> Finding:
    """Run ``path`` without CNI_COMMAND: a plugin then prints its name and version."""
    directory = os.path.dirname(path) or tools.directories[0]
    option = "" if directory == _DEFAULT_DIRECTORY else f" --bin-dir {quote(directory)}"
    install = f"scripts/install-node{option} installs it there"
    if not path:
        return Finding(PROBLEM, "plugins", "none of these directories has ipvlan", install)
    if not os.access(path, os.X_OK):
        return Finding(PROBLEM, "plugins", f"{path} is not executable", f"chmod +x {path}")
    answer = _run(tools, path)
    text = answer.stderr.decode("utf-8", "replace").strip()
    first, _, rest = text.partition("\n")
    if answer.status:
        why = answer.killed_because or first or f"exit status {answer.status}"
        advice = f"{rest}\ninstall it again: {install}".strip()
        return Finding(PROBLEM, "plugins", f"{path} does not run: {why}", advice)
    if text == about():
        return Finding(OK, "plugins", f"{path} is this program")
    return Finding(WARNING, "plugins", f"{path} is a different program: {first[:60]}", install)


def check_ipam(tools: Tools, plugin: str, version: str) -> Iterator[Finding]:
    """Yield the findings about an IPAM plugin, for a configuration of a CNI version."""
    try:
        path = delegate.find(plugin, tuple(tools.directories))
    except CniError as error:
        if not tools.origin:
            error.add_details(_WHICH)
        raise name_options(error, {"CNI_PATH": tools.origin or DEFAULT_ORIGIN}) from None
    supported = _ask_versions(tools, path, version)
    if version in supported:
        yield Finding(OK, "ipam", f"{path} supports CNI {version}")
    elif supported:
        text = f"{path} does not support CNI {version}, which is the configuration's cniVersion"
        advice = f"set cniVersion to {supported[-1]}, or install a newer {plugin}"
        yield Finding(PROBLEM, "ipam", text, advice)
    else:
        text = f"{path} does not answer VERSION, so it may not support CNI {version}"
        advice = f"{path} should be a CNI plugin; file {path} says more"
        yield Finding(WARNING, "ipam", text, advice)
    # A runtime searches the directory in its own configuration.
    ipvlan, name = next(iter(_find_executables(tools)), ""), os.path.basename(path)
    is_together = any(
        all(os.path.exists(f"{directory}/{each}") for each in (name, "ipvlan"))
        for directory in tools.directories
    )
    if ipvlan and not tools.origin and not is_together:
        text = f"{ipvlan} and {path} are in different directories; most runtimes search only one"
        yield Finding(WARNING, "ipam", text, f"cp {path} {os.path.dirname(ipvlan)}/")


def _ask_versions(tools: Tools, path: str, version: str) -> list[str]:
    """Return the versions of CNI that a plugin names, oldest first; empty if it names none."""
    if path not in tools.versions:
        stdin = json.dumps({"cniVersion": version}).encode()
        tools.versions[path] = _run(tools, path, stdin, CNI_COMMAND="VERSION")
    answer = tools.versions[path]
    if not answer.was_run:
        raise delegate.not_executed(answer.stderr.decode("utf-8", "replace").strip(), path)
    if answer.killed_because:
        msg = f"{path} was killed when it was asked for VERSION: {answer.killed_because}"
        raise CniError(DELEGATE_FAILED, msg)
    versions = parse_object(answer.stdout.decode("utf-8", "replace")).get("supportedVersions")
    return list(map(str, versions)) if isinstance(versions, list) else []


def _run(tools: Tools, path: str, stdin: bytes = b"", **parameters: str) -> Completed:
    environment = {"PATH": os.environ.get("PATH", ""), **parameters}
    command = Command((path,), stdin=stdin, environment=environment)
    return tools.runner.run(command, seconds=_SECONDS)


def check_dhcp(tools: Tools, config: dict[str, Any]) -> Iterator[Finding]:
    """Yield whether containers would hear DHCP answers; raises CniError without dhcp's daemon."""
    if not machine.missing_capabilities():  # without them, the kernel refuses these commands
        # The commands of ADD, in a network namespace that ends with the shell.
        script = " && ".join(map(in_shell, (tc.clsact_add("lo"), tc.broadcast_filter_add("lo"))))
        argv = ("unshare", "--net", "sh", "-c", script)
        completed = tools.runner.run(Command(argv), seconds=_SECONDS)
        why = completed.killed_because or completed.stderr.decode("utf-8", "replace").strip()
        text = f"tc can't have DHCP answers broadcast: {why}"
        success = "tc can have DHCP answers broadcast, so that containers hear them"
        failure = Finding(WARNING, "ipam", text, explain.BROADCASTING)
        yield failure if completed.status else Finding(OK, "ipam", success)
    dhcp.check_daemon(config)
