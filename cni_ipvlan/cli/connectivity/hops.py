"""Facts: what may be wrong with a hop, on one network."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import permutations, product
from typing import NamedTuple

from cni_ipvlan.cli.connectivity import facts, routing
from cni_ipvlan.cli.connectivity.topology import Port, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Address
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.queries import Neighbour
from cni_ipvlan.plugin.host_access import check_permitted
from cni_ipvlan.plugin.master import Master

# With which value a setting of a bridge's port lets frames pass, how bridge(8) sets that, and the
# kind of the finding if the value is another.
_PORT_SETTINGS = {
    "state": ("forwarding", "3", "bridge"),
    "locked": (False, "off", "bridge"),
    **dict.fromkeys(("flood", "bcast_flood", "mcast_flood"), (True, "on", "bridge flag")),
}


class Hop(NamedTuple):
    """A hop on the path from ``source`` to ``target``: packets leave by ``sender`` to ``next_hop``.

    ``receiver`` is the interface with that address, if it can be seen; ``neighbour`` is the entry
    for that address in the kernel's table. ``entry`` is the name of the interface by which packets
    have come to the sender's side, empty if they begin there.
    """

    source: str
    target: str
    sender: Port
    next_hop: str
    receiver: Port | None
    neighbour: Neighbour = Neighbour()
    entry: str = ""

    @property
    def tags(self) -> dict[Port, tuple[int, ...]]:
        """The interfaces that it leads through and the VLAN tags there, if nothing is missing."""
        return self.sender.segment.get(self.receiver, {}) if self.receiver else {}

    @property
    def ports(self) -> list[Port]:
        """The interfaces that it leads through, as far as they can be seen."""
        ends = (each for each in (self.sender, self.receiver) if each)
        return [*self.tags] or [each for end in ends for each in end.uplinks]


def _check_flags(hop: Hop) -> Iterator[Finding]:
    """Yield that a flag, or a mode of macvlan, keeps two interfaces of one master apart."""
    sender, receiver, master = hop.sender, hop.receiver, hop.sender.parent
    if receiver is None or master is None or receiver.parent is not master:
        return
    for each in (sender, receiver):
        if each.link.kind == "macvlan" and (mode := each.details.get("mode")) != "bridge":
            text = f"{each} is a macvlan in mode {mode}, which keeps it apart from others on "
            yield Finding(PROBLEM, "flag", f"{text}{master}", "use mode bridge for both")
    if sender.link.flag == "private":
        text = f"both are on {master.link.name}, and flag private keeps its interfaces apart"
        advice = "use flag bridge for the networks of that master, if they shall reach each other"
        yield Finding(PROBLEM, "flag", text, advice)
    peer = master.chain[-1].peer
    if sender.link.flag == "vepa" and not (peer and peer.details.get("hairpin")):
        text = f"flag vepa sends their packets to the switch of {master.link.name}, which does not "
        advice = "turn on reflective relay (hairpin) at the switch's port, or use flag bridge"
        if peer and peer.upper:
            advice = f"{advice}: {peer.bridge_command('hairpin', 'on')}"
        yield Finding(PROBLEM, "flag", text + "send them back", advice)
    elif sender.link.flag == "vepa" and peer and peer.upper and peer.bridge_vlans is not None:
        tags = tuple(each.link.vlan for each in sender.chain if each.link.vlan)
        tags_by_port = dict.fromkeys((peer, peer.upper), tags)
        yield from _check_vlan_filter(peer.upper, peer, peer, tags_by_port)


def _check_bridges(hop: Hop) -> Iterator[Finding]:
    """Yield why a bridge on the path keeps frames back."""
    for index, bridge in enumerate(hop.ports):
        if bridge.link.kind == "bridge":
            before, after = hop.ports[max(index - 1, 0) : index], hop.ports[index + 1 : index + 2]
            entry = next((each for each in before if each.upper is bridge), bridge)
            exit_port = next((each for each in after if each.upper is bridge), bridge)
            ports = [each for each in (entry, exit_port) if each is not bridge]
            yield from _check_bridge_ports(bridge, ports, hop.next_hop)
            if hop.receiver and exit_port is not bridge:
                tags = (*hop.tags.get(bridge, ())[-1:], _find_pvid(entry))
                yield from _check_fixed_entry(bridge, exit_port, tags[0], hop.receiver.link.mac)
            if bridge.bridge_vlans is not None and hop.tags:
                yield from _check_vlan_filter(bridge, entry, exit_port, hop.tags)


def _check_ports(hop: Hop) -> Iterator[Finding]:
    """Yield that an end is itself a port of a bridge or bond, which takes all that comes in."""
    for each in filter(None, (hop.sender, hop.receiver)):
        addresses = [ip for ip in each.addresses if (":" in ip) == (":" in hop.next_hop)]
        if addresses and each.upper and not each.bind_device:
            name = each.upper.link.name
            moves = product(addresses, (("delete", each.link.name), ("add", name)))
            argvs = (("ip", "address", verb, ip, "dev", device) for ip, (verb, device) in moves)
            command = " && ".join(each.side.command(*argv) for argv in argvs)
            text = f"{each} has {addresses[0]}, but is a port of {name}, which takes what comes in"
            yield Finding(PROBLEM, "bridge", text, f"give {name} the address: {command}")


def _check_bridge_ports(bridge: Port, ports: Sequence[Port], next_hop: str) -> Iterator[Finding]:
    """Yield which settings of a bridge's ports keep frames back."""
    for port in ports:
        # ARP is broadcast, ND multicast; and the bridge floods no frames to a MAC that it knows.
        harmless = {"bcast_flood" if ":" in next_hop else "mcast_flood"}
        harmless |= {"flood"} if port.details.get("learning", True) else set()
        for name, (expected, word, subject) in _PORT_SETTINGS.items():
            value = port.details.get(name, expected)
            if value != expected and name not in harmless:
                setting = {True: "on", False: "off"}.get(value, value)
                text = f"{port}, a port of {bridge.link.name}, has {name} {setting}"
                advice = f"set it: {port.bridge_command(name, word)}"
                if name == "state" and bridge.details.get("stp_state"):
                    command = bridge.link_command("type", "bridge", "stp_state", "0")
                    advice = f"wait, or look for a loop; without loops, STP may be off: {command}"
                yield Finding(PROBLEM, subject, text, advice)
    if ports[1:] and all(each.details.get("isolated") for each in ports):
        text = f"{ports[0]} and {ports[1]} are isolated ports of {bridge.link.name}"
        command = ports[0].bridge_command("isolated", "off")
        yield Finding(PROBLEM, "bridge", text, f"let one: {command}")


