"""The commands that ask the network, and change nothing: probe, trace."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any

import click

from cni_ipvlan.cli import calls, output
from cni_ipvlan.cli.connectivity import facts, trials, weights
from cni_ipvlan.cli.connectivity.trials import Question
from cni_ipvlan.cli.connectivity.world import UnknownEndError, World
from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING, Finding, reported
from cni_ipvlan.cli.options import FILE, IFNAME, Address, End, Example, Netns, json_option, wrong
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.plugin.explain import as_cni_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.connectivity import world as here

RESULTS = "/var/lib/cni/results"  # where libcni keeps them: NETWORK-CONTAINER-IFNAME
_MOST_SERVERS = 3  # as many as resolv.conf(5) takes
_IS_END = "a namespace (name, path, or PID), a container's ID, a pod's name, an address, or host"


@click.command("probe", cls=Example, example="ipvlan probe --netns container1 --to 10.1.0.1")
@click.option("--netns", type=End(), metavar="END", required=True, help=f"What asks: {_IS_END}.")
@click.option(
    "--ifname",
    type=IFNAME,
    metavar="NAME",
    help="The interface [default: the only ipvlan one].",
)
@click.option("--to", type=Address(), metavar="ADDRESS", help="An address to reach.")
@click.option(
    "--prev-result", type=FILE, metavar="FILE", help="The result of the ADD, for its DNS servers."
)
@json_option
def probe_command(
    netns: str, ifname: str | None, to: str | None, prev_result: str | None, as_json: bool
) -> int:
    """Find out what keeps a container from talking.

    It asks from there for --to or else for its gateways, and for its DNS servers. If one is
    silent, it looks at all that is between, and says what explains that best. It only sends
    packets that ask (ARP, ND, echo).
    """
    node = calls.read_only_node()
    result = calls.read_result(prev_result, "--prev-result")[0] if prev_result else None
    try:
        world = World(node)
        one = _only(_ends(world, "--netns", netns), ifname)
        if one.side is None:
            raise wrong(f"{one.name} is not on this node", "--netns")
        result = result or _kept_result(world, one)
        questions = _of_probe(world, one, to, ifname, result)
        findings = [*facts.of_end(world, one), *_unknown_servers(result)]
        return _report(world, findings, list(questions), as_json=as_json)
    except OSError as error:
        raise as_cni_error(error) from None


@click.command(
    "trace", cls=Example, example="ipvlan trace container1 container2\nipvlan trace container1 host"
)
@click.argument("one", metavar="A", type=End())
@click.argument("other", metavar="B", type=End())
@json_option
def trace_command(one: str, other: str, as_json: bool) -> int:
    """Say whether and why A reaches B: ask, and look at all that is between.

    A and B are each a namespace (name, path, or process ID), a container's ID, a pod's name, an
    address, or host.
    """
    try:
        world = World(calls.read_only_node())
        starts, ends = _ends(world, "A", one), _ends(world, "B", other)
        start, end = _nearest(world, starts, ends)
        findings = [*facts.of_end(world, start), *facts.of_end(world, end)]
        questions = list(_pairs(start, end))
        if start.side is None:
            text = f"{start.name} is not on this node, so nothing can be sent from there"
            findings += [Finding(PROBLEM, "from", text, "run this on its node, or swap the two")]
            questions = []
        elif not questions:
            text = f"{start.name} and {end.name} have no addresses of one family"
            findings += [Finding(PROBLEM, "address", text, "ipvlan show lists addresses")]
        return _report(world, findings, questions, as_json=as_json)
    except OSError as error:
        raise as_cni_error(error) from None


def _ends(world: World, argument: str, word: str) -> list[here.End]:
    place = None
    with suppress(OSError, ValueError, namespace.NotANamespaceError):
        place = namespace.find(Netns(may_be_gone=True).convert(word, None, None))
    try:
        return world.ends(word, place)
    except UnknownEndError as error:
        raise wrong(str(error), argument) from None


def _only(ends: Sequence[here.End], ifname: str | None) -> here.End:
    """Return the end that a probe is from; raises BadParameter if that is not clear."""
    names = [each.port.link.name for each in ends if each.port]
    found = [each for each in ends if not ifname or (each.port and each.port.link.name == ifname)]
    if not found:
        why = f"there is no interface {ifname!r}; it has {', '.join(names)}"
        raise wrong(why, "--ifname")
    if len(found) > 1:
        raise wrong(f"choose one with --ifname: {', '.join(names)}", "--netns")
    return found[0]


def _nearest(
    world: World, starts: Sequence[here.End], ends: Sequence[here.End]
) -> tuple[here.End, here.End]:
    """Return of the interfaces of two containers those that have one master, else the first."""
    for one in starts:
        for other in ends:
            if (
                one.port
                and other.port
                and world.chain(one.port)[-1].is_at(world.chain(other.port)[-1])
            ):
                return one, other
    return starts[0], ends[0]


def _pairs(one: here.End, other: here.End) -> Iterator[Question]:
    """Yield for each family that both have whether the other's address answers."""
    for is_ipv6 in (False, True):
        ours, theirs = (
            [ip_interface(each) for each in end.addresses if (":" in each) is is_ipv6]
            for end in (one, other)
        )
        if not theirs or not (ours or one.port is None):
            continue
        near = (each for each in theirs if any(each.ip in own.network for own in ours))
        target = next(near, theirs[0])
        yield Question(one, str(target.ip), "tried", str(ours[0].ip) if one.is_exact else "")


