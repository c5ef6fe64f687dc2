"""Trials: what answers, in both directions and by size; and if nothing does, why.

They send only packets that ask: echo requests, ARP, ND.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from cni_ipvlan.cli.connectivity import facts, filters, hops, routing
from cni_ipvlan.cli.connectivity.ends import End
from cni_ipvlan.cli.connectivity.hops import Hop
from cni_ipvlan.cli.connectivity.path import Path, check_source, check_ttl
from cni_ipvlan.cli.connectivity.topology import Port, Side, is_address, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Argv
from cni_ipvlan.iproute.queries import RouteLookup
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6

# ping: local error: message too long, mtu=1400
# From 10.1.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)
# From fd00::1 icmp_seq=1 Packet too big: mtu=1280
_MTU = re.compile(rb"mtu ?[=:] ?(\d+)")
# From 10.1.0.1 icmp_seq=1 Time to live exceeded
# From 10.1.0.1: icmp_seq=1 Redirect Host(New nexthop: 10.1.0.3)
_REFUSAL = re.compile(r"^From (\S+) icmp_seq=\d+ (?!Redirect)(.+)$", re.MULTILINE)
# 64 bytes from 10.1.0.3: icmp_seq=1 ttl=63 time=0.113 ms (DIFFERENT ADDRESS!)
_OTHER = re.compile(r" from (\S+): .*\(DIFFERENT ADDRESS!\)$", re.MULTILINE)
_SIZES = (8000, 4000, 1500, 1492, 1480, 1450, 1420, 1400, 1360, 1280, 1000, 576, 250, 100)
# States in which the kernel takes a neighbour for reachable that has answered, or only advertised.
_MAY_BE_GONE = ("REACHABLE", "STALE", "DELAY", "PROBE")


class Question(NamedTuple):
    """Whether an address answers an end, which is at ``side``.

    ``purpose`` is the purpose of the address (gateway, dns, ...). ``source`` is an address, and
    ``device`` an interface to ask from, empty for the kernel's choice. ``receiver`` is the
    interface that is asked, if that is known.
    """

    end: End
    side: Side
    target: str
    purpose: str
    source: str = ""
    device: str = ""
    receiver: Port | None = None

    def ping(self, mtu: int = 0, seconds: int = 2) -> tuple[Side, Argv]:
        """Return the side and the command that asks, with packets of a size if one is given."""
        argv = commands.ping(self.target, self.device, self.source, mtu=mtu, seconds=seconds)
        return self.side, argv

    def get_route(self) -> RouteLookup:
        """Return how packets leave."""
        return self.side.get_route(self.target, **{"from": self.source, "oif": self.device})

    def find_holder(self) -> Port | None:
        """Return the interface that has the address."""
        if self.receiver and self.receiver.has_address(self.target):
            return self.receiver
        return next(iter(self.side.topology.find_holders(self.target, self.end.port)), None)


def ask(question: Question) -> Iterator[Finding]:
    """Ask, and find out why nobody answers; without a PROBLEM, what was asked for answers."""
    if not is_address(question.target):
        text = f"{question.target!r} is not an address, so no resolver can ask it"
        yield Finding(PROBLEM, question.purpose, text, "correct dns of the network, or of ipam")
        return
    route = question.get_route()
    if not (question.source or question.device or route.is_local or route.source[:4] == "fe80"):
        # A connection has that source, for which other rules may apply.
        question = question._replace(source=route.source)
    (completed,) = question.side.topology.ask(question.ping())
    if completed.status == 0 and route.device:
        match = _OTHER.search(completed.stdout.decode("utf-8", "replace"))
        if match and question.purpose != "gateway":  # which may be an anycast address
            text = f"asked for {question.target}, {match[1]} answers, which no connection takes"
            advice = f"what sends packets on to {match[1]} must masquerade, to get the answers"
            yield Finding(PROBLEM, "return", text, advice)
        for trial in TRIALS:
            yield from trial(question, route)
        return
    if not completed.was_run:
        text = "ping is missing, so nothing was asked"
        yield Finding(PROBLEM, "not asked", text, "install it: apt install iputils-ping")
    findings = [*_read_refusal(question, completed), *_explain_silence(question)]
    problems = [each for each in findings if each.state == PROBLEM and each.subject != "gateway"]
    holder = question.find_holder()
    own_rules = (f" of {holder.side} drops packets",) if holder else ()
    is_refusal = [
        each.subject in ("echo", "no ping") or any(words in each.text for words in own_rules)
        for each in problems
    ]
    # A gateway need not answer ping.
    if question.purpose == "gateway" and problems and all(is_refusal):
        findings = [problems[0]._replace(state=WARNING, subject="gateway")]
    yield from findings


def _report_echo(question: Question, route: RouteLookup) -> Iterator[Finding]:
    suffix = f" through {route.gateway}" if route.gateway else ""
    yield Finding(OK, question.purpose, f"{question.target} answers {question.end.name}{suffix}")
    if not question.receiver and question.side.has_address(question.target):
        text = f"{question.target} is an address of {question.side} itself, so nothing was sent"
        yield Finding(WARNING, "own", text)
    port = question.end.port
    if port and not route.is_local and route.device != port.link.name:
        yield routing.report_detour(port, route.device, question.target)._replace(state=WARNING)


def _try_sizes(question: Question, route: RouteLookup) -> Iterator[Finding]:
    """Yield whether a packet of the whole MTU, of the interface or a route, gets through."""
    side, target, sender = question.side, question.target, question.side.ports.get(route.device)
    if route.is_local or sender is None:
        return
    mtus = re.findall(r" mtu (\d+)", routing.show_route(side, route.device, target, route.source))
    # A router's advertisement may have set that of IPv6.
    own_mtu = side.read_sysctl(f"net/ipv6/conf/{route.device}/mtu") if ":" in target else 0
    mtu = min([own_mtu or sender.link.mtu, *map(int, mtus)])
    (completed,) = side.topology.ask(question.ping(mtu))
    if completed.status == 0:
        yield Finding(OK, "path", f"packets of {mtu} bytes reach {target}")
        if b" 3 received" not in completed.stdout:
            yield _report_loss(question, mtu)
        return
    match = _MTU.search(completed.stdout + completed.stderr)
    path_mtu = int(match[1]) if match else question.get_route().mtu
    if path_mtu and path_mtu < mtu:
        text = f"the path to {target} takes packets of at most {path_mtu} bytes, not of {mtu}"
        yield Finding(WARNING, "path", text, f"set the option mtu to {path_mtu}, or mtu of a route")
        return
    paths = _list_paths(question)
    ports = [port for each in paths for port in each.ports]
    narrow_ports = {str(each): each.link.mtu for each in ports if each.link.mtu < mtu}
    sizes = {*(each for each in _SIZES if each < mtu), *narrow_ports.values()}
    results = zip(sizes, side.topology.ask(*map(question.ping, sizes)), strict=True)
    largest = max((size for size, completed in results if completed.status == 0), default=0)
    # By chance, a larger one may be lost and a smaller one not.
    pings = [question.ping(size) for size in (mtu, largest) for _ in range(4) if largest]
    statuses = [each.status == 0 for each in side.topology.ask(*pings)]
    if not largest or statuses != [False] * 4 + [True] * 4:
        yield _report_loss(question, mtu)
        return
    ends = [paths[0].source, target]
    yield from _find_drops(paths, ends, question.ping(mtu), has_own=True)[0]
    text = f"packets of {mtu} bytes don't reach {target}, those of {largest} do; no router says why"
    text += "".join(f"; {port} has MTU {size}" for port, size in narrow_ports.items())
    command = sender.link_command("mtu", str(largest))
    advice = "have ICMP errors pass on the way, and look at filters there"
    if ":" not in target or largest >= LEAST_MTU_OF_IPV6:
        advice = f"set the option mtu to {largest} (for now: {command}), or {advice}"
    for port in paths[0].ports:
        if port.parent and port.link.mtu < mtu <= port.parent.link.mtu:
            command = port.link_command("mtu", str(mtu))
            advice = f"unless its network sets mtu, let it take as much as its master: {command}"
    yield Finding(PROBLEM, "path", text, advice)


def _list_paths(question: Question) -> list[Path]:
    """Return the way to an address, and the way back if that can be seen."""
    path = Path(question.side, question.source, question.target, question.device)
    holder = question.find_holder()
    if not (holder and path.source):
        return [path]
    return [path, Path(holder.side, question.target, path.source, holder.bind_device)]


def _report_loss(question: Question, mtu: int) -> Finding:
    text = f"{question.target} does not always answer, whatever the size of packets"
    advice = "packets are lost on the way, or something limits how often it answers"
    for each in _find_losses(question, mtu):
        return Finding(WARNING, "loss", f"{text}; {each.text}", each.advice)
    return Finding(WARNING, "loss", text, advice)


def _find_losses(question: Question, mtu: int) -> list[Finding]:
    """Return what has surely dropped some of a dozen packets."""
    paths = _list_paths(question)
    ends = [each for each in (paths[0].source, question.target) if each]
    drops = _find_drops(paths, ends, *[question.ping(mtu)] * 4)[0]
    return [each for each in drops if each.subject in ("filter", "blackhole")]


def _try_back(question: Question, route: RouteLookup) -> Iterator[Finding]:
    """Yield whether this end answers the other one, if that is on this node."""
    holder = question.find_holder() if question.purpose == "tried" and not route.is_local else None
    if holder and not holder.is_loopback and route.source:  # several may have one on a loopback
        ping = commands.ping(route.source, holder.bind_device or question.target)
        if holder.side.run(ping).status == 0:
            yield Finding(OK, "tried back", f"{route.source} answers {holder.side}")
        else:
            text = f"{route.source} does not answer when {holder.side} begins"
            yield Finding(WARNING, "tried back", text, "trace the other way round")
            port, receiver = question.end.port, question.receiver
            if port and receiver and not (route.gateway or port.is_l3 or receiver in port.segment):
                text = f"{question.target} answers {port}, but {receiver} is not on its network"
                yield facts.report_duplicate(f"{text}: another host has that address, too")


def _check_duplicates(question: Question, route: RouteLookup) -> Iterator[Finding]:
    """Yield that others have the address, take it for theirs, or have a MAC address twice."""
    port, next_hop = question.end.port, route.gateway or question.target
    if port and not route.is_local:
        yield from facts.check_holders(port, next_hop, question.receiver)
        # A gateway answers the link-local address, too.
        if ":" in question.target and not of_family(question.target, port.addresses):
            for each in port.link.addresses:
                yield from facts.check_unused(port, each.address.partition("/")[0])
    path = Path(question.side, question.source, question.target, question.device)
    if route.gateway:  # which may have answered itself
        yield from (each for each in path.findings if each.subject == "local")
    for finding in chain.from_iterable(map(hops.check_macs, path.hops)):
        yield finding._replace(state=WARNING)


def _check_local(question: Question, route: RouteLookup) -> Iterator[Finding]:
    """Yield that an end takes the other's address for its own, or for a broadcast address."""
    receiver, side, target = question.receiver, question.side, question.target
    if not route.is_local or (receiver and receiver.side is side):
        return
    if receiver:
        yield routing.report_own(side, target, route)
    elif question.purpose == "gateway":
        text = f"the gateway {target} is an address of {side} itself"
        yield Finding(PROBLEM, "route", text, "correct the gateway, in the routes or in ipam")


