"""Find what drops packets: a rule of a packet filter that has counted some during a trial.

A rule of nft(8) without a counter is suspected. Qdiscs of tc(8) count as well, and the kernel
counts what IPsec and full tables drop.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from shlex import split
from typing import Any

from cni_ipvlan.cli.connectivity.topology import Port, Side
from cni_ipvlan.cli.output import PROBLEM, Finding

# These drop packets only when they are full.
_QDISCS = ("cake", "fq", "fq_codel", "mq", "pfifo", "pfifo_fast", "sfq")
_DROPS = re.compile(
    r"\[(\d+):\d+\] -A (\S+) (.*-j (DROP|REJECT|NFQUEUE|[DS]NAT|NETMAP|MASQUERADE|REDIRECT"
    r"|TTL(?= --ttl-set \d$)|HL(?= --hl-set \d$))\b.*)"
    r"|:(\S+) DROP \[(\d+):\d+\]"
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')  # a comment, which may look like options
_UNCOUNTED = -1
_MUCH = 0.1  # of all packets
_PREFIX = re.compile(r"(?<!! )-[sd] (\S+)")
_DEVICE = re.compile(r"(?<!\S)(?<!! )-[io] (\S+)")
_PROTOCOL = re.compile(r"(?<!! )-p (?!icmp|ipv6-icmp|all)")
_IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
_NFT_TARGETS = re.compile(  # a rule's own, or one of a map
    r'"(drop|reject|queue|dnat|redirect|snat|masquerade)": '
)
_EFFECTS = {  # by target: the kind of finding, and what the rule does
    **dict.fromkeys(("drop", "reject"), ("filter", "drop packets")),
    **dict.fromkeys(("dnat", "redirect"), ("filter", "send packets elsewhere")),
    **dict.fromkeys(("snat", "masquerade"), ("nat", "change addresses")),
    **dict.fromkeys(("ttl", "hl"), ("ttl", "let packets pass few hops")),
    **dict.fromkeys(("queue", "nfqueue"), ("may filter", "let a program decide about packets")),
}
_NFT_FIELDS = {"s": "saddr", "d": "daddr", "p": "nexthdr"}
_FRAME_FAMILIES = ("arp", "bridge", "netdev")
_EQUALS = r'"op": "==", "left": {{[^}}]*"{}"}}}}, "right": '
_NFT_PREFIX = re.compile(
    _EQUALS.format("[sd]addr") + r'(?:{"prefix": {"addr": )?"([^"]+)"(?:, "len": (\d+))?'
)
_NFT_DEVICE = re.compile(_EQUALS.format("[io]ifname") + '"([^"]+)"')
_NFT_OTHER_PROTOCOLS = {  # by the family that echoes do not have
    "ip": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip|icmp)"'),
    "ip6": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip6|icmpv6)"'),
}


def find_programs(side: Side, target: str) -> list[str]:
    """Return the programs that print rules for an address's family."""
    name = "ip6tables" if ":" in target else "iptables"
    has_program, backends = side.topology.has_program, (f"{name}-legacy-save", f"{name}-nft-save")
    return [*filter(has_program, backends)] or [*filter(has_program, (f"{name}-save",))]


def has_nat_rule(side: Side, target: str) -> bool:
    """Whether rules for address translation name an address, as a service's."""
    programs = find_programs(side, target)
    outputs = (side.run((each, "-t", "nat")).stdout.decode() for each in programs)
    pattern = re.compile(rf'(?<!"addr": )"{re.escape(target)}"')  # not the address that packets get
    nft_rules = filter(pattern.search, map(json.dumps, _list_ruleset(side)))
    return any(re.search(rf"(?<!! )-d {re.escape(target)}/", each) for each in outputs) or any(
        '"dnat": ' in each or each.startswith('{"map": ') for each in nft_rules
    )


def count_drops(
    side: Side, ends: Sequence[str], devices: set[str], *, is_routed: bool, has_own: bool
) -> dict[Finding, int]:
    """Return how many packets each rule has dropped that may drop echoes between two addresses.

    The keys are the findings that blame the rules. ``devices`` are the interfaces of this side by
    which echoes go; unless they are routed, they pass only as frames. Where they only pass, the
    rules for what this side sends and gets itself count if it ``has_own``: ICMP errors.
    """
    # In IPv6 every router sends and gets what finds neighbours.
    is_end = any(map(side.has_address, ends))
    is_holder = is_end or bool(_list_children(side, ends))
    other_hooks = set() if has_own or is_holder or ":" in ends[-1] else {"input", "output"}
    other_hooks |= {"forward"} if is_end else set()
    counts: dict[Finding, int] = {}
    key = f"nf_call_{'ip6' if ':' in ends[-1] else 'ip'}tables"
    bridges = (each for name, each in side.ports.items() if name in devices)
    is_routed = is_routed or any(
        each.details.get(key) or side.read_sysctl(f"net/bridge/bridge-{key.replace('_', '-')}")
        for each in bridges
        if each.link.kind == "bridge"
    )
    iptables = _read_iptables(side, ends, devices, other_hooks)
    packet_rules = (iptables, _read_ipsec(side)) if is_routed else ()
    nft = _read_nft(side, ends, devices, other_hooks, is_routed)
    queues = (_read_qdiscs(side, each) for each in sorted(devices - {""}))
    for rules in (*packet_rules, nft, *queues, _read_full_tables(side, ends)):
        # A program may be missing, or an old one; tc prints some kinds of qdiscs as broken JSON.
        with suppress(ValueError, KeyError, TypeError):
            counts.update(rules)
    return counts


