"""Trials: what answers, in both directions and by size; and if nothing does, why.

They send only packets that ask: echo requests, ARP, ND.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cni_ipvlan.cli.connectivity import facts, filters, routing, steps
from cni_ipvlan.cli.connectivity.ends import End
from cni_ipvlan.cli.connectivity.steps import Wire
from cni_ipvlan.cli.connectivity.walk import Walk, short_lived, wrong_source
from cni_ipvlan.cli.connectivity.world import Port, Side, is_address, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Argv
from cni_ipvlan.iproute.queries import RouteLookup
from cni_ipvlan.iproute.running import Completed

# ping: local error: message too long, mtu=1400
# From 10.1.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)
# From fd00::1 icmp_seq=1 Packet too big: mtu=1280
_MTU = re.compile(rb"mtu ?[=:] ?(\d+)")
# From 10.1.0.1 icmp_seq=1 Time to live exceeded
# From 10.1.0.1: icmp_seq=1 Redirect Host(New nexthop: 10.1.0.3)
_REFUSAL = re.compile(r"^From (\S+) icmp_seq=\d+ (?!Redirect)(.+)$", re.MULTILINE)
_SIZES = (8000, 4000, 1500, 1492, 1480, 1450, 1420, 1400, 1360, 1280, 1000, 576)


class Question(NamedTuple):
    """Whether an address answers an end, which is at ``side``.

    ``what`` is said of the address (gateway, dns, ...). ``source`` is an address, and ``by`` an
    interface to ask from, empty for the kernel's choice. ``other`` is the interface that is asked,
    if that is known.
    """

    one: End
    side: Side
    target: str
    what: str
    source: str = ""
    by: str = ""
    other: Port | None = None

    def ping(self, mtu: int = 0, seconds: int = 2) -> tuple[Side, Argv]:
        """Return how it is asked, with packets of a size if one is given."""
        argv = commands.ping(self.target, self.by, self.source, mtu=mtu, seconds=seconds)
        return self.side, argv

    def lookup(self) -> RouteLookup:
        """Return how packets leave."""
        return self.side.lookup(self.target, **{"from": self.source, "oif": self.by})

    def holder(self) -> Port | None:
        """Return the interface that has the address."""
        if self.other and self.other.has(self.target):
            return self.other
        return next(iter(self.side.world.holders(self.target, self.one.port)), None)


def ask(question: Question) -> Iterator[Finding]:
    """Ask, and find out why nobody answers; without a PROBLEM, what was asked for answers."""
    if not is_address(question.target):
        text = f"{question.target!r} is not an address, so no resolver can ask it"
        yield Finding(PROBLEM, question.what, text, "correct dns of the network, or of ipam")
        return
    way = question.lookup()
    if not (question.source or question.by or way.is_local or way.source[:4] == "fe80"):
        question = question._replace(source=way.source)  # as a connection has it: rules may differ
    (done,) = question.side.world.ask(question.ping())
    if done.status == 0 and way.device:
        for trial in TRIALS:
            yield from trial(question, way)
        return
    if not done.was_run:
        text = "ping is missing, so nothing was asked"
        yield Finding(PROBLEM, "not asked", text, "install it: apt install iputils-ping")
    found = [*_told(question, done), *_silence(question)]
    causes = [each for each in found if each.state == PROBLEM and each.subject != "gateway"]
    if question.what == "gateway" and {each.subject for each in causes} in ({"echo"}, {"no ping"}):
        found = [causes[0]._replace(state=WARNING, subject="gateway")]  # it need not answer ping
    yield from found


def _echo(question: Question, way: RouteLookup) -> Iterator[Finding]:
    by = f" through {way.gateway}" if way.gateway else ""
    yield Finding(OK, question.what, f"{question.target} answers {question.one.name}{by}")
    if not question.other and question.side.has(question.target):
        text = f"{question.target} is an address of {question.side} itself, so nothing was sent"
        yield Finding(WARNING, "own", text)
    port = question.one.port
    if port and not way.is_local and way.device != port.link.name:
        yield routing.leaves_by(port, way.device, question.target)._replace(state=WARNING)


def _sizes(question: Question, way: RouteLookup) -> Iterator[Finding]:
    """Yield whether a packet of the interface's whole MTU gets through."""
    side, target, out = question.side, question.target, question.side.ports.get(way.device)
    if way.is_local or out is None:
        return
    mtu = out.link.mtu
    (done,) = side.world.ask(question.ping(mtu))
    if done.status == 0:
        yield Finding(OK, "path", f"packets of {mtu} bytes reach {target}")
        if b" 3 received" not in done.stdout:
            yield _lossy(target)
        return
    told = _MTU.search(done.stdout + done.stderr)
    known = int(told[1]) if told else question.lookup().mtu
    if known and known < mtu:
        text = f"the path to {target} takes packets of at most {known} bytes, not of {mtu}"
        yield Finding(WARNING, "path", text, f"set the option mtu to {known}, or mtu of a route")
        return
    walk = Walk(side, question.source, target, question.by)
    narrow = {str(each): each.link.mtu for each in walk.ports if each.link.mtu < mtu}
    sizes = {*(each for each in _SIZES if each < mtu), *narrow.values()}
    tried = zip(sizes, side.world.ask(*map(question.ping, sizes)), strict=True)
    most = max((size for size, done in tried if done.status == 0), default=0)
    # By chance, a larger one may be lost and a smaller one not.
    again = side.world.ask(*(question.ping(size) for size in (mtu, most) for _ in range(4) if most))
    if not most or [each.status == 0 for each in again] != [False] * 4 + [True] * 4:
        yield _lossy(target)
        return
    yield from _dropping([walk], [walk.source, target], question.ping(mtu))[0]
    text = f"packets of {mtu} bytes don't reach {target}, those of {most} do; no router says why"
    text += "".join(f"; {port} has MTU {size}" for port, size in narrow.items())
    less = out.set_link("mtu", str(most))
    advice = f"set the option mtu to {most} (for now: {less}), or have ICMP errors pass on the way"
    for port in walk.ports:
        if port.below and port.link.mtu < mtu <= port.below.link.mtu:
            advice = f"let it take as much as its master: {port.set_link('mtu', str(mtu))}"
    yield Finding(PROBLEM, "path", text, advice)


