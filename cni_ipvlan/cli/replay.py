"""Make a captured call again, and compare its outcome with the recorded one.

A capture may come from a stranger. So it is checked, and never says where plugins are run from.
"""

import json
import os
import re
from difflib import unified_diff
from typing import Any

import click

from cni_ipvlan.capture import FORM
from cni_ipvlan.cli import calls, configs, options, output
from cni_ipvlan.cli.dry_run.script import describe_attachment
from cni_ipvlan.cli.reading import ConfigError, parse_object
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import pod, read
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.commands import select_parameters
from cni_ipvlan.log import one_line

# Bytes that are no UTF-8 are surrogates from dc80 to dcff; the other surrogates can't be encoded.
_TEXT = re.compile("[^\0\ud800-\udc7f\udd00-\udfff]*")


@options.command("ipvlan replay capture.jsonl --dry-run", "ipvlan replay capture.jsonl -v")
@click.argument("file", type=options.FILE, metavar="FILE")
@options.netns_option(required=False)
@options.cni_path_option
@options.dry_run_option
@options.verbose_option
def replay(
    file: str, netns: str | None, cni_path: str | None, dry_run: bool, as_json: bool, verbose: bool
) -> int:
    """Make a captured call again, and show how its outcome differs.

    FILE is from captureDir or CNI_IPVLAN_CAPTURE, or - for standard input. The call has the
    recorded CNI variables and standard input, unless options replace them; but plugins are run from
    this machine's directories, never from the recorded ones. The exit status is the call's.
    """
    try:
        request, recorded = _load(file, configs.read_source(file))
    except ConfigError as error:
        raise options.option_error(str(error), "FILE") from None
    verb = request["environment"].get("CNI_COMMAND", "")
    if dry_run and verb not in calls.DRY_RUN_VERBS:
        raise click.UsageError(f"{verb} changes nothing; replay it without --dry-run")
    if netns is not None and verb in ("STATUS", "GC"):
        raise click.UsageError(f"{verb} is about no container, so it has no --netns")
    stdin = request["stdin"].encode("utf-8", "surrogateescape")
    environment = _merge_environment(request["environment"], netns, cni_path)
    call = calls.Invocation(environment, stdin, dry_run, as_json, verbose)
    _announce(call, request["time"])
    if dry_run:
        calls.make(call)
        return 0
    status, stdout = calls.serve_call(call)
    answer = stdout.decode("utf-8", "surrogateescape")
    if as_json:
        output.echo_json({"status": status, "answer": answer, "recorded": recorded})
    else:
        _compare(recorded, status, answer)
    return status


def _load(source: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the request and the outcome, whose status is None if the call was killed.

    Raises ConfigError.
    """
    first_line, *_, last_line = text.rstrip("\n").split("\n") * 2
    request, last = parse_object(first_line), parse_object(last_line)
    environment = request.get("environment")
    if request.get("capture") != FORM or not isinstance(environment, dict):
        text = f"is not a capture, whose first line is a call's request of form {FORM}"
        raise ConfigError(f"{source} {text}")
    status, answer = (netconf.value_at(last, "outcome", each) for each in ("status", "answer"))
    recorded = {"status": status, "answer": answer or ""}
    texts = {key: request.get(key) for key in ("time", "stdin")} | {"answer": recorded["answer"]}
    of_cni = list(filter(str.isidentifier, select_parameters(environment)))
    for name, value in {**environment, **texts}.items():
        if not isinstance(value, str) or not _TEXT.fullmatch(value):
            raise ConfigError(f"{source}: {name} must be a string without NUL")
        if name in environment and name not in of_cni:
            raise ConfigError(f"{source}: {name!r} is no variable of CNI")
    return request, recorded


def _merge_environment(
    recorded: dict[str, str], netns: str | None, cni_path: str | None
) -> dict[str, str]:
    """Return the recorded variables, those of options, and the person's own that are not CNI's."""
    of_cni = select_parameters(os.environ)
    variables = {name: value for name, value in os.environ.items() if name not in of_cni}
    chosen = {"CNI_PATH": calls.find_cni_path(cni_path)[0]}
    return {**variables, **recorded, **chosen, **({"CNI_NETNS": netns} if netns else {})}


def _announce(call: calls.Invocation, time: str) -> None:
    verb, path = call.environment.get("CNI_COMMAND", ""), call.environment["CNI_PATH"]
    phrases = [f"replaying {verb} of {time}", *describe_attachment(call.environment)]
    phrases += [f"pod {pod_name}"] if (pod_name := pod(call.environment)) else []
    lines = [", ".join(phrases)]
    if verb == "GC":
        lines.append("it releases the addresses of attachments that have been added since")
    if plugin := netconf.ipam_type(read(call.stdin).config):
        try:
            executable = delegate.find(plugin, tuple(path.split(":")))
        except CniError as error:
            executable = f"none is run: {error.msg}"
        lines.append(f"IPAM plugin of CNI_PATH {path}: {executable}")
    output.echo_err(*map(one_line, lines))


def _compare(recorded: dict[str, Any], status: int, answer: str) -> None:
    before, after = _format_answer(recorded["answer"]), _format_answer(answer)
    if recorded["status"] is None:
        lines = [f"status {status}; the recorded call was killed", *after]
    else:
        is_equal = status == recorded["status"]
        comparison = ", as recorded" if is_equal else f"; recorded was {recorded['status']}"
        lines = [f"status {status}{comparison}"]
        if before != after:
            lines.append("the answer differs from the recorded one:")
            lines += unified_diff(before, after, "recorded", "now", n=len(before), lineterm="")
        elif after:
            lines += ["the answer is as recorded:", *after]
    output.echo(*map(one_line, lines))


def _format_answer(answer: str) -> list[str]:
    document = parse_object(answer)
    return (json.dumps(document, indent=4) if document else answer).splitlines()
