"""Facts: where a side's routes, rules and parameters send packets, or why nowhere."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from itertools import chain, product
from typing import Any

from cni_ipvlan.cli.connectivity import facts
from cni_ipvlan.cli.connectivity.world import Port, Side, is_near, of_family
from cni_ipvlan.cli.output import PROBLEM, Finding
from cni_ipvlan.iproute import queries

_KEPT_APART = (*queries.IPVLAN_KINDS, "macvlan", "macvtap")  # from the host on their master
_THROWN_AWAY = {  # types of routes and rules, by the answer of ip route get
    "Invalid argument": ("blackhole",),
    "No route to host": ("unreachable",),
    "Network is unreachable": ("unreachable", "throw"),  # the first is a rule's
    "Permission denied": ("prohibit",),
}
_NOT_OF_ECHOES = {"fwmark", "tos", "sport", "sport_start", "dport", "dport_start"}  # in a rule


def route_by(side: Side, device: str, target: str, source: str = "") -> str:
    """Return the route by which packets leave a side, as ip prints it."""
    words = (target, "oif", device, *(("from", source) if side.has(source) else ()))
    shown = side.answer(("ip", "route", "get", "fibmatch", *words)).stdout.decode()
    return " ".join(shown.split()) or "not known"


def leaves_by(port: Port, device: str, target: str, source: str = "") -> Finding:
    """Return that packets leave by another interface than they should."""
    side, route = port.side, route_by(port.side, device, target, source)
    text = f"packets to {target} leave {side} by {device}, not by {port.link.name}"
    text += f"; the route: {route}"
    advice = f"a better route or a rule says so: {side.shell('ip', 'route', 'get', target)}"
    if (to := towards(port, target)) and not {"table", "known"} & {*route.split()}:
        better = side.shell("ip", "route", "replace", target, *to)
        advice = f"correct that, or have them leave by {port.link.name}: {better}"
    return Finding(PROBLEM, "leaves by", text, advice)


def towards(out: Port, target: str) -> tuple[str, ...]:
    """Return how a route leads to an address by an interface: through a router that is there."""
    side, world = out.side, out.side.world
    holder = next(iter(world.holders(target, out)), None)
    if holder and holder in out.joined:
        via = through(side, holder, target)
        is_own = is_kept_apart(holder, out)
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


def through(side: Side, holder: Port | None, address: str) -> str:
    """Return the host's address through which an interface in mode l3 is reached, if by that."""
    master = holder.below if holder and holder.is_l3 else None
    if not master or master.side is side or any(p.below is master for p in side.ports.values()):
        return ""
    return (*of_family(address, master.usual), "ADDRESS-OF-THE-HOST")[0]


def kept_apart(side: Side, address: str, out: Port | None = None) -> Iterator[tuple[Port, Port]]:
    """Yield who has an address on a master of a side, and that; not who gets what ``out`` sends."""
    for port in side.world.holders(address):
        if (master := port.below) and master.side is side and is_kept_apart(port, master):
            is_l3 = port.is_l3 and not (out and port.is_beside(out))
            if out in (None, master) or is_l3:
                yield port, master


def is_kept_apart(port: Port, master: Port) -> bool:
    """Whether the kernel lets no packets pass between an interface and its master's host."""
    return port.below is master and port.link.kind in _KEPT_APART


def to_itself(side: Side, target: str, source: str) -> Finding:
    """Return that a side keeps packets for an address that it does not have."""
    route = route_by(side, "lo", target, source)
    text = f"{side} sends what goes to {target} to itself, by the route {route}"
    remove = side.shell("ip", "route", "delete", *route.split())
    return Finding(PROBLEM, "blackhole", text, f"if it is not meant so: {remove}")


def loop(target: str, one: Side, other: Side) -> Finding:
    """Return that a side sends packets to another one, which sends them back."""
    text = f"packets to {target} go round through {one} and {other}"
    show = one.shell("ip", "route", "get", target)
    return Finding(PROBLEM, "route", text, f"correct the routes there: {show}")


