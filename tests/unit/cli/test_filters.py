"""Which rules of packet filters are blamed, from what their programs print."""

import json
from types import SimpleNamespace
from typing import Any, cast

from cni_ipvlan.cli.connectivity import filters
from cni_ipvlan.cli.connectivity.topology import Port, Side
from cni_ipvlan.cli.connectivity.verdict import choose_verdict
from cni_ipvlan.cli.output import PROBLEM, Finding

ENDS = ("10.1.0.2", "10.1.0.3")


def make_side(outputs: dict[str, str]) -> Side:
    """Return a namespace in which programs print this."""
    topology: Any = SimpleNamespace(
        has_program=lambda program: program in outputs,
        find_holders=lambda _address: [],
        ask=lambda question: [
            SimpleNamespace(
                status=question[1][0] not in outputs,
                stdout=outputs.get(question[1][0], "").encode(),
            )
        ],
    )
    topology.host = side = Side(topology, None)
    return side


def find_drops(before: dict[str, str], after: dict[str, str], *, routed: bool = True) -> list[str]:
    """Return the texts of what is found when programs print one thing, then another."""
    sides = map(make_side, (before, after))
    counts = [
        filters.count_drops(side, ENDS, {"eth0"}, is_routed=routed, has_own=True) for side in sides
    ]
    return [f"{each.subject}: {each.text}" for each in filters.find_drops(*counts)]


def test_a_rule_that_could_have_dropped_an_echo() -> None:
    for rule, is_blamed in (
        ("-A INPUT -j DROP", True),
        ("-A INPUT -s 10.1.0.0/24 -p icmp -j REJECT --reject-with icmp-port-unreachable", True),
        ("-A INPUT -s 10.2.0.0/24 -j DROP", False),
        ("-A INPUT -p tcp -m tcp --dport 80 -j DROP", False),
        ("-A INPUT ! -p tcp -j DROP", True),
        ("-A INPUT -i eth1 -j DROP", False),
        ("-A INPUT ! -i eth1 -o eth+ -j DROP", True),
        ("-A INPUT -j ACCEPT", False),
        ('-A INPUT -m comment --comment "was \\" -j DROP" -j ACCEPT', False),
        ('-A INPUT -m comment --comment "no -s pods, no -p tcp" -j DROP', True),
        ("-A INPUT -s 10.0.0.2/255.0.0.255 -j DROP", True),
    ):
        outputs = [{"iptables-save": f"*filter\n[{count}:84] {rule}\nCOMMIT\n"} for count in (1, 2)]
        assert bool(find_drops(*outputs)) == is_blamed
        assert not find_drops(outputs[0], outputs[0])


def test_a_rule_that_changes_addresses_is_suspected() -> None:
    rule = "-A POSTROUTING -p icmp -j SNAT --to-source 10.7.0.1"
    outputs = [{"iptables-save": f"*nat\n[{count}:84] {rule}\nCOMMIT\n"} for count in (1, 2)]
    text = "a rule of the host changes addresses: iptables -t nat -A"
    assert [each for each in find_drops(*outputs) if each.startswith(f"nat: {text} POSTROUTING")]


def test_a_rule_of_nft_is_blamed_if_it_counts_and_suspected_if_it_does_not() -> None:
    chain = {"family": "inet", "table": "t", "name": "in", "hook": "input", "policy": "accept"}
    rule = {"family": "inet", "table": "t", "chain": "in", "handle": 7}

    def outputs(packets: int) -> dict[str, str]:
        counting = [{"counter": {"packets": packets, "bytes": 0}}, {"drop": None}]
        rows = [{"chain": chain}, {"rule": {**rule, "expr": counting}}]
        rows += [{"rule": {**rule, "handle": 8, "expr": [{"reject": None}]}}]
        return {"nft": json.dumps({"nftables": rows})}

    suspected = "may filter: a rule of the host may drop packets: nft inet t in handle 8"
    blamed = "filter: a rule of the host drops packets: nft inet t in handle 7"
    assert find_drops(outputs(1), outputs(1)) == [suspected]
    assert find_drops(outputs(1), outputs(2)) == [blamed, suspected]


def test_an_end_forwards_nothing() -> None:
    chain = {"family": "inet", "table": "t", "name": "f", "hook": "forward", "policy": "drop"}
    outputs = {"nft": json.dumps({"nftables": [{"chain": chain}]})}
    for holds, number in ((False, 1), (True, 0)):
        side = make_side(outputs)
        link = SimpleNamespace(kind="ipvlan", name="eth0")
        side.ports["eth0"] = cast(
            Port, SimpleNamespace(has_address=lambda _, h=holds: h, link=link)
        )
        counts = filters.count_drops(side, ENDS, {"eth0"}, is_routed=True, has_own=False)
        assert len(counts) == number


