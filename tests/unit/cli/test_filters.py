"""Which rules of packet filters are blamed, from what their programs print."""

import json
from types import SimpleNamespace
from typing import Any

from cni_ipvlan.cli.connectivity import filters
from cni_ipvlan.cli.connectivity.world import Side

ENDS = ("10.1.0.2", "10.1.0.3")


def dropping(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the texts of what is found when programs print one thing, then another."""
    counted = []
    for printed in (before, after):
        world: Any = SimpleNamespace(
            has=lambda program, printed=printed: program in printed,
            ask=lambda asked, printed=printed: [
                SimpleNamespace(status=0, stdout=printed.get(asked[1][0], "").encode())
            ],
        )
        counted.append(filters.counted(Side(world, None), ENDS, {"eth0"}))
    return [f"{each.subject}: {each.text}" for each in filters.dropping(*counted)]


def test_a_rule_that_could_have_dropped_an_echo() -> None:
    for rule, is_blamed in (
        ("-A INPUT -j DROP", True),
        ("-A INPUT -s 10.1.0.0/24 -p icmp -j REJECT --reject-with icmp-port-unreachable", True),
        ("-A INPUT -s 10.2.0.0/24 -j DROP", False),
        ("-A INPUT -p tcp -m tcp --dport 80 -j DROP", False),
        ("-A INPUT ! -p tcp -j DROP", True),
        ("-A INPUT -j ACCEPT", False),
        ('-A INPUT -m comment --comment "was \\" -j DROP" -j ACCEPT', False),
        ('-A INPUT -m comment --comment "no -s pods, no -p tcp" -j DROP', True),
        ("-A INPUT -s 10.0.0.2/255.0.0.255 -j DROP", True),
    ):
        printed = [{"iptables-save": f"*filter\n[{count}:84] {rule}\nCOMMIT\n"} for count in (1, 2)]
        assert bool(dropping(*printed)) == is_blamed
        assert not dropping(printed[0], printed[0])


def test_a_rule_of_nft_is_blamed_if_it_counts_and_suspected_if_it_does_not() -> None:
    chain = {"family": "inet", "table": "t", "name": "in", "hook": "input", "policy": "accept"}
    rule = {"family": "inet", "table": "t", "chain": "in", "handle": 7}

    def printed(packets: int) -> dict[str, str]:
        counting = [{"counter": {"packets": packets, "bytes": 0}}, {"drop": None}]
        rows = [{"chain": chain}, {"rule": {**rule, "expr": counting}}]
        rows += [{"rule": {**rule, "handle": 8, "expr": [{"reject": None}]}}]
        return {"nft": json.dumps({"nftables": rows})}

    suspected = "may filter: a rule of the host may drop packets: nft inet t in handle 8"
    blamed = "filter: a rule of the host drops packets: nft inet t in handle 7"
    assert dropping(printed(1), printed(1)) == [suspected]
    assert dropping(printed(1), printed(2)) == [blamed, suspected]


def test_a_qdisc_is_blamed_if_it_is_on_the_way_and_drops_by_intention() -> None:
    for device, kind, is_blamed in (
        ("eth0", "clsact", True),
        ("eth0", "netem", True),
        ("eth0", "fq_codel", False),  # its queue was full
        ("eth1", "clsact", False),
    ):
        rows = [[{"dev": device, "kind": kind, "drops": count}] for count in (1, 2)]
        assert bool(dropping(*({"tc": json.dumps(row)} for row in rows))) == is_blamed