TRIALS = (_report_echo, _try_sizes, _check_duplicates, _try_back, _check_local)


def _explain_silence(question: Question) -> Iterator[Finding]:
    """Yield all that may explain why an address does not answer."""
    target, port = question.target, question.end.port
    request_path = Path(question.side, question.source, target, question.device, port)
    request_hops, route = request_path.hops, request_path.route
    receivers = [each.receiver for each in request_hops if each.receiver]
    receiver = next((each for each in receivers if each.has_address(target)), None)
    # What answers for the address may be outside, and another with it on this node.
    is_outside = any(
        hop.neighbour.mac and not (hop.receiver or question.receiver or hop.next_hop != target)
        for hop in request_hops
    )
    holder = receiver or (None if is_outside else question.find_holder())
    source = request_path.source or (*of_family(target, question.end.addresses), "")[0]
    # A router looks for the next hop for three seconds before it says that there is none.
    is_far = any(each.receiver is None and each.next_hop != target for each in request_hops[-1:])
    paths, pings = [request_path], [question.ping(seconds=4 if is_far else 2)]
    # A request that reaches the wrong network needs no way back. A gateway sends what answers ND by
    # its own one.
    dead_ends = [each for each in request_hops if each.neighbour.state and not each.neighbour.mac]
    gateways = [(each.receiver, each.next_hop) for each in dead_ends if each.next_hop != target]
    replier, address = (*gateways, (holder, target))[0]
    if replier and source and all(each.tags for each in dead_ends):
        # Where nothing was sent, it does not matter by which interface an answer would leave.
        is_sent = all(each.subject != "route" for each in request_path.findings)
        reply_port = replier if is_sent and replier in receivers else None
        paths.append(_find_way_back(replier, address, source, reply_port))
        pings.append((replier.side, commands.ping(source, replier.bind_device or address)))
    elif source and not holder:  # it may be a service's, whose answers come by the routers
        paths += [Path(each.side, "", source, each.bind_device) for each in receivers]
    # They are asked by ARP, too: an echo may wait for an answer to one that was lost before.
    askers = ((facts.find_asker(each.sender), each.next_hop) for each in request_hops)
    pings += [(e.side, commands.arping(hop, e.link.name)) for e, hop in askers if ":" not in hop]
    yield from _check_global_address(question, route.device)
    loopbacks = [question.side.ports["lo"]] if route.kind == "local" else []
    yield from [*_check_local(question, route)] or facts.check_states(loopbacks)
    drops, answers = _find_drops(paths, [each for each in (source, target) if each], *pings)
    if holder and paths[1:]:
        paths[1:] = _find_ways_back(request_path, holder, source, drops) or paths[1:]
    if is_far and holder and holder.link.is_ipvlan:  # to others they may come in elsewhere
        request_path.enter(holder)
    for path in paths:
        yield from (*path.findings, *check_ttl(path))
    yield from check_source(request_path, paths[1:])
    refusals = [*_read_refusal(question, answers[0])]
    yield from (*drops, *(refusals if is_far else ()))
    if answers[0].status == 0:  # two that are here may have learned ARP since
        text = f"{target} answers now, but has not before"
        advice = "ask again: packets are lost on the way, or it has just come up"
        late = [] if holder else [Finding(PROBLEM, "echo", text, advice)]
        yield from _find_losses(question, _SIZES[-1]) or late
        if not holder:
            return
    yield from _check_ignored(question, holder, paths)
    for hop in request_hops[-1:]:
        yield from _explain_outside(question, hop, source, refusals)
    kind, text = route.kind, f"{target} does not answer {question.end.name}"
    advice = "look at filters on the way, and at the way back; the route: "
    advice += routing.show_route(question.side, route.device, target, source)
    if kind in ("broadcast", "multicast"):
        text, advice = f"{text}: it is a {kind} address", "name an address that one host has"
    yield Finding(PROBLEM, question.purpose, text, advice)


