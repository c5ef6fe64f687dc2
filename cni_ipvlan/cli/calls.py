"""A runtime's call, put together from what a person gives."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.attachment import Plugin
from cni_ipvlan.cli import output
from cni_ipvlan.cli import script as scripts
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import parse
from cni_ipvlan.cni.versions import LATEST_VERSION
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.rehearsal import Rehearsal, Script
from cni_ipvlan.iproute.runner import Interrupts, Runner
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.journal import Journal
from cni_ipvlan.registry import ReadOnlyRegistry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.runner import Event

USUAL_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_NAMED_NAMESPACES = "/run/netns"


class Call(NamedTuple):
    """What a runtime would pass: its environment and standard input."""

    environment: Mapping[str, str]
    stdin: bytes


class Manner(NamedTuple):
    """How a call is to be made: told only (``dry``), traced, shown as JSON or as text."""

    dry: bool = False
    as_json: bool = False
    verbose: bool = False
    ipam_result: Result | None = None


def netns_path(netns: str) -> str:
    """Return the path of a namespace that is given as a path, a name or a process ID."""
    if "/" in netns:
        return os.path.abspath(netns)
    named = os.path.join(_NAMED_NAMESPACES, netns)
    if os.path.exists(named):
        return named
    if netns.isdecimal() and os.path.isdir(f"/proc/{netns}"):
        return f"/proc/{netns}/ns/net"
    raise click.BadParameter(
        f"{netns!r} is no path, no name under {_NAMED_NAMESPACES}, and no process ID",
        param_hint="--netns",
    )


def cni_path(given: str | None) -> str:
    """Return CNI_PATH: as given, as in the environment, or the usual directories there are."""
    path = given or os.environ.get("CNI_PATH")
    if path:
        return ":".join(os.path.abspath(part) for part in path.split(":") if part)
    present = [directory for directory in USUAL_DIRECTORIES if os.path.isdir(directory)]
    return ":".join(present or USUAL_DIRECTORIES)


def fresh_container_id() -> str:
    """Return an ID that no container has."""
    return secrets.token_hex(8)


def known_container_id(ifname: str, netns: str) -> str:
    """Return the ID that an attachment was made with; raises UsageError when nobody remembers."""
    try:
        identity = namespace.identity_of(netns)
        found = ReadOnlyRegistry().containers().get((ifname, identity))
    except OSError:
        found = None
    if found is None:
        raise click.UsageError(
            f"no attachment {ifname!r} in {netns} is remembered on this node; "
            "give its container ID with --container-id"
        )
    return found


def read_result(file: str, option: str) -> tuple[dict[str, Any], Result]:
    """Return a result in a file, as JSON and parsed; raises BadParameter."""
    try:
        with open(file, encoding="utf-8") as stream:
            document = json.load(stream)
        return document, results.parse(document, LATEST_VERSION)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"cannot read {file}: {error}", param_hint=option) from None
    except CniError as error:
        raise click.BadParameter(f"{file}: {error.msg}", param_hint=option) from None


def make(call: Call, manner: Manner) -> int:
    """Make a call and print what it came to; return the exit status, 0 or 1."""
    journal = Journal(output.complain, call.environment)
    script = Script()
    try:
        request = parse(call.environment, call.stdin)
        if not manner.dry:
            journal.open(request.config)
        plugin = _plugin(call.environment, manner, journal, script)
        with plugin.handlers()[request.command](request) as result:
            rendered = None if result is None else results.render(result, request.version)
            if manner.dry and manner.as_json:
                output.say_json(scripts.document(script, rendered))
            elif manner.dry:
                output.say(scripts.shell(_title(call.environment), script))
            elif manner.as_json:
                output.say_json(rendered if rendered is not None else {})
            elif result is not None:
                output.result(result)
    except CniError as error:
        journal.fail(str(error))
        output.failure(error)
        return 1
    return 0


def _plugin(
    environment: Mapping[str, str], manner: Manner, journal: Journal, script: Script
) -> Plugin:
    interrupts = Interrupts()
    interrupts.install()
    observe: Callable[[Event], None] = journal.command
    if manner.verbose:

        def observe(event: Event) -> None:
            output.trace(event)
            journal.command(event)

    runner = Runner(environment.get("PATH", ""), observe)
    if manner.dry:
        return Plugin(
            runner,
            interrupts,
            ReadOnlyRegistry(),
            begin=lambda: Rehearsal(runner, interrupts, script),
            warn=journal.warn,
            foreseen=manner.ipam_result,
        )
    return Plugin(
        runner,
        interrupts,
        Registry(),
        begin=lambda: Transaction(runner, interrupts),
        warn=journal.warn,
    )


def _title(environment: Mapping[str, str]) -> str:
    parts = [f"dry run of {environment['CNI_COMMAND']}: nothing was changed"]
    for word, variable in (
        ("container", "CNI_CONTAINERID"),
        ("interface", "CNI_IFNAME"),
        ("namespace", "CNI_NETNS"),
    ):
        if environment.get(variable):
            parts.append(f"{word} {environment[variable]}")
    return "; ".join(parts)
