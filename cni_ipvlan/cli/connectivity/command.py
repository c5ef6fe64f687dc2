"""The commands that ask the network, and change nothing: probe, trace."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, options, output
from cni_ipvlan.cli.connectivity.ends import End, named
from cni_ipvlan.cli.connectivity.facts import ENDS, against_ipv6
from cni_ipvlan.cli.connectivity.trials import Question, ask
from cni_ipvlan.cli.connectivity.weights import weigh
from cni_ipvlan.cli.connectivity.world import Port, World, is_near, of_family
from cni_ipvlan.cli.options import complete_ends, option
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect
from cni_ipvlan.config.netconf import value_at
from cni_ipvlan.iproute import commands, queries

_MOST_SERVERS = 3  # as many as resolv.conf(5) takes
_IS_END = "a namespace (name, path, or PID), a container's ID, a pod's name, an address, or host"


@options.command("ipvlan probe --netns container1 --to 10.1.0.1")
@option(
    *("--netns", str, "END", f"What asks: {_IS_END}."), required=True, shell_complete=complete_ends
)
@option("--ifname", options.interface_name, "NAME", "The interface [default: the ipvlan one].")
@option("--to", options.address, "ADDRESS", "An address to reach.")
@option("--prev-result", options.FILE, "FILE", "The result of the ADD, for its DNS servers.")
def probe_command(
    netns: str, ifname: str | None, to: str | None, prev_result: str | None, as_json: bool
) -> int:
    """Find out what keeps a container from talking.

    It asks from there for --to or else for its gateways, and for its DNS servers. If one is
    silent, it looks at all that is between, and says what explains that best. It only sends
    packets that ask (ARP, ND, echo).
    """
    result = calls.read_result(prev_result, "--prev-result")[0] if prev_result else None
    world = World(calls.read_only_node(), netns)
    ends = _ends(world, "--netns", netns, ifname or "")
    one = ends[0]
    if one.side is None:
        why = f"was not found; {world.not_looked}" if world.unseen else "is not on this node"
        raise options.option_error(f"{one.name} {why}", "--netns")
    there = [each.link.name for each in world.ports if each.side is one.side]
    if ifname and ifname not in there:
        why = f"{one.side} has no interface {ifname}; it has {', '.join(there)}"
        raise options.option_error(why, "--ifname")
    side = one.side
    if len(ends) > 1:  # the route may say which of them is meant
        way = side.lookup(to).device if to else ""
        names = [each.port.link.name for each in ends if each.port]
        if way not in names:
            raise options.option_error(f"choose one with --ifname: {', '.join(names)}", "--netns")
        one = ends[names.index(way)]
    servers, unknown = _servers(result, one)
    by = ifname or (one.port.link.name if one.port else "")
    if to:
        targets = [("reach", to)]
    else:
        # Of all links: with one, ip leaves out routes by several next hops.
        shown = side.answer(commands.route_show("table", "all")).stdout
        ours = [each for each in queries.routes(shown) if by in ("", each.device)]
        ours.sort(key=lambda each: each.priority)
        # With a better route to the same, a route is not used.
        best = {(each.table, each.dst): each.priority for each in reversed(ours)}
        gateways = (each.gateway for each in ours if each.priority == best[each.table, each.dst])
        # In mode l3 packets follow the host's routes: a gateway that it does not know is not used.
        below = one.port.below if one.port and one.port.is_l3 else None
        used = (each for each in gateways if each and (not below or is_near(each, below.usual)))
        targets = [("gateway", each) for each in dict.fromkeys(used)]
    of_vrf = one.port.by if one.port else ""

    def question(what: str, target: str) -> Question:
        is_local = target[:4] == "fe80"
        # From an address of the interface that is named: rules may go by the source.
        source = (*of_family(target, one.addresses if ifname and not is_local else ()), "")[0]
        return Question(one, side, target, what, source, by if ifname or is_local else of_vrf)

    questions = [question(*each) for each in (*targets, *(("dns", each) for each in servers))]
    return _report(world, [one], unknown, questions, as_json=as_json)


@options.command("ipvlan trace container1 container2", "ipvlan trace container1 host")
@click.argument("one", metavar="A", shell_complete=complete_ends)
@click.argument("other", metavar="B", shell_complete=complete_ends)
def trace_command(one: str, other: str, as_json: bool) -> int:
    """Say whether A reaches B, or why not: ask, and look at all that is between.

    A and B are each a namespace (name, path, or process ID), a container's ID, a pod's name, an
    address, or host.
    """
    world = World(calls.read_only_node(), one, other)
    starts = _ends(world, "A", one)
    start, end = _nearest(world, starts, _ends(world, "B", other, near=starts[0].port))
    questions, is_exact = list(_pairs(start, end)), start.is_exact or end.is_exact
    unasked = []
    if start.side is None:
        text = f"{start.name} is not on this node, so nothing can be sent from there"
        unasked += [Finding(PROBLEM, "from", text, "run this on its node, or swap the two")]
    elif not questions:
        text = f"{start.name} and {end.name} have no addresses of one family"
        unlike = [each._replace(state=PROBLEM) for each in _unlike(start, end) if is_exact]
        unasked += unlike or [Finding(PROBLEM, "family", text, "ipvlan show lists addresses")]
    elif not is_exact:
        unasked += _unlike(start, end)
    return _report(world, [start, end], unasked, questions, as_json=as_json)


def _ends(
    world: World, argument: str, word: str, ifname: str = "", near: Port | None = None
) -> list[End]:
    try:
        return named(world, word, ifname, near)
    except click.UsageError as error:
        raise options.option_error(error.message, argument) from None


def _nearest(world: World, starts: Sequence[End], ends: Sequence[End]) -> tuple[End, End]:
    """Return of two ends' interfaces those with one master, or one that answers, or the first."""
    for one, other in product(starts, ends):
        if one.port and other.port and one.port.chain[-1] is other.port.chain[-1]:
            return one, other
    one, first = starts[0], ends[0]
    asked = [(end, each) for end in ends for each in _pairs(one, end) if ends[1:]]
    tried = zip(asked, world.ask(*(each.ping() for _, each in asked)), strict=True)
    return one, next((end for (end, _), done in tried if done.status == 0), first)


