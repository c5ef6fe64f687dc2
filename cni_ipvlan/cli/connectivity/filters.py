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
from typing import Any, NamedTuple

from cni_ipvlan.cli.connectivity.world import Side, World
from cni_ipvlan.cli.output import PROBLEM, Finding

_LIST = ("nft", "-j", "list", "ruleset")
_QDISCS = ("tc", "-s", "-j", "qdisc", "show")
_QUEUES = ("cake", "fq", "fq_codel", "mq", "pfifo", "pfifo_fast", "sfq")  # that drop when full
_DROPS = re.compile(r"\[(\d+):\d+\] -A (\S+ .*-j (?:DROP|REJECT)\b.*)|:(\S+) DROP \[(\d+):\d+\]")
_UNCOUNTED = -1
_PREFIX = re.compile(r"(?<!! )-[sd] (\S+)")
_PROTOCOL = re.compile(r"(?<!! )-p (?!icmp|ipv6-icmp|all)")
_OF_IPTABLES = [
    (family, table)
    for family in ("ip", "ip6")
    for table in ("filter", "nat", "mangle", "raw", "security")
]


class Rule(NamedTuple):
    """What drops packets: a rule, or else the policy of a chain, as its program writes it."""

    program: str
    table: str
    chain: str
    words: str = ""


def programs(world: World, target: str) -> list[str]:
    """Return the programs that print rules for an address's family."""
    name = "ip6tables" if ":" in target else "iptables"
    both = [each for each in (f"{name}-legacy-save", f"{name}-nft-save") if world.has(each)]
    return both or [each for each in (f"{name}-save",) if world.has(each)]


def counted(
    world: World, side: Side, ends: Sequence[str], devices: Collection[str]
) -> dict[Rule, int]:
    """Return all rules of a side that may drop echoes between two addresses, and their counts.

    ``devices`` are its interfaces by which echoes go.
    """
    found: dict[Rule, int] = {}
    for program in programs(world, ends[-1]):
        name, table = program.removesuffix("-save"), ""
        printed = world.answer(side, (program, "-c")).stdout.decode("utf-8", "replace")
        for line in printed.splitlines():
            table = line[1:] if line.startswith("*") else table
            match = _DROPS.fullmatch(line)
            if match and not _is_of_others(line, ends):
                packets, words, chain, by_policy = match.groups()
                chain, _, rest = (words or f"{chain} ").partition(" ")
                found[Rule(name, table, chain, rest)] = int(packets or by_policy)
    with suppress(ValueError, KeyError, TypeError):
        for each in json.loads(world.answer(side, _LIST).stdout)["nftables"]:
            found |= _of_nft(**each)
    with suppress(ValueError, KeyError, TypeError):
        for each in json.loads(world.answer(side, _QDISCS).stdout):
            if each["dev"] in devices and each["kind"] not in _QUEUES:
                found[Rule("tc", each["dev"], each["kind"])] = each["drops"]
    return found


def _is_of_others(line: str, ends: Sequence[str]) -> bool:
    """Whether a rule is for another protocol than echoes', or for other addresses."""
    prefixes = [ip_network(each, strict=False) for each in _PREFIX.findall(line)]
    return bool(_PROTOCOL.search(line)) or not all(
        any(ip_address(end) in prefix for end in ends) for prefix in prefixes
    )


def _of_nft(
    rule: dict[str, Any] | None = None, chain: dict[str, Any] | None = None, **_: Any
) -> dict[Rule, int]:
    where = rule or chain or {}
    if (where.get("family"), where.get("table")) in _OF_IPTABLES:
        return {}
    table = f"{where.get('family')} {where.get('table')}"
    if chain and chain.get("policy") == "drop":
        return {Rule("nft", table, chain["name"]): _UNCOUNTED}
    if rule and any("drop" in each or "reject" in each for each in rule["expr"]):
        counts = [each["counter"]["packets"] for each in rule["expr"] if "counter" in each]
        key = Rule("nft", table, rule["chain"], f"handle {rule['handle']}")
        return {key: (*counts, _UNCOUNTED)[0]}
    return {}


def dropping(
    before: dict[Rule, int], after: dict[Rule, int], side: Side, source: str
) -> Iterator[Finding]:
    """Yield the rules that have dropped packets since."""
    for rule, packets in after.items():
        if packets <= before.get(rule, packets) and packets != _UNCOUNTED:
            continue
        command = (rule.program, "-t", rule.table)
        if rule.program == "nft":
            text = f"a rule of {side} {{}} packets: nft {rule.table} {rule.chain} {rule.words}"
            show = side.shell("nft", "-a", "list", "chain", *rule.table.split(), rule.chain)
            kind, how = ("may filter", "may drop") if packets == _UNCOUNTED else ("filter", "drops")
            yield Finding(PROBLEM, kind, text.format(how), f"look at it: {show}")
        elif rule.program == "tc":
            of = f"{rule.chain} on {rule.table} of {side}"
            text = f"the qdisc {of}, or a filter there, drops packets"
            place = rule.chain if rule.chain in ("clsact", "ingress") else "root"
            remove = side.shell("tc", "qdisc", "delete", "dev", rule.table, place)
            yield Finding(PROBLEM, "filter", text, f"if it is not meant so: {remove}")
        elif rule.words:
            text = f"a rule of {side} drops packets: {rule.program} -A {rule.chain} {rule.words}"
            remove = side.shell(*command, "-D", rule.chain, *split(rule.words))
            yield Finding(PROBLEM, "filter", text, f"if it is not meant so: {remove}")
        else:
            text = f"the policy of {side} drops packets: {rule.program} -P {rule.chain} DROP"
            accept = side.shell(*command, "-I", rule.chain, "-s", source, "-j", "ACCEPT")
            yield Finding(PROBLEM, "filter", text, f"let them pass: {accept}")
