"""Facts: what both ends, the host and the way between show.

A fact's subject is its kind, which has a rank (weights.py). PROBLEM means that it would explain
a silence; whether there is one is found out by asking.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, NamedTuple

from cni_ipvlan.cli.connectivity.world import Port, Side, World, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, packets, queries
from cni_ipvlan.iproute.packets import NeighbourState, RouteLookup

_MOST_SIDES = 8
_THROWN_AWAY = {  # by the answer of ip route get: the type of the route
    "Invalid argument": "blackhole",
    "No route to host": "unreachable",
    "Permission denied": "prohibit",
}
L3 = ("l3", "l3s")
_UNKNOWN = NeighbourState("", "")
_REMOVE = "if it is not meant so"
_CONFLICT = "give one of them another address; no two networks may hand out the same range"


def _link(world: World, port: Port) -> Iterator[Finding]:
    link, master = port.link, world.master(port)
    kind = f"mode {link.mode} {link.flag}" if link.is_ipvlan else f"a {link.kind or 'device'}"
    yield Finding(OK, "link", f"{port} is {_state(port)}, MTU {link.mtu}, {kind}")
    if master:
        text = f"{master} is {_state(master)}, MTU {master.link.mtu}, {master.link.mac}"
        is_narrow = link.mtu > master.link.mtu
        advice = "larger packets are lost: set the option mtu" if is_narrow else ""
        yield Finding(WARNING if is_narrow else OK, "master", text, advice)
    elif link.is_ipvlan:
        text = f"the master of {port} is not in this namespace"
        yield Finding(WARNING, "master", text, "run this where it is: on the host")
    yield from states(world, port)
    record = world.record(port)
    if record and record.is_complete and not record.has_mode_of(link):
        text = f"{port} was attached in mode {record.mode} {record.flag}; another program has "
        text += f"changed the mode of all on {master or 'its master'} to {link.mode} {link.flag}"
        back = ("ip", "link", "set", "dev", link.name, "type", link.kind, "mode", record.mode)
        advice = f"if nothing needs that: {port.side.shell(*back, record.flag)}"
        yield Finding(PROBLEM, "mode", text, advice)


def _state(port: Port) -> str:
    return "up" if port.link.is_up else "down"


def _addresses(_: World, port: Port) -> Iterator[Finding]:
    if not port.usual:
        text = f"{port} has no address"
        yield Finding(PROBLEM, "address", text, "ADD gives it one: ipvlan check compares")
    for each in port.addresses:
        if each.is_duplicate:
            text = f"another host on the network has {each.address}, too (IPv6 duplicate detection)"
            yield Finding(PROBLEM, "duplicate", text, _CONFLICT)
        elif each.address in port.usual and each.is_tentative:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(PROBLEM, "tentative", text, "wait; it needs the master's carrier")
        elif each.address in port.usual:
            yield Finding(OK, "address", f"{port} has {each.address}")


def _duplicates(world: World, port: Port) -> Iterator[Finding]:
    """Yield who else has an address; other hosts are asked from the master, for a second."""
    for address in port.plain():
        for other in world.holders(address):
            if other is not port and not other.is_loopback:
                text = f"{address} is also an address of {world.described(other)}"
                yield Finding(PROBLEM, "duplicate", text, _CONFLICT)
    asker = asking(world, port)
    asked = of_family("0.0.0.0", port.usual) if asker.link.is_up else []
    argvs = (commands.arping_duplicate(each, asker.link.name) for each in asked)
    answers = world.ask(*((asker.side, argv) for argv in argvs))
    for address, done in zip(asked, answers, strict=True):
        mac = queries.answering_mac(done.stdout).lower()
        if not done.was_run:
            text = f"arping is missing, so other hosts were not asked for {address}"
            yield Finding(WARNING, "not looked", text, "install it: apt install iputils-arping")
        elif done.status == commands.DUPLICATE_ANSWERED and mac != port.link.mac:
            text = f"another host on the network has {address}, too: {mac}"
            yield Finding(PROBLEM, "duplicate", text, _CONFLICT)
        elif done.status == 0:
            yield Finding(OK, "duplicate", f"no other host answers for {address}")


# What an end shows.
ENDS = (_link, _addresses, _duplicates)


def asking(world: World, port: Port) -> Port:
    """Return the interface from which ARP is asked: an ipvlan loses answers, so its master."""
    return (world.master(port) if port.link.is_ipvlan else None) or port


def states(world: World, port: Port) -> Iterator[Finding]:
    """Yield what is down or without carrier, of an interface and those below it."""
    chain = world.chain(port)
    for each in chain:
        if not each.link.is_up:
            up = each.side.shell(*commands.link_set(each.link.name, "up"))
            yield Finding(PROBLEM, "down", f"{each} is down", f"bring it up: {up}")
    bare = [each for each in chain if each.link.is_up and not each.link.has_carrier]
    for each in bare[-1:]:
        text, peer = f"{each} is without carrier", world.peer(each)
        if peer and not peer.link.is_up:
            up = peer.side.shell(*commands.link_set(peer.link.name, "up"))
            text += f": its other end, {peer}, is down"
            yield Finding(PROBLEM, "down", text, f"bring that up: {up}")
        else:
            yield Finding(PROBLEM, "carrier", text, "check its cable, or its switch port")


class Wire(NamedTuple):
    """A step of the way: packets to ``hop`` leave by ``out``; ``into`` has that address, if seen.

    ``known`` is what ``out`` knows of it as a neighbour. They go from ``source`` to ``target``.
    """

    out: Port
    hop: str
    into: Port | None
    known: NeighbourState
    source: str
    target: str


class Walk:
    """The way from a side to an address, as the kernel tells it step by step.

    ``first`` is how packets leave at its beginning, by the interface ``by`` if that is given;
    ``found`` are the findings, ``sides`` what it leads through.
    """

    def __init__(self, world: World, start: Side, source: str, target: str, by: str = "") -> None:
        self._world = world
        self.source, self.target = source, target
        self.sides = [start]
        self.found: list[Finding] = []
        self.wires: list[Wire] = []
        self.first = self._way(start, {"from": source, "oif": by})
        if self.first:
            self.source = self.source or self.first.source
            self._leave(start, self.first)

    @property
    def ports(self) -> list[Port]:
        """The interfaces by which it leads."""
        return [each for wire in self.wires for each in (wire.out, wire.into) if each]

    def _way(
        self, side: Side, words: dict[str, str], entry: Port | None = None
    ) -> RouteLookup | None:
        done = self._world.answer(side, packets.route_get(self.target, **words))
        way = packets.route_lookup(done)
        if way is None:
            answer = done.stderr.decode("utf-8", "replace")
            self.found += _unroutable(self._world, side, entry, self, answer)
        return way

    def _leave(self, side: Side, way: RouteLookup) -> None:
        if way.is_local or way.device not in side.ports or len(self.sides) > _MOST_SIDES:
            return
        out, hop, known = side.ports[way.device], way.gateway or self.target, _UNKNOWN
        if out.link.mode in L3:  # which has no neighbours
            beside = self._world.holders(self.target, out)
            into = next((p for p in beside if self._world.are_beside(p, out)), None)
            hop = self.target
        else:
            into = next(iter(self._world.holders(hop, out)), None)
            if into and into.is_loopback:
                into = self._world.connected(out, into.side)
            shown = self._world.answer(side, commands.neighbour_show(out.link.name, hop))
            known = packets.neighbour(shown)
        self._cross(Wire(out, hop, into, known, self.source, self.target))
        master = self._world.master(out)
        if into is None and out.link.mode in L3 and master:
            self._leave_by(master, out.link.mode)

    def _leave_by(self, master: Port, mode: str) -> None:
        """Follow the routes of the host that lead by the master: others are not used."""
        side, name = master.side, master.link.name
        self.sides.append(side)
        usual = packets.route_lookup(self._world.answer(side, packets.route_get(self.target)))
        if usual is None or usual.device not in (name, "lo"):
            text = f"{side} has no route to {self.target} by {name}"
            text += f", but by {usual.device}" if usual else ""
            add = side.shell("ip", "route", "add", self.target, "dev", name)
            advice = f"in mode {mode} packets leave by their own master only: use one master for "
            advice += f"both, or a router on its network: {add} via GATEWAY"
            self.found.append(Finding(PROBLEM, "route", text, advice))
        way = self._way(side, {"oif": name})
        if way:
            self._leave(side, way)

    def _cross(self, wire: Wire) -> None:
        self.wires.append(wire)
        for check in STEPS:
            self.found += check(self._world, wire)
        if wire.into is None:
            return
        entry = wire.into
        self.sides.append(entry.side)
        # What comes to a master for one of its interfaces goes there, past the host's routes.
        for each in self._world.holders(self.target):
            if each.link.is_ipvlan and self._world.master(each) is entry:
                self.sides.append(each.side)
                self.found += states(self._world, each)
                entry = each
        below = self._world.master(entry) if entry.link.is_ipvlan else None
        is_apart = below is not None and below.side is not entry.side and below is not wire.out
        if is_apart and entry not in self._world.holders(self.target):
            self.found.append(_undelivered(entry, self.target))
            return
        way = self._way(entry.side, {"from": wire.source, "iif": entry.link.name}, entry)
        if way and not way.is_local:
            self.found += _forwarding(self._world, entry, self.target)
            self._leave(entry.side, way)


def _undelivered(port: Port, target: str) -> Finding:
    """Return that packets do not come in by an ipvlan interface without their address."""
    text = f"ipvlan hands {port} only packets for its own addresses, and {target} is none"
    if any(target in each.plain() for each in port.side.ports.values()):
        add = ("ip", "address", "add", target, "dev", port.link.name)
        return Finding(PROBLEM, "delivery", text, f"give it that one: {port.side.shell(*add)}")
    return Finding(PROBLEM, "delivery", text, "use macvlan for a container that routes")


def _both_states(world: World, wire: Wire) -> Iterator[Finding]:
    yield from states(world, wire.out)
    if wire.into:
        yield from states(world, wire.into)
    peer = world.peer(world.chain(wire.out)[-1])
    if peer and peer.link.master in peer.side.ports:
        yield from states(world, peer.side.ports[peer.link.master])


def _flags(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that a flag keeps two interfaces of one master apart."""
    master = world.master(wire.out)
    if wire.into is None or master is None or not world.are_beside(wire.out, wire.into):
        return
    if wire.out.link.flag == "private":
        text = f"both are on {master.link.name}, and flag private keeps its interfaces apart"
        advice = "use flag bridge for the networks of that master, if they shall reach each other"
        yield Finding(PROBLEM, "flag", text, advice)
    if wire.out.link.flag != "vepa":
        return
    switch = world.peer(master)
    shown = world.entries(switch.side, *commands.link_show(switch.link.name)) if switch else []
    of_port = shown[0].get("linkinfo", {}).get("info_slave_data", {}) if shown else {}
    if not of_port.get("hairpin"):
        text = f"flag vepa sends their packets to the switch of {master.link.name}, which does not "
        advice = "turn on reflective relay (hairpin) at the switch's port, or use flag bridge"
        if switch and switch.link.master:
            on = ("bridge", "link", "set", "dev", switch.link.name, "hairpin", "on")
            advice = f"{advice}: {switch.side.shell(*on)}"
        yield Finding(PROBLEM, "flag", text + "send them back", advice)


