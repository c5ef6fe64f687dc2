"""The commands that ask the network, and change nothing: probe, trace."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, options, output
from cni_ipvlan.cli.connectivity.ends import End, find_ends
from cni_ipvlan.cli.connectivity.facts import END_CHECKS, explain_missing_ipv6
from cni_ipvlan.cli.connectivity.topology import Port, Side, Topology, is_near, of_family
from cni_ipvlan.cli.connectivity.trials import Question, ask
from cni_ipvlan.cli.connectivity.verdict import choose_verdict
from cni_ipvlan.cli.options import complete_ends, option
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect
from cni_ipvlan.config.netconf import value_at
from cni_ipvlan.iproute import commands, queries

_FAMILIES = ("0.0.0.0", "::")  # by an address of each
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
    topology = Topology(calls.read_only_node(), netns)
    end, side = _find_start(topology, netns, ifname or "", to)
    servers, findings = _find_servers(result, end)
    device = ifname or (end.port.link.name if end.port else "")
    bind_device = end.port.bind_device if end.port else ""
    gateways = [] if to else _list_gateways(end, side, device)
    targets = [("reach", to)] if to else [("gateway", each) for each in gateways]
    targets += [("dns", each) for each in servers]
    questions = []
    for purpose, target in targets:
        is_link_local = target[:4] == "fe80"
        # From an address of the interface that --ifname names: rules may go by the source.
        addresses = end.addresses if ifname and not is_link_local else ()
        source = (*of_family(target, addresses), "")[0]
        interface = device if ifname or is_link_local else bind_device
        questions.append(Question(end, side, target, purpose, source, interface))
    return _report(topology, [end], findings, questions, as_json=as_json)


def _find_start(topology: Topology, word: str, ifname: str, to: str | None) -> tuple[End, Side]:
    """Return the end that --netns and --ifname name, and its side; raises UsageError."""
    ends = _find_ends(topology, "--netns", word, ifname)
    end, side = ends[0], ends[0].side
    if side is None:
        why = "is not on this node"
        if topology.omissions:
            why = f"was not found; {topology.omission_text}"
        raise options.option_error(f"{end.name} {why}", "--netns")
    names = [each.link.name for each in topology.ports if each.side is side]
    if ifname and ifname not in names:
        why = f"{side} has no interface {ifname}; it has {', '.join(names)}"
        raise options.option_error(why, "--ifname")
    if len(ends) == 1:
        return end, side
    # Of several interfaces, the one by which packets to the address leave is meant.
    device = side.get_route(to).device if to else ""
    names = [each.port.link.name for each in ends if each.port]
    if device not in names:
        raise options.option_error(f"choose one with --ifname: {', '.join(names)}", "--netns")
    return ends[names.index(device)], side


def _list_gateways(end: End, side: Side, device: str) -> list[str]:
    """Return the gateways of an interface's routes; without a ``device``, of all routes."""
    # All routes are listed: for one interface, ip leaves out routes by several next hops.
    listing = side.run(commands.route_show("table", "all")).stdout
    routes = [each for each in queries.routes(listing) if device in ("", each.device)]
    routes.sort(key=lambda each: each.priority)
    # With a better route to the same prefix, a route is not used.
    priorities = {(each.table, each.dst): each.priority for each in reversed(routes)}
    routes = [each for each in routes if each.priority == priorities[each.table, each.dst]]
    # In mode l3 packets follow the host's routes: a gateway that it does not know is not used.
    master = end.port.parent if end.port and end.port.is_l3 else None
    gateways = dict.fromkeys(each.gateway for each in routes if each.gateway)
    return [each for each in gateways if not master or is_near(each, master.addresses)]


@options.command("ipvlan trace container1 container2", "ipvlan trace container1 host")
@click.argument("one", metavar="A", shell_complete=complete_ends)
@click.argument("other", metavar="B", shell_complete=complete_ends)
def trace_command(one: str, other: str, as_json: bool) -> int:
    """Say whether A reaches B, or why not: ask, and look at all that is between.

    A and B are each a namespace (name, path, or process ID), a container's ID, a pod's name, an
    address, or host.
    """
    topology = Topology(calls.read_only_node(), one, other)
    starts = _find_ends(topology, "A", one)
    ends = _find_ends(topology, "B", other, near=starts[0].port)
    pairs = [(pair, e) for e in _FAMILIES for pair in _choose_pairs(topology, starts, ends, e)]
    asked = [(pair, each) for pair, family in pairs for each in _ask(*pair, family)]
    questions = [each for _, each in asked]
    start, end = (asked or pairs)[0][0]
    is_exact = start.is_exact or end.is_exact
    findings: list[Finding] = []
    if start.side is None:
        text = f"{start.name} is not on this node, so nothing can be sent from there"
        findings += [Finding(PROBLEM, "from", text, "run this on its node, or swap the two")]
    elif not questions:
        lists = (f"{e.name} has {', '.join(e.addresses) or 'none'}" for e in (start, end))
        text = f"{one} and {other} have no addresses of one family: {'; '.join(lists)}"
        differences = _compare_families(start, end) if is_exact else ()
        findings += [each._replace(state=PROBLEM) for each in differences]
        findings = findings or [Finding(PROBLEM, "family", text, "give one of them such addresses")]
    elif not is_exact and len({":" in each.target for each in questions}) == 1:
        findings += _compare_families(start, end)
    asked_ends = [end for pair, _ in asked or pairs[:1] for end in pair]
    return _report(topology, asked_ends, findings, questions, as_json=as_json)