def find_drops(before: dict[Finding, int], after: dict[Finding, int]) -> list[Finding]:
    """Return the rules that have dropped packets since, or may have."""
    return [
        each
        for each, count in after.items()
        if count == _UNCOUNTED or count > before.get(each, count)
    ]


def _read_iptables(
    side: Side, ends: Sequence[str], devices: set[str], other_hooks: set[str]
) -> Iterator[tuple[Finding, int]]:
    for program in find_programs(side, ends[-1]):
        name, table = program.removesuffix("-save"), ""
        for line in side.run((program, "-c")).stdout.decode("utf-8", "replace").splitlines():
            table = line[1:] if line.startswith("*") else table
            match, unquoted = _DROPS.fullmatch(line), _QUOTED.sub('""', line)
            patterns = (each.replace("+", "*") for each in _DEVICE.findall(unquoted))
            is_rule = match and _DROPS.fullmatch(unquoted) and not _PROTOCOL.search(unquoted)
            may_meet = _may_meet(_PREFIX.findall(unquoted), patterns, ends, devices)
            if match is None or not is_rule or not may_meet:
                continue
            packets, chain, words, target, policy_chain, policy_packets = match.groups()
            if (chain or policy_chain).lower() in other_hooks:
                continue
            if policy_chain:
                text = f"the policy of {side} drops packets: {name} -P {policy_chain} DROP"
                matches = _list_matches(side, ends, policy_chain.lower())
                insert = (name, "-t", table, "-I", policy_chain)
                argvs = ((*insert, f"-{key}", value, "-j", "ACCEPT") for key, value in matches)
                advice = f"let them pass: {' && '.join(side.command(*each) for each in argvs)}"
                yield Finding(PROBLEM, "filter", text, advice), int(policy_packets)
            else:
                if target == "NETMAP":  # of the destination, before routing
                    target = "DNAT" if chain in ("PREROUTING", "OUTPUT") else "SNAT"
                option = f"-t {table} " if table != "filter" else ""
                rule = f"{name} {option}-A {chain} {words}"
                remove = side.command(name, "-t", table, "-D", chain, *split(words))
                yield _report_rule(side, ends, target.lower(), rule, remove), int(packets)


def _report_rule(
    side: Side, ends: Sequence[str], target: str, rule: str, remove: str, suspicion: str = ""
) -> Finding:
    """Return the finding that blames a rule, or one of the kind ``suspicion`` that suspects it."""
    subject, effect = _EFFECTS[target]
    advice = "if it is not meant so"
    is_nat = target in ("dnat", "redirect", "snat", "masquerade")
    if is_nat and any(each.link.mode == "l3" for each in _list_children(side, ends)):
        subject, advice = "mode", f"use mode l3s; or {advice}"
        effect += ", so that in mode l3 answers don't come back"
    verb = f"may {effect}" if suspicion else effect.replace(" ", "s ", 1)
    kind = subject if subject == "nat" else suspicion or subject
    advice = f"{advice}: {remove}" if kind != "nat" else "answers must find the new address"
    return Finding(PROBLEM, kind, f"a rule of {side} {verb}: {rule}", advice)


def _list_matches(side: Side, ends: Sequence[str], hook: str) -> list[tuple[str, str]]:
    """Return what has to pass a hook of a side: packets by source, destination or protocol."""
    children = () if any(map(side.has_address, ends)) else _list_children(side, ends)
    remote = [e for e in ends if not any(each.has_address(e) for each in (side, *children))]
    keys = {"forward": "sd", "output": "d", "postrouting": "d"}.get(hook, "s")
    icmp = [("p", "ipv6-icmp")] if ":" in ends[-1] and len(keys) == 1 else []  # to find neighbours
    return [*((key, (*remote, ends[-1])[0]) for key in keys), *icmp]


