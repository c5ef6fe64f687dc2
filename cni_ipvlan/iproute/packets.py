"""Ask the network: routes and neighbours with ip(8), ping(8) and arping(8) of iputils.

Nothing here is needed by a CNI call.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, NamedTuple

from cni_ipvlan.iproute import queries
from cni_ipvlan.iproute.commands import Argv
from cni_ipvlan.iproute.running import Completed

_HEADERS = {4: 28, 6: 48}  # bytes of an IP and an ICMP header


class RouteLookup(NamedTuple):
    """How packets to an address leave: ``gateway`` is empty if it is on the link.

    ``device`` is empty if there is no route; then ``error`` may say why. ``kind`` is the route's
    type, such as "unicast"; ``mtu`` is that of the path in bytes, if a router has reported it or a
    route has it.
    """

    device: str
    gateway: str
    source: str
    mtu: int | None
    kind: str
    error: str

    @property
    def is_local(self) -> bool:
        """Whether they don't leave: the address is there, or seems to be a broadcast address."""
        return self.kind in ("local", "broadcast")


def address_in(word: str) -> str:
    """Return the IP address that a word is, in its usual form; empty if it is none."""
    try:
        return str(ip_address(word))
    except ValueError:
        return ""


def route_get(address: str, **words: str) -> Argv:
    """Return the query for how packets to an address leave; it fails if there is no route.

    ``words`` are of ip-route(8)'s ``get``: ``iif`` with ``from`` asks for what comes in.
    """
    given = (word for pair in words.items() if pair[1] for word in pair)
    return ("ip", "-j", "route", "get", address, *given)


def route_lookup(completed: Completed) -> RouteLookup:
    """Read the answer to ``route_get``."""
    entry = next(iter(entries(completed)), {})
    metrics = {key: value for each in entry.get("metrics", ()) for key, value in each.items()}
    return RouteLookup(
        device=entry.get("dev", ""),
        gateway=entry.get("gateway", "") or entry.get("via", {}).get("host", ""),
        source=entry.get("prefsrc", ""),
        mtu=metrics.get("mtu"),
        kind=entry.get("type", "unicast"),
        error=completed.stderr.decode("utf-8", "replace"),
    )


def ping(address: str, *by: str, mtu: int = 0) -> Argv:
    """Return a command that waits for an echo, sent from an address and a link if they are named.

    With ``mtu``, the request has that size and may not be fragmented.
    """
    link = (word for each in by if each for word in ("-I", each))
    if not mtu:
        return ("ping", "-n", "-c", "1", "-i", "0.5", "-w", "2", *link, address)
    size = str(mtu - _HEADERS[6 if ":" in address else 4])
    return ("ping", "-n", "-c", "1", "-w", "1", "-M", "do", "-s", size, *link, address)


def arping(address: str, by: str) -> Argv:
    """Return what asks from an address for a MAC address, as who stands in for others expects it.

    Its status is 1 if nobody answers. Proxy ARP answers no ``commands.arping_duplicate()``.
    """
    return ("arping", "-f", "-w", "1", "-I", by, address)


def entries(completed: Completed) -> list[dict[str, Any]]:
    """Return what ip has printed as JSON; nothing if it has failed."""
    found = queries.entries(completed.stdout) if completed.status == 0 else []
    return [each for each in found if each]
