"""Facts: the way that packets take, step by step."""

from collections.abc import Iterator, Sequence

from cni_ipvlan.cli.connectivity import facts, routing, steps
from cni_ipvlan.cli.connectivity.steps import STEPS, Wire
from cni_ipvlan.cli.connectivity.world import Port, Side, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.queries import Neighbour, RouteLookup


class Walk:
    """The way from a side to an address, as the kernel tells it step by step.

    ``first`` is how packets leave at its beginning, by the interface ``by`` if that is given, and
    ``port`` the one by which they should; ``found`` are the findings, ``sides`` and ``ports`` what
    it leads through.
    """

    def __init__(
        self, start: Side, source: str, target: str, by: str = "", port: Port | None = None
    ) -> None:
        self._world, self.port = start.world, port
        self.source, self.target = source, target
        self.sides = [start]
        self.found: list[Finding] = []
        self.wires: list[Wire] = []
        self.first = self._way(start, {"from": source, "oif": by})
        self.source = source or self.first.source
        # What names an interface is sent by it, without a route as well.
        get = ("ip", "route", "get", "fibmatch", target, *(("from", source) if source else ()))
        if by and start.answer((*get, "oif", by)).status:
            self.found += routing.no_route(start, target, port)
        else:
            self._leave(start, self.first)
        device = self.first.device or "lo"
        if port and port.side.netns and self.wires and device not in (port.link.name, "lo"):
            self.found.append(routing.leaves_by(port, device, target, self.source))
        self.ports = [each for wire in self.wires for each in wire.way]
        self.ports += port.chain if port else []

    def _way(self, side: Side, words: dict[str, str], entry: Port | None = None) -> RouteLookup:
        way = side.lookup(self.target, **words)
        if not way.device:
            self.found += _unroutable(side, entry, self, way.error)
        return way

    def _leave(self, side: Side, way: RouteLookup) -> None:
        if way.is_local or way.device not in side.ports:
            return
        out, hop = side.ports[way.device], way.gateway or self.target
        if out.is_loopback:
            self.found.append(routing.to_itself(side, self.target, self.source))
            return
        # Whatever the route, a host and what is on its master don't hear each other. In mode l2 one
        # that leads elsewhere may come back by the network.
        if apart := next(routing.kept_apart(side, self.target, out), None):
            out, hop = apart[1], self.target
        if any((each.out, each.hop) == (out, hop) for each in self.wires):
            self.found.append(routing.loop(self.target, side, self.sides[-2]))
            return
        if out.is_l3:  # which has no neighbours
            holders = self._world.holders(self.target, out)
            into = next((each for each in holders if each.is_beside(out)), None)
            self._cross(Wire(self.source, self.target, out, self.target, into))
            if into is None and out.below:
                self._leave_by(out.below, out.link.mode)
            return
        # Of several with the address, it is a matter of luck where it leads.
        if found := [*facts.several(out, hop)] or [*self._astray(out, hop)]:
            self.found += found
            return
        self.found += () if hop == self.target else self._astray(out, self.target)
        into = next(iter(self._world.holders(hop, out)), None)
        if into and (into.is_loopback or into.link.kind == "dummy"):  # others answer for it
            there, own = (into, *into.side.ports.values()), None if into.is_loopback else into
            others = (each for each in there if own is None or not each.link.is_ipvlan)
            into = next((each for each in others if each in out.joined), own)
        shown = side.answer(commands.neighbour_show(way.device, hop)).stdout
        known = next(iter(queries.neighbours(shown)), Neighbour())
        if into and known.mac and into not in out.joined:  # another may answer for it (proxy ARP)
            near = [each for each in out.joined if each is not out and each.link.mac == known.mac]
            into = next((each for each in near if each.side is into.side), (*near, into)[0])
        self._cross(Wire(self.source, self.target, out, hop, into, known))

    def _astray(self, out: Port, address: str) -> Iterator[Finding]:
        """Yield that packets leave by ``out``, but an address is on another one's network."""
        ours = out.joined.keys() & self._world.holders(address, out)
        # In mode l3 they leave by their own master only.
        if ours or any(each.out.below is out for each in self.wires):
            return
        for port in out.side.ports.values():
            if is_near(address, port.usual) and "dev" in routing.towards(port, address):
                found = routing.leaves_by(port, out.link.name, address, self.source)
                yield found._replace(subject="detour")

    def _leave_by(self, master: Port, mode: str) -> None:
        """Follow the routes of the host that lead by the master: others are not used."""
        side, name = master.side, master.link.name
        self.sides.append(side)
        usual = self._way(side, {})
        if usual.device not in ("", name, "lo"):
            text = f"{side} has no route to {self.target} by {name}, but by {usual.device}"
            add = side.shell("ip", "route", "add", self.target, "dev", name)
            advice = f"in mode {mode} packets leave by their own master only: use one master for "
            advice += f"both, or a router on its network: {add} via GATEWAY"
            self.found.append(Finding(PROBLEM, "route", text, advice))
        # Its rules about the source apply, but ip route get takes no source that is not its own.
        self.found += routing.thrown_away(side, self.source, self.target)
        self._leave(side, self._way(side, {"oif": name}))

    def _cross(self, wire: Wire) -> None:
        self.wires.append(wire)
        # Of a network that it should not be looked for on, it does not matter what is down.
        is_astray = self.port and self.port.side is wire.out.side and self.port is not wire.out
        if not (is_astray and wire.into and wire.into not in wire.out.joined):
            self.found += facts.states(wire.way)
        for check in STEPS:
            self.found += check(wire)
        if wire.into is None or any(each.subject == "host" for each in self.found):
            return
        entry = wire.into
        self.sides.append(entry.side)
        # What comes to a master for one of its interfaces goes there, past the host's routes.
        for each in self._world.holders(self.target):
            if each.link.is_ipvlan and each.below is entry:
                self.sides.append(each.side)
                self.found += facts.states(each.chain)
                entry = each
        below = entry.below if entry.link.is_ipvlan else None
        is_apart = below is not None and below.side is not entry.side and below is not wire.out
        if is_apart and not entry.has(self.target):
            self.found.append(_undelivered(entry, self.target))
            return
        way = self._way(entry.side, {"from": self.source, "iif": entry.link.name}, entry)
        if way.device and not way.is_local:
            self.found += routing.forwarding(entry, self.target)
            self._leave(entry.side, way)