def test_a_suspect_comes_after_what_is_sure_to_be_absent() -> None:
    kinds = ("may filter", "may filter frames", "beyond", "unanswered")
    findings = [Finding(PROBLEM, each, each) for each in kinds]
    for number, worst in ((4, "unanswered"), (3, "may filter frames")):
        assert choose_verdict(findings[:number], [])[1].subject == worst
    assert choose_verdict((findings[0], findings[2]), [])[1].subject == "beyond"


def test_a_rule_of_nft_after_one_that_accepts_all_echoes_is_not_suspected() -> None:
    hook = {"family": "inet", "table": "t", "name": "in", "hook": "input", "policy": "drop"}
    protocols = {"meta": {"key": "l4proto"}}
    match = {"match": {"op": "==", "left": protocols, "right": {"set": ["icmp", "ipv6-icmp"]}}}
    accept, reject = [match, {"accept": None}], [{"reject": None}]
    limited = [match, {"limit": {"rate": 1, "per": "second"}}, {"accept": None}]
    for expressions, number in (
        ([accept, reject], 0),
        ([reject, accept], 1),
        ([limited, reject], 2),
    ):
        rule = {"family": "inet", "table": "t", "chain": "in", "handle": 7}
        rows = [{"chain": hook}, *({"rule": {**rule, "expr": each}} for each in expressions)]
        outputs = {"nft": json.dumps({"nftables": rows})}
        assert len(find_drops(outputs, outputs)) == number


def find_nft_drops(
    family: str, table: str, chain: str, *steps: Any, dev: str = "eth0", routed: bool = True
) -> list[str]:
    """Return what is found when a rule of a chain at a hook may have dropped a packet."""
    counts = [each for each in steps if "counter" in each]
    hook = {"family": family, "table": table, "name": chain, "hook": "input", "policy": "accept"}
    hook |= {"dev": dev} if family == "netdev" else {}
    outputs = []
    for number in (1, 2):
        counted = [{"counter": {"packets": number, "bytes": 0}} for _ in counts]
        expr = [*counted, *(each for each in steps if "counter" not in each)]
        rule = {"family": family, "table": table, "chain": chain, "handle": 7, "expr": expr}
        rows = {"nftables": [{"chain": hook}, {"rule": rule}]}
        outputs.append({"nft": json.dumps(rows), "iptables-nft-save": ""})
    return find_drops(*outputs, routed=routed)


def test_a_table_of_nft_with_a_name_of_iptables_is_looked_at() -> None:
    counter: dict[str, Any] = {"counter": {}}
    assert find_nft_drops("ip", "filter", "input", counter, {"drop": None})
    assert find_nft_drops("ip", "filter", "INPUT", {"drop": None})  # iptables counts in each rule
    # iptables-save prints that itself.
    assert not find_nft_drops("ip", "filter", "INPUT", counter, {"drop": None})


def test_a_rule_of_nft_that_an_echo_may_meet() -> None:
    def match_protocol(protocol: str) -> dict[str, Any]:
        left = {"payload": {"protocol": protocol, "field": "dport"}}
        return {"match": {"op": "==", "left": left, "right": 22}}

    verdicts = {"set": [["echo-reply", {"accept": None}], ["echo-request", {"drop": None}]]}
    by_type = {"vmap": {"key": match_protocol("icmp")["match"]["left"], "data": verdicts}}
    assert find_nft_drops("inet", "t", "in", by_type)
    assert find_nft_drops("inet", "t", "in", match_protocol("icmp"), {"drop": None})
    assert find_nft_drops("arp", "t", "in", {"drop": None})
    for target, text in {
        "queue": "may filter: a rule of the host may let a program decide about packets",
        "dnat": "may filter: a rule of the host may send packets elsewhere",
    }.items():
        assert find_nft_drops("ip", "t", "in", {target: {}}) == [f"{text}: nft ip t in handle 7"]
    assert not find_nft_drops("ip", "t", "in", {"masquerade": None})
    assert find_nft_drops("ip", "t", "in", {"counter": {}}, {"masquerade": None})
    for protocol in ("tcp", "udp", "th", "icmpv6", "ip6"):
        assert not find_nft_drops("inet", "t", "in", match_protocol(protocol), {"drop": None})
    assert not find_nft_drops("ip6", "t", "in", {"drop": None})
    source = {"payload": {"protocol": "ip", "field": "saddr"}}
    for left, right, is_suspected in (
        (source, "10.1.0.2", True),
        (source, "@bad", True),
        ({"payload": {"protocol": "ip", "field": "daddr"}}, "192.0.2.1", False),
        ({"payload": {"protocol": "ip", "field": "daddr"}}, {"set": ["10.1.0.3"]}, True),
        (source, {"prefix": {"addr": "192.0.2.0", "len": 24}}, False),
        ({"payload": {"protocol": "ether", "field": "saddr"}}, "02:00:00:00:00:01", True),
        ({"meta": {"key": "iifname"}}, "eth*", True),
        ({"meta": {"key": "oifname"}}, "eth9", False),
    ):
        match = {"match": {"op": "==", "left": left, "right": right}}
        assert bool(find_nft_drops("inet", "t", "in", match, {"drop": None})) == is_suspected


