"""Facts: where a side's routes, rules and parameters send packets, or why nowhere."""

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from itertools import chain
from typing import Any

from cni_ipvlan.cli.connectivity import facts
from cni_ipvlan.cli.connectivity.topology import Port, Side, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.iproute import commands, queries

# The kernel lets no packets pass between such interfaces and the host of their master.
_SEPARATED_KINDS = (*queries.IPVLAN_KINDS, *queries.MACVLAN_KINDS)
_KINDS = ("blackhole", "unreachable", "prohibit", "throw")  # of routes and rules
_KEYS = {"priority", "src", "table", "protocol"}  # of a rule for all packets
# With one of these keys, a rule is not about echoes.
_OTHER_KEYS = {"fwmark", "oif", "tos", "sport", "sport_start", "dport", "dport_start"}
_OTHER_KEYS |= {"suppress_prefixlength"}  # WireGuard's, for all but the default route


def show_route(side: Side, device: str, target: str, source: str = "", entry: str = "") -> str:
    """Return the route by which packets leave a side, by an interface if given, as ip prints it.

    ``entry`` is the interface by which packets from elsewhere come in.
    """
    words = _words_from(side, source, entry)
    if not words and (found := find_route_by_source(side, source, target, device)):
        keys = (("via", "gateway"), ("dev", "dev"), ("table", "table"), ("metric", "metric"))
        pairs = ((word, str(found[key])) for word, key in keys if key in found)
        return " ".join((found["dst"], *chain.from_iterable(pairs)))
    words += ("oif", device) if device and "iif" not in words else ()
    words += commands.of_echoes(target)
    output = side.run(("ip", "route", "get", "fibmatch", target, *words)).stdout.decode()
    output = re.sub(r" expires \S+", "", output)  # in commands, ip does not take what it prints
    return " ".join(output.split()) or "not known"


def _words_from(side: Side, source: str, entry: str) -> tuple[str, ...]:
    if side.has_address(source):
        return ("from", source)
    return ("from", source, "iif", entry) if source and entry else ()


def find_decision(
    side: Side, source: str, target: str, entry: Port | None = None, device: str = ""
) -> dict[str, Any]:
    """Return the route, with its rule, that decides about echoes, or a rule's own type.

    They come in by ``entry``, if given, and leave by ``device`` only, if given. ip route get takes
    no source that is not the side's own, and does not say what it obeys if there is no route.
    """
    ip = ("ip", "-6" if ":" in target else "-4", "-j")
    names = (entry.link.name, entry.link.master) if entry else ("lo",)
    entries = side.entries(*ip, "route", "show", "table", "all", "match", target)
    routes = [{**each, **hop} for each in entries for hop in each.get("nexthops", ({},))]
    routes = [each for each in routes if device in ("", each.get("dev")) or "type" in each]
    prefixes = {each["dst"]: each["dst"].replace("default", "all/0") for each in routes}
    lengths = {key: int(prefix.partition("/")[2] or 128) for key, prefix in prefixes.items()}
    routes.sort(key=lambda each: (-lengths[each["dst"]], each.get("metric", 0)))
    thrown: dict[str, Any] = {}
    for rule in side.entries(*ip, "rule", "show"):
        is_from = not source or _contains(_format_prefix(rule, "src"), source)
        is_to = _contains(_format_prefix(rule, "dst"), target) and not _OTHER_KEYS & rule.keys()
        is_by = rule.get("iif", names[0]) in names and not rule.get("uid_start")  # root asks
        is_icmp = rule.get("ipproto", "icmp") in ("icmp", "ipv6-icmp")
        if (is_from and is_to and is_by and is_icmp) == ("not" in rule):
            continue
        matches = [each for each in routes if each.get("table", "main") == rule.get("table")]
        own = {"type": rule["action"]} if "action" in rule else {}
        found = {**(own or next(iter(matches), {})), "rule": rule}
        if found.get("type") == "throw":  # a lone one keeps packets from no route of its table
            thrown = found if matches[1:] else thrown
        elif own or matches:
            return found
    return thrown


