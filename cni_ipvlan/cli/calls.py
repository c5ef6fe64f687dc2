"""A runtime's call, built from command-line options."""

from __future__ import annotations

import json
import os
import secrets
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.cli import configs, output
from cni_ipvlan.cli.dry_run import plan as plans
from cni_ipvlan.cli.dry_run import script, story
from cni_ipvlan.cli.narrator import Narrator
from cni_ipvlan.cli.options import wrong
from cni_ipvlan.cli.typed import renamed
from cni_ipvlan.cni import protocol
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import parse, read
from cni_ipvlan.cni.versions import LATEST_VERSION
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import assemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.plugin.node import Node

DRY_RUN_OF = ("ADD", "DEL", "CHECK", "GC")
USUAL = "the usual directories"
USUAL_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")


class Call(NamedTuple):
    """What a runtime would pass: its environment and standard input.

    ``names`` are what a person has typed instead of variables.
    """

    environment: Mapping[str, str]
    stdin: bytes
    names: Mapping[str, str] = MappingProxyType({})


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
    """Return what sets the directories of plugins: --cni-path, CNI_PATH, or empty for neither."""
    if given:
        return "--cni-path"
    return "CNI_PATH" if os.environ.get("CNI_PATH") else ""


def fresh_container_id() -> str:
    """Return an unused container ID."""
    return secrets.token_hex(8)


def read_result(file: str, option: str) -> tuple[dict[str, Any], Result]:
    """Return a result in a file, as JSON and parsed; raises BadParameter."""
    try:
        document = json.loads(configs.read_source(file))
        return document, results.parse(document, LATEST_VERSION)
    except (ValueError, RecursionError) as error:
        raise wrong(f"{file} is not JSON: {error}", option) from None
    except configs.ConfigError as error:
        raise wrong(str(error), option) from None
    except CniError as error:
        raise wrong(f"{file}: {error.msg}", option) from None


def make(call: Call, options: CallOptions) -> None:
    """Make a call and print its outcome; raises CniError."""
    log = _log(call.environment)
    try:
        request = parse(call.environment, read(call.stdin))
        if options.is_dry:
            _dry_run(request, options, log)
        else:
            log.open(request.config)
            _perform(request, options, log)
    except CniError as error:
        log.fail(str(error))
        raise renamed(error, call.names) from None


def answered(call: Call, *, is_verbose: bool) -> tuple[int, bytes]:
    """Make a call as a runtime does; return its exit status and what it prints."""
    log = _log(call.environment)
    given = read(call.stdin)
    log.open(given.config)
    node = _node(call.environment, CallOptions(is_verbose=is_verbose), log)
    printed = bytearray()
    status = protocol.serve(call.environment, given, partial(perform, node), printed.extend, log)
    return status, bytes(printed)


def _perform(request: Request, options: CallOptions, log: Log) -> None:
    def deliver(result: Result) -> None:
        if options.as_json:
            output.echo_json(results.render(result, request.version))
        else:
            output.result(result)

    perform(_node(request.environment, options, log), request, deliver)
    if options.as_json and request.command != "ADD":
        output.echo_json({})


def _dry_run(request: Request, options: CallOptions, log: Log) -> None:
    """Print the commands that a call would run; raises CniError if it would fail."""

    def begin(plan: Plan, ipam_result: Result) -> Node:
        return _node(request.environment, options, log, plan, ipam_result)

    made = story.make(request, begin, options.ipam_result)
    if options.as_json:
        output.echo_json(plans.document(made))
    else:
        output.echo(*script.text(made).split("\n"))
    if made.failure is None:
        return
    if options.as_json:  # it is in the document, too
        raise click.exceptions.Exit(1)
    raise made.failure


def _node(
    environment: Mapping[str, str],
    options: CallOptions,
    log: Log,
    plan: Plan | None = None,
    ipam_result: Result | None = None,
) -> Node:
    interrupts = Interrupts()
    interrupts.install()
    listener = Narrator(log) if options.is_verbose else log
    return assemble(environment, interrupts, listener, plan, ipam_result)


def _log(environment: Mapping[str, str]) -> Log:
    return Log(lambda text: output.echo_err(*text.split("\n")), environment)


def read_only_node() -> Node:
    """Return a node whose transactions change nothing; no plan is kept."""
    interrupts = Interrupts()
    interrupts.install()
    return assemble(os.environ, interrupts, _log({}), Plan())