def _of_probe(
    world: World, one: here.End, to: str | None, ifname: str | None, result: Any
) -> Iterator[Question]:
    by = ifname or ""
    if to:
        yield Question(one, to, "reach", by)
    for gateway in _gateways(world, one) if not to else ():
        yield Question(one, gateway, "gateway", by)
    for server in _servers(result):
        yield Question(one, server, "dns")


def _gateways(world: World, one: here.End) -> list[str]:
    if one.side is None:
        return []
    routes = queries.routes(world.read(one.side, _routes(one)))
    return list(dict.fromkeys(each.gateway for each in routes if each.gateway))


def _routes(one: here.End) -> commands.Argv:
    return commands.route_show(one.port.link.name) if one.port else commands.route_show_all()


def _servers(result: Any) -> list[str]:
    dns = result.get("dns") if isinstance(result, dict) else None
    servers = dns.get("nameservers") if isinstance(dns, dict) else None
    return [each for each in servers or () if isinstance(each, str)][:_MOST_SERVERS]


def _unknown_servers(result: Any) -> Iterator[Finding]:
    if not _servers(result):
        text = "the result names no servers" if result else "the result of the ADD is not known"
        advice = "" if result else f"name it with --prev-result; runtimes keep it in {RESULTS}"
        yield Finding(OK, "dns", text, advice)


def _kept_result(world: World, one: here.End) -> Any:
    """Return the result that libcni keeps of the ADD, or None if there is none."""
    owner = world.owners.of(one.port.link, one.port.side.place) if one.port else None
    if owner is None:
        return None
    file = os.path.join(RESULTS, f"{owner.network}-{owner.container_id}-{owner.ifname}")
    with suppress(OSError, ValueError), open(file, encoding="utf-8") as kept:
        document = json.load(kept)
        return document.get("result") if isinstance(document, dict) else None
    return None


def _report(
    world: World, of_ends: list[Finding], questions: Sequence[Question], *, as_json: bool
) -> int:
    """Ask, and print the findings and a verdict; return the exit status."""
    answers = [list(reported("not asked", trials.ask(world, each))) for each in questions]
    is_silent = any(each.state == PROBLEM for found in answers for each in found)
    state = PROBLEM if is_silent and os.geteuid() else WARNING
    subject = "not permitted" if os.geteuid() else "not looked"
    of_ends += [Finding(state, subject, *each) for each in world.unseen.items()]
    findings = weights.weigh(of_ends, answers)
    verdict = weights.verdict(findings)
    if as_json:
        rows = [each._asdict() for each in findings]
        output.echo_json({"findings": rows, "verdict": verdict.text, "next": verdict.advice})
    else:
        for each in findings:
            output.finding(each)
        output.echo(f"verdict: {verdict.text}")
        if verdict.advice:
            first, *others = verdict.advice.splitlines()
            output.echo(f"next: {first}{' (see above)' if others else ''}")
    return 1 if verdict.state == PROBLEM else 0
