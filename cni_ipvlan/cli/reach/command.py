"""The commands that ask the network, and change nothing: probe, trace."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from cni_ipvlan.cli import calls, output
from cni_ipvlan.cli.options import (
    FILE,
    Example,
    address,
    interface_name,
    json_option,
    namespace_at,
    netns_option,
    netns_or_gone,
    wrong,
)
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.cli.reach import probe, trace
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin.explain import as_cni_error

if TYPE_CHECKING:
    from collections.abc import Iterable


@click.command("probe", cls=Example, example="ipvlan probe --netns container1 --to 10.1.0.1")
@netns_option(required=True)
@click.option(
    "--ifname",
    type=interface_name,
    metavar="NAME",
    help="The interface [default: the only ipvlan one].",
)
@click.option("--to", type=address, metavar="ADDRESS", help="An address to reach.")
@click.option(
    "--prev-result", type=FILE, metavar="FILE", help="The result of the ADD, for its DNS servers."
)
@json_option
def probe_command(
    netns: str, ifname: str | None, to: str | None, prev_result: str | None, as_json: bool
) -> int:
    """Find out what keeps a container from talking.

    From inside the container it asks for its addresses, gateways, path MTU and DNS servers,
    and looks at its master. It only sends packets that ask (ARP, ND, echo).
    """
    node = calls.read_only_node()
    result = calls.read_result(prev_result, "--prev-result")[0] if prev_result else None
    try:
        subject = probe.find(node, namespace_at(netns), ifname)
        found = probe.probe(subject, to, result or probe.kept_result(subject))
        return report(found, as_json=as_json)
    except probe.NoInterfaceError as error:
        raise wrong(str(error), "--ifname" if ifname else "--netns") from None
    except OSError as error:
        raise as_cni_error(error) from None


@click.command(
    "trace", cls=Example, example="ipvlan trace container1 container2\nipvlan trace container1 host"
)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@json_option
def trace_command(one: str, other: str, as_json: bool) -> int:
    """Say whether and why A reaches B, from what is configured; then try it.

    A and B are each a container (its namespace's name or path, a process ID, or its container
    ID), an address, or host.
    """
    node = calls.read_only_node()
    try:
        known = trace.Map(node)
        near = _end(known, "B", other)
        start = _end(known, "A", one, near)
        end = _end(known, "B", other, start)
        return report(trace.trace(node, known, start, end), as_json=as_json)
    except OSError as error:
        raise as_cni_error(error) from None


def _end(known: trace.Map, argument: str, word: str, near: trace.End | None = None) -> trace.End:
    try:
        return known.end(word, _place(word), near)
    except trace.UnknownEndError as error:
        raise wrong(str(error), argument) from None


def _place(word: str) -> namespace.Namespace | None:
    with suppress(OSError, ValueError, namespace.NotANamespaceError):
        return namespace.find(netns_or_gone(word))
    return None


def report(findings: Iterable[Finding], *, as_json: bool) -> int:
    """Print findings as they come, or as JSON, and a verdict; return the exit status."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            output.finding(finding)
    verdict = probe.verdict(found)
    if as_json:
        rows = [each._asdict() for each in found]
        output.echo_json({"findings": rows, "verdict": verdict.text, "next": verdict.advice})
    else:
        output.echo(f"verdict: {verdict.text}")
        if verdict.advice:
            first, *others = verdict.advice.splitlines()
            output.echo(f"next: {first}{' (see above)' if others else ''}")
    return 1 if any(each.state == PROBLEM for each in found) else 0
