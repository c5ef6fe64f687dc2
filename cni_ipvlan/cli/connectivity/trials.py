"""Trials: what answers, in both directions and by size, and what is counted meanwhile.

They send only packets that ask: echo requests, ARP, ND.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli.connectivity import facts, filters
from cni_ipvlan.cli.connectivity.facts import L3, Walk
from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, packets, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.connectivity.facts import Wire
    from cni_ipvlan.cli.connectivity.world import End, Port, Side, World

_SIZES = (8000, 4000, 1500, 1492, 1480, 1450, 1420, 1400, 1360, 1280, 1000, 576)


class Question(NamedTuple):
    """Whether an address answers an end.

    ``what`` is said of the address (gateway, dns, ...). ``by`` is an address or an interface to
    ask from, empty for the kernel's choice.
    """

    one: End
    target: str
    what: str
    by: str = ""

    @property
    def side(self) -> Side:
        """Where it is asked."""
        if self.one.side is None:
            raise ValueError(self.one.name)
        return self.one.side

    def ping(self, mtu: int = 0) -> tuple[Side, tuple[str, ...]]:
        """Return how it is asked, with packets of a size if one is given."""
        return self.side, packets.ping(self.target, self.by, mtu)


def ask(world: World, question: Question) -> Iterator[Finding]:
    """Ask, and find out why nobody answers; without a PROBLEM, what was asked for answers."""
    if not packets.address_in(question.target):
        text = f"{question.target!r} is not an address, so no resolver can ask it"
        advice = "correct dns of the network or of the IPAM plugin"
        yield Finding(PROBLEM, question.what, text, advice)
        return
    done = world.ask(question.ping())[0]
    if done and done.status == 0:
        for trial in TRIALS:
            yield from trial(world, question)
        return
    if done is None:
        text = "ping is missing, so nothing was asked"
        yield Finding(PROBLEM, "not asked", text, "install it: apt install iputils-ping")
    found = list(_silence(world, question))
    causes = [each for each in found if each.state == PROBLEM and each.subject != "gateway"]
    if question.what == "gateway" and {each.subject for each in causes} == {"echo"}:
        found = [causes[0]._replace(state=WARNING, subject="gateway")]  # it need not answer ping
    yield from found


def _echo(world: World, question: Question) -> Iterator[Finding]:
    way = _way(world, question)
    by = f" through {way.gateway}" if way and way.gateway else ""
    text = f"{question.target} answers {question.one.name}{by}"
    yield Finding(OK, question.what, text)
    port = question.one.port
    if way and port and not way.is_local and way.device != port.link.name:
        yield _leaves_by(port, way.device, question.target)._replace(state=WARNING)


def _sizes(world: World, question: Question) -> Iterator[Finding]:
    """Yield whether a packet of the interface's whole MTU gets through."""
    way = _way(world, question)
    if way is None or way.device not in question.side.links:
        return
    mtu = question.side.links[way.device][0].mtu
    if way.is_local:
        return
    done = world.ask(question.ping(mtu))[0]
    if done is None or done.status == 0:
        yield Finding(OK, "path", f"packets of {mtu} bytes reach {question.target}")
        return
    way = _way(world, question) or way
    known = packets.path_mtu(done) or way.mtu
    if known and known < mtu:
        text = f"the path to {question.target} takes packets of at most {known} bytes of {mtu}"
        yield Finding(WARNING, "path", text, f"set the option mtu to {known}, or mtu of a route")
        return
    sizes = [each for each in _SIZES if each < mtu]
    tried = zip(sizes, world.ask(*map(question.ping, sizes)), strict=True)
    most = next((size for size, each in tried if each and each.status == 0), 0)
    walk = Walk(world, question.side, "", question.target)
    ports = [
        p for wire in walk.wires for end in (wire.out, wire.into) if end for p in world.chain(end)
    ]
    narrow = [f"{p} has MTU {p.link.mtu}" for p in ports if p.link.mtu < mtu]
    text = f"packets of {mtu} bytes don't reach {question.target}, those of {most} do, and no "
    text += "router says why" + (f"; {', '.join(dict.fromkeys(narrow))}" if narrow else "")
    less = question.side.shell(("ip", "link", "set", "dev", way.device, "mtu", str(most)))
    advice = f"set the option mtu to {most} (for now: {less}), or have ICMP errors pass on the way"
    yield Finding(PROBLEM, "path", text, advice)


def _back(world: World, question: Question) -> Iterator[Finding]:
    """Yield whether the other end, if it is here, can ask as well."""
    way = _way(world, question)
    holder = next(iter(world.holders(question.target, question.one.port)), None)
    if question.what != "tried" or way is None or way.is_local or holder is None or not way.source:
        return
    done = world.ask((holder.side, packets.ping(way.source, question.target)))[0]
    if done and done.status == 0:
        yield Finding(OK, "tried back", f"{way.source} answers {holder.side}")
    else:
        text = f"{holder.side} gets no answer when it asks {way.source} by itself"
        yield Finding(WARNING, "tried back", text, "trace the other way round")


TRIALS = (_echo, _sizes, _back)