def _find_ends(
    topology: Topology, argument: str, word: str, ifname: str = "", near: Port | None = None
) -> list[End]:
    try:
        return find_ends(topology, word, ifname, near)
    except click.UsageError as error:
        raise options.option_error(error.message, argument) from None


def _choose_pairs(
    topology: Topology, starts: Sequence[End], ends: Sequence[End], family: str
) -> list[tuple[End, End]]:
    """Return for each master the first ends on it, of a family; or else those that may answer."""
    starts = [each for each in starts if of_family(family, each.addresses)] or starts
    ends = [each for each in ends if of_family(family, each.addresses)] or ends
    pairs: dict[Port | None, tuple[End, End]] = {}  # by master, which may be one of several VLANs
    near = [
        (start, end)
        for start, end in product(starts, ends)
        if start.port and end.port and start.port.chain[-1] is end.port.chain[-1]
    ]
    for start, end in near:
        if start.port and end.port and start.port.parent is end.port.parent:
            pairs.setdefault(start.port.parent, (start, end))
    if near:
        return list(pairs.values()) or near[:1]
    ways = [(_find_sender(starts, each, family), each) for each in ends]
    attempts = [(pair, each) for pair in ways for each in _ask(*pair, family) if ends[1:]]
    results = zip(attempts, topology.ask(*(each.ping() for _, each in attempts)), strict=True)
    return [next((pair for (pair, _), completed in results if completed.status == 0), ways[0])]


def _find_sender(starts: Sequence[End], end: End, family: str) -> End:
    """Return the start that is on an end's network, or else that by which routes lead there."""
    start, side = starts[0], starts[0].side
    near = next((e for e in starts if e.port and end.port in e.port.segment), None)
    targets = of_family(family, end.addresses)
    if near or start.is_exact or not (start.port and side and targets):
        return near or start
    port = side.ports.get(side.get_route(targets[0]).device)
    is_sender = port is not None and not port.is_loopback
    return End(port.description, port.addresses, side, port) if port and is_sender else start


def _ask(start: End, end: End, family: str) -> Iterator[Question]:
    """Yield whether the second end's address of a family answers, if both have that."""
    sources, targets = (of_family(family, each.addresses) for each in (start, end))
    if start.side and start.port and targets and targets[0][:4] == "fe80":
        yield Question(start, start.side, targets[0], "reach", "", start.port.link.name, end.port)
    elif start.side and targets and (sources or not (start.port or start.is_exact)):
        target = next((e for e in targets if is_near(e, start.addresses)), targets[0])
        source = sources[0] if start.is_exact else ""
        device = start.port.bind_device if start.port else ""
        # Of an address that is on no network of the start's, it may be an unrelated one.
        is_known = not end.is_exact or not start.port or end.port in start.port.segment
        receiver = end.port if is_known else None
        yield Question(start, start.side, target, "tried", source, device, receiver)


def _compare_families(start: End, end: End) -> Iterator[Finding]:
    """Yield that one of two containers has no address of a family, so that it is not asked for."""
    for version, any_address in zip((4, 6), _FAMILIES, strict=True):
        affected = [each for each in (start, end) if not of_family(any_address, each.addresses)]
        port = affected[0].port if len(affected) == 1 and not affected[0].is_exact else None
        if port and (start.is_exact or end.is_exact or (start.port and end.port)):
            text = f"{affected[0].name} has no IPv{version} address, unlike the other"
            advice = "ipvlan check compares it with what ADD gave it"
            reason, command = explain_missing_ipv6(port) if any_address == "::" else ("", "")
            if reason:
                text, advice = f"{text}: it {reason}", f"{command}; then attach it again"
            yield Finding(WARNING, "family", text, f"if it should have one: {advice}")


def _find_servers(result: Any, end: End) -> tuple[list[str], list[Finding]]:
    """Return the first DNS servers of a result, by default libcni's; and a finding if none."""
    if result is None and end.port and end.port.owner:
        results = configs.read_cache("-".join(end.port.owner))
        result = next((each.get("result") for _, each in results), None)
    servers = value_at(result, "dns", "nameservers")
    addresses = [each for each in servers or () if isinstance(each, str)][:_MOST_SERVERS]
    text = "the result names no servers" if result else "the result of the ADD is not known"
    advice = "" if result else f"name it with --prev-result; runtimes keep it in {configs.RESULTS}"
    return addresses, [] if addresses else [Finding(OK, "dns", text, advice)]


def _report(
    topology: Topology,
    ends: Sequence[End],
    notes: list[Finding],
    questions: Sequence[Question],
    *,
    as_json: bool,
) -> int:
    """Ask the questions, print the findings and a verdict; return the exit status."""
    ports = dict.fromkeys(each.port for each in ends if each.port)
    end_findings = [finding for port in ports for check in END_CHECKS for finding in check(port)]
    answers = [each for question in questions for each in collect("not asked", ask(question))]
    if topology.missing_capabilities:
        text = "only root can look into containers, filters and routes, and ask from there"
        notes.append(Finding(PROBLEM, "not permitted", text, "run this with sudo"))
    elif topology.omissions:
        notes.append(Finding(WARNING, "not looked", topology.omission_text))
    findings, verdict = choose_verdict([*end_findings, *notes], answers)
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
