"""Facts: what both ends, the host and the way between show.

A fact's subject is its kind, which has a rank (weights.py). PROBLEM means that it would explain
a silence; whether there is one is found out by asking.
"""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from itertools import chain
from typing import Any, NamedTuple

from cni_ipvlan.cli.connectivity.world import Port, Side, is_near, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.queries import Neighbour, RouteLookup
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6

L3 = ("l3", "l3s")
_KEPT_APART = (*queries.IPVLAN_KINDS, "macvlan", "macvtap")  # from the host on their master
_THROWN_AWAY = {  # types of routes and rules, by the answer of ip route get
    "Invalid argument": ("blackhole",),
    "No route to host": ("unreachable",),
    "Network is unreachable": ("unreachable", "throw"),  # the first is a rule's
    "Permission denied": ("prohibit",),
}
_OF_PORTS = {  # what lets all pass a bridge's port, as bridge(8) takes it, and who says otherwise
    "state": ("forwarding", "3", "bridge"),
    "locked": (False, "off", "bridge"),
    **dict.fromkeys(
        ("learning", "flood", "bcast_flood", "mcast_flood"), (True, "on", "bridge flag")
    ),
}
_NOT_OF_ECHOES = {"fwmark", "tos", "sport", "sport_start", "dport", "dport_start"}  # in a rule
_CONFLICT = "give one of them another address; no two networks or nodes may hand out one range"


def duplicate(text: str) -> Finding:
    """Return that an address is there twice."""
    return Finding(PROBLEM, "duplicate", text, _CONFLICT)


def _link(port: Port) -> Iterator[Finding]:
    link, master, record = port.link, port.below, port.record
    kind = f"mode {link.mode} {link.flag}" if link.is_ipvlan else f"a {link.kind or 'device'}"
    yield Finding(OK, "link", f"{_state(port)}, {kind}")
    if master:
        text = f"{_state(master)}, {master.link.mac}"
        is_narrow = link.mtu > master.link.mtu
        advice = "larger packets are lost: set the option mtu" if is_narrow else ""
        yield Finding(WARNING if is_narrow else OK, "master", text, advice)
    elif link.is_ipvlan:
        text = f"the master of {port} is not in this namespace"
        yield Finding(WARNING, "master", text, "run this where it is: on the host")
    yield from states(port.outwards)
    if record and record.is_complete and not record.has_mode_of(link):
        text = f"{port} was attached in mode {record.mode} {record.flag}; another program has "
        text += f"changed the mode of all on {master or 'its master'} to {link.mode} {link.flag}"
        back = port.set_link("type", link.kind, "mode", record.mode, record.flag)
        yield Finding(PROBLEM, "mode", text, f"if nothing needs that: {back}")


def _state(port: Port) -> str:
    return f"{port} is {'up' if port.link.is_up else 'down'}, MTU {port.link.mtu}"


def _addresses(port: Port) -> Iterator[Finding]:
    if not port.usual and not any(each.is_duplicate for each in port.link.addresses):
        text, advice = f"{port} has no address", "ADD gives it one: ipvlan check compares"
        why, cure = against_ipv6(port)
        if why:
            text, advice = f"{text}, and {why}", f"{advice}; for IPv6, before that: {cure}"
        yield Finding(PROBLEM, "address", text, advice)
    for each in port.link.addresses:
        if each.is_duplicate:
            text = f"another host on the network has {each.address}, too (IPv6 duplicate detection)"
            yield duplicate(text)
        elif each.address in port.usual and each.is_tentative:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(PROBLEM, "tentative", text, "wait; it needs the master's carrier")
        elif each.address in port.usual:
            yield Finding(OK, "address", f"{port} has {each.address}")


def against_ipv6(port: Port) -> tuple[str, str]:
    """Return why an interface can have no IPv6 address, and the command that lets it."""
    key = f"net/ipv6/conf/{port.link.name}/disable_ipv6"
    if port.side.sysctl(key):
        return f"can have no IPv6 address ({key} is 1)", write(port.side, key, 0)
    if port.link.mtu < LEAST_MTU_OF_IPV6:
        cure = port.set_link("mtu", str(LEAST_MTU_OF_IPV6))
        return f"can have no IPv6 address (its MTU is {port.link.mtu})", cure
    return "", ""