def _host_and_own(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield why a host and an interface on its own master don't reach each other."""
    out, into = wire.out, wire.into
    if into and world.master(out) is into and out.link.kind in _KEPT_APART:
        # It hears what is sent to its own MAC address, which the container has to know.
        if wire.known.mac == into.link.mac or out.link.mode in L3:
            return
        if not _beside(world, into):
            yield _kept_apart(out, into)
            return
        restore = commands.neighbour_replace(wire.hop, into.link.mac, out.link.name)
        text = f"{out} has no permanent neighbour entry for {wire.hop}, the host"
        advice = f"hostAccess makes it: {out.side.shell(*restore)}"
        yield Finding(PROBLEM, "host access", text, advice)
    if into and world.master(into) is out and into.link.kind in _KEPT_APART:
        beside = _beside(world, out)
        if not beside:
            yield _kept_apart(into, out)
            return
        yield from states(world, beside[0])
        name = beside[0].link.name
        add = ("ip", "route", "replace", wire.hop, "dev", name, "src", wire.source)
        text = f"the host has {name} beside {into}, but sends to {wire.hop} by {out.link.name}"
        yield Finding(PROBLEM, "host access", text, f"add the route: {out.side.shell(*add)}")


_KEPT_APART = (*queries.IPVLAN_KINDS, "macvlan", "macvtap")  # from the host on their master


def _beside(world: World, master: Port) -> list[Port]:
    """Return the ipvlan interfaces that a host itself has on its master."""
    own = (each for each in master.side.ports.values() if each.link.is_ipvlan)
    return [each for each in own if world.master(each) is master]


def _kept_apart(port: Port, master: Port) -> Finding:
    text = f"the kernel lets no packets pass between a host and its own {port.link.kind} interfaces"
    advice = "set hostAccess in the network, for new containers; for this one:\n"
    if not port.link.is_ipvlan:
        advice = "use another interface of the host, or one of the same kind on that master"
    elif port.link.flag != "bridge":
        advice = f"use flag bridge; with {port.link.flag}, hostAccess would be of no help"
    else:
        advice += "\n".join(_remedy(port, master))
    return Finding(PROBLEM, "host", text, advice)


def _remedy(port: Port, master: Port) -> Iterator[str]:
    """Yield the commands that give the host an ipvlan interface, and routes by it.

    They do what hostAccess does, under another name: it would take away what it has not made.
    """
    link, shell, name = port.link, master.side.shell, f"ipvl{master.link.ifindex}"
    yield shell(*commands.link_add_ipvlan(master.link.name, name, link.mode, link.flag, 0))
    yield shell(*commands.link_set(name, "up"))
    yield shell(*commands.link_set(name, "arp", "off"))
    for address in port.plain():
        source = next(iter(master.plain(address)), "")
        words = ("src", source) if source else ()
        yield shell("ip", "route", "replace", address, "dev", name, *words)
        if link.mode == "l2" and source:
            yield port.side.shell(*commands.neighbour_replace(source, master.link.mac, link.name))


def _nobody_asked(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that an interface in mode l3 is looked for as a neighbour."""
    if wire.into is None or wire.into.link.mode not in L3:
        return
    master = world.master(wire.into)
    if master and master is not wire.out and master is not world.master(wire.out):
        via = (*master.plain(wire.hop), "ADDRESS-OF-THE-HOST")[0]
        text = f"in mode {wire.into.link.mode} nobody answers ARP for {wire.hop}, and "
        text += f"{wire.out.side} has no route to it through the host"
        add = wire.out.side.shell("ip", "route", "add", wire.hop, "via", via)
        yield Finding(PROBLEM, "return", text, f"add it there: {add}")


def _masters(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that the two are in different VLANs, or on masters that nothing connects."""
    if wire.into is None:
        return
    ours, theirs = world.chain(wire.out), world.chain(wire.into)
    vlans = [
        " in ".join(f"VLAN {each.link.vlan}" for each in chain if each.link.vlan) or "no VLAN"
        for chain in (ours, theirs)
    ]
    if vlans[0] != vlans[1]:
        text = f"{wire.out} is in {vlans[0]}, {wire.into} is in {vlans[1]}"
        advice = "use the same option vlan (or a master in the same VLAN) for both"
        yield Finding(PROBLEM, "vlan", text, advice)
    elif not world.are_connected(ours[-1], theirs[-1]):
        text = f"{wire.hop} is looked for on {ours[-1]}, but {wire.into} is on {theirs[-1]}"
        advice = "use one master; or connect the two; or use different subnets, and a router"
        yield Finding(PROBLEM, "masters", text, advice)


def _neighbour(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that a neighbour is unknown, or another than is there."""
    mac, into, link = wire.known.mac, wire.into, wire.out.link
    if not link.has_arp:  # as in mode l3, and beside a host's containers
        is_beside = into is not None and world.are_beside(wire.out, into)
        if link.is_ipvlan and link.mode not in L3 and not is_beside:
            on = wire.out.side.shell("ip", "link", "set", "dev", link.name, "arp", "on")
            text = f"{wire.out} asks for no neighbour"
            yield Finding(PROBLEM, "neighbour", text, f"let it: {on}")
    elif not mac:
        yield unanswered(world, wire)
    elif into and mac != into.link.mac and world.master(wire.out) is not into:
        yield mistaken(wire, f"{into} has {into.link.mac}")


def mistaken(wire: Wire, truth: str) -> Finding:
    """Return that a neighbour's MAC address is wrong."""
    text = f"{wire.out} takes {wire.known.mac} for {wire.hop} ({wire.known.state.lower()}), but "
    forget = wire.out.side.shell("ip", "neighbour", "delete", wire.hop, "dev", wire.out.link.name)
    return Finding(PROBLEM, "neighbour", text + truth, f"let it ask again: {forget}")


def unanswered(world: World, wire: Wire) -> Finding:
    """Return that nobody answers for an address on a network."""
    ends = [world.chain(each)[-1] for each in (wire.out, wire.into) if each]
    if wire.into in world.holders(wire.hop) and world.are_connected(*ends):
        text = f"{wire.into} has {wire.hop}, but does not answer ARP or ND"
        return Finding(PROBLEM, "unanswered", text, "look at arp_ignore, arptables, bridge vlan")
    what = wire.hop if wire.hop == wire.target else f"{wire.hop}, the gateway to {wire.target},"
    text = f"nobody answers for {what} on the network of {world.chain(wire.out)[-1]}"
    advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
    return Finding(PROBLEM, "unanswered", text, advice)


# What may be wrong with a step of the way.
STEPS = (_both_states, _flags, _host_and_own, _nobody_asked, _masters, _neighbour)


def _unroutable(
    world: World, side: Side, entry: Port | None, walk: Walk, answer: str
) -> Iterator[Finding]:
    """Yield why a side does not know where to send packets that it has, or gets by ``entry``."""
    target = walk.target
    kinds = (_THROWN_AWAY[each] for each in _THROWN_AWAY if each in answer)
    thrown = [found for kind in kinds for found in _thrown_away(world, side, walk, kind)]
    if entry and "cross-device" in answer:
        key = commands.RP_FILTER.format(entry.link.name)
        text = f"{side} drops what comes from {walk.source} by {entry.link.name}, since it would "
        text += f"answer by another interface ({key}, or that of all, is 1)"
        yield Finding(PROBLEM, "rp_filter", text, f"be less strict: {write(side, key, 2)}")
    elif thrown:
        yield thrown[0]
    elif entry and any(walk.source in port.plain() for port in side.ports.values()):
        text = f"{walk.source} is also an address of {side}, which drops what seems its own"
        yield Finding(PROBLEM, "duplicate", text, _CONFLICT)
    elif entry and (found := [*_forwarding(world, entry, target)]):
        yield from found
    else:
        usual = [each for port in world.ports if port.side is side for each in port.usual]
        like = [each for each in usual if (":" in each) == (":" in target)]
        subnets = ", ".join(str(ip_interface(each).network) for each in like) or "none"
        text = f"{side} has no route to {target}; its subnets: {subnets}"
        for port in side.ports.values():
            yield from states(world, port) if port.usual else ()
        add = side.shell("ip", "route", "add", target, "via", "GATEWAY")
        where = "to the routes of ipam, or a default route" if side.netns else "there"
        yield Finding(PROBLEM, "route", text, f"add it {where}; for now: {add}")


def _thrown_away(world: World, side: Side, walk: Walk, kind: str) -> Iterator[Finding]:
    """Yield the rule or route of a kind that throws packets away, the first one first."""
    target, family = walk.target, "-6" if ":" in walk.target else "-4"
    text = f"{side} throws away what goes to {target}: {kind}"
    routes = world.entries(side, "ip", family, "-j", "route", "show", "table", "all", "type", kind)
    for rule in world.entries(side, "ip", family, "-j", "rule", "show"):
        source, priority = _prefix(rule, "src"), str(rule["priority"])
        is_from = not walk.source or _contains(source, walk.source)
        if not (is_from and _contains(_prefix(rule, "dst"), target)):
            continue
        named = f"by the rule {priority}: from {source} to {_prefix(rule, 'dst')}"
        if rule.get("action") == kind:
            remove = side.shell("ip", family, "rule", "delete", "priority", priority)
            yield Finding(PROBLEM, "blackhole", f"{text} {named}", f"{_REMOVE}: {remove}")
        for route in routes:
            dst, table = route["dst"], route.get("table", "main")
            if table == rule.get("table") and _contains(dst, target):
                at = ("table", table) if table != "main" else ()
                remove = side.shell("ip", family, "route", "delete", kind, dst, *at)
                what = f"{text} {' '.join((dst, *at))}" + (f" ({named})" if at else "")
                yield Finding(PROBLEM, "blackhole", what, f"{_REMOVE}: {remove}")


def _prefix(rule: dict[str, Any], key: str) -> str:
    length = f"/{rule[f'{key}len']}" if f"{key}len" in rule else ""
    return f"{rule.get(key, 'all')}{length}"


def _contains(prefix: str, address: str) -> bool:
    return prefix in ("all", "default") or ip_address(address) in ip_network(prefix, strict=False)


def _forwarding(world: World, entry: Port, target: str) -> Iterator[Finding]:
    link = "all" if ":" in target else entry.link.name
    key = f"net/{'ipv6' if ':' in target else 'ipv4'}/conf/{link}/forwarding"
    if world.sysctl(entry.side, key) == 0:
        text = f"{entry.side} is the way to {target}, but does not forward packets ({key} is 0)"
        switch = "net/ipv6/conf/all/forwarding" if ":" in target else "net/ipv4/ip_forward"
        yield Finding(PROBLEM, "forwarding", text, f"let it: {write(entry.side, switch, 1)}")


def write(side: Side, key: str, value: int) -> str:
    """Return the command that sets a kernel parameter of a side."""
    return side.shell("sh", "-c", f"echo {value} >/proc/sys/{key}")