def find_route_by_source(side: Side, source: str, target: str, device: str) -> dict[str, Any]:
    """Return the route by an interface to which a rule leads that names another side's source."""
    if not (source and device) or side.has_address(source):
        return {}
    found = find_decision(side, source, target, device=device)
    return found if found and found["rule"]["src"] != "all" and "type" not in found else {}


def report_detour(
    port: Port, device: str, target: str, source: str = "", entry: str = ""
) -> Finding:
    """Return that packets leave by another interface than they should."""
    side, route = port.side, show_route(port.side, device, target, source, entry)
    text = f"packets to {target} leave {side} by {device}, not by {port.link.name}"
    text += f"; the route: {route}"
    command = side.command("ip", "route", "get", target, *_words_from(side, source, entry))
    advice = f"a better route or a rule says so: {command}"
    if (destination := find_route(port, target)) and not {"table", "known"} & {*route.split()}:
        command = side.command("ip", "route", "replace", target, *destination)
        advice = f"correct that, or have them leave by {port.link.name}: {command}"
    return Finding(PROBLEM, "leaves by", text, advice)


def find_route(sender: Port, target: str) -> tuple[str, ...]:
    """Return the words of a route to an address by an interface; empty if no router is there."""
    side, topology = sender.side, sender.side.topology
    holder = next(iter(topology.find_holders(target, sender)), None)
    # A flag may keep siblings apart, but not what a router sends.
    masters = (sender, sender.parent)
    is_apart = holder and holder.link.flag in ("private", "vepa") and holder.parent in masters
    if holder in sender.segment and not (is_apart and not is_near(target, sender.addresses)):
        gateway = find_l3_gateway(sender, holder, target)
        return () if is_separated(holder, sender) else gateway or ("dev", sender.link.name)
    key = commands.forwarding_key(target)
    routers = (each for each in sender.segment if each.side is not side and not each.link.is_ipvlan)
    for each in routers:
        siblings = (port.shares_master(sender) for port in each.side.ports.values())
        if is_separated(sender, each) and not any(siblings):  # without hostAccess
            continue
        ips = [ip for ip in of_family(target, each.addresses) if is_near(ip, sender.addresses)]
        is_router = ips and (each.side.read_sysctl(key) or each.side.has_address(target))
        # A router that would send packets back is of no use but to siblings.
        useless = "" if is_apart else each.link.name
        if is_router and each.side.get_route(target).device not in ("", useless):
            return ("via", ips[0])
    return ()


def find_l3_gateway(sender: Port, holder: Port | None, address: str) -> tuple[str, ...]:
    """Return the words of a route through the host to an interface in mode l3; empty if none."""
    master = holder.parent if holder and holder.is_l3 else None
    siblings = (each for each in sender.side.ports.values() if each.parent is master)
    if not master or master.side is sender.side or any(siblings):
        return ()
    link_local = of_family("::", (each.address for each in master.link.addresses))
    ips = (*of_family(address, master.addresses), *link_local, "ADDRESS-OF-THE-HOST")
    other_family = ("inet6",) if ":" in ips[0] and ":" not in address else ()
    return ("via", *other_family, ips[0], "dev", sender.link.name)


def find_separated(
    side: Side, address: str, sender: Port | None = None
) -> Iterator[tuple[Port, Port]]:
    """Yield interfaces with an address, each with its master, that its master's side can't reach.

    An interface that gets what ``sender`` sends is none of them.
    """
    for port in side.topology.find_holders(address):
        if (master := port.parent) and master.side is side and is_separated(port, master):
            is_l3 = port.is_l3 and not (sender and port.shares_master(sender))
            if sender in (None, master) or is_l3:
                yield port, master


def is_separated(port: Port, master: Port) -> bool:
    """Whether the kernel lets no packets pass between an interface and its master's host."""
    return port.parent is master and port.link.kind in _SEPARATED_KINDS