def _silence(world: World, question: Question) -> Iterator[Finding]:
    """Yield all that may explain why an address does not answer."""
    target, port = question.target, question.one.port
    is_link = question.by in question.side.links
    there = Walk(
        world,
        question.side,
        "" if is_link else question.by,
        target,
        question.by if is_link else "",
    )
    walks = [there]
    source = there.source or _same_family(question.one.addresses, target)
    holder = next(iter(world.holders(target, port)), None)
    if holder and source:
        walks.append(Walk(world, holder.side, target, source))
    for walk in walks:
        yield from walk.found
    yield from _other_ways(there, port, walks[1:], holder)
    sides = list({id(s): s for walk in walks for s in (*walk.sides, world.host)}.values())
    before = [filters.counted(world, side, target) for side in sides]
    back = [(holder.side, packets.ping(source, target))] if holder and source else []
    world.ask(question.ping(), *back)
    for side, old in zip(sides, before, strict=True):
        new = filters.counted(world, side, target)
        yield from filters.dropping(old, new, side, source or target)
    if not (filters.programs(world, target) or world.has("nft")):
        text = "neither iptables-save nor nft is there, so filters were not looked at"
        yield Finding(WARNING, "not looked", text)
    if holder:
        yield from _ignored(world, holder, target)
    for wire in there.wires[-1:]:
        if wire.into is None:
            yield from _outside(world, question, wire, source)
    text = f"{target} does not answer {question.one.name}"
    yield Finding(PROBLEM, question.what, text, "look at filters on the way, and at the way back")


def _other_ways(
    there: Walk, port: Port | None, back: list[Walk], holder: Port | None
) -> Iterator[Finding]:
    """Yield that packets leave a container by another interface than the one in question."""
    if port and there.first and there.first.device != port.link.name:
        yield _leaves_by(port, there.first.device, there.target)
    for walk in back:
        if walk.first and holder and holder.side.place and walk.first.device != holder.link.name:
            yield _leaves_by(holder, walk.first.device, walk.target)


def _leaves_by(port: Port, device: str, target: str) -> Finding:
    text = f"packets to {target} leave {port.side} by {device}, not by {port.link.name}"
    show = port.side.shell(("ip", "route", "get", target))
    advice = f"{device} has the better route, or a rule says so: {show}"
    return Finding(PROBLEM, "leaves by", text, advice)


def _ignored(world: World, holder: Port, target: str) -> Iterator[Finding]:
    key = "net/ipv6/icmp/echo_ignore_all" if ":" in target else "net/ipv4/icmp_echo_ignore_all"
    if world.sysctl(holder.side, key):
        text = f"{target} ignores echo requests: {key} is 1 in {holder.side}"
        advice = f"let it answer: {facts.write(holder.side, key, 0)}"
        yield Finding(PROBLEM, "echo", text, advice)


def _outside(world: World, question: Question, wire: Wire, source: str) -> Iterator[Finding]:
    """Yield what the last step tells that can be seen from here; the next hop is elsewhere."""
    if not wire.known.mac:
        return
    target, mode = question.target, question.one.port.link.mode if question.one.port else ""
    mac = _answering(world, wire)
    if mac == "":
        yield facts.unanswered(world, wire)
    elif mac and mac != wire.known.mac.lower():
        text = f"{wire.out} takes {wire.known.mac} for {wire.hop}, but {mac} answers for it"
        yield Finding(PROBLEM, "neighbour", text, facts.forget(wire))
    elif mode in L3:
        text = f"{target} does not answer; in mode {mode} nobody answers ARP for {source}"
        advice = f"the network must have a route to {source} through this host"
        yield Finding(PROBLEM, "return", text, advice)
    elif wire.hop == target:
        text = f"{target} answers ARP or ND ({wire.known.mac}), but not ping"
        advice = f"it may ignore ping, have a filter, or have no route to {source}"
        yield Finding(PROBLEM, "echo", text, advice)
    else:
        text = f"{target} does not answer; its gateway {wire.hop} ({wire.known.mac}) is there"
        advice = "look at the gateway: does it forward, its route back to the container, its "
        yield Finding(PROBLEM, "beyond", text, advice + "firewall, its NAT")


def _answering(world: World, wire: Wire) -> str | None:
    """Ask once more for a hop; return its MAC address, empty if none, None if it is not known."""
    asker = facts.asking(world, wire.out)
    if ":" in wire.hop:
        return wire.known.mac.lower() if wire.known.state in ("REACHABLE", "PERMANENT") else None
    asked = commands.arping_duplicate(wire.hop, asker.link.name)
    done = world.ask((asker.side, asked))[0]
    if done is None:
        return wire.known.mac.lower() if wire.known.state == "REACHABLE" else None
    if done.status == commands.DUPLICATE_ANSWERED:
        return queries.answering_mac(done.stdout).lower()
    return "" if done.status == 0 else None


def _way(world: World, question: Question) -> packets.Way | None:
    words = {"oif" if question.by in question.side.links else "from": question.by}
    done = world.ask((question.side, packets.way_to(question.target, **words)))[0]
    return packets.way(done) if done else None


def _same_family(addresses: tuple[str, ...], target: str) -> str:
    same = (each for each in addresses if (":" in each) == (":" in target))
    return next(same, "").partition("/")[0]
