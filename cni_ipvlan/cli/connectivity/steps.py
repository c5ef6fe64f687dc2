"""Facts: what may be wrong with a step of the way, on one network."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cni_ipvlan.cli.connectivity import facts, routing
from cni_ipvlan.cli.connectivity.world import Port, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.queries import Neighbour

_OF_PORTS = {  # what lets all pass a bridge's port, as bridge(8) takes it, and who says otherwise
    "state": ("forwarding", "3", "bridge"),
    "locked": (False, "off", "bridge"),
    **dict.fromkeys(
        ("learning", "flood", "bcast_flood", "mcast_flood"), (True, "on", "bridge flag")
    ),
}


class Wire(NamedTuple):
    """A step of the way from ``source`` to ``target``: packets leave by ``out`` to ``hop``.

    ``into`` has that address, if seen; ``known`` is what ``out`` knows of it as a neighbour.
    """

    source: str
    target: str
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


def host_and_own(wire: Wire) -> Iterator[Finding]:
    """Yield why a host and an interface on its own master don't reach each other."""
    out, into, hop = wire.out, wire.into, wire.hop
    is_from_host = into is not None and into.below is out
    master, port = (out, into) if is_from_host else (into, out)
    if not (master and port and routing.is_kept_apart(port, master)):
        return
    # It hears what is sent to its own MAC address, which the container has to know.
    if not is_from_host and (wire.known.mac == master.link.mac or port.is_l3):
        return
    own = next((each for each in master.side.ports.values() if each.is_beside(port)), None)
    if own is None:
        text = f"the kernel lets no packets pass between a host and its own {port.link.kind} "
        yield Finding(PROBLEM, "host", f"{text}interfaces", _remedy(port, master))
    elif is_from_host:
        yield from facts.states(own.chain)
        add = ("ip", "route", "replace", hop, "dev", own.link.name, "src", wire.source)
        text = f"the host has {own.link.name} beside {port}, but does not send to {hop} by it"
        yield Finding(PROBLEM, "host access", text, f"add the route: {master.side.shell(*add)}")
    else:
        restore = port.side.shell(*commands.neighbour_replace(hop, master.link.mac, port.link.name))
        text = f"{port} has no permanent neighbour entry for {hop}, the host"
        yield Finding(PROBLEM, "host access", text, f"hostAccess makes it: {restore}")


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
    via = routing.through(wire.out.side, wire.into, wire.hop)
    if wire.into and via:
        text = f"in mode {wire.into.link.mode} nobody answers ARP for {wire.hop}, and "
        text += f"{wire.out.side} has no route to it through the host"
        add = wire.out.side.shell("ip", "route", "add", wire.hop, "via", via)
        yield Finding(PROBLEM, "return", text, f"add it there: {add}")


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
        may_ask = link.is_ethernet and link.kind != "dummy" and not wire.out.is_l3
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
    target, master = wire.target, facts.asking(out)
    what = wire.hop if wire.hop == target else f"{wire.hop}, the gateway to {target},"
    text = f"nobody answers for {what} on the network of {master}"
    text += f" ({out.vlans})" if any(each.link.vlan for each in out.chain) else ""
    advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
    like = [each for each in master.usual if (":" in each) == (":" in wire.hop)]
    if like and wire.hop[:4] != "fe80" and not is_near(wire.hop, like):
        text += f", which has {routing.subnets(like)}"
        advice = f"correct the route or a prefix length, or else {advice}"
    if (bottom := out.chain[-1]).link.kind == "dummy":
        text, advice = f"{text}; {bottom} is a dummy, which leads nowhere", "use another master"
    if not into and (lessee := side.world.lessee(wire.hop)):
        text += f"; host-local has leased it to the container {lessee}, which lacks it"
        advice = "is it gone? ipvlan show lists what is left of it"
    route = routing.route_by(side, out.link.name, target, wire.source)
    gateway = route.partition(" via ")[2].partition(" ")[0]
    if side.has(gateway):
        advice = f"correct the gateway {gateway}: it is an address of {side} itself"
    elif gateway and (to := routing.towards(out, target))[:1] == ("via",):
        words = route.replace(f" via {gateway} ", f" via {to[1]} ").split()
        advice += f"; {to[1]} is there: {side.shell('ip', 'route', 'replace', *words)}"
    return Finding(PROBLEM, "unanswered", f"{text}; the route: {route}", advice)


def _silent(out: Port, into: Port, hop: str) -> Finding:
    """Return why an interface does not answer for an address on its network."""
    if into.is_beside(out) and not out.usual and (out.below or out).side is out.side:
        text = f"{out} asks for neighbours, who can't answer it without an address"
        advice = f"hostAccess has it not ask: {out.set_link('arp', 'off')}"
        return Finding(PROBLEM, "host access", text, advice)
    if not into.link.has_arp and not into.is_l3:
        text = f"{into} answers no ARP or ND"
        return Finding(PROBLEM, "neighbour", text, f"let it: {into.set_link('arp', 'on')}")
    who = into if into.has(hop) else into.side
    text = f"{who} has {hop}, but does not answer ARP or ND"
    advice = "look at arp_ignore, arptables, bridge link, bridge vlan, bridge fdb"
    for name in ("all", into.link.name) if ":" not in hop else ():
        key = f"net/ipv4/conf/{name}/arp_ignore"
        if into.side.sysctl(key) > (who is into):  # 1 lets it answer for its own
            text, advice = f"{text} ({key})", f"let it: {into.side.write(key, 0)}"
    return Finding(PROBLEM, "unanswered", text, advice)


# What may be wrong with a step of the way.
STEPS = (_flags, _bridges, host_and_own, _nobody_asked, _masters, _macs, _neighbour)