def report_local_route(side: Side, target: str, source: str) -> Finding:
    """Return that a side keeps packets for an address that it does not have."""
    route = show_route(side, "lo", target, source)
    text = f"{side} sends what goes to {target} to itself, by the route {route}"
    command = side.command("ip", "route", "delete", *route.split())
    return Finding(PROBLEM, "blackhole", text, f"if it is not meant so: {command}")


def report_own(side: Side, target: str, route: queries.RouteLookup) -> Finding:
    """Return that a side takes another's address for its own, or for a broadcast address."""
    if side.has_address(target):
        return facts.report_duplicate(f"{target} is an address of {side}, too, which so keeps it")
    shown = show_route(side, "", target)
    text = f"{side} takes {target} for a {route.kind} address, by the route {shown}"
    command = side.command("ip", "route", "delete", *shown.split())
    # Whose owner has given a container such an address should not get the host's packets.
    other = f"delete the route: {command}" if side.netns else "give the other one another address"
    advice = f"correct the prefix length of its addresses, or else {other}"
    return Finding(PROBLEM, "local", text, advice)


def report_loop(target: str, one: Side, other: Side) -> Finding:
    """Return that a side sends packets to another one, which sends them back."""
    text = f"packets to {target} go round through {one} and {other}"
    command = one.command("ip", "route", "get", target)
    return Finding(PROBLEM, "route", text, f"correct the routes there: {command}")


def explain_missing_route(side: Side, target: str, port: Port | None) -> Iterator[Finding]:
    """Yield that a side has no route to an address, which may be on the network of ``port``."""
    sender = next((each for each in (port.chain if port else ()) if each.side is side), None)
    for each in filter(None, dict.fromkeys((port, sender)) if ":" in target else ()):
        reason, command = facts.explain_missing_ipv6(each)
        if reason and not of_family(target, each.addresses):
            advice = f"let it: {command}; then give it its addresses again"
            advice += ": attach it anew" if each.owner else ""
            yield Finding(PROBLEM, "address", f"{each} {reason}", advice)
            return
    addresses = [each for each in side.addresses if (":" in each) == (":" in target)]
    text = f"{side} has no route to {target}; its subnets: {format_subnets(addresses) or 'none'}"
    for other in side.ports.values():
        if other is sender or is_near(target, other.addresses):
            vrfs = [each for each in (other.upper,) if each and other.bind_device]
            yield from facts.check_states([*vrfs, *other.uplinks])
            text += "".join(f"; {other} is in the VRF {each.link.name}" for each in vrfs)
    ports = (each for each in side.ports.values() if each is not sender and each.addresses)
    destinations = (find_route(each, target) for each in (*([sender] if sender else ()), *ports))
    unknown = ("dev", sender.link.name) if sender and sender.is_l3 else ("via", "GATEWAY")
    destination = next(filter(None, destinations), unknown)
    is_container = side.netns and any(each.owner for each in side.ports.values())
    where = "to the routes of ipam, or a default route" if is_container else "there"
    vrf = ("vrf", sender.link.master) if sender and sender.bind_device else ()
    command = side.command("ip", "route", "add", target, *destination, *vrf)
    advice = f"add it {where}; for now: {command}"
    asker = facts.find_asker(port) if port else None
    subnets = [each for each in asker.addresses if is_near(target, [each])] if asker else []
    is_narrow = port and not is_near(target, port.addresses)
    # In mode l3 the host need not have an address.
    if not addresses and (port is None or port.side is side):
        family = "global IPv6" if ":" in target else "IPv4"
        text = f"{side} has no {family} address, and no route to {target}"
        advice = f"give it one{', by addresses or ranges of ipam' if is_container else ''}"
    elif port and is_narrow and any(is_near(each, subnets) for each in port.ips):
        advice = f"correct the prefix length of its address: {asker} has {subnets[0]}"
    if command := restore_rule(side, target, "main", "32766"):
        text, advice = f"{text}; no rule leads to its table main", f"add one: {command}"
    yield Finding(PROBLEM, "route", text, advice)