def _duplicates(port: Port) -> Iterator[Finding]:
    """Yield who else has an address; other hosts are asked from the master, for a second."""
    world, asker = port.side.world, asking(port)
    for address in port.plain:
        for other in world.holders(address):
            # Who is on the network answers for the addresses of other interfaces, too.
            beside = (each for each in other.side.ports.values() if not each.link.is_ipvlan)
            is_near = any(each in port.joined for each in (other, *beside))
            if other is not port and not other.is_loopback and is_near:
                yield duplicate(f"{address} is also an address of {other.described}")
    asked = of_family("0.0.0.0", port.usual) if asker.link.is_up else []
    argvs = (commands.arping_duplicate(each, asker.link.name) for each in asked)
    answers = world.ask(*((asker.side, argv) for argv in argvs))
    for address, done in zip(asked, answers, strict=True):
        mac = queries.answering_mac(done.stdout).lower()
        if not done.was_run:
            text = f"arping is missing, so other hosts were not asked for {address}"
            yield Finding(WARNING, "not looked", text, "install it: apt install iputils-arping")
        elif done.status == commands.DUPLICATE_ANSWERED and mac != port.link.mac:
            yield duplicate(f"another host on the network has {address}, too: {mac}")
        elif done.status == 0:
            yield Finding(OK, "duplicate", f"no other host answers for {address}")


# What an end shows.
ENDS = (_link, _addresses, _duplicates)


def several(out: Port, hop: str) -> Iterator[Finding]:
    """Yield that several on the network of ``out`` have an address: any of them may answer."""
    near = [each for each in out.side.world.holders(hop, out) if each in out.joined]
    found = {each.side: each.described for each in near if each.link.is_up}
    if len(found) > 1:
        yield duplicate(f"{hop} is an address of {' and of '.join(found.values())}")


def asking(port: Port) -> Port:
    """Return the interface from which ARP is asked: an ipvlan loses answers, so its master."""
    return (port.below if port.link.is_ipvlan else None) or port


def states(way: Sequence[Port]) -> Iterator[Finding]:
    """Yield what is down or without carrier, of interfaces in the order in which packets pass."""
    down = [each for each in way if not each.link.is_up]
    for each in sorted(way, key=lambda each: len(each.chain)):  # none comes up before its lower one
        ports = (port for port in each.side.ports.values() if port.upper is each)
        if each in down:
            yield Finding(PROBLEM, "down", f"{each} is down", f"bring it up: {each.set_link('up')}")
        elif each.link.kind in ("bridge", "bond") and not any(ports):
            add = each.side.shell("ip", "link", "set", "dev", "PORT", "master", each.link.name)
            yield Finding(PROBLEM, "down", f"{each} has no ports", f"give it one: {add}")
    bare = [each for each in way if not each.link.has_carrier]
    if bare and not down:
        text = f"{bare[-1]} is without carrier"
        yield Finding(PROBLEM, "carrier", text, "check its cable, or its switch port")


class Wire(NamedTuple):
    """A step of a way: packets to ``hop`` leave by ``out``; ``into`` has that address, if seen.

    ``known`` is what ``out`` knows of it as a neighbour.
    """

    walk: "Walk"
    out: Port
    hop: str
    into: Port | None
    known: Neighbour = Neighbour()

    @property
    def tags(self) -> dict[Port, tuple[int, ...]]:
        """The interfaces that it leads through and the VLAN tags there, if nothing is missing."""
        return self.out.joined.get(self.into, {}) if self.into else {}

    @property
    def way(self) -> list[Port]:
        """The interfaces that it leads through, as far as they can be seen."""
        ends = (each for each in (self.out, self.into) if each)
        return [*self.tags] or [each for end in ends for each in end.outwards]


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
            self.found += _no_route(start, target, port)
        else:
            self._leave(start, self.first)
        device = self.first.device or "lo"
        if port and port.side.netns and self.wires and device not in (port.link.name, "lo"):
            self.found.append(leaves_by(port, device, target, self.source))
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
            self.found.append(_to_itself(side, self.target, self.source))
            return
        # Whatever the route, a host and what is on its master don't hear each other. In mode l2 one
        # that leads elsewhere may come back by the network.
        if apart := next(_own(side, self.target, out), None):
            out, hop = apart[1], self.target
        if any((each.out, each.hop) == (out, hop) for each in self.wires):
            self.found.append(_round(self.target, side, self.sides[-2]))
            return
        if out.link.mode in L3:  # which has no neighbours
            holders = self._world.holders(self.target, out)
            into = next((each for each in holders if each.is_beside(out)), None)
            self._cross(Wire(self, out, self.target, into))
            if into is None and out.below:
                self._leave_by(out.below, out.link.mode)
            return
        # Of several with the address, it is a matter of luck where it leads.
        if found := [*several(out, hop)] or [*self._astray(out, hop)]:
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
        self._cross(Wire(self, out, hop, into, known))

    def _astray(self, out: Port, address: str) -> Iterator[Finding]:
        """Yield that packets leave by ``out``, but an address is on another one's network."""
        ours = out.joined.keys() & self._world.holders(address, out)
        # In mode l3 they leave by their own master only.
        if ours or any(each.out.below is out for each in self.wires):
            return
        for port in out.side.ports.values():
            if is_near(address, port.usual) and "dev" in _towards(port, address):
                found = leaves_by(port, out.link.name, address, self.source)
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
        for kind in dict.fromkeys(chain.from_iterable(_THROWN_AWAY.values())):
            self.found += _thrown_away(side, self, kind, is_from_all=False)
        self._leave(side, self._way(side, {"oif": name}))

    def _cross(self, wire: Wire) -> None:
        self.wires.append(wire)
        # Of a network that it should not be looked for on, it does not matter what is down.
        is_astray = self.port and self.port.side is wire.out.side and self.port is not wire.out
        if not (is_astray and wire.into and wire.into not in wire.out.joined):
            self.found += states(wire.way)
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
                self.found += states(each.chain)
                entry = each
        below = entry.below if entry.link.is_ipvlan else None
        is_apart = below is not None and below.side is not entry.side and below is not wire.out
        if is_apart and not entry.has(self.target):
            self.found.append(_undelivered(entry, self.target))
            return
        way = self._way(entry.side, {"from": self.source, "iif": entry.link.name}, entry)
        if way.device and not way.is_local:
            self.found += _forwarding(entry, self.target)
            self._leave(entry.side, way)


