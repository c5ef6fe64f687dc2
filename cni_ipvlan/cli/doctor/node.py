"""Check what any ADD on this node needs, from the kernel to records, and what a container has."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect, error_finding
from cni_ipvlan.iproute import commands, machine, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import ProgramNotFoundError, Runner
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.plugin.status import check_kernel, check_records
from cni_ipvlan.state.attachment import describe_container
from cni_ipvlan.state.registry import DIRECTORY, Registry

_OLDEST_IPROUTE2 = (5, 10)
_SECONDS = 5.0
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


def examine(runner: Runner) -> Iterator[Finding]:
    """Yield the findings about the node."""
    yield from collect("kernel", _check_kernel(runner))
    yield from collect("iproute2", _check_iproute2(runner))
    for program in ("nsenter", "tee", "cat"):
        try:
            runner.find(program)
        except ProgramNotFoundError as error:
            yield error_finding("programs", error)
    yield from collect("permission", _check_permission())
    yield from collect("records", _check_records())


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
    if version is None:
        state = WARNING if "iproute2" in output else PROBLEM
        text = f"ip -V prints no version of iproute2: {output or answer.killed_because}"
        yield Finding(state, "iproute2", text, f"iproute2 {oldest} or newer is needed")
    elif (int(version[1]), int(version[2])) < _OLDEST_IPROUTE2:
        yield Finding(PROBLEM, "iproute2", f"{output} is too old", f"install {oldest} or newer")
    else:
        yield Finding(OK, "iproute2", output)


def _check_permission() -> Iterator[Finding]:
    missing = machine.missing_capabilities()
    if missing:
        text = f"without {' and '.join(missing)}, ADD and some of these checks can't work"
        yield Finding(WARNING, "permission", text, "run it as root, as runtimes do")
    else:
        yield Finding(OK, "permission", "this user may change networks and enter namespaces")


def _check_records() -> Iterator[Finding]:
    check_records()
    yield Finding(OK, "records", f"attachments can be recorded in {DIRECTORY}")


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