def _lossy(target: str) -> Finding:
    text = f"{target} does not always answer, whatever the size of packets"
    advice = "packets are lost on the way, or something limits how often it answers"
    return Finding(WARNING, "loss", text, advice)


def _back(question: Question, way: RouteLookup) -> Iterator[Finding]:
    """Yield whether the other end, if it is here, can ask as well."""
    holder = question.holder() if question.what == "tried" and not way.is_local else None
    if holder and not holder.is_loopback and way.source:  # several may have one on a loopback
        if holder.side.answer(commands.ping(way.source, holder.by or question.target)).status == 0:
            yield Finding(OK, "tried back", f"{way.source} answers {holder.side}")
        else:
            text = f"{way.source} does not answer when {holder.side} begins"
            yield Finding(WARNING, "tried back", text, "trace the other way round")


def _several(question: Question, way: RouteLookup) -> Iterator[Finding]:
    """Yield that it is luck which of several has answered."""
    if question.one.port and not way.is_local:
        yield from facts.several(question.one.port, way.gateway or question.target)


def _itself(question: Question, way: RouteLookup) -> Iterator[Finding]:
    """Yield that an end takes the other's address for its own, or for a broadcast address."""
    other, side, target = question.other, question.side, question.target
    if not way.is_local or (other and other.side is side):
        return
    if other and side.has(target):
        yield facts.duplicate(f"{target} is an address of {side}, too, which so asks itself")
    elif other:
        text = f"{side} takes {target} for a {way.kind} address"
        delete = side.shell("ip", "route", "delete", way.kind, target, "table", "local")
        advice = f"correct the prefix length of its addresses, or else delete the route: {delete}"
        yield Finding(PROBLEM, "route", text, advice)
    elif question.what == "gateway":
        text = f"the gateway {target} is an address of {side} itself"
        yield Finding(PROBLEM, "route", text, "correct the gateway, in the routes or in ipam")


