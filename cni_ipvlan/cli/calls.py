"""A runtime's call, built from command-line options."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.cli import configs, dry_runs, output, script
from cni_ipvlan.cli import plan as plans
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import (
    DECODING_FAILURE,
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    UNSUPPORTED_FIELD,
    CniError,
)
from cni_ipvlan.cni.request import parse, read
from cni_ipvlan.cni.version import LATEST_VERSION
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.plugin.node import Node

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


class CallOptions(NamedTuple):
    """How to make a call: as a dry run, printed as JSON or as text, traced.

    ``ipam_result`` stands in for the IPAM plugin's answer in a dry run.
    """

    is_dry: bool = False
    as_json: bool = False
    is_verbose: bool = False
    ipam_result: Result | None = None


def cni_path(given: str | None) -> str:
    """Return CNI_PATH: as given, from the environment, or the usual directories that exist."""
    path = given or os.environ.get("CNI_PATH")
    if path:
        return ":".join(os.path.abspath(part) for part in path.split(":") if part)
    present = [directory for directory in USUAL_DIRECTORIES if os.path.isdir(directory)]
    return ":".join(present or USUAL_DIRECTORIES)


def cni_path_is_set_by(given: str | None) -> str:
    """Return what CNI_PATH is set by: the option, the variable, or empty for neither."""
    if given:
        return "--cni-path"
    return "the variable CNI_PATH" if os.environ.get("CNI_PATH") else ""


def fresh_container_id() -> str:
    """Return an unused container ID."""
    return secrets.token_hex(8)


def read_result(file: str, option: str) -> tuple[dict[str, Any], Result]:
    """Return a result in a file, as JSON and parsed; raises BadParameter, ConfigError."""
    try:
        document = json.loads(configs.read_source(file))
        return document, results.parse(document, LATEST_VERSION)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{file} is not JSON: {error}", param_hint=option) from None
    except CniError as error:
        raise click.BadParameter(f"{file}: {error.msg}", param_hint=option) from None


def make(call: Call, options: CallOptions) -> int:
    """Make a call and print its outcome.

    Return the exit status: 0 for success, 1 for a failure, 2 for bad input.
    """
    log = Log(output.echo_err, call.environment)
    try:
        request = parse(call.environment, read(call.stdin))
        if options.is_dry:
            _dry_run(request, options, log)
        else:
            log.open(request.config)
            _perform(request, options, log)
    except CniError as error:
        log.fail(str(error))
        output.failure(error)
        return 2 if error.code in _BAD_INPUT else 1
    return 0


def _perform(request: Request, options: CallOptions, log: Log) -> None:
    def deliver(result: Result) -> None:
        if options.as_json:
            output.echo_json(results.render(result, request.version))
        else:
            output.result(result)

    perform(_node(request, options, log), request, deliver)
    if options.as_json and request.command != "ADD":
        output.echo_json({})


def _dry_run(request: Request, options: CallOptions, log: Log) -> None:
    """Print the commands that a call would run; raises CniError if it would fail."""

    def begin(plan: Plan, ipam_result: Result, looked: Callable[[Command], None]) -> Node:
        return _node(request, options, log, plan, ipam_result, looked)

    made = dry_runs.make(request, begin, options.ipam_result)
    if options.as_json:
        output.echo_json(plans.document(made))
    else:
        output.echo(script.text(made))
    if made.failure:
        raise made.failure


def _node(
    request: Request,
    options: CallOptions,
    log: Log,
    plan: Plan | None = None,
    ipam_result: Result | None = None,
    looked: Callable[[Command], None] = lambda _command: None,
) -> Node:
    interrupts = Interrupts()
    interrupts.install()

    def observe(command: Command, completed: Completed) -> None:
        if options.is_verbose:
            output.trace(command, completed)
        log.command(command, completed)
        looked(command)

    return assemble(request.environment, interrupts, observe, log.warn, plan, ipam_result)


def read_only_node() -> Node:
    """Return a node whose transactions change nothing; no plan is kept."""
    interrupts = Interrupts()
    interrupts.install()
    return assemble(os.environ, interrupts, lambda *_: None, output.echo_err, Plan())