def format_subnets(addresses: Sequence[str]) -> str:
    """Return the subnets of addresses, in words."""
    return ", ".join(dict.fromkeys(str(ip_interface(each).network) for each in addresses))


def restore_rule(side: Side, target: str, table: str, priority: str) -> str:
    """Return the command that restores the kernel's rule for a table; empty if it exists."""
    ip = ("ip", "-6" if ":" in target else "-4")
    rules = side.entries(*ip, "-j", "rule", "show")
    # A rule for some packets only has more keys.
    general = [each.get("table") for each in rules if each.keys() <= _KEYS and each["src"] == "all"]
    command = side.command(*ip, "rule", "add", "priority", priority, "lookup", table)
    return "" if not rules or table in general else command


def find_blackhole(
    side: Side, source: str, target: str, entry: Port | None = None, device: str = ""
) -> Iterator[Finding]:
    """Yield the rule or route that throws packets away; the words are as of ``find_decision``."""
    found = find_decision(side, source, target, entry, device)
    kind, rule = found.get("type"), found.get("rule", {})
    if kind not in _KINDS:
        return
    src, dst, priority = _format_prefix(rule, "src"), _format_prefix(rule, "dst"), rule["priority"]
    words = (*(("not",) if "not" in rule else ()), "from", src, "to", dst)
    for key in ("iif", "ipproto"):
        words += (key, rule[key]) if key in rule else ()
    reason = f"by the rule {priority}: {' '.join(words)}"
    delete = ("rule", "delete", "priority", str(priority), *words, kind)  # others may have that
    if "action" not in rule:
        prefix = found["dst"]
        of_table = ("table", rule["table"]) if rule["table"] != "main" else ()
        # A route by a nexthop object has its kind from that.
        route = (prefix, "nhid", str(found["nhid"])) if "nhid" in found else (kind, prefix)
        delete = ("route", "delete", *route, *of_table)
        reason = f"{' '.join((prefix, *of_table))}{f' ({reason})' if of_table else ''}"
    command = side.command("ip", "-6" if ":" in target else "-4", *delete)
    text = f"{side} throws away what goes to {target}: {kind} {reason}"
    yield Finding(PROBLEM, "blackhole", text, f"if it is not meant so: {command}")


def _format_prefix(rule: dict[str, Any], key: str) -> str:
    length = f"/{rule[f'{key}len']}" if f"{key}len" in rule else ""
    return f"{rule.get(key, 'all')}{length}"


def _contains(prefix: str, address: str) -> bool:
    return prefix in ("all", "default") or ip_address(address) in ip_network(prefix, strict=False)


def check_forwarding(entry: Port, target: str) -> Iterator[Finding]:
    """Yield why a side neither forwards nor accepts packets that come in by ``entry``."""
    holder = next((each for each in entry.side.ports.values() if each.has_address(target)), None)
    if holder and (unused := [*facts.check_unused(holder, target)]):
        yield from unused
        return
    if holder:
        text = f"{entry.side} has {target}, but takes it for another's: its table local lacks it"
        words = ("ip", "route", "add", "local", target, "dev", holder.link.name, "table", "local")
        command = restore_rule(entry.side, target, "local", "0") or entry.side.command(*words)
        yield from facts.check_states(holder.chain)
        yield Finding(PROBLEM, "delivery", text, f"restore that: {command}")
        return
    all_key = commands.forwarding_key(target)
    key = all_key if ":" in target else f"net/ipv4/conf/{entry.link.name}/forwarding"
    if entry.side.read_sysctl(key) == 0:
        text = f"{entry.side} is the way to {target}, but does not forward packets ({key} is 0)"
        command = entry.side.sysctl_command(key if entry.side.read_sysctl(all_key) else all_key, 1)
        yield Finding(PROBLEM, "forwarding", text, f"let it: {command}")
