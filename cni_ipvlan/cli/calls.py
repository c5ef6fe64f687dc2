"""A runtime's call, put together from what a person gives."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.cli import configs, output
from cni_ipvlan.cli import script as scripts
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    UNSUPPORTED_FIELD,
    CniError,
)
from cni_ipvlan.cni.request import parse
from cni_ipvlan.cni.versions import LATEST_VERSION
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.dry_run import Rehearsal, Script
from cni_ipvlan.iproute.runner import Interrupts, Runner
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.log import Log
from cni_ipvlan.plugin.attachment import Plugin
from cni_ipvlan.state.registry import ReadOnlyRegistry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.dry_run import Step
    from cni_ipvlan.iproute.runner import Event

USUAL_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_BAD_INPUT = (
    INCOMPATIBLE_VERSION,
    UNSUPPORTED_FIELD,
    INVALID_ENVIRONMENT,
    DECODING_FAILURE,
    INVALID_CONFIGURATION,
)


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
        found = next(
            (
                hint.container_id
                for hint in Registry().all_hints()
                if (hint.ifname, hint.netns_identity) == (ifname, identity)
            ),
            None,
        )
    except PermissionError:
        why = "only root may see what is remembered of attachments"
    except (OSError, ValueError) as error:
        why = f"cannot look for the attachment in {netns}: {error}"
    else:
        if found is not None:
            return found
        why = f"no attachment {ifname!r} in {netns} is remembered on this node"
    raise click.UsageError(f"{why}; give its container ID with --container-id")


def read_result(file: str, option: str) -> tuple[dict[str, Any], Result]:
    """Return a result in a file, as JSON and parsed; raises BadParameter, ConfigError."""
    try:
        document = json.loads(configs.read_source(file))
        return document, results.parse(document, LATEST_VERSION)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file} is not JSON: {error}", param_hint=option) from None
    except CniError as error:
        raise click.BadParameter(f"{file}: {error.msg}", param_hint=option) from None


def make(call: Call, manner: Manner) -> int:
    """Make a call and print what it came to.

    Return the exit status: 0, 1 when it failed, 2 when what was given is wrong.
    """
    log = Log(output.complain, call.environment)
    script = Script()
    try:
        request = parse(call.environment, call.stdin)
        if not manner.dry:
            log.open(request.config)
        plugin = _plugin(call.environment, manner, log, script)
        with plugin.handlers()[request.command](request) as outcome:
            if manner.dry:
                _tell(call.environment, script, manner, outcome, request.version)
            elif manner.as_json:
                output.say_json(results.render(outcome, request.version) if outcome else {})
            elif outcome is not None:
                output.result(outcome)
    except CniError as error:
        log.fail(str(error))
        output.failure(error)
        return 2 if error.code in _BAD_INPUT else 1
    return 0


def _tell(
    environment: Mapping[str, str],
    script: Script,
    manner: Manner,
    outcome: Result | None,
    version: str,
) -> None:
    if manner.ipam_result is None and any(_is_left_open(step) for step in script.steps):
        script.assumptions.append(
            "addresses and routes will be what the IPAM plugin answers, which was not asked; "
            "--ipam-result FILE puts an answer in"
        )
    if manner.as_json:
        result = results.render(outcome, version) if outcome else None
        output.say_json(scripts.document(script, result))
    else:
        output.say(scripts.shell(environment, script))


def _is_left_open(step: Step) -> bool:
    return not step.was_run and (step.parameters or {}).get("CNI_COMMAND") == "ADD"


def _plugin(environment: Mapping[str, str], manner: Manner, log: Log, script: Script) -> Plugin:
    interrupts = Interrupts()
    interrupts.install()
    observe: Callable[[Event], None] = log.command
    if manner.verbose:

        def observe(event: Event) -> None:
            output.trace(event)
            log.command(event)

    runner = Runner(environment.get("PATH", ""), observe, interrupts)
    if manner.dry:
        return Plugin(
            runner,
            ReadOnlyRegistry(),
            begin=lambda: Rehearsal(runner, script),
            warn=log.warn,
            foreseen=manner.ipam_result,
        )
    return Plugin(
        runner,
        Registry(),
        begin=lambda: Transaction(runner),
        warn=log.warn,
    )
