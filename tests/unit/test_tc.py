"""tc(8): the words of its commands, and what is read from its output."""

from __future__ import annotations

import json

import pytest

from cni_ipvlan.iproute import tc
from cni_ipvlan.iproute.queries import UnreadableAnswerError

# tc -s -j actions list action pedit, of iproute2 6.15
COUNTED = (
    b'[{"total acts":1},{"actions":[{"order":0,"kind":"pedit","control_action":{"type":"pipe"},'
    b'"nkeys":2,"index":1,"ref":1,"bind":1,"installed":5,"last_used":1,"first_used":4,"keys":[],'
    b'"stats":{"bytes":1026,"packets":3,"drops":0,"overlimits":0,"requeues":0,"backlog":0,'
    b'"qlen":0},"not_in_hw":true}]}]'
)


def test_commands_that_have_requests_broadcast() -> None:
    assert " ".join(tc.clsact_add("net1")) == "tc qdisc add dev net1 clsact"
    assert " ".join(tc.broadcast_filter_add("net1")) == (
        "tc filter add dev net1 egress protocol ip u32 match u8 0x45 0xff at 0 "
        "match ip protocol 17 0xff match ip src 0.0.0.0/32 match ip dport 67 0xffff "
        "action pedit munge ip dst set 255.255.255.255 munge offset 38 u16 set 0x8000 pipe "
        "action csum ip4h and udp"
    )
    assert " ".join(tc.edits_show()) == "tc -s -j actions list action pedit"


@pytest.mark.parametrize(
    ("output", "count"),
    [(COUNTED, 3), (b"[]", 0), (b"", 0), (None, 0), (b'[{"total acts":0}]', 0)],
)
def test_number_of_changed_packets(output: bytes | None, count: int) -> None:
    assert tc.edited_packets(output) == count


@pytest.mark.parametrize(
    "value",
    [1, None, {"actions": 1}, [1], [{"actions": [{}]}], [{"actions": [{"stats": []}]}], "x"],
)
def test_other_output_is_unreadable(value: object) -> None:
    with pytest.raises(UnreadableAnswerError):
        tc.edited_packets(json.dumps(value).encode())
    with pytest.raises(UnreadableAnswerError):
        tc.edited_packets(b"{")