TRIALS = (_echo, _sizes, _back, _several, _itself)


def _silence(question: Question) -> Iterator[Finding]:
    """Yield all that may explain why an address does not answer."""
    target = question.target
    there = Walk(question.side, question.source, target, question.by, question.one.port)
    reached = next((each.into for each in there.wires if each.into and each.into.has(target)), None)
    holder = reached or question.holder()
    source = there.source or (*of_family(target, question.one.addresses), "")[0]
    # A router looks for the next hop for three seconds before it says that there is none.
    is_far = any(each.into is None and each.hop != target for each in there.wires[-1:])
    walks, pings = [there], [question.ping(seconds=4 if is_far else 2)]
    # What reaches no gateway, or is looked for on another network, needs no way back.
    lost = [each for each in there.wires if each.known.state and not each.known.mac]
    if holder and source and all(each.hop == target and each.tags for each in lost):
        # Where nothing was sent, it does not matter by what an answer would leave.
        is_sent = all(each.subject != "route" for each in there.found)
        walks.append(Walk(holder.side, target, source, holder.by, reached if is_sent else None))
        pings.append((holder.side, commands.ping(source, holder.by or target)))
    for wire in there.wires:  # an echo may wait for an answer to an ARP that was lost before
        asker = facts.asking(wire.out)
        pings += [(asker.side, commands.arping(wire.hop, asker.link.name))] * (":" not in wire.hop)
    port, is_global = question.one.port, ":" in target and target[:4] != "fe80"
    lacks = port and not of_family(target, port.usual) and port.link.name == there.first.device
    if is_global and lacks:
        text, advice = f"{port} has no IPv6 address but link-local ones", "see ipvlan check"
        yield Finding(PROBLEM, "address", text, advice)
    lo = [question.side.ports["lo"]] if there.first.kind == "local" else []
    yield from [*_itself(question, there.first)] or facts.states(lo)
    for walk in walks:
        yield from (*walk.found, *short_lived(walk))
    yield from wrong_source(walks[0], walks[1:])
    found, answers = _dropping(walks, [each for each in (source, target) if each], *pings)
    told = [*_told(question, answers[0])]
    yield from (*found, *(told if is_far else ()))
    if not holder and answers[0].was_run and answers[0].status == 0:
        text = f"{target} answers now, but has not before"
        advice = "ask again: packets are lost on the way, or it has just come up"
        yield Finding(PROBLEM, "echo", text, advice)
        return
    yield from _ignored(question, holder)
    for wire in there.wires[-1:]:
        yield from _outside(question, wire, source, told)
    kind, text = there.first.kind, f"{target} does not answer {question.one.name}"
    advice = "look at filters on the way, and at the way back"
    if kind in ("broadcast", "multicast"):
        text, advice = f"{text}: it is a {kind} address", "name an address that one host has"
    yield Finding(PROBLEM, question.what, text, advice)


def _ignored(question: Question, holder: Port | None) -> Iterator[Finding]:
    """Yield that an address answers no ping whoever asks, and what could not be looked at."""
    target, world = question.target, question.side.world
    if not (filters.programs(question.side, target) or world.has("nft")):
        yield Finding(WARNING, "not looked", "no iptables-save or nft: filters were not looked at")
    key = "net/ipv6/icmp/echo_ignore_all" if ":" in target else "net/ipv4/icmp_echo_ignore_all"
    if holder and holder.side.sysctl(key):
        text = f"{target} ignores echo requests: {key} is 1 in {holder.side}"
        yield Finding(PROBLEM, "echo", text, f"let it answer: {holder.side.write(key, 0)}")
    if question.side.netns and not holder and filters.translates(world.host, target):
        text = f"{target} is known to rules of the host only, as a service's address is"
        advice = "they apply to what passes the host: set hostAccess and routesViaHost; "
        advice += "then try its port, since a service answers no ping"
        yield Finding(PROBLEM, "service", text, advice)