def test_a_services_address_is_in_rules_of_either_kind() -> None:
    left = {"payload": {"protocol": "ip", "field": "daddr"}}
    match = {"match": {"op": "==", "left": left, "right": "10.96.0.1"}}
    of_service = {"concat": ["10.96.0.1", "tcp", 443]}, {"goto": {"target": "service"}}
    for rule, is_one in (
        ({"map": {"name": "service-ips", "elem": [of_service]}}, True),  # kube-proxy's
        ({"rule": {"expr": [match, {"dnat": {"addr": "10.1.0.2"}}]}}, True),
        ({"rule": {"expr": [match, {"drop": None}]}}, False),
    ):
        side = make_side({"nft": json.dumps({"nftables": [rule]})})
        assert filters.has_nat_rule(side, "10.96.0.1") == is_one
        assert not filters.has_nat_rule(side, "10.96.0.2")
        assert not filters.has_nat_rule(side, "10.1.0.2")
    saved = make_side({"iptables-save": "-A PREROUTING -d 10.96.0.1/32 -j DNAT"})
    assert filters.has_nat_rule(saved, "10.96.0.1")


def test_what_passes_as_frames_only_meets_rules_for_frames() -> None:
    for family, dev, is_suspected in (
        ("inet", "", False),
        ("bridge", "", True),
        ("netdev", "eth0", True),
        ("netdev", "eth1", False),
    ):
        texts = find_nft_drops(family, "t", "c", {"drop": None}, dev=dev, routed=False)
        assert [each.partition(":")[0] for each in texts] == ["may filter frames"] * is_suspected


def test_ipsec_is_blamed_for_what_it_counts() -> None:
    outputs = [{"cat": f"XfrmInError 0\nXfrmInPolBlock {count}\n"} for count in (1, 2)]
    assert len(find_drops(*outputs)) == 1


def test_full_tables_are_blamed() -> None:
    rows = [f"entries table_fulls drop\n2 {count:08x} {count:08x}\n2 0 0\n" for count in (15, 16)]
    texts = find_drops(*({"cat": each} for each in rows), routed=False)
    assert "table of neighbours, one for all namespaces, is full (net/ipv4/neigh" in texts[0]
    assert "table of connections of the host is full (net/netfilter/nf_conntrack_max)" in texts[1]


def test_a_qdisc_is_blamed_if_it_drops_by_intention() -> None:
    for kind, is_blamed in (
        ("clsact", True),
        ("netem", True),
        ("fq_codel", False),  # its queue was full
    ):
        row = {"kind": kind, "handle": "1:", "packets": 1, "qlen": 0}
        rows = ([{**row, "drops": count}] for count in (1, 2))
        assert bool(find_drops(*({"tc": json.dumps(row)} for row in rows))) == is_blamed


def test_a_qdisc_is_blamed_if_it_holds_back_all_that_it_gets() -> None:
    found = ["filter: the qdisc tbf on eth0 of the host holds packets back; it has sent 7"]
    for packets, is_blamed in ((7, True), (8, False)):  # at last it has sent another one
        row = {"kind": "tbf", "handle": "1:", "drops": 0}
        rows = [{**row, "packets": 7, "qlen": 1}], [{**row, "packets": packets, "qlen": 2}]
        assert find_drops(*({"tc": json.dumps(each)} for each in rows)) == found * is_blamed


def test_a_long_delay_is_suspected() -> None:
    for seconds, is_suspected in ((3, True), (0.001, False)):
        options = {"delay": {"delay": seconds}}
        row = {
            "tc": json.dumps([{"kind": "netem", "handle": "1:", "drops": 0, "options": options}])
        }
        found = ["may filter: the qdisc netem on eth0 of the host delays packets by 3 s"]
        assert find_drops(row, row) == found * is_suspected