def _is_strict(entry: Port, source: str, answer: str) -> bool:
    """Whether rp_filter drops what comes in, which Linux 6.13 and newer don't say any more."""
    if "Invalid argument" not in answer or ":" in source:
        return "cross-device" in answer
    is_elsewhere = entry.side.lookup(source).device not in (entry.link.name, "lo")
    return is_elsewhere and _rp_filter(entry) == 1


def _rp_filter(entry: Port) -> int:
    """Return how strict it is with the sources of what comes in by IPv4: 0 is not at all."""
    keys = (commands.RP_FILTER.format(each) for each in ("all", entry.link.name))
    return max(entry.side.sysctl(key) for key in keys)


def _undelivered(port: Port, target: str) -> Finding:
    """Return that packets do not come in by an ipvlan interface without their address."""
    text = f"ipvlan hands {port} only packets for its own addresses, and {target} is none"
    advice = "use macvlan for a container that routes"
    if any(target in each.plain for each in port.side.ports.values()):
        add = port.side.shell("ip", "address", "add", target, "dev", port.link.name)
        advice = f"give it that one: {add}"
    return Finding(PROBLEM, "delivery", text, advice)


def short_lived(walk: Walk) -> Iterator[Finding]:
    """Yield that packets live too short to go the whole way."""
    start, of_link = walk.sides[0], f"net/ipv6/conf/{walk.first.device}/hop_limit"
    key = of_link if ":" in walk.target else "net/ipv4/ip_default_ttl"
    if 0 < (hops := start.sysctl(key)) < len(walk.wires):
        text = f"packets of {start} end after {hops} hops ({key}), before {walk.target}"
        yield Finding(PROBLEM, "ttl", text, f"let them live longer: {start.write(key, 64)}")


def wrong_source(there: Walk, back: Sequence[Walk]) -> Iterator[Finding]:
    """Yield that a container's route names a source to which no answer finds the way."""
    if not there.wires:
        return
    out, hop = there.wires[0].out, there.wires[0].hop
    source, target, side = there.source, there.target, out.side
    near = [each for each in out.usual if is_near(hop, [each])]
    better = (*of_family(target, near), *of_family(target, out.usual), source)[0]
    route = f"{routing.route_by(side, out.link.name, target)} "
    of_back = (each.subject for walk in back for each in walk.found)
    is_lost = (out.link.is_ipvlan and not out.has(source)) or "route" in of_back
    if side.netns and is_lost and better != source and f" src {source} " in route:
        text = f"{side} sends to {target} from {source}, as its route says: {route.strip()}"
        other = route.replace(f" src {source} ", f" src {better} ").split()
        advice = f"correct the route: {side.shell('ip', 'route', 'replace', *other)}"
        yield Finding(PROBLEM, "source", text, advice)


def _unroutable(side: Side, entry: Port | None, walk: Walk, answer: str) -> Iterator[Finding]:
    """Yield why a side does not know where to send packets that it has, or gets by ``entry``."""
    target = walk.target
    thrown = next(routing.thrown_away(side, walk.source, target, answer), None)
    # Any rp_filter drops what comes from an address to which there is no route at all.
    is_checked = entry and walk.source and (":" in walk.source or _rp_filter(entry))
    is_known = not (entry and is_checked) or bool(side.lookup(walk.source, oif=entry.by).device)
    if entry and is_known and _is_strict(entry, walk.source, answer):
        key = commands.RP_FILTER.format(entry.link.name)
        other = side.lookup(walk.source).device
        text = f"{side} drops what comes from {walk.source} by {entry.link.name}, since it would "
        text += f"answer by {other or 'another interface'} ({key}, or that of all, is 1)"
        advice = f"correct its route to {walk.source}, or be less strict: {side.write(key, 2)}"
        yield Finding(PROBLEM, "rp_filter", text, advice)
    elif thrown:
        yield thrown
    elif not is_known:
        yield from routing.no_route(side, walk.source, entry)
    elif entry and side is walk.sides[0]:
        yield routing.loop(target, walk.sides[-2], side)
    elif entry and any(walk.source in port.plain for port in side.ports.values()):
        yield facts.duplicate(
            f"{walk.source} is also an address of {side}, which therefore drops it"
        )
    elif entry and (found := [*routing.forwarding(entry, target)]):
        onwards = side.lookup(target)
        before, hop = walk.sides[-2], onwards.gateway
        yield from [routing.loop(target, before, side)] if before.has(hop) else found
    elif own := next(routing.kept_apart(side, target), None):
        yield from steps.host_and_own(Wire(walk.source, target, own[1], target, own[0]))
    else:
        yield from routing.no_route(side, target, entry or walk.port)
