"""Check what any ADD on this node needs, from the kernel to plugins, and what a container has.

Of the files there, only ipvlan and the IPAM plugins of networks are executed, each once, with a
limit of time.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from shlex import quote
from typing import Any, NamedTuple

from cni_ipvlan.cli.calls import DEFAULT_ORIGIN, name_options
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect
from cni_ipvlan.cli.reading import parse_object
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands, machine, queries
from cni_ipvlan.iproute.commands import Command, in_shell
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import about, dhcp, explain
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.plugin.status import check_kernel, check_records
from cni_ipvlan.state.attachment import describe_container
from cni_ipvlan.state.registry import DIRECTORY, Registry

_OLDEST_IPROUTE2 = (5, 10)
_SECONDS = 5.0
_DEFAULT_DIRECTORY = "/opt/cni/bin"  # install-node's
_WHICH = "give those of your runtime with --cni-path"
_FIRST_IS_CALLED = f"a runtime that searches there first calls that one; {_WHICH}"
_MODULE_FINDINGS = {
    machine.LOADED: (OK, ""),
    machine.AVAILABLE: (WARNING, "the first ADD loads it; to load it now: modprobe ipvlan"),
    machine.BLOCKED: (PROBLEM, "remove that line, then: modprobe ipvlan"),
    machine.ABSENT: (PROBLEM, "install the kernel's extra modules, or a kernel with CONFIG_IPVLAN"),
}


class Tools(NamedTuple):
    """What checks work with. ``tx`` changes nothing; ``container`` and ``ifname`` are optional.

    Plugins are searched in ``directories``; ``origin`` names the option or variable that sets
    these, if one does. ``versions`` has the answers to VERSION of plugins, by their paths.
    """

    runner: Runner
    tx: Transaction
    registry: Registry
    directories: list[str]
    origin: str
    versions: dict[str, Completed]
    ifname: str
    container: Namespace | None = None


def examine(tools: Tools) -> Iterator[Finding]:
    """Yield the findings about the node."""
    runner = tools.runner
    yield from collect("kernel", _check_kernel(runner))
    yield from collect("iproute2", _check_iproute2(runner))
    for program in ("nsenter", "tee", "cat"):
        yield from collect("programs", run_check(partial(runner.find, program)))
    if missing := machine.missing_capabilities():
        text = f"without {' and '.join(missing)}, ADD and some of these checks can't work"
        yield Finding(WARNING, "permission", text, "run it as root, as runtimes do")
    else:
        yield Finding(OK, "permission", "this user may change networks and enter namespaces")
    success = Finding(OK, "records", f"attachments can be recorded in {DIRECTORY}")
    yield from collect("records", run_check(check_records, success))
    yield from collect("plugins", _check_plugins(tools))


def _check_kernel(runner: Runner) -> Iterator[Finding]:
    module = machine.ipvlan_module()
    if module.state == machine.UNKNOWN:
        check_kernel(runner)
        yield Finding(OK, "kernel", f"Linux {os.uname().release} has ipvlan")
    else:
        state, advice = _MODULE_FINDINGS[module.state]
        yield Finding(state, "kernel", module.text, advice)


def _check_iproute2(runner: Runner) -> Iterator[Finding]:
    answer = runner.run(Command(("ip", "-V")), seconds=_SECONDS)
    output = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()[:60]
    oldest = ".".join(map(str, _OLDEST_IPROUTE2))
    version = re.search(r"iproute2-v?(\d+)\.(\d+)", output)
    if version is None or (int(version[1]), int(version[2])) < _OLDEST_IPROUTE2:
        text = f"ip -V prints: {output or answer.killed_because}"
        yield Finding(PROBLEM, "iproute2", text, f"install iproute2 {oldest} or newer")
    else:
        yield Finding(OK, "iproute2", output)


def run_check(check: Callable[[], object], *success: Finding) -> Iterator[Finding]:
    """Run a check that raises an error or nothing; yield what its success means."""
    check()
    yield from success


def examine_container(tools: Tools, container: Namespace, network: str) -> Iterator[Finding]:
    """Yield the findings about a container; ``network`` may be empty."""
    links = queries.links(tools.tx.run(Command(commands.link_show(), netns=container)).stdout)
    names = ", ".join(link.name for link in links)
    yield Finding(OK, "namespace", f"{container.path} has the interfaces {names}")
    if not (ifname := tools.ifname):
        return
    owners = Owners(tools.registry.all_records())
    for link in links:
        owner = owners.owner_of(link, container)
        if ifname not in (link.name, *link.alternative_names, owner and owner.ifname):
            continue
        text = f"{ifname} is there, of kind {link.kind or 'physical or built-in'}"
        text += f", but is called {link.name} now" if link.name != ifname else ""
        if owner is not None:
            phrase = describe_container(owner.container_id, owners.pod_of(owner, container))
            text += f": the {phrase} in the network {owner.network}"
        is_expected = owner is not None and network in ("", owner.network)
        advice = "an ADD of that name is refused: delete the interface, or choose another name"
        yield Finding(WARNING if is_expected else PROBLEM, "interface", text, advice)
        return
    yield Finding(OK, "interface", f"the name {ifname} is free in {container.path}")


def _check_plugins(tools: Tools) -> Iterator[Finding]:
    why = f"set by {tools.origin}" if tools.origin else f"{DEFAULT_ORIGIN}; {_WHICH}"
    text = f"searched in this order: {', '.join(tools.directories)} ({why})"
    yield Finding(OK, "plugins", text)
    first, *others = _find_executables(tools) or [""]
    yield _identify(tools, first)
    for finding in (_identify(tools, each) for each in others):
        is_ok, advice = finding.state == OK, _FIRST_IS_CALLED
        yield finding if is_ok else finding._replace(state=WARNING, advice=advice)


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
    if path not in tools.versions:
        stdin = json.dumps({"cniVersion": version}).encode()
        tools.versions[path] = _run(tools, path, stdin, CNI_COMMAND="VERSION")
    answer = tools.versions[path]
    versions = parse_object(answer.stdout.decode("utf-8", "replace")).get("supportedVersions")
    supported = list(map(str, versions)) if isinstance(versions, list) else []
    if version in supported:
        yield Finding(OK, "ipam", f"{path} supports CNI {version}")
    elif supported:
        text = f"{path} does not support CNI {version}, which is the configuration's cniVersion"
        advice = f"set cniVersion to {supported[-1]}, or install a newer {plugin}"
        yield Finding(PROBLEM, "ipam", text, advice)
    else:
        why = answer.killed_because or answer.stderr.decode("utf-8", "replace").strip()
        text = f"{path} does not answer VERSION, so it may not support CNI {version}"
        advice = f"{path} should be a CNI plugin; file {path} says more"
        state = PROBLEM if answer.killed_because or not answer.was_run else WARNING
        yield Finding(state, "ipam", f"{text}: {why}" if why else text, advice)
    # A runtime searches the directory in its own configuration.
    directories = [os.path.dirname(each) for each in _find_executables(tools)]
    is_together = any(os.path.exists(os.path.join(each, plugin)) for each in directories)
    if directories and not tools.origin and not is_together:
        text = f"{directories[0]}/ipvlan and {path} are in different directories"
        advice = f"cp {path} {directories[0]}/"
        yield Finding(WARNING, "ipam", f"{text}; most runtimes search only one", advice)


def _run(tools: Tools, path: str, stdin: bytes = b"", **parameters: str) -> Completed:
    environment = {"PATH": os.environ.get("PATH", ""), **parameters}
    command = Command((path,), stdin=stdin, environment=environment)
    return tools.runner.run(command, seconds=_SECONDS)


def check_dhcp(tools: Tools, config: dict[str, Any]) -> Iterator[Finding]:
    """Yield whether containers would hear DHCP answers; raises CniError without dhcp's daemon."""
    if not machine.missing_capabilities():  # without them, the kernel refuses these commands
        # The commands of ADD, in a network namespace that ends with the shell.
        changes = (commands.clsact_add("lo"), commands.broadcast_filter_add("lo"))
        script = " && ".join(map(in_shell, changes))
        argv = ("unshare", "--net", "sh", "-c", script)
        completed = tools.runner.run(Command(argv), seconds=_SECONDS)
        why = completed.killed_because or completed.stderr.decode("utf-8", "replace").strip()
        text = f"tc can't have DHCP answers broadcast: {why}"
        success = "tc can have DHCP answers broadcast, so that containers hear them"
        failure = Finding(WARNING, "ipam", text, explain.BROADCASTING)
        yield failure if completed.status else Finding(OK, "ipam", success)
    dhcp.check_daemon(config)