def _pairs(one: End, other: End) -> Iterator[Question]:
    """Yield for each family that both have whether the other's address answers."""
    for like in ("0.0.0.0", "::"):
        ours, theirs = of_family(like, one.addresses), of_family(like, other.addresses)
        near = (each for each in theirs if is_near(each, one.addresses))
        if one.side and theirs and (ours or not (one.port or one.is_exact)):
            source = ours[0] if one.is_exact else ""
            by = one.port.by if one.port else ""
            yield Question(one, one.side, next(near, theirs[0]), "tried", source, by, other.port)


def _unlike(one: End, other: End) -> Iterator[Finding]:
    """Yield that of two containers one has no address of a family, so that it is not asked for."""
    for version, like in ((4, "0.0.0.0"), (6, "::")):
        lacking = [each for each in (one, other) if not of_family(like, each.addresses)]
        port = lacking[0].port if len(lacking) == 1 and not lacking[0].is_exact else None
        if port and (one.is_exact or other.is_exact or (one.port and other.port)):
            text = f"{lacking[0].name} has no IPv{version} address, unlike the other"
            advice = "ipvlan check compares it with what ADD gave it"
            why, cure = against_ipv6(port) if like == "::" else ("", "")
            if why:
                text, advice = f"{text}: it {why}", f"{cure}; then attach it again"
            yield Finding(WARNING, "family", text, f"if it should have one: {advice}")


def _servers(result: Any, one: End) -> tuple[list[str], list[Finding]]:
    """Return the first DNS servers of a result, by default the kept one; a finding if none."""
    if result is None and one.port and one.port.owner:
        kept = configs.read_cache("-".join(one.port.owner))
        result = next((each.get("result") for _, each in kept), None)
    servers = value_at(result, "dns", "nameservers")
    found = [each for each in servers or () if isinstance(each, str)][:_MOST_SERVERS]
    text = "the result names no servers" if result else "the result of the ADD is not known"
    advice = "" if result else f"name it with --prev-result; runtimes keep it in {configs.RESULTS}"
    return found, [] if found else [Finding(OK, "dns", text, advice)]


def _report(
    world: World,
    ends: Sequence[End],
    unasked: list[Finding],
    questions: Sequence[Question],
    *,
    as_json: bool,
) -> int:
    """Ask, and print the findings and a verdict; return the exit status."""
    ports = [each.port for each in ends if each.port]
    of_ends = [found for port in ports for fact in ENDS for found in fact(port)]
    answers = [each for question in questions for each in collect("not asked", ask(question))]
    if world.missing:
        text = "only root can look into containers, filters and routes, and ask from there"
        unasked.append(Finding(PROBLEM, "not permitted", text, "run this with sudo"))
    elif world.unseen:
        unasked.append(Finding(WARNING, "not looked", world.not_looked))
    findings, verdict = weigh([*of_ends, *unasked], answers)
    if as_json:
        rows = [each._asdict() for each in findings]
        output.echo_json({"findings": rows, "verdict": verdict.text, "next": verdict.advice})
    else:
        for each in findings:
            output.print_finding(each)
        output.echo(f"verdict: {verdict.text}")
        if verdict.advice:
            first, *others = verdict.advice.splitlines()
            output.echo(f"next: {first}{' (see above)' if others else ''}")
    return 1 if verdict.state == PROBLEM else 0