def _list_children(side: Side, ends: Sequence[str]) -> list[Port]:
    """Return the interfaces with one of the addresses whose parent is at a side."""
    holders = (each for end in ends for each in side.topology.find_holders(end))
    return [each for each in holders if each.parent and each.parent.side is side]


def _may_meet(
    prefixes: Iterable[str], patterns: Iterable[str], ends: Sequence[str], devices: set[str]
) -> bool:
    """Whether echoes may meet a rule for such addresses and interfaces."""
    networks = []
    for each in prefixes:
        with suppress(ValueError):  # a mask with gaps, the name of a set, or a MAC address
            networks.append(ip_network(each, strict=False))
    return all(any(ip_address(end) in each for end in ends) for each in networks) and all(
        any(fnmatchcase(name, each) for name in devices) for each in patterns
    )


def _read_nft(
    side: Side, ends: Sequence[str], devices: set[str], other_hooks: set[str], is_routed: bool
) -> Iterator[tuple[Finding, int]]:
    ruleset = _list_ruleset(side)
    hooked = [each["chain"] for each in ruleset if "hook" in each.get("chain", ())]
    # Tables with such chains are not iptables', whatever their names: iptables-save omits them.
    native = {(each["family"], each["table"]) for each in hooked if not each["name"].isupper()}
    own_family, other_family = ("ip6", "ip") if ":" in ends[-1] else ("ip", "ip6")
    routed = {own_family, "inet"}
    families = {"bridge", "netdev", *(["arp"] if own_family == "ip" else [])}
    families |= routed if is_routed else set()
    passed = {  # chains that echoes do not meet, or that let them pass
        (each["family"], each["table"], each["name"])
        for each in hooked
        if ("dev" in each and devices.isdisjoint(re.findall(r"[^' \[\],]+", str(each["dev"]))))
        or (each["hook"] in other_hooks and each["family"] in routed)
    }
    for entry in sorted(ruleset, key=lambda each: "chain" in each):  # a policy is for the rest
        item = entry.get("rule") or entry.get("chain") or {}
        family, table = item.get("family", ""), item.get("table", "")
        chain = (family, table, item.get("chain") or item.get("name", ""))
        expressions = item.get("expr", [])
        words = json.dumps(expressions)
        target = _NFT_TARGETS.search(words)
        if _accepts_all(expressions, "icmp" if other_family == "ip6" else "ipv6-icmp"):
            passed |= {chain} if family in routed else set()  # the others have ARP, too
        counts = [each["counter"]["packets"] for each in expressions if "counter" in each]
        prefixes = ("/".join(filter(None, each)) for each in _NFT_PREFIX.findall(words))
        is_of_iptables = table in _IPTABLES_TABLES and (family, table) not in native
        if (
            chain in passed
            or family not in families
            or not (target or item.get("policy") == "drop")
            or _NFT_OTHER_PROTOCOLS[other_family].search(words)
            or not _may_meet(prefixes, _NFT_DEVICE.findall(words), ends, devices)
            or (is_of_iptables and family in ("ip", "ip6") and (counts or not target))
        ):
            continue
        suspicion = "" if counts else "may filter"
        # Such a rule may drop ARP or ND, too.
        if not counts and (family in _FRAME_FAMILIES or other_family == "ip"):
            suspicion = "may filter frames"
        rule = f"nft {' '.join(chain)}"
        if target:
            handle = ("handle", str(item["handle"]))
            remove = side.command("nft", "delete", "rule", *chain, *handle)
            rule = f"{rule} {' '.join(handle)}"
            finding = _report_rule(side, ends, target[1], rule, remove, suspicion)
        else:
            text = f"a rule of {side} may drop packets: {rule}"
            advice = f"look at it: {side.command('nft', '-a', 'list', 'chain', *chain)}"
            if family not in _FRAME_FAMILIES:
                insert = ("nft", "insert", "rule", *chain, "ip6" if ":" in ends[-1] else "ip")
                matches = _list_matches(side, ends, item["hook"])
                argvs = ((*insert, _NFT_FIELDS[key], value, "accept") for key, value in matches)
                advice = f"let them pass: {' && '.join(side.command(*each) for each in argvs)}"
            finding = Finding(PROBLEM, suspicion, text, advice)
        if counts or finding.subject != "nat":  # on many hosts some rule may change addresses
            yield finding, (*counts, _UNCOUNTED)[0]


def _accepts_all(expressions: Sequence[dict[str, Any]], protocol: str) -> bool:
    """Whether a rule accepts all of a protocol, whatever else a packet has."""
    words = [each for each in expressions if "counter" not in each]
    match = words[0].get("match", {}) if words[1:] == [{"accept": None}] else {}
    is_protocol = match.get("op") == "==" and match["left"] == {"meta": {"key": "l4proto"}}
    return is_protocol and f'"{protocol}"' in json.dumps(match["right"])