def leaves_by(port: Port, device: str, target: str, source: str = "") -> Finding:
    """Return that packets leave by another interface than they should."""
    side, route = port.side, _route(port.side, device, target, source)
    text = f"packets to {target} leave {side} by {device}, not by {port.link.name}"
    text += f"; the route: {route}"
    advice = f"a better route or a rule says so: {side.shell('ip', 'route', 'get', target)}"
    if (to := _towards(port, target)) and not {"table", "known"} & {*route.split()}:
        better = side.shell("ip", "route", "replace", target, *to)
        advice = f"correct that, or have them leave by {port.link.name}: {better}"
    return Finding(PROBLEM, "leaves by", text, advice)


def _towards(out: Port, target: str) -> tuple[str, ...]:
    """Return how a route leads to an address by an interface: through a router that is there."""
    side, world = out.side, out.side.world
    holder = next(iter(world.holders(target, out)), None)
    if holder and holder in out.joined:
        via = _through(side, holder, target)
        is_own = _is_own(holder, out)
        return () if is_own else ("via", via) if via else ("dev", out.link.name)
    key = "net/ipv6/conf/all/forwarding" if ":" in target else "net/ipv4/ip_forward"
    others = (each for each in out.joined if each.side is not side and not each.link.is_ipvlan)
    for each in others:
        near = [own for own in of_family(target, each.usual) if is_near(own, out.usual)]
        is_router = near and each.side.sysctl(key)
        # Which would not send it back.
        if is_router and each.side.lookup(target).device not in ("", each.link.name):
            return ("via", near[0])
    return ()


def _route(side: Side, device: str, target: str, source: str = "") -> str:
    """Return the route by which packets leave a side, as ip prints it."""
    words = (target, "oif", device, *(("from", source) if side.has(source) else ()))
    shown = side.answer(("ip", "route", "get", "fibmatch", *words)).stdout.decode()
    return " ".join(shown.split()) or "not known"


def _to_itself(side: Side, target: str, source: str) -> Finding:
    """Return that a side keeps packets for an address that it does not have."""
    route = _route(side, "lo", target, source)
    text = f"{side} sends what goes to {target} to itself, by the route {route}"
    remove = side.shell("ip", "route", "delete", *route.split())
    return Finding(PROBLEM, "blackhole", text, f"if it is not meant so: {remove}")


def _round(target: str, one: Side, other: Side) -> Finding:
    """Return that a side sends packets to another one, which sends them back."""
    text = f"packets to {target} go round through {one} and {other}"
    show = one.shell("ip", "route", "get", target)
    return Finding(PROBLEM, "route", text, f"correct the routes there: {show}")


def short_lived(walk: Walk) -> Iterator[Finding]:
    """Yield that packets live too short to go the whole way."""
    start, of_link = walk.sides[0], f"net/ipv6/conf/{walk.first.device}/hop_limit"
    key = of_link if ":" in walk.target else "net/ipv4/ip_default_ttl"
    if 0 < (hops := start.sysctl(key)) < len(walk.wires):
        text = f"packets of {start} end after {hops} hops ({key}), before {walk.target}"
        yield Finding(PROBLEM, "ttl", text, f"let them live longer: {write(start, key, 64)}")


