"""The commands that change nothing: show, doctor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from cni_ipvlan.cli import calls, configs, doctor, output, tree
from cni_ipvlan.cli.options import (
    Example,
    cni_path_option,
    config_option,
    netns_option,
    network_option,
    text_option,
)
from cni_ipvlan.cni.request import interface_name_fault
from cni_ipvlan.iproute import IprouteError, machine
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.explain import as_cni_error
from cni_ipvlan.plugin.node import Node

if TYPE_CHECKING:
    from cni_ipvlan.plugin.node import Node

_WATCH_SECONDS = 2.0
_POLL_SECONDS = 0.1


@click.command(cls=Example, example="ipvlan show -w")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-w", "--watch", is_flag=True, help="Keep watching.")
def show(as_json: bool, watch: bool) -> int:
    """Show the masters and the ipvlan interfaces they carry."""
    node = calls.read_only_node()
    try:
        while True:
            _show_once(node, as_json=as_json, clear=watch)
            if not watch:
                return 0
            _sleep(_WATCH_SECONDS, node.runner.interrupts)
    except InterruptedBySignalError:
        return 0 if watch else 1
    except (IprouteError, OSError) as error:
        output.failure(as_cni_error(error))
        return 1


def _show_once(node: Node, *, as_json: bool, clear: bool) -> None:
    unseen = ["what only root may see"] if machine.missing_capabilities() else []
    masters = tree.look(Transaction(node.runner), node.registry, unseen.append)
    if clear:
        click.clear()
    if as_json:
        output.echo_json({"masters": tree.document(masters), "notSeen": unseen})
        return
    output.echo(tree.text(masters))
    for place in unseen:
        output.echo_err(f"not seen: {place}")


def _sleep(seconds: float, interrupts: Interrupts) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        interrupts.check()
        time.sleep(_POLL_SECONDS)


@click.command(
    "doctor",
    cls=Example,
    example="ipvlan doctor -c examples/ipvlan0.yaml --netns container1 --ifname net1",
)
@config_option(required=False)
@network_option
@netns_option(required=False)
@click.option("--ifname", metavar="NAME", help="An interface's name, to be looked up with --netns.")
@cni_path_option
@text_option
def doctor_command(
    config: str | None,
    network: str | None,
    netns: str | None,
    ifname: str | None,
    cni_path: str | None,
    form: str,
) -> int:
    """Check for what could keep an attachment from working.

    It looks at the node, and at the network given with -c, or else at all in /etc/cni/net.d.
    It runs no plugins but ipvlan and those that these networks name as IPAM.
    """
    _check_ifname(ifname, netns)
    chosen = configs.choose(config, network) if config else None
    directories = tuple(calls.cni_path(cni_path).split(":"))
    path = doctor.SearchPath(directories, calls.cni_path_is_set_by(cni_path))
    findings = []
    try:
        for finding in doctor.examine(calls.read_only_node(), path, chosen, netns, ifname or ""):
            findings.append(finding)
            if form != "json":
                output.finding(finding)
    except InterruptedBySignalError:
        return 1
    if form == "json":
        output.echo_json([finding._asdict() for finding in findings])
    return 1 if any(finding.state == doctor.PROBLEM for finding in findings) else 0


def _check_ifname(ifname: str | None, netns: str | None) -> None:
    if ifname is None:
        return
    if netns is None:
        raise click.UsageError("--ifname needs --netns, the namespace to look it up in")
    fault = interface_name_fault(ifname)
    if fault:
        raise click.BadParameter(
            f"{ifname!r} is no interface's name: {fault}", param_hint="--ifname"
        )
