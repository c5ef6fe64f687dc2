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
from cni_ipvlan.cli.dry_run.script import whose
from cni_ipvlan.cli.reading import parse_object
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import pod, read
from cni_ipvlan.config import netconf
from cni_ipvlan.log import one_line

_OWN = "CNI_IPVLAN_"  # variables that are this program's, not the protocol's
# Some surrogates stand for bytes that are no UTF-8, but not all.
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
    except configs.ConfigError as error:
        raise options.option_error(str(error), "FILE") from None
    verb = request["environment"].get("CNI_COMMAND", "")
    if dry_run and verb not in calls.DRY_RUN_OF:
        raise click.UsageError(f"{verb} changes nothing; replay it without --dry-run")
    if netns is not None and verb in ("STATUS", "GC"):
        raise click.UsageError(f"{verb} is about no container, so it has no --netns")
    stdin = request["stdin"].encode("utf-8", "surrogateescape")
    environment = _environment(request["environment"], netns, cni_path)
    call = calls.Invocation(environment, stdin, dry_run, as_json, verbose)
    _announce(call, request["time"])
    if dry_run:
        calls.make(call)
        return 0
    status, printed = calls.answered(call)
    answer = printed.decode("utf-8", "surrogateescape")
    if as_json:
        output.echo_json({"status": status, "answer": answer, "recorded": recorded})
    else:
        _compare(recorded, status, answer)
    return status


def _load(source: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the request and the outcome, whose status is None if the call was killed.

    Raises ConfigError.
    """
    first, *others = text.rstrip("\n").split("\n")
    request, last = parse_object(first), parse_object(others[-1]) if others else {}
    outcome = last["outcome"] if isinstance(last.get("outcome"), dict) else {}
    environment = request.get("environment")
    if request.get("capture") != FORM or not isinstance(environment, dict):
        text = f"is not a capture, whose first line is a call's request of form {FORM}"
        raise configs.ConfigError(f"{source} {text}")
    recorded = {"status": outcome.get("status"), "answer": outcome.get("answer", "")}
    texts = {key: request.get(key) for key in ("time", "stdin")} | {"answer": recorded["answer"]}
    for name, value in {**environment, **texts}.items():
        is_own = name.startswith(_OWN) or not (name.startswith("CNI_") and name.isidentifier())
        if not isinstance(value, str) or not _TEXT.fullmatch(value):
            raise configs.ConfigError(f"{source}: {name} must be a string without NUL")
        if is_own and name in environment:
            raise configs.ConfigError(f"{source}: {name!r} is no variable of CNI")
    return request, recorded


def _environment(
    recorded: dict[str, str], netns: str | None, cni_path: str | None
) -> dict[str, str]:
    """Return the recorded variables, with the person's own besides CNI's, as a runtime has some."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CNI_") or name.startswith(_OWN)
    }
    about = {"CNI_PATH": calls.cni_path(cni_path)[0]}
    about |= {} if netns is None else {"CNI_NETNS": netns}
    return {**own, **recorded, **about}


def _announce(call: calls.Invocation, time: str) -> None:
    """Print what will be done, before it is done."""
    verb, path = call.environment.get("CNI_COMMAND", ""), call.environment["CNI_PATH"]
    lines = [", ".join((f"replaying {verb} of {time}", *whose(call.environment)))]
    if of_pod := pod(call.environment):
        lines[0] += f", pod {of_pod}"
    if verb == "GC":
        lines.append("it releases the addresses of attachments that have been added since")
    if plugin := netconf.ipam_type(read(call.stdin).config):
        try:
            found = delegate.find(plugin, tuple(path.split(":")))
        except CniError as error:
            found = f"none is run: {error.msg}"
        lines.append(f"IPAM plugin of CNI_PATH {path}: {found}")
    output.echo_err(*map(one_line, lines))


def _compare(recorded: dict[str, Any], status: int, answer: str) -> None:
    """Print the outcome, and how it differs from the recorded one."""
    was, now, then = _lines(recorded["answer"]), _lines(answer), recorded["status"]
    if then is None:
        lines = [f"status {status}; the recorded call was killed", *now]
    else:
        about = ", as recorded" if status == then else f"; recorded was {then}"
        lines = [f"status {status}{about}"]
        if was != now:
            lines.append("the answer differs from the recorded one:")
            lines += unified_diff(was, now, "recorded", "now", n=len(was), lineterm="")
        elif now:
            lines += ["the answer is as recorded:", *now]
    output.echo(*map(one_line, lines))


def _lines(answer: str) -> list[str]:
    """Return an answer's lines, formatted if it is JSON."""
    try:
        return json.dumps(json.loads(answer), indent=4).splitlines()
    except (ValueError, RecursionError):
        return answer.splitlines()
