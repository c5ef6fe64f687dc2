"""Facts: what both ends, the host and the way between show; each may explain a silence.

A fact's subject is its kind, which has a weight (weights.py). PROBLEM means that it would explain
a silence; whether there is one is found out by asking.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.connectivity.world import Port
from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, packets, queries
from cni_ipvlan.iproute.packets import Neighbour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.connectivity.world import End, Side, World
    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.packets import Way

_MOST_SIDES = 8
# By the answer of ip route get: the type of the route, as text and as number (RTN_* of
# <linux/rtnetlink.h>).
_THROWN_AWAY = {
    "Invalid argument": ("blackhole", "6"),
    "No route to host": ("unreachable", "7"),
    "Permission denied": ("prohibit", "8"),
}
L3 = ("l3", "l3s")
_UNKNOWN = Neighbour("", "")


class Wire(NamedTuple):
    """A step of the way: packets to ``hop`` leave by ``out``; ``into`` has that address, if seen.

    ``known`` is what ``out`` knows of it as a neighbour. ``target`` is where they go in the end.
    """

    out: Port
    hop: str
    into: Port | None
    known: Neighbour
    target: str
    source: str


class Walk:
    """The way from a side to an address, as the kernel tells it step by step.

    ``first`` is how packets leave at its beginning, ``last`` is its last step; ``found`` are
    findings, ``sides`` all that it leads through.
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

    def _way(self, side: Side, words: dict[str, str], entry: Port | None = None) -> Way | None:
        done = self._world.ask1(side, packets.way_to(self.target, **words))
        way = packets.way(done) if done else None
        if done and way is None:
            answer = done.stderr.decode("utf-8", "replace")
            self.found += _unroutable(self._world, side, entry, self, answer)
        return way

    def _leave(self, side: Side, way: Way) -> None:
        out = Port(side, *side.links.get(way.device, side.links["lo"]))
        if way.is_local or len(self.sides) > _MOST_SIDES:
            return
        if out.link.mode in L3:
            self._leave_l3(out)
            return
        hop = way.gateway or self.target
        into = next(iter(self._world.holders(hop, out)), None)
        done = self._world.ask1(side, commands.neighbour_show_one(hop, out.link.name))
        known = packets.neighbour(done) if done else _UNKNOWN
        self._cross(Wire(out, hop, into, known, self.target, self.source))

    def _leave_l3(self, out: Port) -> None:
        """Follow what the host's routes decide on, as there is no neighbour but the master."""
        into = next(
            (p for p in self._world.holders(self.target, out) if self._world.are_beside(p, out)),
            None,
        )
        self._cross(Wire(out, self.target, into, _UNKNOWN, self.target, self.source))
        below = self._world.chain(out)[1:2]
        for master in below if into is None else ():
            self.sides.append(master.side)
            way = self._way(master.side, {"oif": master.link.name})
            done = self._world.ask1(master.side, packets.way_to(self.target))
            usual = packets.way(done) if done else None
            if usual is None or usual.device != master.link.name:
                how = f"it sends that by {usual.device}" if usual else "it has none at all"
                text = f"{master.side} has no route to {self.target} by {master.link.name}: {how}"
                advice = f"in mode {out.link.mode} packets leave by the master; add a route there"
                self.found.append(Finding(PROBLEM, "route", text, advice))
            if way:
                self._leave(master.side, way)

    def _cross(self, wire: Wire) -> None:
        self.wires.append(wire)
        for check in CHECKS:
            self.found += check(self._world, wire)
        if wire.into is None:
            return
        entry = wire.into
        self.sides.append(entry.side)
        # What comes to a master for one of its interfaces goes there, past the host's routes.
        for each in self._world.holders(self.target):
            if [p for p in self._world.chain(each)[1:2] if p.is_at(entry) and each.link.is_ipvlan]:
                self.sides.append(each.side)
                self.found += states(self._world, each)
                entry = each
        words = {"from": wire.source, "iif": entry.link.name}
        way = self._way(entry.side, words, entry)
        if way and not way.is_local:
            self.found += _forwarding(self._world, entry, self.target)
            self._leave(entry.side, way)


def of_end(world: World, end: End) -> Iterator[Finding]:
    """Yield what an end itself shows."""
    if end.port:
        for fact in ENDS:
            yield from fact(world, end.port)


