"""Which rule of a packet filter drops packets: one that has counted some while one asked.

A rule of nft(8) that does not count may drop them. Of tc(8), what counts is a qdisc on the way, of
IPsec and of the table of neighbours the kernel itself.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from shlex import split
from typing import Any

from cni_ipvlan.cli.connectivity.world import Port, Side
from cni_ipvlan.cli.output import PROBLEM, Finding

_QUEUES = ("cake", "fq", "fq_codel", "mq", "pfifo", "pfifo_fast", "sfq")  # that drop when full
_DROPS = re.compile(
    r"\[(\d+):\d+\] -A (\S+) (.*-j (DROP|REJECT|NFQUEUE|[DS]NAT|MASQUERADE|REDIRECT)\b.*)"
    r"|:(\S+) DROP \[(\d+):\d+\]"
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')  # a comment, which may read as anything
_UNCOUNTED = -1
_PREFIX = re.compile(r"(?<!! )-[sd] (\S+)")
_PROTOCOL = re.compile(r"(?<!! )-p (?!icmp|ipv6-icmp|all)")
_OF_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
_NFT_TARGETS = re.compile(  # a rule's own, or one of a map
    r'"(drop|reject|queue|dnat|redirect|snat|masquerade)": '
)
_EFFECTS = {  # by target: the kind of finding, and what the rule does
    **dict.fromkeys(("drop", "reject"), ("filter", "drop packets")),
    **dict.fromkeys(("dnat", "redirect"), ("filter", "send packets elsewhere")),
    **dict.fromkeys(("snat", "masquerade"), ("nat", "change addresses")),
    **dict.fromkeys(("queue", "nfqueue"), ("may filter", "let a program decide about packets")),
}
_OF_IP = {"s": "saddr", "d": "daddr", "p": "nexthdr"}
_OF_FRAMES = ("arp", "bridge", "netdev")
_NFT_OTHERS = {  # by the family that echoes are not of
    "ip": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip|icmp)"'),
    "ip6": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip6|icmpv6)"'),
}


def programs(side: Side, target: str) -> list[str]:
    """Return the programs that print rules for an address's family."""
    name = "ip6tables" if ":" in target else "iptables"
    both = [each for each in (f"{name}-legacy-save", f"{name}-nft-save") if side.world.has(each)]
    return both or [each for each in (f"{name}-save",) if side.world.has(each)]


def translates(side: Side, target: str) -> bool:
    """Whether rules for address translation name an address, as a service's."""
    saved = (side.answer((each, "-t", "nat")).stdout.decode() for each in programs(side, target))
    named = re.compile(rf'(?<!"addr": )"{re.escape(target)}"')  # not where packets are sent
    of_nft = filter(named.search, map(json.dumps, _ruleset(side)))
    return any(re.search(rf"(?<!! )-d {re.escape(target)}/", each) for each in saved) or any(
        '"dnat": ' in each or each.startswith('{"map": ') for each in of_nft
    )


def counted(
    side: Side, ends: Sequence[str], devices: set[str], *, is_routed: bool
) -> dict[Finding, int]:
    """Return how many packets each rule has dropped that may drop echoes between two addresses.

    A rule stands there as the finding that blames it. ``devices`` are the interfaces of this side
    by which echoes go; unless they are routed, they pass only as frames.
    """
    found: dict[Finding, int] = {}
    is_routed = is_routed or bool(side.sysctl("net/bridge/bridge-nf-call-iptables"))
    of_packets = (_of_iptables(side, ends), _of_ipsec(side)) if is_routed else ()
    of_frames = _of_nft(side, ends, devices, is_routed), _of_tc(side, devices)
    for rules in (*of_packets, *of_frames, _of_neighbours(side, ends)):
        with suppress(ValueError, KeyError, TypeError):  # a program may be missing, or an old one
            found.update(rules)
    return found


def dropping(before: dict[Finding, int], after: dict[Finding, int]) -> list[Finding]:
    """Return the rules that have dropped packets since, or may have."""
    return [
        each
        for each, count in after.items()
        if count == _UNCOUNTED or count > before.get(each, count)
    ]