def wrong_source(there: Walk, back: Sequence[Walk]) -> Iterator[Finding]:
    """Yield that a container's route names a source to which no answer finds the way."""
    if not there.wires:
        return
    out, hop = there.wires[0].out, there.wires[0].hop
    source, target, side = there.source, there.target, out.side
    near = [each for each in out.usual if is_near(hop, [each])]
    better = (*of_family(target, near), *of_family(target, out.usual), source)[0]
    route = f"{_route(side, out.link.name, target)} "
    of_back = (each.subject for walk in back for each in walk.found)
    is_lost = (out.link.is_ipvlan and not out.has(source)) or "route" in of_back
    if side.netns and is_lost and better != source and f" src {source} " in route:
        text = f"{side} sends to {target} from {source}, as its route says: {route.strip()}"
        other = route.replace(f" src {source} ", f" src {better} ").split()
        advice = f"correct the route: {side.shell('ip', 'route', 'replace', *other)}"
        yield Finding(PROBLEM, "source", text, advice)


def _undelivered(port: Port, target: str) -> Finding:
    """Return that packets do not come in by an ipvlan interface without their address."""
    text = f"ipvlan hands {port} only packets for its own addresses, and {target} is none"
    advice = "use macvlan for a container that routes"
    if any(target in each.plain for each in port.side.ports.values()):
        add = port.side.shell("ip", "address", "add", target, "dev", port.link.name)
        advice = f"give it that one: {add}"
    return Finding(PROBLEM, "delivery", text, advice)


def _flags(wire: Wire) -> Iterator[Finding]:
    """Yield that a flag, or a mode of macvlan, keeps two interfaces of one master apart."""
    out, into, master = wire.out, wire.into, wire.out.below
    if into is None or master is None or into.below is not master:
        return
    for each in (out, into):
        if each.link.kind == "macvlan" and (mode := each.details.get("mode")) != "bridge":
            text = f"{each} is a macvlan in mode {mode}, which keeps it apart from others on "
            yield Finding(PROBLEM, "flag", f"{text}{master}", "use mode bridge for both")
    if out.link.flag == "private":
        text = f"both are on {master.link.name}, and flag private keeps its interfaces apart"
        advice = "use flag bridge for the networks of that master, if they shall reach each other"
        yield Finding(PROBLEM, "flag", text, advice)
    switch = master.peer
    if out.link.flag == "vepa" and not (switch and switch.details.get("hairpin")):
        text = f"flag vepa sends their packets to the switch of {master.link.name}, which does not "
        advice = "turn on reflective relay (hairpin) at the switch's port, or use flag bridge"
        if switch and switch.upper:
            advice = f"{advice}: {switch.set_port('hairpin', 'on')}"
        yield Finding(PROBLEM, "flag", text + "send them back", advice)


def _bridges(wire: Wire) -> Iterator[Finding]:
    """Yield what a bridge on the way does to frames."""
    for place, bridge in enumerate(wire.way):
        if bridge.link.kind == "bridge":
            near = wire.way[max(place - 1, 0) : place], wire.way[place + 1 : place + 2]
            one, other = (next((p for p in of if p.upper is bridge), bridge) for of in near)
            yield from _kept_back(bridge, [each for each in (one, other) if each is not bridge])
            if bridge.members is not None and wire.tags:
                yield from _filtered(bridge, one, other, wire.tags)


def _kept_back(bridge: Port, ports: Sequence[Port]) -> Iterator[Finding]:
    """Yield what its ports are set to that keeps frames back."""
    for port in ports:
        for name, (good, word, subject) in _OF_PORTS.items():
            if (found := port.details.get(name, good)) != good:
                said = {True: "on", False: "off"}.get(found, found)
                text = f"{port}, a port of {bridge.link.name}, has {name} {said}"
                advice = f"set it: {port.set_port(name, word)}"
                if name == "state" and bridge.details.get("stp_state"):
                    stop = bridge.set_link("type", "bridge", "stp_state", "0")
                    advice = f"wait, or look for a loop; without loops, STP may be off: {stop}"
                yield Finding(PROBLEM, subject, text, advice)
    if ports[1:] and all(each.details.get("isolated") for each in ports):
        text = f"{ports[0]} and {ports[1]} are isolated ports of {bridge.link.name}"
        yield Finding(PROBLEM, "bridge", text, f"let one: {ports[0].set_port('isolated', 'off')}")


def _filtered(
    bridge: Port, one: Port, other: Port, tags: dict[Port, tuple[int, ...]]
) -> Iterator[Finding]:
    """Yield that it filters VLANs, and does not let frames from one port (or itself) to another."""
    own = (vlan for vlan, flags in (one.members or {}).items() if "PVID" in flags)
    vlan = (*tags[bridge][-1:], *own, 1)[0]
    for port, flag in ((one, "PVID"), (other, "Egress Untagged")):
        flags, is_tagged = (port.members or {}).get(vlan), bool(tags[port])
        # With its tag, a frame may also come in by a port that gives others this tag.
        if flags is None or ((flag in flags) == is_tagged and not (is_tagged and port is one)):
            text = f"{bridge} does not let frames of VLAN {vlan} pass {port} "
            words = ("vid", str(vlan), *(() if is_tagged else ("pvid", "untagged")))
            words += ("self",) if port is bridge else ()
            add = port.side.shell("bridge", "vlan", "add", "dev", port.link.name, *words)
            text += "with its tag" if is_tagged else "untagged"
            yield Finding(PROBLEM, "vlan", text, f"let them: {add}")