def _link(world: World, port: Port) -> Iterator[Finding]:
    link = port.link
    mode = f", mode {link.mode} {link.flag}" if link.is_ipvlan else f", a {link.kind or 'device'}"
    state = "up" if link.is_up else "down"
    yield Finding(OK, "link", f"{port} is {state}, MTU {link.mtu}{mode}")
    for each in world.chain(port)[1:]:
        state = "up" if each.link.is_up else "down"
        text = f"{each} is {state}, MTU {each.link.mtu}, {each.link.mac}"
        if link.mtu > each.link.mtu:
            text += f"; {link.name} has more"
            advice = f"packets beyond {each.link.mtu} bytes are lost: set the option mtu"
            yield Finding(WARNING, "master", text, advice)
        else:
            yield Finding(OK, "master", text)
    if link.is_ipvlan and not world.chain(port)[1:]:
        text = f"the master of {port} is not in this namespace"
        yield Finding(WARNING, "master", text, "run this where it is: on the host")
    yield from states(world, port)


def _addresses(_: World, port: Port) -> Iterator[Finding]:
    usual = [each for each in port.addresses if each.is_duplicate or each.address in port.usual]
    if not usual:
        text = f"{port} has no address"
        yield Finding(PROBLEM, "address", text, "ADD gives it one: ipvlan check compares")
    for each in usual:
        if each.is_duplicate:
            text = f"another host on the network has {each.address}, too (IPv6 duplicate detection)"
            yield Finding(PROBLEM, "address", text, "give one of them another address")
        elif each.is_tentative:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(PROBLEM, "tentative", text, "wait; it needs the master's carrier")
        else:
            yield Finding(OK, "address", f"{port} has {each.address}")


def _duplicates(world: World, port: Port) -> Iterator[Finding]:
    """Yield who else has an address; other hosts are asked from the master, for a second."""
    for address in port.plain:
        for other in world.holders(address):
            if not other.is_at(port):
                text = f"{address} is also an address of {world.described(other)}"
                advice = "no two networks may hand out the same range"
                yield Finding(PROBLEM, "duplicate", text, advice)
    asker = asking(world, port)
    asked = [each for each in port.plain if ":" not in each] if asker.link.is_up else []
    argvs = [commands.arping_duplicate(each, asker.link.name) for each in asked]
    answers = world.ask(*((asker.side, argv) for argv in argvs))
    for address, done in zip(asked, answers, strict=True):
        if done is None:
            text = f"arping is missing, so other hosts were not asked for {address}"
            yield Finding(WARNING, "not looked", text, "install it: apt install iputils-arping")
            continue
        mac = queries.answering_mac(done.stdout).lower()
        if done.status == commands.DUPLICATE_ANSWERED and mac != port.link.mac:
            text = f"another host on the network has {address}, too: {mac}"
            advice = "give one of them another address; checkIPv4Conflict refuses such an ADD"
            yield Finding(PROBLEM, "duplicate", text, advice)
        elif done.status == 0:
            yield Finding(OK, "duplicate", f"no other host answers for {address}")


# What an end shows.
ENDS = (_link, _addresses, _duplicates)


def asking(world: World, port: Port) -> Port:
    """Return the interface from which ARP is asked: an ipvlan's master, as its own loses answers."""
    return next(iter(world.chain(port)[1:2]), port) if port.link.is_ipvlan else port


def states(world: World, port: Port) -> Iterator[Finding]:
    """Yield what is down or without carrier, of an interface and those below it."""
    bare = None
    for each in world.chain(port):
        if not each.link.is_up:
            up = each.side.shell(commands.link_set_up(each.link.name))
            yield Finding(PROBLEM, "down", f"{each} is down", f"bring it up: {up}")
        elif not each.link.has_carrier:
            bare = each
    if bare:
        peer = world.peer(bare)
        text, advice = f"{bare} is without carrier", "check its cable, or its switch port"
        kind = "carrier"
        if peer and not peer.link.is_up:
            kind, text = "down", f"{text}: its other end, {peer}, is down"
            advice = f"bring it up: {peer.side.shell(commands.link_set_up(peer.link.name))}"
        yield Finding(PROBLEM, kind, text, advice)


