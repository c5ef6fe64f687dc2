"""The commands that look and change nothing: validate, show, doctor."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, doctor, output, places, problems, tree
from cni_ipvlan.cli.options import Example, cni_path_option, config_option, network_option
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.failures import as_cni_error
from cni_ipvlan.iproute.rehearsal import Rehearsal, Script
from cni_ipvlan.iproute.runner import (
    CommandError,
    InterruptedBySignalError,
    Interrupts,
    ProgramNotFoundError,
    Runner,
)
from cni_ipvlan.registry import ReadOnlyRegistry

_WATCH_SECONDS = 2.0
_COLOURS = {doctor.OK: "green", doctor.WARNING: "yellow", doctor.PROBLEM: "red"}


@click.command(cls=Example, example="ipvlan validate /etc/cni/net.d/*ipvlan* examples/*.yaml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def validate(files: tuple[str, ...], form: str) -> int:
    """Name every problem in configuration files, with its place."""
    rows: list[dict[str, Any]] = []
    networks = []
    texts = {}
    for file in files:
        try:
            texts[file] = configs.read_source(file)
            loaded = configs.load(file, texts[file])
        except configs.ConfigError as error:
            rows.append({"file": file, "line": None, "path": "$", "problem": str(error)})
            continue
        if not loaded:
            text = "there is no configuration of type ipvlan in it"
            rows.append({"file": file, "line": None, "path": "$", "problem": text})
        networks += loaded
    found = [(network, problem) for network in networks for problem in problems.in_config(network)]
    for network, problem in found + problems.between(networks):
        path = (*network.path, *network.inner_path, *problem.path)
        line = places.line_of(texts[network.source], network, problem.path)
        rows.append(
            {
                "file": network.source,
                "line": line,
                "path": _json_path(path),
                "problem": problem.text,
            }
        )
    if form == "json":
        output.say_json({"networks": len(networks), "problems": rows})
    else:
        for row in rows:
            place = f"{row['file']}:{row['line']}" if row["line"] else row["file"]
            output.say(f"{place}: {row['path']}: {row['problem']}")
        if not rows:
            output.say(f"{len(networks)} network{'s' if len(networks) != 1 else ''}: no problems")
    return 1 if rows else 0


@click.command(cls=Example, example="ipvlan show -w")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-w", "--watch", is_flag=True, help="Keep watching.")
def show(as_json: bool, watch: bool) -> int:
    """Show masters, and the ipvlan interfaces that stand on them."""
    while True:
        interrupts, _runner, tx = _onlooker()
        try:
            unseen: list[str] = []
            masters = tree.look(tx, ReadOnlyRegistry(), unseen.append)
        except (CommandError, ProgramNotFoundError) as error:
            output.failure(as_cni_error(error))
            return 1
        if watch:
            click.clear()
        if as_json:
            output.say_json({"masters": tree.document(masters), "notSeen": unseen})
        else:
            output.say(tree.text(masters))
            for place in unseen:
                output.complain(f"not seen: {place}")
        if not watch:
            return 0
        try:
            time.sleep(_WATCH_SECONDS)
            interrupts.check()
        except InterruptedBySignalError:
            return 0


@click.command("doctor", cls=Example, example="ipvlan doctor -c net.conf --netns container1")
@config_option(required=False)
@network_option
@click.option("--netns", metavar="NETNS", help="A path, a name, or a process ID.")
@cni_path_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
def doctor_command(
    config: str | None, network: str | None, netns: str | None, cni_path: str | None, form: str
) -> int:
    """Look for what could keep an attachment from working."""
    chosen = configs.choose(config, network) if config else None
    path = calls.cni_path(cni_path)
    _interrupts, runner, tx = _onlooker()
    physician = doctor.Doctor(runner, tx, ReadOnlyRegistry())
    try:
        findings = list(physician.node(path))
        if chosen is not None:
            findings += physician.network(chosen, path)
        if netns is not None:
            findings += physician.container(calls.netns_path(netns))
    except (CommandError, ProgramNotFoundError, CniError) as error:
        output.failure(as_cni_error(error))
        return 1
    if form == "json":
        output.say_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            advice = f" ({finding.advice})" if finding.advice else ""
            state = click.style(finding.state.ljust(7), fg=_COLOURS[finding.state])
            output.say(f"{state}  {finding.subject.ljust(13)}  {finding.text}{advice}")
    return 1 if any(finding.state == doctor.PROBLEM for finding in findings) else 0


def _onlooker() -> tuple[Interrupts, Runner, Rehearsal]:
    interrupts = Interrupts()
    interrupts.install()
    runner = Runner(os.environ.get("PATH", ""), lambda _event: None)
    return interrupts, runner, Rehearsal(runner, interrupts, Script())


def _json_path(path: tuple[str | int, ...]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