def _host_and_own(wire: Wire) -> Iterator[Finding]:
    """Yield why a host and an interface on its own master don't reach each other."""
    out, into, hop = wire.out, wire.into, wire.hop
    is_from_host = into is not None and into.below is out
    master, port = (out, into) if is_from_host else (into, out)
    if not (master and port and _is_own(port, master)):
        return
    # It hears what is sent to its own MAC address, which the container has to know.
    if not is_from_host and (wire.known.mac == master.link.mac or port.link.mode in L3):
        return
    own = next((each for each in master.side.ports.values() if each.is_beside(port)), None)
    if own is None:
        text = f"the kernel lets no packets pass between a host and its own {port.link.kind} "
        yield Finding(PROBLEM, "host", f"{text}interfaces", _remedy(port, master))
    elif is_from_host:
        yield from states(own.chain)
        add = ("ip", "route", "replace", hop, "dev", own.link.name, "src", wire.walk.source)
        text = f"the host has {own.link.name} beside {port}, but does not send to {hop} by it"
        yield Finding(PROBLEM, "host access", text, f"add the route: {master.side.shell(*add)}")
    else:
        restore = port.side.shell(*commands.neighbour_replace(hop, master.link.mac, port.link.name))
        text = f"{port} has no permanent neighbour entry for {hop}, the host"
        yield Finding(PROBLEM, "host access", text, f"hostAccess makes it: {restore}")


def _own(side: Side, address: str, out: Port | None = None) -> Iterator[tuple[Port, Port]]:
    """Yield who has an address on a master of a side, and that; not who gets what ``out`` sends."""
    for port in side.world.holders(address):
        if (master := port.below) and master.side is side and _is_own(port, master):
            is_l3 = port.link.mode in L3 and not (out and port.is_beside(out))
            if out in (None, master) or is_l3:
                yield port, master


def _is_own(port: Port, master: Port) -> bool:
    return port.below is master and port.link.kind in _KEPT_APART


def _remedy(port: Port, master: Port) -> str:
    """Return what lets a host and its own interface reach each other.

    The commands do what hostAccess does, but under another name for the host's interface:
    hostAccess would take away what it has not made.
    """
    link, shell, name = port.link, master.side.shell, f"ipvl{master.link.ifindex}"
    if not link.is_ipvlan:
        return "use another interface of the host, or one of the same kind on that master"
    if link.flag != "bridge":
        return f"use flag bridge; with {link.flag}, hostAccess would be of no help"
    lines = [
        "set hostAccess in the network, for new containers; for this one:",
        shell(*commands.link_add_ipvlan(master.link.name, name, link.mode, link.flag, 0)),
        shell(*commands.link_set(name, "up")),
        shell(*commands.link_set(name, "arp", "off")),
    ]
    for address in port.plain:
        source = next(iter(of_family(address, master.usual)), "")
        words = ("src", source) if source else ()
        lines.append(shell("ip", "route", "replace", address, "dev", name, *words))
        if link.mode == "l2" and source:
            learn = commands.neighbour_replace(source, master.link.mac, link.name)
            lines.append(port.side.shell(*learn))
    return "\n".join(lines)


def _nobody_asked(wire: Wire) -> Iterator[Finding]:
    """Yield that an interface in mode l3 is looked for as a neighbour."""
    via = _through(wire.out.side, wire.into, wire.hop)
    if wire.into and via:
        text = f"in mode {wire.into.link.mode} nobody answers ARP for {wire.hop}, and "
        text += f"{wire.out.side} has no route to it through the host"
        add = wire.out.side.shell("ip", "route", "add", wire.hop, "via", via)
        yield Finding(PROBLEM, "return", text, f"add it there: {add}")


def _through(side: Side, holder: Port | None, address: str) -> str:
    """Return the host's address through which an interface in mode l3 is reached, if by that."""
    master = holder.below if holder and holder.link.mode in L3 else None
    if not master or master.side is side or any(p.below is master for p in side.ports.values()):
        return ""
    return (*of_family(address, master.usual), "ADDRESS-OF-THE-HOST")[0]