def _find_way_back(replier: Port, address: str, source: str, port: Port | None) -> Path:
    """Return the path of an answer, which need not leave by the interface of the request."""
    path = Path(replier.side, address, source, replier.bind_device, port)
    weaker = {"leaves by": "returns by"}
    path.findings = [e._replace(subject=weaker.get(e.subject, e.subject)) for e in path.findings]
    return path


def _check_global_address(question: Question, device: str) -> Iterator[Finding]:
    """Yield that the interface that sends has no address to which an answer could come."""
    target, port = question.target, question.end.port
    is_global = ":" in target and target[:4] != "fe80"
    is_leaving = port is not None and port.link.name == device
    if port and is_global and is_leaving and not of_family(target, port.addresses):
        text, advice = f"{port} has no IPv6 address but link-local ones", "see ipvlan check"
        yield Finding(PROBLEM, "address", text, advice)


def _find_ways_back(
    request_path: Path, holder: Port, source: str, drops: Sequence[Finding]
) -> list[Path]:
    """Return the parts of the way back by routers that change addresses; empty without any.

    Each of these gives packets its address, gets the answers, and sends them on.
    """
    texts = [each.text for each in drops if each.subject == "nat"]
    senders = [each.sender for each in request_path.hops]
    routers = [e for e in senders if any(text.startswith(f"a rule of {e.side} ") for text in texts)]
    goals = [source, *((*of_family(source, each.addresses), source)[0] for each in routers)]
    parts = zip(routers, goals, strict=False)
    # An interface in mode l3s gets them from its master.
    ways = [Path(each.side, "", goal) for each, goal in parts if each not in senders[0].chain]
    last = (holder.side, request_path.target, goals[-1], holder.bind_device)
    return [Path(*last), *ways] if routers else []