def _both_states(world: World, wire: Wire) -> Iterator[Finding]:
    yield from states(world, wire.out)
    if wire.into:
        yield from states(world, wire.into)
    peer = world.peer(world.chain(wire.out)[-1])
    bridge = peer and peer.raw.get("master")
    if peer and bridge and bridge in peer.side.links:
        yield from states(world, Port(peer.side, *peer.side.links[bridge]))


def _flags(world: World, wire: Wire) -> Iterator[Finding]:
    if not wire.into or not world.are_beside(wire.out, wire.into):
        return
    master = world.chain(wire.out)[1]
    if wire.out.link.flag == "private":
        text = f"both are on {master.link.name}, and flag private keeps its interfaces apart"
        advice = "use flag bridge for the networks of that master, if they shall reach each other"
        yield Finding(PROBLEM, "flag", text, advice)
    if wire.out.link.flag == "vepa":
        peer = world.peer(world.chain(wire.out)[-1])
        port = peer.raw.get("linkinfo", {}).get("info_slave_data", {}) if peer else {}
        if peer and port.get("hairpin"):
            return
        text = f"flag vepa sends their packets to the switch of {master.link.name}, which must "
        text += "send them back"
        advice = "turn on reflective relay (hairpin) at the switch's port, or use flag bridge"
        if peer and peer.raw.get("master"):
            name = peer.link.name
            on = peer.side.shell(("bridge", "link", "set", "dev", name, "hairpin", "on"))
            advice = f"turn on reflective relay (hairpin): {on}"
        yield Finding(PROBLEM, "flag", text, advice)