def _masters(wire: Wire) -> Iterator[Finding]:
    """Yield that nothing connects the two: subnets, VLANs or masters differ."""
    if wire.into is None or wire.into in wire.out.joined:
        return
    out, into, hop = wire.out, wire.into, wire.hop
    wide = [each for each in out.usual if is_near(hop, [each])]
    there = [each for each in into.usual if is_near(hop, [each])]
    there = [each for each in there if not each.endswith(("/32", "/128"))]  # a point's
    if wide and there and not any(is_near(each, there) for each in of_family(hop, wide)):
        text = f"{out} has {wide[0]}, so {hop} seems to be near, but {into} is elsewhere"
        yield Finding(PROBLEM, "masters", text, "correct the prefix length of its address")
    elif out.vlans != into.vlans:
        text = f"{out} is in {out.vlans}, {into} is in {into.vlans}"
        yield Finding(PROBLEM, "vlan", text, "use the same option vlan, or the same VLAN, for both")
    elif not out.link.is_ethernet or "remote" in out.details:  # a tunnel: it can only be asked
        done = out.side.answer(commands.ping(hop, out.link.name))
        if done.was_run and done.status:
            text = f"{out}, a tunnel to {into}, lets nothing pass"
            show = ("ip", "-d", "link", "show")
            ends = (each.side.shell(*show, each.link.name) for each in (out, into))
            yield Finding(PROBLEM, "carrier", text, f"compare its ends: {'; '.join(ends)}")
    else:
        at = into.chain[-1].peer or into.chain[-1]
        text = f"{hop} is looked for on {out.chain[-1]}, but {into} is on {at}"
        yield Finding(PROBLEM, "masters", text, "use one master, connect the two, or use a router")


def _macs(wire: Wire) -> Iterator[Finding]:
    """Yield that two on a network have the same MAC address, which no switch can tell apart."""
    bottom, mac = wire.out.chain[-1], wire.out.link.mac
    if wire.into and wire.into.link.mac == mac and bottom not in wire.into.chain[-1:]:
        text = f"{wire.out} and {wire.into} have the same MAC address, {mac}"
        change = wire.into.chain[-1].set_link("address", "MAC")
        yield Finding(PROBLEM, "duplicate", text, f"give one of them another: {change}")


def _neighbour(wire: Wire) -> Iterator[Finding]:
    """Yield that a neighbour is unknown, or another than is there."""
    mac, into, link = wire.known.mac, wire.into, wire.out.link
    if not link.has_arp:  # as in mode l3, of a dummy, and beside a host's containers
        is_beside = into is not None and wire.out.is_beside(into)
        may_ask = link.is_ethernet and link.kind != "dummy" and link.mode not in L3
        if may_ask and not is_beside:
            text = f"{wire.out} asks for no neighbour"
            yield Finding(PROBLEM, "neighbour", text, f"let it: {wire.out.set_link('arp', 'on')}")
    elif not mac:
        if wire.known.state:  # else it was not asked
            yield unanswered(wire)
    elif into and mac != into.link.mac and wire.out.below is not into:
        yield mistaken(wire, f"{into} has {into.link.mac}")


def mistaken(wire: Wire, truth: str) -> Finding:
    """Return that a neighbour's MAC address is wrong."""
    text = f"{wire.out} takes {wire.known.mac} for {wire.hop} ({wire.known.state.lower()}), but "
    forget = wire.out.side.shell("ip", "neighbour", "delete", wire.hop, "dev", wire.out.link.name)
    return Finding(PROBLEM, "neighbour", text + truth, f"let it ask again: {forget}")


def unanswered(wire: Wire) -> Finding:
    """Return that nobody answers for an address on a network."""
    into, out, side = wire.into, wire.out, wire.out.side
    if into and into in out.joined:
        return _silent(out, into, wire.hop)
    target, master = wire.walk.target, asking(out)
    what = wire.hop if wire.hop == target else f"{wire.hop}, the gateway to {target},"
    text = f"nobody answers for {what} on the network of {master}"
    text += f" ({out.vlans})" if any(each.link.vlan for each in out.chain) else ""
    advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
    like = [each for each in master.usual if (":" in each) == (":" in wire.hop)]
    if like and wire.hop[:4] != "fe80" and not is_near(wire.hop, like):
        text += f", which has {_subnets(like)}"
        advice = f"correct the route or a prefix length, or else {advice}"
    if (bottom := out.chain[-1]).link.kind == "dummy":
        text, advice = f"{text}; {bottom} is a dummy, which leads nowhere", "use another master"
    if not into and (lessee := side.world.lessee(wire.hop)):
        text += f"; host-local has leased it to the container {lessee}, which lacks it"
        advice = "is it gone? ipvlan show lists what is left of it"
    route = _route(side, out.link.name, target, wire.walk.source)
    gateway = route.partition(" via ")[2].partition(" ")[0]
    if side.has(gateway):
        advice = f"correct the gateway {gateway}: it is an address of {side} itself"
    elif gateway and (to := _towards(out, target))[:1] == ("via",):
        words = route.replace(f" via {gateway} ", f" via {to[1]} ").split()
        advice += f"; {to[1]} is there: {side.shell('ip', 'route', 'replace', *words)}"
    return Finding(PROBLEM, "unanswered", f"{text}; the route: {route}", advice)