def no_route(side: Side, target: str, by: Port | None) -> Iterator[Finding]:
    """Yield that a side has no route to an address, which may be on the network of ``by``."""
    if by and ":" in target and not of_family(target, by.usual):
        why, cure = facts.against_ipv6(by)
        if why:
            advice = f"let it: {cure}; then attach it again, for its addresses"
            yield Finding(PROBLEM, "address", f"{by} {why}", advice)
            return
    like = [each for each in side.usual if (":" in each) == (":" in target)]
    text = f"{side} has no route to {target}; its subnets: {subnets(like) or 'none'}"
    out = next((each for each in (by.chain if by else ()) if each.side is side), None)
    for port in side.ports.values():
        if port is out or is_near(target, port.usual):
            yield from facts.states(port.outwards)
            text += f"; {port} is in the VRF {port.link.master}" if port.by else ""
    ports = (each for each in side.ports.values() if each is not out and each.usual)
    ways = (towards(each, target) for each in (*([out] if out else ()), *ports))
    to = next(filter(None, ways), ("via", "GATEWAY"))
    is_ours = side.netns and any(each.owner for each in side.ports.values())
    where = "to the routes of ipam, or a default route" if is_ours else "there"
    advice = f"add it {where}; for now: {side.shell('ip', 'route', 'add', target, *to)}"
    wider = [each for each in facts.asking(by).usual if is_near(target, [each])] if by else []
    if not like and (by is None or by.side is side):  # else it need not have one: mode l3
        family = "global IPv6" if ":" in target else "IPv4"
        text = f"{side} has no {family} address, and no route to {target}"
        advice = f"give it one{', by addresses or ranges of ipam' if is_ours else ''}"
    elif by and not is_near(target, by.usual) and any(is_near(each, wider) for each in by.plain):
        advice = f"correct the prefix length of its address: {facts.asking(by)} has {wider[0]}"
    if restore := _lacks_rule(side, target, "main", "32766"):
        text, advice = f"{text}; no rule leads to its table main", f"add one: {restore}"
    yield Finding(PROBLEM, "route", text, advice)


def subnets(addresses: Sequence[str]) -> str:
    """Return the subnets of addresses, in words."""
    return ", ".join(str(ip_interface(each).network) for each in addresses)


def _lacks_rule(side: Side, target: str, table: str, priority: str) -> str:
    """Return the command that adds the rule for a table of the kernel's, if there is none."""
    ip = ("ip", "-6" if ":" in target else "-4")
    tables = [each.get("table") for each in side.entries(*ip, "-j", "rule", "show")]
    add = side.shell(*ip, "rule", "add", "priority", priority, "lookup", table)
    return "" if not tables or table in tables else add


def thrown_away(
    side: Side, source: str, target: str, answer: str | None = None
) -> Iterator[Finding]:
    """Yield the rules or routes that throw packets away, the first one first.

    ``answer`` is that of ip route get; without one, only rules that name a source count.
    """
    ip = ("ip", "-6" if ":" in target else "-4")
    found = (of for words, of in _THROWN_AWAY.items() if answer is None or words in answer)
    kinds = dict.fromkeys(chain.from_iterable(found))
    if not kinds:
        return
    routes = side.entries(*ip, "-j", "route", "show", "table", "all", "match", target)
    rules = side.entries(*ip, "-j", "rule", "show")
    for kind, rule in product(kinds, rules):
        text = f"{side} throws away what goes to {target}: {kind}"
        src, dst, priority = _prefix(rule, "src"), _prefix(rule, "dst"), str(rule["priority"])
        is_from = not source or _contains(src, source)
        is_to = _contains(dst, target) and not _NOT_OF_ECHOES & rule.keys()
        is_to = is_to and not rule.get("uid_start")  # root asks
        if (is_from and is_to) == ("not" in rule) or (src == "all" and answer is None):
            continue
        named = f"by the rule {priority}: {'not ' if 'not' in rule else ''}from {src} to {dst}"
        if rule.get("action") == kind:
            remove = side.shell(*ip, "rule", "delete", "priority", priority)
            yield Finding(
                PROBLEM, "blackhole", f"{text} {named}", f"if it is not meant so: {remove}"
            )
        table = rule.get("table")
        there = [each for each in routes if each.get("table", "main") == table]
        for each in (each for each in there if each.get("type") == kind):
            if kind != "throw" or there[1:]:  # else its table has nothing else to keep them from
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


def forwarding(entry: Port, target: str) -> Iterator[Finding]:
    """Yield why a side does not pass on, or not take, what has come in by ``entry``."""
    own = next((each for each in entry.side.ports.values() if each.has(target)), None)
    if own:
        text = f"{entry.side} has {target}, but takes it for another's: its table local lacks it"
        add = ("ip", "route", "add", "local", target, "dev", own.link.name, "table", "local")
        restore = _lacks_rule(entry.side, target, "local", "0") or entry.side.shell(*add)
        yield from facts.states(own.chain)
        yield Finding(PROBLEM, "delivery", text, f"restore that: {restore}")
        return
    link = "all" if ":" in target else entry.link.name
    key = f"net/{'ipv6' if ':' in target else 'ipv4'}/conf/{link}/forwarding"
    if entry.side.sysctl(key) == 0:
        text = f"{entry.side} is the way to {target}, but does not forward packets ({key} is 0)"
        of_all = key if ":" in target else "net/ipv4/ip_forward"
        switch = key if entry.side.sysctl(of_all) else of_all
        yield Finding(PROBLEM, "forwarding", text, f"let it: {entry.side.write(switch, 1)}")