def _check_fixed_entry(bridge: Port, right: Port, vlan: int, mac: str) -> Iterator[Finding]:
    """Yield that a bridge sends the frames for a MAC address not to its port, and learns no other.

    What is permanent is for the bridge itself. A static entry moves, unless it is sticky.
    """
    name, words = bridge.link.name, ("vlan", str(vlan)) if vlan else ()
    for each in bridge.side.entries("bridge", "-j", "fdb", "get", mac, "br", name, *words):
        port, is_local = bridge.side.ports.get(each["ifname"]), each.get("state") == "permanent"
        is_fixed = "sticky" in each.get("flags", ()) or not right.details.get("learning", True)
        if port and port.link.mac != mac and (is_local or (is_fixed and port is not right)):
            place = name if is_local else port
            text = f"{bridge} sends what is for {mac} to {place}, not to {right}"
            delete = ("bridge", "fdb", "delete", mac, "dev", port.link.name, "master", *words)
            advice = f"delete the entry that says so: {bridge.side.command(*delete)}"
            yield Finding(PROBLEM, "bridge", text, advice)


def _check_vlan_filter(
    bridge: Port, entry: Port, exit_port: Port, tags: dict[Port, tuple[int, ...]]
) -> Iterator[Finding]:
    """Yield that a bridge filters VLANs, and does not let frames from one port to another.

    The bridge itself may be either port.
    """
    vlan = (*tags[bridge][-1:], _find_pvid(entry) or 1)[0]
    if not (tags[entry] or tags[exit_port]):
        pvids = [_find_pvid(each) for each in bridge.side.ports.values() if each.upper is bridge]
        other_vlan = _find_pvid(exit_port)
        if other_vlan and pvids.count(other_vlan) > pvids.count(vlan):  # entry is the odd one
            entry, exit_port, vlan = exit_port, entry, other_vlan
    for port, flag in ((entry, "PVID"), (exit_port, "Egress Untagged")):
        flags, is_tagged = (port.bridge_vlans or {}).get(vlan), bool(tags[port])
        # With its tag, a frame may also come in by a port that gives others this tag.
        if flags is None or ((flag in flags) == is_tagged and not (is_tagged and port is entry)):
            text = f"{bridge} does not let frames of VLAN {vlan} pass {port} "
            words = ("vid", str(vlan), *(() if is_tagged else ("pvid", "untagged")))
            words += ("self",) if port is bridge else ()
            command = port.side.command("bridge", "vlan", "add", "dev", port.link.name, *words)
            text += "with its tag" if is_tagged else "untagged"
            yield Finding(PROBLEM, "vlan", text, f"let them: {command}")


