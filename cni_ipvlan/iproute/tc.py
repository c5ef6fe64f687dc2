"""tc(8): have the DHCP requests of a link, and the answers to them, broadcast."""

from __future__ import annotations

from cni_ipvlan.iproute.commands import Argv


def clsact_add(name: str) -> Argv:
    """Give a link a place for filters of what leaves through it."""
    return ("tc", "qdisc", "add", "dev", name, "clsact")


def broadcast_filter_add(name: str) -> Argv:
    """Have each DHCP request that leaves through a link without a sender's address broadcast.

    Its flag BROADCAST is set, too: the first bit of the field "flags", of which the others are 0
    (RFC 2131, section 2), 10 bytes behind the headers of IP, without options, and of UDP.
    """
    return (
        *("tc", "filter", "add", "dev", name, "egress", "protocol", "ip", "u32"),
        *("match", "u8", "0x45", "0xff", "at", "0", "match", "ip", "protocol", "17", "0xff"),
        *("match", "ip", "src", "0.0.0.0/32", "match", "ip", "dport", "67", "0xffff"),
        *("action", "pedit", "munge", "ip", "dst", "set", "255.255.255.255"),
        *("munge", "offset", "38", "u16", "set", "0x8000", "pipe"),
        *("action", "csum", "ip4h", "and", "udp"),
    )