def _check_ignored(
    question: Question, holder: Port | None, paths: Sequence[Path]
) -> Iterator[Finding]:
    """Yield that an address answers no ping whoever asks, and that filters could not be listed."""
    target, topology = question.target, question.side.topology
    if not (filters.find_programs(question.side, target) or topology.has_program("nft")):
        yield Finding(WARNING, "not looked", "no iptables-save or nft: filters were not looked at")
    key = "net/ipv6/icmp/echo_ignore_all" if ":" in target else "net/ipv4/icmp_echo_ignore_all"
    if holder and holder.side.read_sysctl(key):
        text = f"{target} ignores echo requests: {key} is 1 in {holder.side}"
        yield Finding(PROBLEM, "echo", text, f"let it answer: {holder.side.sysctl_command(key, 0)}")
    # A host that drops packets or does not forward sends none of its services' packets on.
    stuck = tuple(f"{topology.host} {words}" for words in (f"is the way to {target},", "drops "))
    is_stuck = any(each.text.startswith(stuck) for each in paths[0].findings)
    is_inside = question.side.netns and not (holder or is_stuck)
    if is_inside and filters.has_nat_rule(topology.host, target):
        text = f"{target} is known to rules of the host only, as a service's address is"
        advice = "try its port, since a service answers no ping"
        if topology.host in paths[0].sides:
            text += ", and packets to it pass the host"
            ways_back = (path for path in paths[1:] if path.sides[0] is topology.host)
            if faults := [each for path in ways_back for each in path.findings]:
                text, advice = f"{text}, but {faults[0].text}", faults[0].advice
        else:
            remedy = "they apply to what passes the host: set hostAccess and routesViaHost"
            advice = f"{remedy}; then {advice}"
        yield Finding(PROBLEM, "service", text, advice)


