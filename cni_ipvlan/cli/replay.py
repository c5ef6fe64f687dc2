"""Make a captured call again, and compare its outcome with the recorded one.

A capture may come from a stranger. So it is checked, and never says where plugins are run from.
"""

from __future__ import annotations

import json
import os
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.capture import FORM
from cni_ipvlan.cli import calls, configs, output
from cni_ipvlan.cli.calls import Call, CallOptions
from cni_ipvlan.cli.configs import ConfigError
from cni_ipvlan.cli.options import (
    FILE,
    Example,
    cni_path_option,
    dry_run_option,
    json_option,
    netns_option,
    verbose_option,
    wrong,
)
from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import pod, read
from cni_ipvlan.config import netconf
from cni_ipvlan.log import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_IN_A_CONTAINER = ("ADD", "DEL", "CHECK")
_KNOWN = (*_IN_A_CONTAINER, "STATUS", "GC")
_OWN = "CNI_IPVLAN_"  # variables that are this program's, not the protocol's


class Recorded(NamedTuple):
    """A capture: the call, and its outcome; ``status`` is None if it was killed."""

    time: str
    environment: Mapping[str, str]
    stdin: bytes
    status: int | None
    answer: str


@click.command(
    cls=Example, example="ipvlan replay capture.json --dry-run\nipvlan replay capture.json -v"
)
@click.argument("file", type=FILE, metavar="FILE")
@netns_option(required=False)
@cni_path_option
@dry_run_option
@json_option
@verbose_option
def replay(
    file: str, netns: str | None, cni_path: str | None, dry_run: bool, as_json: bool, verbose: bool
) -> int:
    """Make a captured call again, and show how its outcome differs.

    FILE is from captureDir or CNI_IPVLAN_CAPTURE, or - for standard input. The call has the
    recorded CNI variables and standard input, unless options replace them; but plugins are run from
    this machine's directories, never from the recorded ones. The exit status is the call's.
    """
    try:
        recorded = _recorded(file, configs.read_source(file))
    except ConfigError as error:
        raise wrong(str(error), "FILE") from None
    call = _call(recorded, netns, cni_path)
    command = call.environment["CNI_COMMAND"]
    if dry_run and command not in calls.DRY_RUN_OF:
        raise click.UsageError(f"{command} changes nothing; replay it without --dry-run")
    for line in _about(recorded, call):
        output.echo_err(one_line(line))
    if dry_run:
        calls.make(call, CallOptions(dry_run, as_json, verbose))
        return 0
    status, printed = calls.answered(call, is_verbose=verbose)
    answer = printed.decode("utf-8", "surrogateescape")
    if as_json:
        was = {"status": recorded.status, "answer": recorded.answer}
        output.echo_json({"status": status, "answer": answer, "recorded": was})
    else:
        _compare(recorded, status, answer)
    return status


def _recorded(source: str, text: str) -> Recorded:
    """Return a capture, checked; raises ConfigError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is no capture, since it is not JSON: {error}") from None
    if not isinstance(document, dict) or "capture" not in document:
        raise ConfigError(f"{source} is no capture, since it has no member capture")
    form = document["capture"]
    if form != FORM:
        raise ConfigError(f"{source} is a capture of form {form!r}; this version reads {FORM}")
    fault = next(_faults(document), "")
    if fault:
        raise ConfigError(f"{source} is a capture with a fault: {fault}")
    return Recorded(
        document["time"],
        document["environment"],
        document["stdin"].encode("utf-8", "surrogateescape"),
        document.get("status"),
        document.get("answer", ""),
    )


def _faults(document: dict[str, Any]) -> Iterator[str]:
    status = document.get("status")
    if status is not None and type(status) is not int:
        yield f"status is {status!r}; it must be a whole number"
    for key, text in (("answer", ""), ("time", None), ("stdin", None)):
        value = document.get(key, text)
        if not isinstance(value, str) or not _is_encodable(value):
            yield f"{key} must be a string"
    environment = document.get("environment")
    if not isinstance(environment, dict):
        yield "environment must be an object"
        return
    for name, value in environment.items():
        if not name.startswith("CNI_") or name.startswith(_OWN) or not name.isidentifier():
            yield f"its environment has {name!r}, which is no variable of CNI"
        elif not isinstance(value, str) or "\0" in value or not _is_encodable(value):
            yield f"{name} must be a string without NUL"
    if environment.get("CNI_COMMAND") not in _KNOWN:
        yield f"CNI_COMMAND is {environment.get('CNI_COMMAND')!r}, not one of {', '.join(_KNOWN)}"


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _call(recorded: Recorded, netns: str | None, cni_path: str | None) -> Call:
    """Return the call, with the person's own variables besides CNI's, as a runtime has some."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CNI_") or name.startswith(_OWN)
    }
    environment.update(recorded.environment)
    if netns is not None:
        command = environment["CNI_COMMAND"]
        if command not in _IN_A_CONTAINER:
            raise click.UsageError(f"{command} is about no container, so it has no --netns")
        environment["CNI_NETNS"] = netns
    environment["CNI_PATH"] = calls.cni_path(cni_path)
    return Call(environment, recorded.stdin)


def _about(recorded: Recorded, call: Call) -> Iterator[str]:
    """Yield what will be done, before it is done."""
    environment = call.environment
    parts = [f"replaying {environment['CNI_COMMAND']} of {recorded.time}"]
    parts += [
        f"{word} {environment[variable]}"
        for word, variable in (
            ("container", "CNI_CONTAINERID"),
            ("interface", "CNI_IFNAME"),
            ("namespace", "CNI_NETNS"),
        )
        if environment.get(variable)
    ]
    name = pod(environment)
    yield ", ".join(parts + ([f"pod {name}"] if name else []))
    if environment["CNI_COMMAND"] == "GC":
        yield "it releases the addresses of attachments that have been added since"
    plugin = netconf.ipam_type(read(call.stdin).config)
    if plugin:
        path = environment["CNI_PATH"]
        try:
            found = delegate.find(plugin, tuple(path.split(":")))
        except CniError as error:
            found = f"none is run: {error.msg}"
        yield f"IPAM plugin of CNI_PATH {path}: {found}"


def _compare(recorded: Recorded, status: int, answer: str) -> None:
    """Print the outcome, and how it differs from the recorded one."""
    was, now = _lines(recorded.answer), _lines(answer)
    if recorded.status is None:
        output.echo(f"status {status}; the recorded call was killed")
    elif status == recorded.status:
        output.echo(f"status {status}, as recorded")
    else:
        output.echo(f"status {status}; recorded was {recorded.status}")
    if recorded.status is not None and was != now:
        output.echo("the answer differs from the recorded one:")
        now = [*unified_diff(was, now, "recorded", "now", n=len(was), lineterm="")]
    elif now and recorded.status is not None:
        output.echo("the answer is as recorded:")
    for line in now:
        output.echo(one_line(line))


def _lines(answer: str) -> list[str]:
    """Return an answer's lines, formatted if it is JSON."""
    try:
        return json.dumps(json.loads(answer), indent=4).splitlines()
    except (ValueError, RecursionError):
        return answer.splitlines()