def _find_pvid(port: Port) -> int:
    """Return the VLAN of a bridge's port for untagged frames, 0 for none."""
    vlans = (port.bridge_vlans or {}).items()
    return next((vlan for vlan, flags in vlans if "PVID" in flags), 0)


def check_host(hop: Hop) -> Iterator[Finding]:
    """Yield why a host and an interface on its own master don't reach each other."""
    sender, receiver, next_hop = hop.sender, hop.receiver, hop.next_hop
    is_from_host = receiver is not None and receiver.parent is sender
    master, port = (sender, receiver) if is_from_host else (receiver, sender)
    if not (master and port and routing.is_separated(port, master)):
        return
    # The host gets what is sent to its own MAC address, if the container knows that.
    if not is_from_host and (hop.neighbour.mac == master.link.mac or port.is_l3):
        return
    siblings = (each for each in master.side.ports.values() if each.shares_master(port))
    host_port = next(siblings, None)
    if host_port is None:
        text = f"the kernel lets no packets pass between a host and its own {port.link.kind} "
        yield Finding(PROBLEM, "host", f"{text}interfaces", _advise_host_access(port, master))
    elif is_from_host:
        yield from facts.check_states(host_port.chain)
        name = host_port.link.name
        source = ("src", hop.source) if master.side.has_address(hop.source) else ()
        route = (next_hop, "dev", name, *source)
        diversion = routing.show_route(master.side, "", next_hop, hop.source)
        text = f"the host has {name} beside {port}, but does not send to {next_hop} by it"
        text += f"; the route: {diversion}"
        command = master.side.command("ip", "route", "replace", *route)
        advice = _refuse_route(next_hop, master) or f"add the route: {command}"
        if command := routing.restore_rule(master.side, next_hop, "main", "32766"):
            advice = f"no rule leads to its table main; add one: {command}"
        elif " table " in diversion:
            advice = f"correct the rule that leads there: {master.side.command('ip', 'rule')}"
        yield Finding(PROBLEM, "host access", text, advice)
    else:
        replace = commands.neighbour_replace(next_hop, master.link.mac, port.link.name)
        command = port.side.command(*replace)
        text = f"{port} has no permanent neighbour entry for {next_hop}, the host"
        yield Finding(PROBLEM, "host access", text, f"hostAccess makes it: {command}")