def _list_ruleset(side: Side) -> list[dict[str, Any]]:
    completed = side.run(("nft", "-j", "list", "ruleset"))
    return [] if completed.status else list(json.loads(completed.stdout)["nftables"])


def _read_ipsec(side: Side) -> Iterator[tuple[Finding, int]]:
    for line in side.run(("cat", "/proc/net/xfrm_stat")).stdout.decode().splitlines():
        name, count = line.split()
        text = f"IPsec of {side} drops packets ({name} in /proc/net/xfrm_stat)"
        advice = f"look at its policies: {side.command('ip', 'xfrm', 'policy')}"
        yield Finding(PROBLEM, "filter", text, advice), int(count)


def _read_full_tables(side: Side, ends: Sequence[str]) -> Iterator[tuple[Finding, int]]:
    host, (version, cache) = side.topology.host, ("6", "ndisc") if ":" in ends[-1] else ("4", "arp")
    limit = f"net/ipv{version}/neigh/default/gc_thresh3"
    neighbours = "neighbours, one for all namespaces,"
    for file, column, key, content in (
        (f"{cache}_cache", "table_fulls", limit, neighbours),  # only the host has this file
        ("nf_conntrack", "drop", "net/netfilter/nf_conntrack_max", f"connections of {side}"),
    ):
        output = side.run(("cat", f"/proc/net/stat/{file}")).stdout.decode()
        if output:
            names, *rows = (line.split() for line in output.splitlines())
            text = f"the kernel's table of {content} is full ({key})"
            command = host.sysctl_command(key, max(4096, 2 * host.read_sysctl(key)))
            count = sum(int(row[names.index(column)], 16) for row in rows)
            yield Finding(PROBLEM, "filter", text, f"let it hold more: {command}"), count


def _read_qdiscs(side: Side, device: str) -> Iterator[tuple[Finding, int]]:
    qdiscs = json.loads(side.run(("tc", "-s", "-j", "qdisc", "show", "dev", device)).stdout)
    for each in qdiscs:
        kind, parent, options = each["kind"], each.get("parent", ""), each.get("options", {})
        if kind in _QDISCS and options.get("limit") != 0:
            continue
        place = ("parent", parent, "handle", each["handle"]) if parent[:-1] else ("root",)
        remove = side.command("tc", "qdisc", "delete", "dev", device, *place)
        advice = f"if it is not meant so: {remove}"
        if kind in ("clsact", "ingress"):  # others may have filters there, too
            with suppress(ValueError, KeyError, TypeError):  # an old program lacks something
                yield from _read_tc_filters(side, device)
            show = side.command("tc", "filter", "show", "dev", device)
            advice = f"look at its filters: {show} ingress; {show} egress"
        name = f"the qdisc {kind} on {device} of {side}"
        seconds = options.get("delay", {}).get("delay", 0)
        if seconds >= 1:  # ping waits for two
            text = f"{name} delays packets by {seconds:g} s"
            yield Finding(PROBLEM, "may filter", text, advice), _UNCOUNTED
        share = options.get("corrupt", {}).get("corrupt", 0)
        if share >= _MUCH:  # what answers ARP, too
            text = f"{name} corrupts {share:.0%} of packets"
            yield Finding(PROBLEM, "blackhole", text, advice), _UNCOUNTED
        children = [e for e in qdiscs if e.get("parent", "").startswith(each["handle"])]
        held = each["qlen"] - sum(e["qlen"] for e in children if e["kind"] not in _QDISCS)
        # If it sends some meanwhile, this is not the same finding any more.
        text = f"{name} holds packets back; it has sent {each['packets']}"
        yield Finding(PROBLEM, "filter", text, advice), held
        text = f"{name}, or a filter there, drops packets"
        # One with classes counts what is dropped below it, too.
        drops = each["drops"] - sum(child["drops"] for child in children)
        yield Finding(PROBLEM, "filter", text, advice), drops


def _read_tc_filters(side: Side, device: str) -> Iterator[tuple[Finding, int]]:
    for direction in ("ingress", "egress"):
        show = ("tc", "-s", "-j", "filter", "show", "dev", device, direction)
        for each in json.loads(side.run(show).stdout):
            options = each.get("options", {})
            handle = options.get("fh") or options.get("handle")
            values = {"chain": each["chain"], "pref": each["pref"], "handle": handle}
            place = (word for key, value in values.items() for word in (key, str(value)))
            words = ("dev", device, direction, *place, str(each["kind"]))
            text = f"a filter of tc of {side} drops packets: {' '.join(words)}"
            remove = side.command("tc", "filter", "delete", *words)
            drops = (action["stats"]["drops"] for action in options.get("actions", ()))
            yield Finding(PROBLEM, "filter", text, f"if it is not meant so: {remove}"), sum(drops)