def _find_drops(
    paths: Sequence[Path], ends: Sequence[str], *questions: tuple[Side, Argv], has_own: bool = False
) -> tuple[list[Finding], list[Completed]]:
    """Run commands, and return which rules have dropped packets meanwhile, and the answers."""
    ports = [each for path in paths for each in path.ports]
    senders = (hop.sender for path in paths for hop in path.hops)
    # What an interface with flag vepa sends goes by the switch, even to its siblings.
    ports += [port for each in senders if each.link.flag == "vepa" for port in each.uplinks]
    routed_sides = dict.fromkeys(side for path in paths for side in path.sides)

    def count(side: Side) -> dict[Finding, int]:
        side_links = [each.link for each in ports if each.side is side]
        devices = {name for link in side_links for name in (link.name, link.master)}
        is_routed = side in routed_sides
        return filters.count_drops(side, ends, devices, is_routed=is_routed, has_own=has_own)

    # In mode l2 packets leave by a master without the host's routes and rules.
    counts = {side: count(side) for side in (*routed_sides, *(each.side for each in ports))}
    # In IPv6 the first one is asked alone: whoever asks for a neighbour is known to that one then.
    alone, ask = 1 if ":" in ends[-1] else 0, paths[0].sides[0].topology.ask
    answers = [*ask(*questions[:alone]), *ask(*questions[alone:])]
    drops = [rule for side in counts for rule in filters.find_drops(counts[side], count(side))]
    return drops, answers