def _advise_host_access(port: Port, master: Port) -> str:
    """Return what lets a host and its own interface reach each other.

    The commands do what hostAccess does, but under another name for the host's interface:
    hostAccess would take away what it has not made.
    """
    link, command, name = port.link, master.side.command, f"ipvl{master.link.ifindex}"
    if not link.is_ipvlan:
        return "use another interface of the host, or one of the same kind on that master"
    if master.bind_device:
        return f"use another interface of the host: {master} is in a VRF, where hostAccess can't be"
    if link.flag != "bridge":
        return f"use flag bridge; with {link.flag}, hostAccess would be of no help"
    advice = "set hostAccess in the network, for new containers"
    record, key = port.record, Master(master.link, master.side.netns).key
    if record and record.host_routes:
        advice = "the host's interface for hostAccess is gone; the next container makes it again"
    addresses = [each for each in port.ips if not _refuse_route(each, master)]
    # A container's owner may show another mode, which the new interface would give to all.
    if not (record and record.master == key and record.has_mode_of(link) and addresses):
        return advice
    add = commands.link_add_ipvlan(master.link.name, name, link.mode, link.flag, 0)
    settings = (commands.link_set(name, *words) for words in (("up",), ("arp", "off")))
    lines = [f"{advice}; for this one:", *(command(*each) for each in (add, *settings))]
    for address in addresses:
        source = of_family(address, master.addresses)[0]
        lines.append(command("ip", "route", "replace", address, "dev", name, "src", source))
        if link.mode == "l2":
            replace = commands.neighbour_replace(source, master.link.mac, link.name)
            lines.append(port.side.command(*replace))
    return "\n".join(lines)


def _refuse_route(address: str, master: Port) -> str:
    """Return why hostAccess would give the host no route to an address; empty if it would."""
    if not of_family(address, master.addresses):
        return f"{master} has no address of the family of {address}"
    prefix = Address(f"{address}/{ip_address(address).max_prefixlen}")
    try:
        check_permitted(master.side.topology.tx, Master(master.link), [prefix])
    except CniError as error:
        return error.msg
    return ""


def _check_segment(hop: Hop) -> Iterator[Finding]:
    """Yield that nothing connects the two: subnets, VLANs or masters differ."""
    if hop.receiver is None or hop.receiver in hop.sender.segment:
        return
    sender, receiver, next_hop = hop.sender, hop.receiver, hop.next_hop
    sources = [each for each in sender.addresses if is_near(next_hop, [each])]
    targets = [each for each in receiver.addresses if is_near(next_hop, [each])]
    subnets = [each for each in targets if not each.endswith(("/32", "/128"))]  # not a point's
    ips = of_family(next_hop, sources)
    if ips and subnets and not any(is_near(each, subnets) for each in ips):
        text = f"{sender} has {sources[0]}, so {next_hop} seems to be near, but {receiver} is "
        text += "elsewhere"
        yield Finding(PROBLEM, "masters", text, "correct the prefix length of its address")
    elif sender.vlans != receiver.vlans:
        text = f"{sender} is in {sender.vlans}, {receiver} is in {receiver.vlans}"
        yield Finding(PROBLEM, "vlan", text, "use the same option vlan, or the same VLAN, for both")
    elif tunnel := next(filter(_is_tunnel, sender.chain), None):  # its way is not seen
        completed = sender.side.run(commands.ping(next_hop, sender.link.name))
        if completed.was_run and completed.status:
            other_end = next(filter(_is_tunnel, receiver.chain), receiver)
            text = f"{tunnel}, a tunnel to {other_end}, lets nothing pass"
            advice = "look at filters and routes between its ends, and compare these"
            show = ("ip", "-d", "link", "show")
            ends = (each.side.command(*show, each.link.name) for each in (tunnel, other_end))
            yield Finding(PROBLEM, "carrier", text, f"{advice}: {'; '.join(ends)}")
    else:
        place = receiver.chain[-1].peer or receiver.chain[-1]
        text = f"{next_hop} is looked for on {sender.chain[-1]}, but {receiver} is on {place}"
        advice = "use one master, connect the two, or use a router"
        if route := routing.find_route(sender, next_hop):
            command = sender.side.command("ip", "route", "replace", next_hop, *route)
            advice = f"{advice}: {command}"
        for near, far in permutations((sender.segment, receiver.segment)):
            bridges = {each.side: each for each in near if each.link.kind == "bridge"}
            for port in (each for each in far if each.peer and each.side in bridges):
                if not (port.upper or port.addresses or port.side.topology.children[port]):
                    text = f"{port} is a port of no bridge, though {bridges[port.side]} is there"
                    name = bridges[port.side].link.name
                    advice = f"make it one: {port.link_command('master', name)}"
        yield Finding(PROBLEM, "masters", text, advice)