def _of_iptables(side: Side, ends: Sequence[str]) -> Iterator[tuple[Finding, int]]:
    for program in programs(side, ends[-1]):
        name, table = program.removesuffix("-save"), ""
        for line in side.answer((program, "-c")).stdout.decode("utf-8", "replace").splitlines():
            table = line[1:] if line.startswith("*") else table
            match, bare = _DROPS.fullmatch(line), _QUOTED.sub('""', line)
            if match is None or not _DROPS.fullmatch(bare) or _is_of_others(bare, ends):
                continue
            packets, chain, words, target, policy_of, by_policy = match.groups()
            if policy_of:
                text = f"the policy of {side} drops packets: {name} -P {policy_of} DROP"
                ways = _ways(side, ends, policy_of.lower())
                at = ("-t", table, "-I", policy_of)
                accept = ((*at, f"-{way}", sender, "-j", "ACCEPT") for way, sender in ways)
                advice = f"let them pass: {' && '.join(side.shell(name, *each) for each in accept)}"
                yield Finding(PROBLEM, "filter", text, advice), int(by_policy)
            else:
                place = f"{name} -A {chain} {words}"
                remove = side.shell(name, "-t", table, "-D", chain, *split(words))
                yield _blamed(side, ends, target.lower(), place, remove), int(packets)


def _blamed(
    side: Side, ends: Sequence[str], target: str, place: str, remove: str, unsure: str = ""
) -> Finding:
    """Return the finding that blames a rule, or one of the kind ``unsure`` that suspects it."""
    subject, effect = _EFFECTS[target]
    advice = "if it is not meant so"
    is_nat = target in ("dnat", "redirect", "snat", "masquerade")
    if is_nat and any(each.link.mode == "l3" for each in _above(side, ends)):
        subject, advice = "mode", f"use mode l3s; or {advice}"
        effect += ", so that in mode l3 answers don't come back"
    how = f"may {effect}" if unsure else effect.replace(" ", "s ", 1)
    kind = subject if subject == "nat" else unsure or subject
    return Finding(PROBLEM, kind, f"a rule of {side} {how}: {place}", f"{advice}: {remove}")


def _ways(side: Side, ends: Sequence[str], hook: str) -> list[tuple[str, str]]:
    """Return what has to pass a hook of a side: packets by source, destination or protocol."""
    own = [each for each in ends if side.has(each)]
    own += [each for each in ends if any(port.has(each) for port in _above(side, ends))]
    is_here = ends[0] == (*own, ends[-1])[0]
    sender = ends[0] if is_here == (hook == "output") else ends[-1]
    neighbours = [("p", "ipv6-icmp")] if ":" in sender else []  # who are found by it
    return [("s", sender), *([("d", sender)] if hook == "forward" else neighbours)]


def _above(side: Side, ends: Sequence[str]) -> list[Port]:
    """Return the interfaces with one of the addresses whose master is at a side."""
    found = (each for end in ends for each in side.world.holders(end))
    return [each for each in found if each.below and each.below.side is side]


def _is_of_others(line: str, ends: Sequence[str]) -> bool:
    """Whether a rule is for another protocol than echoes', or for other addresses."""
    prefixes = []
    for each in _PREFIX.findall(line):
        with suppress(ValueError):  # its mask has gaps
            prefixes.append(ip_network(each, strict=False))
    return bool(_PROTOCOL.search(line)) or not all(
        any(ip_address(end) in prefix for end in ends) for prefix in prefixes
    )


def _of_nft(
    side: Side, ends: Sequence[str], devices: set[str], is_routed: bool
) -> Iterator[tuple[Finding, int]]:
    listed = _ruleset(side)
    hooked = [each["chain"] for each in listed if "hook" in each.get("chain", ())]
    # What iptables-save does not print, though it is in a table with a name of iptables'.
    native = {(each["family"], each["table"]) for each in hooked if not each["name"].isupper()}
    elsewhere = {
        (each["family"], each["table"], each["name"])
        for each in hooked
        if "dev" in each and devices.isdisjoint(re.findall(r"[^' \[\],]+", str(each["dev"])))
    }
    other = "ip" if ":" in ends[-1] else "ip6"
    others = {other, "arp" if other == "ip" else "", *(() if is_routed else ("ip", "ip6", "inet"))}
    for each in listed:
        found = each.get("rule") or each.get("chain") or {}
        steps = found.get("expr", [])
        words = json.dumps(steps)
        target = _NFT_TARGETS.search(words)
        if not target and found.get("policy") != "drop":
            continue
        family, table = found["family"], found["table"]
        at = (family, table, found.get("chain") or found["name"])
        counts = [step["counter"]["packets"] for step in steps if "counter" in step]
        is_of_iptables = family in ("ip", "ip6") and table in _OF_IPTABLES
        if (
            at in elsewhere
            or family in others
            or _NFT_OTHERS[other].search(words)
            or not all(_may_match(step.get("match", {}), ends, devices) for step in steps)
            or (is_of_iptables and (family, table) not in native and (counts or not target))
        ):
            continue
        unsure = "" if counts else "may filter"
        if not counts and (family in _OF_FRAMES or other == "ip"):  # which ARP and ND need
            unsure = "may filter frames"
        place = f"nft {' '.join(at)}"
        if target:
            handle = ("handle", str(found["handle"]))
            remove = side.shell("nft", "delete", "rule", *at, *handle)
            blamed = _blamed(side, ends, target[1], f"{place} {' '.join(handle)}", remove, unsure)
        else:
            text = f"a rule of {side} may drop packets: {place}"
            blamed = Finding(PROBLEM, unsure, text, _against_policy(side, ends, at, found["hook"]))
        if counts or blamed.subject != "nat":  # on many hosts some rule may change addresses
            yield blamed, (*counts, _UNCOUNTED)[0]