def _host_and_own(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield why a host and an interface on its own master don't reach each other."""
    out, into = wire.out, wire.into
    if into is None:
        return
    if world.has_master(out, into):
        # It hears what is sent to its own MAC address, which the container has to know.
        is_known = wire.known.mac == into.link.mac or out.link.mode in L3
        if not is_known and out.link.is_ipvlan and world.beside(into):
            restore = commands.neighbour_replace(wire.hop, into.link.mac, out.link.name)
            text = f"{out} has no permanent neighbour entry for {wire.hop}, the host"
            advice = f"hostAccess makes it: {out.side.shell(restore)}"
            yield Finding(PROBLEM, "host access", text, advice)
        elif not is_known:
            yield _kept_apart(world, out, into)
    elif world.has_master(into, out):
        beside = world.beside(out)
        if not beside:
            yield _kept_apart(world, into, out)
            return
        yield from states(world, beside[0])
        name = beside[0].link.name
        add = ("ip", "route", "replace", wire.hop, "dev", name, "src", wire.source)
        text = f"the host has {name} beside {into}, but sends to {wire.hop} by {out.link.name}"
        advice = f"its route is missing: {out.side.shell(add)}"
        yield Finding(PROBLEM, "host access", text, advice)


def _kept_apart(world: World, port: Port, master: Port) -> Finding:
    kind = port.link.kind
    text = f"the kernel lets no packets pass between a host and its own {kind} interfaces"
    if not port.link.is_ipvlan:
        return Finding(PROBLEM, "host", text, f"reach {port} by another interface of the host")
    if port.link.flag != "bridge":
        advice = f"with flag {port.link.flag}, an interface of the host beside it is of no help"
        return Finding(PROBLEM, "host", text, f"use flag bridge; {advice}")
    lines = [
        "set hostAccess in the network, for new containers; for this one:",
        *_remedy(world, port, master),
    ]
    return Finding(PROBLEM, "host", text, "\n".join(lines))


def _remedy(world: World, port: Port, master: Port) -> Iterator[str]:
    """Yield the commands that give the host an ipvlan interface, and routes by it.

    They do what hostAccess does, under another name: it would take away what it has not made.
    """
    link, name = port.link, f"ipvl{master.link.ifindex}"
    argvs: list[Argv] = [
        commands.link_add_ipvlan(master.link.name, name, link.mode, link.flag, 0),
        commands.link_set_up(name),
        commands.link_set_arp_off(name),
    ]
    yield from map(master.side.shell, argvs)
    for address in port.plain:
        same = (each for each in master.plain if (":" in each) == (":" in address))
        source = next(same, "")
        words = ("src", source) if source else ()
        yield master.side.shell(("ip", "route", "replace", address, "dev", name, *words))
        if link.mode == "l2" and source:
            yield port.side.shell(commands.neighbour_replace(source, master.link.mac, link.name))


def _nobody_asked(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that an interface in mode l3 is looked for as a neighbour."""
    into = wire.into
    if into is None or into.link.mode not in L3 or world.are_beside(wire.out, into):
        return
    below = world.chain(into)[1:2]
    if below and not below[0].is_at(wire.out):
        via = next((each for each in below[0].plain if (":" in each) == (":" in wire.hop)), "")
        add = ("ip", "route", "add", wire.hop, "via", via or "ADDRESS-OF-THE-HOST")
        text = f"in mode {into.link.mode} nobody answers ARP for {wire.hop}, and {wire.out.side} "
        text += "has no route to it through the host"
        yield Finding(PROBLEM, "return", text, f"add it there: {wire.out.side.shell(add)}")


def _masters(world: World, wire: Wire) -> Iterator[Finding]:
    """Yield that the two are in different VLANs, or on masters that nothing connects."""
    if wire.into is None:
        return
    ours, theirs = world.chain(wire.out), world.chain(wire.into)
    vlans = [[each.link.vlan for each in ports if each.link.vlan] for ports in (ours, theirs)]
    if vlans[0] != vlans[1]:
        names = ["VLAN " + " in ".join(map(str, each)) if each else "no VLAN" for each in vlans]
        text = f"{wire.out} is in {names[0]}, {wire.into} is in {names[1]}"
        advice = "use the same option vlan (or a master in the same VLAN) for both"
        yield Finding(PROBLEM, "vlan", text, advice)
    elif not world.are_connected(ours[-1], theirs[-1]):
        text = f"{wire.hop} is looked for on {ours[-1]}, but {wire.into} is on {theirs[-1]}"
        advice = "use one master; or connect the two; or use different subnets, and a router"
        yield Finding(PROBLEM, "masters", text, advice)


def _neighbour(world: World, wire: Wire) -> Iterator[Finding]:
    link, (mac, state) = wire.out.link, wire.known
    if not link.has_arp or link.mode in L3:
        return
    if (
        mac
        and wire.into
        and mac != wire.into.link.mac
        and not world.has_master(wire.out, wire.into)
    ):
        text = f"{wire.out} takes {mac} for {wire.hop} ({state.lower()}), "
        yield Finding(
            PROBLEM,
            "neighbour",
            text + f"but {wire.into} has {wire.into.link.mac}",
            forget(wire),
        )
    elif not mac:
        yield unanswered(world, wire)


def forget(wire: Wire) -> str:
    """Return the advice to remove a neighbour's entry."""
    argv = ("ip", "neighbour", "delete", wire.hop, "dev", wire.out.link.name)
    return f"let it ask again: {wire.out.side.shell(argv)}"


def unanswered(world: World, wire: Wire) -> Finding:
    """Return that nobody has an address on a network."""
    what = wire.hop if wire.hop == wire.target else f"{wire.hop}, the gateway to {wire.target},"
    text = f"nobody answers for {what} on the network of {world.chain(wire.out)[-1]}"
    advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
    return Finding(PROBLEM, "unanswered", text, advice)


# What may be wrong with a step of the way.
CHECKS = (_both_states, _flags, _host_and_own, _nobody_asked, _masters, _neighbour)


def _unroutable(
    world: World, side: Side, entry: Port | None, walk: Walk, answer: str
) -> Iterator[Finding]:
    """Yield why a side does not know where to send packets that it has, or gets by ``entry``."""
    source, target = walk.source, walk.target
    why = next((words for text, words in _THROWN_AWAY.items() if text in answer), ("", ""))
    if entry and "cross-device" in answer:
        yield strict(entry, source)
    elif thrown := _thrown_away(world, side, source, target, *why):
        yield thrown
    elif entry and "Invalid argument" in answer:
        text = f"{source} is also an address of {side}, which drops what seems to be its own"
        yield Finding(PROBLEM, "duplicate", text, "give one of them another address")
    elif entry and next(_forwarding(world, entry, target), None):
        yield from _forwarding(world, entry, target)
    else:
        subnets = [
            str(ip_interface(each.address).network)
            for link, addresses in side.links.values()
            for each in addresses
            if link.name != "lo" and (":" in each.address) == (":" in target)
        ]
        text = f"{side} has no route to {target}; its subnets: {', '.join(subnets) or 'none'}"
        down = [p for p in world.ports() if p.side is side and not p.link.is_up and p.addresses]
        for port in down:
            yield from states(world, port)
        add = side.shell(("ip", "route", "add", target, "via", "GATEWAY"))
        where = "the routes of ipam, or a default route" if side.place else "the host"
        yield Finding(PROBLEM, "route", text, f"add it to {where}; for now: {add}")


def _thrown_away(
    world: World, side: Side, source: str, target: str, kind: str, number: str
) -> Finding | None:
    """Return the route or rule that throws packets away, if there is one of that kind."""
    if not kind:
        return None
    family = "-6" if ":" in target else "-4"
    rules = world.entries(side, ("ip", family, "-N", "-j", "rule", "show"))
    for rule in rules:
        if rule.get("action") == number and _applies(rule, source, target):
            priority = str(rule["priority"])
            words = f"{kind} rule {priority}: from {_prefix(rule, 'src')} to {_prefix(rule, 'dst')}"
            remove = side.shell(("ip", family, "rule", "delete", "priority", priority))
            return _thrown(side, target, words, remove)
    argv = ("ip", family, "-N", "-j", "-d", "route", "show", "table", "all")
    routes = [
        route
        for route in world.entries(side, argv)
        if route.get("type") == number and _is_in(target, route["dst"])
    ]
    for route in sorted(routes, key=lambda each: -_length(each["dst"])):
        table = route.get("table", str(queries.MAIN_TABLE))
        at = ("table", table) if table != str(queries.MAIN_TABLE) else ()
        by = [r for r in rules if r.get("table") == table and at and _applies(r, source, target)]
        named = f" (by the rule {by[0]['priority']}: from {_prefix(by[0], 'src')})" if by else ""
        remove = side.shell(("ip", family, "route", "delete", kind, route["dst"], *at))
        return _thrown(side, target, f"{' '.join((kind, route['dst'], *at))}{named}", remove)
    return None


def _thrown(side: Side, target: str, what: str, remove: str) -> Finding:
    text = f"{side} throws away what goes to {target}: {what}"
    return Finding(PROBLEM, "blackhole", text, f"if it is not meant so: {remove}")


def _applies(rule: dict[str, Any], source: str, target: str) -> bool:
    return _is_in(target, _prefix(rule, "dst")) and (
        not source or _is_in(source, _prefix(rule, "src"))
    )


def _prefix(rule: dict[str, Any], key: str) -> str:
    length = f"/{rule[f'{key}len']}" if f"{key}len" in rule else ""
    return f"{rule.get(key, 'all')}{length}"


def _is_in(address: str, prefix: str) -> bool:
    return prefix in ("all", "default") or ip_address(address) in ip_network(prefix, strict=False)


def _length(prefix: str) -> int:
    return 0 if prefix in ("all", "default") else ip_network(prefix, strict=False).prefixlen


def _forwarding(world: World, entry: Port, target: str) -> Iterator[Finding]:
    link = "all" if ":" in target else entry.link.name
    key = f"net/{'ipv6' if ':' in target else 'ipv4'}/conf/{link}/forwarding"
    if world.sysctl(entry.side, key) == 0:
        text = f"{entry.side} is the way to {target}, but does not forward packets ({key} is 0)"
        switch = "net/ipv6/conf/all/forwarding" if ":" in target else "net/ipv4/ip_forward"
        yield Finding(PROBLEM, "forwarding", text, f"let it: {write(entry.side, switch, 1)}")


def strict(entry: Port, source: str) -> Finding:
    """Return that reverse path filtering drops what comes in by an interface."""
    key = commands.rp_filter(entry.link.name)
    text = f"{entry.side} drops what comes from {source} by {entry.link.name}, since it would "
    text += f"answer by another interface ({key}, or that of all, is 1)"
    return Finding(PROBLEM, "rp_filter", text, f"be less strict: {write(entry.side, key, 2)}")


def write(side: Side, key: str, value: int) -> str:
    """Return the command that sets a kernel parameter of a side."""
    return side.shell(("sh", "-c", f"echo {value} >/proc/sys/{key}"))