def _silent(out: Port, into: Port, hop: str) -> Finding:
    """Return why an interface does not answer for an address on its network."""
    if into.is_beside(out) and not out.usual and (out.below or out).side is out.side:
        text = f"{out} asks for neighbours, who can't answer it without an address"
        advice = f"hostAccess has it not ask: {out.set_link('arp', 'off')}"
        return Finding(PROBLEM, "host access", text, advice)
    if not into.link.has_arp and into.link.mode not in L3:
        text = f"{into} answers no ARP or ND"
        return Finding(PROBLEM, "neighbour", text, f"let it: {into.set_link('arp', 'on')}")
    who = into if into.has(hop) else into.side
    text = f"{who} has {hop}, but does not answer ARP or ND"
    advice = "look at arp_ignore, arptables, bridge link, bridge vlan, bridge fdb"
    for name in ("all", into.link.name) if ":" not in hop else ():
        key = f"net/ipv4/conf/{name}/arp_ignore"
        if into.side.sysctl(key) > (who is into):  # 1 lets it answer for its own
            text, advice = f"{text} ({key})", f"let it: {write(into.side, key, 0)}"
    return Finding(PROBLEM, "unanswered", text, advice)


def _subnets(addresses: Sequence[str]) -> str:
    return ", ".join(str(ip_interface(each).network) for each in addresses)


# What may be wrong with a step of the way.
STEPS = (_flags, _bridges, _host_and_own, _nobody_asked, _masters, _macs, _neighbour)


def _unroutable(side: Side, entry: Port | None, walk: Walk, answer: str) -> Iterator[Finding]:
    """Yield why a side does not know where to send packets that it has, or gets by ``entry``."""
    target = walk.target
    kinds = (kind for words, kinds in _THROWN_AWAY.items() if words in answer for kind in kinds)
    thrown = [found for kind in kinds for found in _thrown_away(side, walk, kind)]
    # Any rp_filter drops what comes from an address to which there is no route at all.
    is_checked = entry and walk.source and (":" in walk.source or _rp_filter(entry))
    is_known = not (entry and is_checked) or bool(side.lookup(walk.source, oif=entry.by).device)
    if entry and is_known and _is_strict(entry, walk.source, answer):
        key = commands.RP_FILTER.format(entry.link.name)
        other = side.lookup(walk.source).device
        text = f"{side} drops what comes from {walk.source} by {entry.link.name}, since it would "
        text += f"answer by {other or 'another interface'} ({key}, or that of all, is 1)"
        advice = f"correct its route to {walk.source}, or be less strict: {write(side, key, 2)}"
        yield Finding(PROBLEM, "rp_filter", text, advice)
    elif thrown:
        yield thrown[0]
    elif not is_known:
        yield from _no_route(side, walk.source, entry)
    elif entry and side is walk.sides[0]:
        yield _round(target, walk.sides[-2], side)
    elif entry and any(walk.source in port.plain for port in side.ports.values()):
        yield duplicate(f"{walk.source} is also an address of {side}, which therefore drops it")
    elif entry and (found := [*_forwarding(entry, target)]):
        onwards = side.lookup(target)
        before, hop = walk.sides[-2], onwards.gateway
        yield from [_round(target, before, side)] if before.has(hop) else found
    elif own := next(_own(side, target), None):
        yield from _host_and_own(Wire(walk, own[1], target, own[0]))
    else:
        yield from _no_route(side, target, entry or walk.port)


def _no_route(side: Side, target: str, by: Port | None) -> Iterator[Finding]:
    """Yield that a side has no route to an address, which may be on the network of ``by``."""
    if by and ":" in target and not of_family(target, by.usual):
        why, cure = against_ipv6(by)
        if why:
            advice = f"let it: {cure}; then attach it again, for its addresses"
            yield Finding(PROBLEM, "address", f"{by} {why}", advice)
            return
    like = [each for each in side.usual if (":" in each) == (":" in target)]
    text = f"{side} has no route to {target}; its subnets: {_subnets(like) or 'none'}"
    out = next((each for each in (by.chain if by else ()) if each.side is side), None)
    for port in side.ports.values():
        if port is out or is_near(target, port.usual):
            yield from states(port.outwards)
            text += f"; {port} is in the VRF {port.link.master}" if port.by else ""
    ports = (each for each in side.ports.values() if each is not out and each.usual)
    ways = (_towards(each, target) for each in (*([out] if out else ()), *ports))
    to = next(filter(None, ways), ("via", "GATEWAY"))
    is_ours = side.netns and any(each.owner for each in side.ports.values())
    where = "to the routes of ipam, or a default route" if is_ours else "there"
    advice = f"add it {where}; for now: {side.shell('ip', 'route', 'add', target, *to)}"
    wider = [each for each in asking(by).usual if is_near(target, [each])] if by else []
    if not like and (by is None or by.side is side):  # else it need not have one: mode l3
        family = "global IPv6" if ":" in target else "IPv4"
        text = f"{side} has no {family} address, and no route to {target}"
        advice = f"give it one{', by addresses or ranges of ipam' if is_ours else ''}"
    elif by and not is_near(target, by.usual) and any(is_near(each, wider) for each in by.plain):
        advice = f"correct the prefix length of its address: {asking(by)} has {wider[0]}"
    if restore := _lacks_rule(side, target, "main", "32766"):
        text, advice = f"{text}; no rule leads to its table main", f"add one: {restore}"
    yield Finding(PROBLEM, "route", text, advice)


