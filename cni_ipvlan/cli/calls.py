"""A runtime's call, built from command-line options."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import click

from cni_ipvlan.cli import configs, output
from cni_ipvlan.cli.dry_run import plan as plans
from cni_ipvlan.cli.dry_run import script, story
from cni_ipvlan.cli.dry_run.plan import DryRun
from cni_ipvlan.cli.options import wrong
from cni_ipvlan.cni import protocol
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import parse, read
from cni_ipvlan.cni.result import Result
from cni_ipvlan.cni.versions import LATEST_VERSION
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.node import Node, assemble

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
    return "--cni-path" if given else "CNI_PATH" if os.environ.get("CNI_PATH") else ""


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
    listener = output.Narrator(log) if options.is_verbose else log
    begin = partial(_node, call.environment, listener)
    try:
        request = parse(call.environment, read(call.stdin))
        if options.is_dry:
            _print_dry_run(story.make(request, begin, options.ipam_result), options)
            return
        log.open(request.config)
        perform(begin(), request, partial(_print_result, request.version, options))
    except CniError as error:
        log.fail(str(error))
        raise as_typed(error, call.names) from None
    if options.as_json and request.command != "ADD":
        output.echo_json({})


def as_typed(error: CniError, names: Mapping[str, str]) -> CniError:
    """Return an error that calls its subject what a person has typed instead of the variable."""
    name = names.get(error.subject, error.subject)
    if error.subject in error.msg:
        error.msg = error.msg.replace(error.subject, name, 1)
    else:
        error.details = error.details.replace(error.subject, name, 1)
    return error


def answered(call: Call, *, is_verbose: bool) -> tuple[int, bytes]:
    """Make a call as a runtime does; return its exit status and what it prints."""
    log = _log(call.environment)
    given = read(call.stdin)
    log.open(given.config)
    node = _node(call.environment, output.Narrator(log) if is_verbose else log)
    printed = bytearray()
    status = protocol.serve(call.environment, given, partial(perform, node), printed.extend, log)
    return status, bytes(printed)


def _print_result(version: str, options: CallOptions, result: Result) -> None:
    if options.as_json:
        output.echo_json(results.render(result, version))
    else:
        output.result(result)


def _print_dry_run(made: DryRun, options: CallOptions) -> None:
    """Print the commands that a call would run; raises CniError if it would fail."""
    if options.as_json:
        output.echo_json(plans.document(made))
    else:
        output.echo(*script.text(made).split("\n"))
    if made.failure and options.as_json:  # it is in the document, too
        raise click.exceptions.Exit(1)
    if made.failure:
        raise made.failure


def read_only_node() -> Node:
    """Return a node whose transactions change nothing; no plan is kept."""
    return _node(os.environ, _log({}), Plan())


def _node(
    environment: Mapping[str, str],
    listener: Log | output.Narrator,
    plan: Plan | None = None,
    ipam_result: Result | None = None,
) -> Node:
    interrupts = Interrupts()
    interrupts.install()
    return assemble(environment, interrupts, listener, plan, ipam_result)


def _log(environment: Mapping[str, str]) -> Log:
    return Log(lambda text: output.echo_err(*text.split("\n")), environment)