def _dropping(
    walks: Sequence[Walk], ends: Sequence[str], *asked: tuple[Side, Argv]
) -> tuple[list[Finding], list[Completed]]:
    """Ask, and return which rules have dropped packets meanwhile, and what was answered."""
    passed = [each for walk in walks for each in walk.ports]
    on_way = dict.fromkeys(side for walk in walks for side in walk.sides)

    def count(side: Side) -> dict[Finding, int]:
        devices = {each.link.name for each in passed if each.side is side}
        return filters.counted(side, ends, devices, is_routed=side in on_way)

    # In mode l2 packets pass a master as what is sent by it, without the host's routes and rules.
    before = {side: count(side) for side in (*on_way, *(each.side for each in passed))}
    answers = walks[0].sides[0].world.ask(*asked)
    found = [rule for side in before for rule in filters.dropping(before[side], count(side))]
    return found, answers


def _told(question: Question, done: Completed) -> Iterator[Finding]:
    """Yield what another host has answered instead of the one that was asked."""
    found = _REFUSAL.search(done.stdout.decode("utf-8", "replace"))
    if found and not question.side.has(found[1]):
        text = f"asked for {question.target}, {found[1]} answers: {found[2]}"
        yield Finding(PROBLEM, "told", text, "look there, at its routes and filters")


def _outside(
    question: Question, wire: Wire, source: str, told: Sequence[Finding]
) -> Iterator[Finding]:
    """Yield what can be told of a next hop that is not on this node; others may have told why."""
    port, target, known = question.one.port, question.target, wire.known.mac.lower()
    if wire.into:
        return
    asker, lost = facts.asking(wire.out), f"{target} does not answer"
    # The master asks by the same way, if it has one, from an address that the network surely knows.
    usual = asker.side.lookup(target, oif=asker.link.name)
    is_same = port not in (None, asker) and wire.hop == (usual.gateway or target)
    own = of_family(target, asker.usual)[:1] if is_same else []
    asked = ((asker.side, commands.ping(target, asker.link.name, each)) for each in own)
    is_there = any(done.status == 0 for done in asker.side.world.ask(*asked))
    mac = known
    if known and ":" not in wire.hop:
        done = wire.out.side.answer(commands.arping(wire.hop, wire.out.link.name))
        if done.status in (0, 1):
            mac = queries.answering_mac(done.stdout).lower()
    if known and not mac:
        yield steps.unanswered(wire)
    elif mac != known:
        yield steps.mistaken(wire, f"{mac} answers for it")
    elif port and port.is_l3 and (is_there or (known and not own)):
        text = f"{lost}; in mode {port.link.mode} nobody answers ARP for {source}"
        advice = f"the network must have a route to {source} through this host"
        yield Finding(PROBLEM, "return", text, advice)
    elif is_there:
        yield _refused(wire, f"{target} answers {asker} ({own[0]}), but not {source}", source, told)
    elif known and wire.hop == target:
        text = f"{target} answers ARP or ND ({known}), but not ping"
        advice = f"it may ignore ping, have a filter, or have no route to {source}"
        yield Finding(PROBLEM, "no ping", text, advice)
    elif known:
        text = f"{lost}; its gateway {wire.hop} ({known}) is there"
        advice = "look at the gateway: does it forward, its route back, its firewall, its NAT; "
        yield Finding(PROBLEM, "beyond", text, f"{advice}or {target} ignores ping")


def _refused(wire: Wire, text: str, source: str, told: Sequence[Finding]) -> Finding:
    """Return that a source is not answered where others are; a router may have told why."""
    if told:
        return Finding(PROBLEM, "refused", f"{text}; {told[0].text}", told[0].advice)
    target = wire.target
    advice = f"let the network accept {source}: its switch or cloud may let only some pass, "
    advice += f"{target} may have a filter or a wrong neighbour entry for it"
    if wire.hop != target:
        advice += ", a router on the way one of these, no route back to it, or no NAT for it"
    return Finding(PROBLEM, "refused", text, advice)
