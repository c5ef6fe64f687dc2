"""Which rule of a packet filter drops packets: one that has counted some while one asked.

A rule of nft(8) that does not count may drop them. Of tc(8), what counts is a qdisc on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from shlex import split

from cni_ipvlan.cli.connectivity.world import Side
from cni_ipvlan.cli.output import PROBLEM, Finding

_QUEUES = ("cake", "fq", "fq_codel", "mq", "pfifo", "pfifo_fast", "sfq")  # that drop when full
_DROPS = re.compile(
    r"\[(\d+):\d+\] -A (\S+) (.*-j (?:DROP|REJECT|[DS]NAT|MASQUERADE|REDIRECT)\b.*)"
    r"|:(\S+) DROP \[(\d+):\d+\]"
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')  # a comment, which may read as anything
_UNCOUNTED = -1
_PREFIX = re.compile(r"(?<!! )-[sd] (\S+)")
_PROTOCOL = re.compile(r"(?<!! )-p (?!icmp|ipv6-icmp|all)")
_OF_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
_NFT_DROPS = re.compile(r'"(?:drop|reject)": ')  # a rule's own verdict, or one of a map
_NFT_OTHERS = {  # by the family that echoes are not of
    "ip": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip|icmp)"'),
    "ip6": re.compile(r'"protocol": "(?:tcp|udp|th|sctp|ip6|icmpv6)"'),
}


def programs(side: Side, target: str) -> list[str]:
    """Return the programs that print rules for an address's family."""
    name = "ip6tables" if ":" in target else "iptables"
    both = [each for each in (f"{name}-legacy-save", f"{name}-nft-save") if side.world.has(each)]
    return both or [each for each in (f"{name}-save",) if side.world.has(each)]


def counted(side: Side, ends: Sequence[str], devices: Collection[str]) -> dict[Finding, int]:
    """Return how many packets each rule has dropped that may drop echoes between two addresses.

    A rule stands there as the finding that blames it. ``devices`` are the interfaces of this side
    by which echoes go; without ``ends``, they pass nothing else there.
    """
    found: dict[Finding, int] = {}
    of_packets = (_of_iptables(side, ends), _of_nft(side, ends)) if ends else ()
    for rules in (*of_packets, _of_tc(side, devices)):
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
            packets, chain, words, policy_of, by_policy = match.groups()
            if policy_of:
                text = f"the policy of {side} drops packets: {name} -P {policy_of} DROP"
                is_here = any(each.has(ends[0]) for each in side.ports.values())
                sender = ends[0] if is_here == (policy_of == "OUTPUT") else ends[-1]
                accept = ("-I", policy_of, "-s", sender, "-j", "ACCEPT")
                advice = f"let them pass: {side.shell(name, '-t', table, *accept)}"
            else:
                what = "changes addresses" if table == "nat" else "drops packets"
                text = f"a rule of {side} {what}: {name} -A {chain} {words}"
                remove = side.shell(name, "-t", table, "-D", chain, *split(words))
                advice = f"if it is not meant so: {remove}"
            subject = "nat" if table == "nat" else "filter"
            yield Finding(PROBLEM, subject, text, advice), int(packets or by_policy)


def _is_of_others(line: str, ends: Sequence[str]) -> bool:
    """Whether a rule is for another protocol than echoes', or for other addresses."""
    prefixes = []
    for each in _PREFIX.findall(line):
        with suppress(ValueError):  # its mask has gaps
            prefixes.append(ip_network(each, strict=False))
    return bool(_PROTOCOL.search(line)) or not all(
        any(ip_address(end) in prefix for end in ends) for prefix in prefixes
    )


def _of_nft(side: Side, ends: Sequence[str]) -> Iterator[tuple[Finding, int]]:
    listed = json.loads(side.answer(("nft", "-j", "list", "ruleset")).stdout)["nftables"]
    hooked = [each["chain"] for each in listed if "hook" in each.get("chain", ())]
    # What iptables-save does not print, though it is in a table with a name of iptables'.
    native = {(each["family"], each["table"]) for each in hooked if not each["name"].isupper()}
    other = "ip" if ":" in ends[-1] else "ip6"
    for each in listed:
        found = each.get("rule") or each.get("chain") or {}
        steps = found.get("expr", [])
        words = json.dumps(steps)
        drops = _NFT_DROPS.search(words)
        if not drops and found.get("policy") != "drop":
            continue
        family, table = found["family"], found["table"]
        chain = found.get("chain") or found["name"]
        counts = [step["counter"]["packets"] for step in steps if "counter" in step]
        if family == other or _NFT_OTHERS[other].search(words):
            continue
        is_of_iptables = family in ("ip", "ip6") and table in _OF_IPTABLES
        if is_of_iptables and (family, table) not in native and (counts or not drops):
            continue
        kind, how = ("filter", "drops") if counts else ("may filter", "may drop")
        text = f"a rule of {side} {how} packets: nft {family} {table} {chain}"
        text += f" handle {found['handle']}" if drops else ""
        at = (family, table, chain)
        advice = f"look at it: {side.shell('nft', '-a', 'list', 'chain', *at)}"
        if counts:
            rule = ("handle", str(found["handle"]))
            advice = f"if it is not meant so: {side.shell('nft', 'delete', 'rule', *at, *rule)}"
        yield Finding(PROBLEM, kind, text, advice), (*counts, _UNCOUNTED)[0]


def _of_tc(side: Side, devices: Collection[str]) -> Iterator[tuple[Finding, int]]:
    for each in json.loads(side.answer(("tc", "-s", "-j", "qdisc", "show")).stdout):
        device, kind = each["dev"], each["kind"]
        if device in devices and kind not in _QUEUES:
            text = f"the qdisc {kind} on {device} of {side}, or a filter there, drops packets"
            place = kind if kind in ("clsact", "ingress") else "root"
            remove = side.shell("tc", "qdisc", "delete", "dev", device, place)
            advice = f"if it is not meant so: {remove}"
            yield Finding(PROBLEM, "filter", text, advice), each["drops"]
