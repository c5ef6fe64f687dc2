"""IPAM configurations that validate reports: what is refused, and what does harm."""

from typing import Any, NamedTuple

from runtime import Conf, static

DEFAULT = [{"dst": "0.0.0.0/0"}]


def pool(subnet: str | None = "10.1.0.0/24", **options: Any) -> Conf:
    """Return host-local's configuration; without a subnet if it is None."""
    required = {} if subnet is None else {"subnet": subnet}
    return {"type": "host-local", **required, **options}


def ranges(*sets: Any, **options: Any) -> Conf:
    return pool(None, ranges=list(sets), **options)


def static_ip(address: str = "10.1.0.2/24", gateway: str = "", **options: Any) -> Conf:
    return static(address, gateway=gateway, routes=DEFAULT if gateway else [], **options)


def route(**attributes: str) -> Conf:
    return static("10.1.0.2/24", routes=[attributes])


class Case(NamedTuple):
    """A configuration, the path of its fault below $.ipam, and words of the message."""

    ipam: Conf
    path: str
    words: str


# Configurations that the IPAM plugin, this plugin or the kernel refuses.
REFUSED = [
    Case(static_ip("10.1.0.2"), ".addresses[0].address", "an address with a prefix length"),
    Case({"type": "static", "adresses": []}, ".adresses", "is unknown; did you mean addresses?"),
    Case(static_ip(gateway="10.2.0.1"), ".addresses[0].gateway", "outside the subnet 10.1.0.0/24"),
    Case(route(dst="10.9.0.0/16", gw="10.3.0.1"), ".routes[0].gw", "outside the subnet 10.1.0.0"),
    Case(route(dst="10.9.0.0"), ".routes[0].dst", "an address with a prefix length"),
    Case(pool(routes=[{"dest": "::/0"}]), ".routes[0].dest", "did you mean dst?"),
    Case({"type": "host-local"}, "", "host-local needs a subnet or ranges"),
    Case(pool("10.1"), ".subnet", "an address with a prefix length"),
    Case(pool(gateway="10.2.0.1", routes=DEFAULT), ".gateway", "outside the subnet"),
    Case(pool(rangeStart="10.2.0.5"), ".rangeStart", "outside the subnet"),
    Case(pool(rangeEnd=5), ".rangeEnd", "an address is needed"),
    Case(pool(rangeStart="10.1.0.9", rangeEnd="10.1.0.3"), ".rangeEnd", "before rangeStart"),
    Case(ranges([{"subnet": "x"}]), ".ranges[0][0].subnet", 'subnet is "x"; an address'),
    Case(pool("10.1.0.5/24"), ".subnet", "it has host bits; the subnet is 10.1.0.0/24"),
    Case(pool("10.1.0.0/31"), ".subnet", "needs a /30 or larger"),
    Case(pool("fd00::/128"), ".subnet", "needs a /126 or larger"),
    Case(
        pool(ranges=[[{"subnet": "10.1.0.128/25"}]]),
        ".ranges[0][0]",
        "the range 10.1.0.129 to 10.1.0.254 overlaps with 10.1.0.1 to 10.1.0.254",
    ),
    Case(pool(rangeStart="10.1.0.1", rangeEnd="10.1.0.1"), "", "no address but the gateway's"),
    Case(ranges({"subnet": "10.1.0.0/24"}), ".ranges[0]", "it must be a list"),
    Case(pool(routes={"dst": "0.0.0.0/0"}), ".routes", "it must be a list"),
    Case({"type": "static", "addresses": ["x"]}, ".addresses[0]", "it must be a JSON object"),
    Case(static("10.1.0.2/24", "10.1.0.2/16"), ".addresses[1].address", "was given before"),
    Case(static_ip(gateway="10.1.0.255"), ".addresses[0].gateway", "the broadcast address of"),
    Case(route(dst="10.1.0.0/24", gw="10.1.0.9"), ".routes[0]", "another route to 10.1.0.0/24"),
    Case(
        pool(routes=[*DEFAULT, {"dst": "0.0.0.0/0", "gw": "10.1.0.9"}]),
        ".routes[1]",
        "another route to 0.0.0.0/0 already",
    ),
]
# Configurations that nobody refuses, but that do harm.
HARMFUL = [
    *(
        Case(route(dst="10.7.0.0/16", **{key: "::"}), f".routes[0].{key}", "did you mean gw?")
        for key in ("via", "gateway")
    ),
    Case(
        {"type": "static", "addresses": [{"address": "10.1.0.2/24", "gatway": ""}]},
        ".addresses[0].gatway",
        "did you mean gateway?",
    ),
    Case(static("10.1.0.2/24", routes=DEFAULT), ".routes[0]", "has no gateway; mode l2 needs one"),
    Case(route(dst="::/0"), ".routes[0]", "the default route ::/0 has no gateway"),
    Case(
        ranges([{"subnet": "10.1.0.0/24"}], gateway="10.1.0.9"),
        ".gateway",
        "ignored, since it is not in one of the ranges",
    ),
    Case(
        static_ip(dns={"nameserver": ["10.1.0.9"]}), ".dns.nameserver", "did you mean nameservers"
    ),
    Case(static_ip(gateway="10.1.0.2"), ".addresses[0].gateway", "the container's own address"),
    Case(static_ip("10.1.0.255/24"), ".addresses[0].address", "the broadcast address of"),
    Case(pool(rangeStart="10.1.0.255"), ".rangeStart", "the broadcast address of"),
    Case(static_ip("224.0.0.5/24"), ".addresses[0].address", "no interface but lo can have it"),
    Case(route(dst="10.9.0.0/16", gw="10.1.0.2"), ".routes[0].gw", "the container's own address"),
    Case(pool(gatewey="10.1.0.9"), ".gatewey", "did you mean gateway?"),
]