def _read_refusal(question: Question, completed: Completed) -> Iterator[Finding]:
    """Yield what another host has answered instead of the one that was asked."""
    match = _REFUSAL.search(completed.stdout.decode("utf-8", "replace"))
    if match and not question.side.has_address(match[1]):
        text = f"asked for {question.target}, {match[1]} answers: {match[2]}"
        advice = f"look there, at its routes and filters; is {question.target} up?"
        yield Finding(PROBLEM, "told", text, advice)


def _explain_outside(
    question: Question, hop: Hop, source: str, refusals: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield what can be found out about a next hop that is not on this node.

    ``refusals`` are what other hosts have answered.
    """
    port, target, known_mac = question.end.port, question.target, hop.neighbour.mac.lower()
    if hop.receiver:
        return
    asker, silence = facts.find_asker(hop.sender), f"{target} does not answer"
    # The master asks by the same next hop, from an address that the network surely knows.
    route = asker.side.get_route(target, oif=asker.link.name)
    is_same = port not in (None, asker) and hop.next_hop == (route.gateway or target)
    sources = of_family(target, asker.addresses)[:1] if is_same else []
    pings = ((asker.side, commands.ping(target, asker.link.name, each)) for each in sources)
    is_up = any(completed.status == 0 for completed in asker.side.topology.ask(*pings))
    mac = _ask_neighbour(hop) if known_mac else ""
    if known_mac and not mac:
        yield hops.report_unanswered(hop)
    elif mac != known_mac:
        yield hops.report_wrong_neighbour(hop, f"{mac} answers for it")
    elif port and port.is_l3 and (is_up or (known_mac and not sources)):
        text = f"{silence}; in mode {port.link.mode} nobody answers ARP for {source}"
        advice = f"the network must have a route to {source} through this host"
        yield Finding(PROBLEM, "return", text, advice)
    elif is_up:
        text = f"{target} answers {asker} ({sources[0]}), but not {source}"
        advice = f"let the network accept {source}: its switch or cloud may let only some pass, "
        advice += f"{target} may have a filter or a wrong neighbour entry for it"
        if hop.next_hop != target:
            advice += ", a router on the way one of these, no route back to it, or no NAT for it"
        if refusals:
            text, advice = f"{text}; {refusals[0].text}", refusals[0].advice
        yield Finding(PROBLEM, "refused", text, advice)
    elif known_mac and hop.next_hop == target:
        text = f"{target} answers ARP or ND ({known_mac}), but not ping"
        advice = f"it may ignore ping, have a filter, or have no route to {source}"
        yield Finding(PROBLEM, "no ping", text, advice)
    elif known_mac:
        text = f"{silence}; its gateway {hop.next_hop} ({known_mac}) is there"
        advice = "look at the gateway: does it forward, its route back, its firewall, its NAT; "
        yield Finding(PROBLEM, "beyond", text, f"{advice}or {target} ignores ping")


def _ask_neighbour(hop: Hop) -> str:
    """Return the MAC address of a next hop that the kernel knows; empty if it does not answer."""
    side, name, known_mac = hop.sender.side, hop.sender.link.name, hop.neighbour.mac.lower()
    if ":" not in hop.next_hop:
        completed = side.run(commands.arping(hop.next_hop, name))
        is_answer = completed.status in (0, 1)
        return queries.answering_mac(completed.stdout).lower() if is_answer else known_mac
    if hop.neighbour.state not in _MAY_BE_GONE:
        return known_mac
    # Only the kernel can ask by ND, which takes it three seconds.
    side.run(("ip", "neighbour", "change", hop.next_hop, "dev", name, "nud", "probe"))
    side.run(commands.ping(hop.next_hop, name, seconds=4))
    answer = side.run(commands.neighbour_show(name, hop.next_hop)).stdout
    return "".join(each.mac.lower() for each in queries.neighbours(answer))