def _is_tunnel(port: Port) -> bool:
    is_tunnel = port.link.kind == "macsec" or "remote" in port.details
    return is_tunnel or not port.link.is_ethernet


def check_macs(hop: Hop) -> Iterator[Finding]:
    """Yield that two on a network have the same MAC address, which no switch can tell apart."""
    for port, other in product(filter(None, (hop.receiver, hop.sender)), hop.sender.segment):
        # A port of a bridge or bond may have the MAC address of that.
        is_same = port.link.mac and port.link.mac == other.link.mac and not other.upper
        if is_same and other.chain[-1] is not port.chain[-1] and not port.upper:
            text = f"{port} and {other} have the same MAC address, {port.link.mac}"
            command = other.chain[-1].link_command("address", "MAC")
            yield Finding(PROBLEM, "duplicate", text, f"give one of them another: {command}")
            return


def _check_neighbour(hop: Hop) -> Iterator[Finding]:
    """Yield that the MAC address of the next hop is unknown, or wrong."""
    sender, receiver, mac = hop.sender, hop.receiver, hop.neighbour.mac
    link = sender.link
    if not link.has_arp:  # as in mode l3, of a dummy, and beside a host's containers
        is_beside = receiver is not None and sender.shares_master(receiver)
        may_ask = link.is_ethernet and link.kind != "dummy" and not sender.is_l3
        if may_ask and not is_beside:
            text = f"{sender} asks for no neighbour"
            yield Finding(PROBLEM, "neighbour", text, f"let it: {sender.link_command('arp', 'on')}")
    elif not mac:
        if hop.neighbour.state:  # else it was not asked
            yield report_unanswered(hop)
    elif receiver and mac != receiver.link.mac and sender.parent is not receiver:
        others = (each for each in receiver.side.ports.values() if each.link.mac == mac)
        other = next(others, None)
        if other is None or hop.neighbour.is_permanent or ":" in hop.next_hop:
            yield report_wrong_neighbour(hop, f"{receiver} has {receiver.link.mac}")
            return
        text = f"{other} answers for {hop.next_hop}, too, which is an address of {receiver}"
        command = other.side.sysctl_command(f"net/ipv4/conf/{other.link.name}/arp_ignore", 1)
        advice = f"have it answer for its own only: {command} && {_ask_again(hop)}"
        yield Finding(PROBLEM, "neighbour", text, advice)


def report_wrong_neighbour(hop: Hop, truth: str) -> Finding:
    """Return that a neighbour's MAC address is wrong."""
    sender, (_, mac, state) = hop.sender, hop.neighbour
    text = f"{sender} takes {mac} for {hop.next_hop} ({state.lower()}), but {truth}"
    return Finding(PROBLEM, "neighbour", text, f"let it ask again: {_ask_again(hop)}")


def _ask_again(hop: Hop) -> str:
    delete = ("ip", "neighbour", "delete", hop.next_hop, "dev", hop.sender.link.name)
    return hop.sender.side.command(*delete)


