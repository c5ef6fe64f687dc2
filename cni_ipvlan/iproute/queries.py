"""Parse the output of ``ip -j``: links, addresses and routes.

An output of None, from a query that was not permitted, is parsed as an empty one.
"""

from __future__ import annotations

import json

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.iproute import IprouteError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

_MAIN_TABLE = 254  # RT_TABLE_MAIN, <linux/rtnetlink.h>
_ETHERNET = ("ether", "[1]")  # with -N, ARPHRD_ETHER in <linux/if_arp.h>
_UNICAST = "1"  # RTN_UNICAST


class UnreadableAnswerError(IprouteError):
    """An ``ip -j`` printed something other than the expected JSON."""


class Link(NamedTuple):
    """A link.

    ``parent_index`` is the index of the link below it, ``parent`` its name if it is
    in the same namespace, else ``parent_netns`` its namespace's number. ``master``
    and ``slave_kind`` name the link that this one is a port of. Only an ipvlan link
    has ``mode`` and ``flag``.
    """

    ifindex: int
    name: str
    kind: str = ""
    mtu: int = 0
    mac: str = ""
    is_up: bool = False
    is_ethernet: bool = False
    parent: str = ""
    parent_index: int = 0
    parent_netns: int | None = None
    master: str = ""
    slave_kind: str = ""
    mode: str = ""
    flag: str = ""
    alternative_names: tuple[str, ...] = ()


class Address(NamedTuple):
    """An address of a link, in canonical form with its prefix length."""

    address: str
    is_tentative: bool = False
    is_duplicate: bool = False


class Route(NamedTuple):
    """A unicast route; ``dst`` has a prefix length, and None means an absent attribute."""

    dst: str
    gateway: str
    device: str
    table: int
    priority: int
    scope: int
    mtu: int | None
    advmss: int | None
    is_connected: bool


def links(output: bytes | None) -> list[Link]:
    """Read ``ip -j -d link show`` (or ``address show``).

    No output at all is an error, not an empty list: it would leave a link behind.
    """
    if output is not None and not output.strip():
        raise UnreadableAnswerError("nothing")
    return _read(output, lambda entry: [_link(entry)] if entry else [])


def addresses(output: bytes | None) -> list[Address]:
    """Read the addresses in ``ip -j address show dev X``."""
    return _read(output, _addresses)


def links_with_addresses(output: bytes | None) -> list[tuple[Link, list[Address]]]:
    """Read ``ip -j -d address show``: each link with its addresses."""
    return _read(output, lambda entry: [(_link(entry), _addresses(entry))] if entry else [])


def routes(output: bytes | None) -> list[Route]:
    """Read ``ip -N -j -d route show``; other types than unicast are skipped."""
    return _read(
        output, lambda entry: [_route(entry)] if entry.get("type", _UNICAST) == _UNICAST else []
    )


def default_interfaces(output: bytes | None) -> list[tuple[int, str]]:
    """Read ``ip -j route show default``: (metric, interface) of each next hop."""
    return _read(output, _default_interfaces)


def namespace_number(output: bytes | None, inode: int) -> int:
    """Read ``lsns --json --output NS,NETNSID``: the number of a namespace, or -1."""
    try:
        entries = json.loads(output or b"{}")["namespaces"]
        found = [each["netnsid"] for each in entries if int(each["ns"]) == inode]
        return int(found[0]) if found and found[0].isdecimal() else -1
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UnreadableAnswerError((output or b"").decode("utf-8", "replace")) from None


def _read(output: bytes | None, read: Callable[[dict[str, Any]], list[T]]) -> list[T]:
    found: list[T] = []
    for entry in _entries(output):
        try:
            found += read(entry)
        except (KeyError, AttributeError, TypeError, ValueError):
            raise UnreadableAnswerError(json.dumps(entry)) from None
    return found


def _entries(output: bytes | None) -> list[dict[str, Any]]:
    # For some objects, though never for links, ip prints nothing instead of an empty list.
    text = (output or b"").decode("utf-8", "surrogateescape").strip()
    if not text:
        return []
    try:
        # Not strict, since ip does not escape control characters in names.
        entries = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise UnreadableAnswerError(text) from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnreadableAnswerError(text)
    return entries


def _addresses(entry: dict[str, Any]) -> list[Address]:
    from ipaddress import ip_interface

    return [
        Address(
            # ip writes "::1.2.3.4", Python "::102:304".
            str(ip_interface(f"{info['local']}/{info['prefixlen']}")),
            bool(info.get("tentative")),
            bool(info.get("dadfailed")),
        )
        for info in entry.get("addr_info", ())
        if "local" in info
    ]


def _default_interfaces(entry: dict[str, Any]) -> list[tuple[int, str]]:
    # In IPv6, an unreachable default route has the device lo.
    if entry.get("type", "unicast") != "unicast":
        return []
    hops = [entry, *entry.get("nexthops", ())]
    return [(entry.get("metric", 0), hop["dev"]) for hop in hops if "dev" in hop]


def _link(entry: dict[str, Any]) -> Link:
    info = entry.get("linkinfo", {})
    kind = info.get("info_kind", "")
    data = info.get("info_data", {})
    return Link(
        ifindex=entry["ifindex"],
        name=entry["ifname"],
        kind=kind,
        mtu=entry["mtu"],
        mac=entry.get("address", ""),
        is_up="UP" in entry["flags"],
        is_ethernet=entry["link_type"] in _ETHERNET,
        parent=entry.get("link") or "",
        parent_index=entry.get("link_index", 0),
        parent_netns=entry.get("link_netnsid"),
        master=entry.get("master", ""),
        slave_kind=info.get("info_slave_kind", ""),
        mode=data.get("mode", "") if kind == "ipvlan" else "",
        flag=_flag(data) if kind == "ipvlan" else "",
        alternative_names=tuple(entry.get("altnames", ())),
    )


def _flag(data: dict[str, Any]) -> str:
    return next((flag for flag in ("private", "vepa") if data.get(flag)), "bridge")


def _route(entry: dict[str, Any]) -> Route:
    from ipaddress import ip_address

    metrics = {key: value for part in entry.get("metrics", ()) for key, value in part.items()}
    gateway = entry.get("gateway")
    return Route(
        dst=_prefix(entry),
        gateway=str(ip_address(_text(gateway))) if gateway else "",
        device=entry.get("dev", ""),
        table=int(entry.get("table", _MAIN_TABLE)),
        priority=entry.get("metric", 0),
        scope=int(entry.get("scope", 0)),
        mtu=metrics.get("mtu"),
        advmss=metrics.get("advmss"),
        is_connected=str(entry.get("protocol")) == "2",  # RTPROT_KERNEL
    )


def _prefix(entry: dict[str, Any]) -> str:
    if entry["dst"] == "default":
        # Only IPv6 routes have a router preference ("pref"); a gateway shows the family, too.
        is_ipv6 = "pref" in entry or ":" in entry.get("gateway", "")
        return "::/0" if is_ipv6 else "0.0.0.0/0"
    from ipaddress import ip_network

    return str(ip_network(_text(entry["dst"])))


def _text(value: object) -> str:
    """Return a string unchanged; raises TypeError for a number, which ipaddress would accept."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value