def _ruleset(side: Side) -> list[dict[str, Any]]:
    done = side.answer(("nft", "-j", "list", "ruleset"))
    return [] if done.status else list(json.loads(done.stdout)["nftables"])


def _against_policy(side: Side, ends: Sequence[str], at: tuple[str, ...], hook: str) -> str:
    """Return what to do about the policy of a chain of nft's."""
    if at[0] in _OF_FRAMES:
        return f"look at it: {side.shell('nft', '-a', 'list', 'chain', *at)}"
    ip = "ip6" if ":" in ends[-1] else "ip"
    ways = _ways(side, ends, hook)
    accept = (("insert", "rule", *at, ip, _OF_IP[way], of, "accept") for way, of in ways)
    return f"let them pass: {' && '.join(side.shell('nft', *each) for each in accept)}"


def _may_match(match: dict[str, Any], ends: Sequence[str], devices: set[str]) -> bool:
    """Whether a condition of nft's may be true of echoes between two addresses."""
    left, right = match.get("left"), match.get("right")
    if match.get("op") != "==" or not isinstance(left, dict):
        return True
    if left.get("meta", {}).get("key") in ("iifname", "oifname") and isinstance(right, str):
        return any(fnmatchcase(each, right) for each in devices)
    prefix = right.get("prefix") if isinstance(right, dict) else None
    if prefix:
        right = f"{prefix['addr']}/{prefix['len']}"
    is_address = left.get("payload", {}).get("field") in ("saddr", "daddr")
    if not is_address or not isinstance(right, str) or right.startswith("@"):
        return True
    with suppress(ValueError):  # a MAC address
        return any(ip_address(each) in ip_network(right) for each in ends)
    return True


def _of_ipsec(side: Side) -> Iterator[tuple[Finding, int]]:
    for line in side.answer(("cat", "/proc/net/xfrm_stat")).stdout.decode().splitlines():
        name, count = line.split()
        text = f"IPsec of {side} drops packets ({name} in /proc/net/xfrm_stat)"
        advice = f"look at its policies: {side.shell('ip', 'xfrm', 'policy')}"
        yield Finding(PROBLEM, "filter", text, advice), int(count)


def _of_neighbours(side: Side, ends: Sequence[str]) -> Iterator[tuple[Finding, int]]:
    version, table = ("6", "ndisc_cache") if ":" in ends[-1] else ("4", "arp_cache")
    shown = side.answer(("cat", f"/proc/net/stat/{table}")).stdout.decode()  # the host's only
    names, *rows = (line.split() for line in shown.splitlines())
    key, column = f"net/ipv{version}/neigh/default/gc_thresh3", names.index("table_fulls")
    text = f"the kernel's table of neighbours, one for all namespaces, is full ({key})"
    advice = f"let it hold more: {side.write(key, max(4096, 2 * side.sysctl(key)))}"
    yield Finding(PROBLEM, "filter", text, advice), sum(int(row[column], 16) for row in rows)


def _of_tc(side: Side, devices: set[str]) -> Iterator[tuple[Finding, int]]:
    for each in json.loads(side.answer(("tc", "-s", "-j", "qdisc", "show")).stdout):
        device, kind = each["dev"], each["kind"]
        if device in devices and kind not in _QUEUES:
            text = f"the qdisc {kind} on {device} of {side}, or a filter there, drops packets"
            place = kind if kind in ("clsact", "ingress") else "root"
            remove = side.shell("tc", "qdisc", "delete", "dev", device, place)
            advice = f"if it is not meant so: {remove}"
            yield Finding(PROBLEM, "filter", text, advice), each["drops"]