def report_unanswered(hop: Hop) -> Finding:
    """Return that nobody answers for an address on a network."""
    sender, receiver, target, next_hop = hop.sender, hop.receiver, hop.target, hop.next_hop
    side, master = sender.side, facts.find_asker(sender)
    if receiver and receiver in sender.segment:
        return _explain_silence(sender, receiver, next_hop)
    what = next_hop if next_hop == target else f"{next_hop}, the gateway to {target},"
    text = f"nobody answers for {what} on the network of {master}"
    text += f" ({sender.vlans})" if any(each.link.vlan for each in sender.chain) else ""
    advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
    subnets = [each for each in master.addresses if (":" in each) == (":" in next_hop)]
    if subnets and next_hop[:4] != "fe80" and not is_near(next_hop, subnets):
        text += f", which has {routing.format_subnets(subnets)}"
        advice = f"correct the route or a prefix length, or else {advice}"
    if (lowest := sender.chain[-1]).link.kind == "dummy":
        text = f"{text}; {lowest} is a dummy, which leads nowhere"
        advice = f"{advice}; or use another master"
    if not receiver and (lessee := side.topology.find_lessee(next_hop)):
        text += f"; host-local has leased it to the container {lessee}, which lacks it"
        advice = "is it gone? ipvlan show lists what is left of it"
    route = routing.show_route(side, sender.link.name, target, hop.source, hop.entry)
    of_ipv4 = route.replace(" via inet6 ", " via ")  # which may have a gateway of IPv6
    gateway = of_ipv4.partition(" via ")[2].partition(" ")[0]
    gateway = next_hop if f" via {next_hop} " in route else gateway  # of several
    if side.has_address(gateway):
        advice = f"correct the gateway {gateway}: it is an address of {side} itself"
    elif gateway and next_hop not in (gateway, target):
        family = ("-6",) if ":" in target else ()
        command = side.command("ip", *family, "route", "flush", "cache")
        advice = f"{gateway} may have redirected to it; forget that: {command}"
    elif gateway and (better := routing.find_route(sender, target)):
        is_router = better[0] == "via"
        via = f" via {better[1]} " if is_router else " "
        prefix, *words = of_ipv4.replace(f" via {gateway} ", via).split()
        command = side.command("ip", "route", "replace", prefix if is_router else target, *words)
        advice += f"; {better[1] if is_router else target} is there: {command}"
    return Finding(PROBLEM, "unanswered", f"{text}; the route: {route}", advice)


def _explain_silence(sender: Port, receiver: Port, next_hop: str) -> Finding:
    """Return why an interface does not answer for an address on its network."""
    if unused := next(facts.check_unused(receiver, next_hop), None):
        return unused
    if gateway := routing.find_l3_gateway(sender, receiver, next_hop):
        text = f"in mode {receiver.link.mode} nobody answers ARP for {next_hop}, and {sender.side} "
        command = sender.side.command("ip", "route", "add", next_hop, *gateway)
        text += "has no route to it through the host"
        return Finding(PROBLEM, "return", text, f"add it there: {command}")
    has_master_here = (sender.parent or sender).side is sender.side
    if receiver.shares_master(sender) and not sender.addresses and has_master_here:
        text = f"{sender} asks for neighbours, who can't answer it without an address"
        advice = f"hostAccess has it not ask: {sender.link_command('arp', 'off')}"
        return Finding(PROBLEM, "host access", text, advice)
    if not receiver.link.has_arp and not receiver.is_l3:
        text = f"{receiver} answers no ARP or ND"
        return Finding(PROBLEM, "neighbour", text, f"let it: {receiver.link_command('arp', 'on')}")
    holder = receiver if receiver.has_address(next_hop) else receiver.side
    subject, text = "silent", f"{holder} has {next_hop}, but does not answer ARP or ND"
    advice = "look at arp_ignore, arptables, ebtables, bridge link, bridge vlan, bridge fdb"
    is_elsewhere = ":" in next_hop and holder is not receiver
    if is_elsewhere and (route := routing.find_route(sender, next_hop)):
        text += f": in IPv6, {receiver} answers for its own addresses only"
        command = sender.side.command("ip", "route", "replace", next_hop, *route)
        return Finding(PROBLEM, "unanswered", text, f"have it routed: {command}")
    for name in ("all", receiver.link.name) if ":" not in next_hop else ():
        key = f"net/ipv4/conf/{name}/arp_ignore"
        if receiver.side.read_sysctl(key) > (holder is receiver):  # 1 lets it answer for its own
            subject, text = "unanswered", f"{text} ({key})"
            advice = f"let it: {receiver.side.sysctl_command(key, 0)}"
    return Finding(PROBLEM, subject, text, advice)


HOP_CHECKS = (
    _check_flags,
    _check_ports,
    _check_bridges,
    check_host,
    _check_segment,
    check_macs,
    _check_neighbour,
)