def _lacks_rule(side: Side, target: str, table: str, priority: str) -> str:
    """Return the command that adds the rule for a table of the kernel's, if there is none."""
    ip = ("ip", "-6" if ":" in target else "-4")
    tables = [each.get("table") for each in side.entries(*ip, "-j", "rule", "show")]
    add = side.shell(*ip, "rule", "add", "priority", priority, "lookup", table)
    return "" if not tables or table in tables else add


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


def _thrown_away(
    side: Side, walk: Walk, kind: str, *, is_from_all: bool = True
) -> Iterator[Finding]:
    """Yield the rule or route of a kind that throws packets away, the first one first.

    Without ``is_from_all``, only rules that name a source count.
    """
    ip = ("ip", "-6" if ":" in walk.target else "-4")
    text = f"{side} throws away what goes to {walk.target}: {kind}"
    routes = side.entries(*ip, "-j", "route", "show", "table", "all", "match", walk.target)
    for rule in side.entries(*ip, "-j", "rule", "show"):
        src, dst, priority = _prefix(rule, "src"), _prefix(rule, "dst"), str(rule["priority"])
        is_from = not walk.source or _contains(src, walk.source)
        is_to = _contains(dst, walk.target) and not _NOT_OF_ECHOES & rule.keys()
        is_to = is_to and not rule.get("uid_start")  # root asks
        if (is_from and is_to) == ("not" in rule) or (src == "all" and not is_from_all):
            continue
        named = f"by the rule {priority}: {'not ' if 'not' in rule else ''}from {src} to {dst}"
        if rule.get("action") == kind:
            remove = side.shell(*ip, "rule", "delete", "priority", priority)
            yield Finding(
                PROBLEM, "blackhole", f"{text} {named}", f"if it is not meant so: {remove}"
            )
        table = rule.get("table")
        found = [each for each in routes if each.get("table", "main") == table]
        for each in (each for each in found if each.get("type") == kind):
            if kind != "throw" or found[1:]:  # else its table has nothing else to keep them from
                at = ("table", table) if table != "main" else ()
                # One by a nexthop object has that kind from it.
                by = (each["dst"], "nhid", str(each["nhid"])) if "nhid" in each else ()
                remove = side.shell(*ip, "route", "delete", *(by or (kind, each["dst"])), *at)
                what = f"{text} {' '.join((each['dst'], *at))}" + (f" ({named})" if at else "")
                yield Finding(PROBLEM, "blackhole", what, f"if it is not meant so: {remove}")


def _prefix(rule: dict[str, Any], key: str) -> str:
    length = f"/{rule[f'{key}len']}" if f"{key}len" in rule else ""
    return f"{rule.get(key, 'all')}{length}"


def _contains(prefix: str, address: str) -> bool:
    return prefix in ("all", "default") or ip_address(address) in ip_network(prefix, strict=False)


def _forwarding(entry: Port, target: str) -> Iterator[Finding]:
    own = next((each for each in entry.side.ports.values() if each.has(target)), None)
    if own:
        text = f"{entry.side} has {target}, but takes it for another's: its table local lacks it"
        add = ("ip", "route", "add", "local", target, "dev", own.link.name, "table", "local")
        restore = _lacks_rule(entry.side, target, "local", "0") or entry.side.shell(*add)
        yield from states(own.chain)
        yield Finding(PROBLEM, "delivery", text, f"restore that: {restore}")
        return
    link = "all" if ":" in target else entry.link.name
    key = f"net/{'ipv6' if ':' in target else 'ipv4'}/conf/{link}/forwarding"
    if entry.side.sysctl(key) == 0:
        text = f"{entry.side} is the way to {target}, but does not forward packets ({key} is 0)"
        of_all = key if ":" in target else "net/ipv4/ip_forward"
        switch = key if entry.side.sysctl(of_all) else of_all
        yield Finding(PROBLEM, "forwarding", text, f"let it: {write(entry.side, switch, 1)}")


def write(side: Side, key: str, value: int) -> str:
    """Return the command that sets a kernel parameter of a side."""
    return side.shell("sh", "-c", f"echo {value} >/proc/sys/{key}")
