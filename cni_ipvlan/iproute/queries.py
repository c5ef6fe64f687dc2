"""Parse the output of ``ip -j``: links, addresses and routes.

An output of None, from a query that was not permitted, is parsed as an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

IPVLAN_KINDS = ("ipvlan", "ipvtap")
MAIN_TABLE = 254  # RT_TABLE_MAIN, <linux/rtnetlink.h>
_ETHERNET = ("ether", "[1]")  # with -N, ARPHRD_ETHER in <linux/if_arp.h>
_UNICAST, _UNREACHABLE = "1", "7"  # RTN_UNICAST, RTN_UNREACHABLE, <linux/rtnetlink.h>
_UNREACHED = frozenset(("FAILED", "INCOMPLETE"))


class UnreadableAnswerError(IprouteError):
    """An ``ip -j`` printed something other than the expected JSON."""


class Link(NamedTuple):
    """A link.

    ``parent_index`` is the index of the link below it, ``parent`` its name if it is
    in the same namespace, else ``parent_netns`` its namespace's number. ``master``
    and ``slave_kind`` name the link that this one is a port of. Only an ipvlan or ipvtap
    link has ``mode`` and ``flag``, only a VLAN (802.1Q) the ID ``vlan``. ``alias`` is empty if it
    has none.
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
    alias: str = ""
    has_carrier: bool = False
    has_arp: bool = True
    vlan: int = 0

    @property
    def is_ipvlan(self) -> bool:
        """Whether it is an ipvlan or ipvtap link, which share their master's mode."""
        return self.kind in IPVLAN_KINDS


class Address(NamedTuple):
    """An address of a link, in canonical form with its prefix length."""

    address: str
    is_tentative: bool = False
    is_duplicate: bool = False


class Neighbour(NamedTuple):
    """An address of another host, as ip writes it, and its MAC address."""

    address: str
    mac: str
    is_permanent: bool


class Route(NamedTuple):
    """A route; ``dst`` has a prefix length, and None means an absent attribute."""

    dst: str
    gateway: str
    device: str
    table: int
    priority: int
    scope: int
    mtu: int | None
    advmss: int | None
    is_connected: bool
    is_unreachable: bool = False


def links(output: bytes) -> list[Link]:
    """Read ``ip -j -d link show`` (or ``address show``).

    No output at all is an error, not an empty list: it would leave a link behind.
    """
    if not output.strip():
        raise UnreadableAnswerError("nothing")
    return _read(output, lambda entry: [_link(entry)] if entry else [])


def addresses(output: bytes) -> list[Address]:
    """Read the addresses in ``ip -j address show dev X``."""
    return _read(output, _addresses)


def local_addresses(output: bytes) -> list[str]:
    """Read the addresses in ``ip -j address show dev X`` as ip writes them, without more.

    Other than ``addresses``, it needs no module that takes long to import.
    """
    return _read(output, _local_addresses)


def global_subnets(output: bytes) -> list[str]:
    """Read the subnets of a link's global addresses in ``ip -j address show dev X``.

    Each is an address in it with a prefix length: the host's own, or its peer's.
    """
    return _read(output, _global_subnets)


def links_with_addresses(output: bytes) -> list[tuple[Link, list[Address]]]:
    """Read ``ip -j -d address show``: each link with its addresses."""
    return _read(output, lambda entry: [(_link(entry), _addresses(entry))] if entry else [])


def routes(output: bytes) -> list[Route]:
    """Read ``ip -N -j -d route show``: one for each next hop of the unicast ones."""

    def read(entry: dict[str, Any]) -> list[Route]:
        hops = _list(entry, "nexthops", dict, []) or [{}]
        is_unicast = _value(entry, "type", str, _UNICAST) == _UNICAST
        return [_route({**entry, **hop}) for hop in hops] if is_unicast else []

    return _read(output, read)


def all_routes(output: bytes) -> list[Route]:
    """Read ``ip -N -j -d route show``: routes of every type."""
    return _read(output, lambda entry: [_route(entry)])


def way(matching: Iterable[Route]) -> Route | None:
    """Return the route that applies to an address, of those of a table that it matches."""
    return max(
        matching,
        key=lambda each: (int(each.dst.rpartition("/")[2]), -each.priority),
        default=None,
    )


def next_hops(output: bytes) -> list[str]:
    """Read ``route_show`` or ``nexthop_show``: the addresses that routes lead through.

    A route has one next hop, in either family, or several.
    """

    def read(entry: dict[str, Any]) -> list[str]:
        found = []
        for hop in (entry, *_list(entry, "nexthops", dict, [])):
            via = _value(hop, "via", dict, {})
            addresses = (_value(hop, "gateway", str, ""), _value(via, "host", str, ""))
            found += [each for each in addresses if each]
        return found

    return _read(output, read)


def local_prefixes(output: bytes) -> list[str]:
    """Read ``route_show_local``: addresses and subnets, as ip writes them."""
    return _read(output, lambda entry: [_value(entry, "dst", str)])


def neighbours(output: bytes) -> list[Neighbour]:
    """Read ``ip -j neighbour show``: those whose MAC address is known."""
    return _read(
        output,
        lambda entry: (
            [
                Neighbour(
                    _value(entry, "dst", str),
                    _value(entry, "lladdr", str),
                    "PERMANENT" in _list(entry, "state", str),
                )
            ]
            if "lladdr" in entry and not _UNREACHED.intersection(_list(entry, "state", str))
            else []
        ),
    )


def default_interfaces(output: bytes) -> list[tuple[int, str]]:
    """Read ``ip -j route show default``: (metric, interface) of each next hop."""
    return _read(output, _default_interfaces)


def namespace_number(output: bytes, inode: int) -> int:
    """Read ``lsns --json --output NS,NETNSID``: the number of a namespace, or -1."""
    try:
        entries = _list(json.loads(output or b"{}"), "namespaces", dict)
        # Whether lsns prints inodes as numbers or strings depends on its version.
        found = [_value(each, "netnsid", str) for each in entries if str(each["ns"]) == str(inode)]
        return int(found[0]) if found and found[0].isdecimal() else -1
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UnreadableAnswerError(output.decode("utf-8", "replace")) from None


def answering_mac(output: bytes) -> str:
    """Read ``arping -D``: the MAC address of the host that answered.

    It has the line "Unicast reply from 10.1.0.2 [02:00:00:00:00:02]  0.574ms".
    """
    return output.decode("utf-8", "replace").partition("[")[2].partition("]")[0]


def _read(output: bytes, read: Callable[[dict[str, Any]], list[T]]) -> list[T]:
    found: list[T] = []
    for entry in entries(output):
        try:
            found += read(entry)
        except (KeyError, AttributeError, TypeError, ValueError):
            raise UnreadableAnswerError(json.dumps(entry)) from None
    return found


def entries(output: bytes) -> list[dict[str, Any]]:
    """Read the objects in a list that ``ip -j`` prints, whatever they are."""
    # For some objects, though never for links, ip prints nothing instead of an empty list.
    text = output.decode("utf-8", "surrogateescape").strip()
    if not text:
        return []
    try:
        # Not strict, since ip does not escape control characters in names.
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        raise UnreadableAnswerError(text) from None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UnreadableAnswerError(text)
    return found


def _local_addresses(entry: dict[str, Any]) -> list[str]:
    return [
        _value(info, "local", str)
        for info in _list(entry, "addr_info", dict, [])
        if "local" in info
    ]


def _global_subnets(entry: dict[str, Any]) -> list[str]:
    return [
        f"{_value(info, 'address', str, info['local'])}/{_value(info, 'prefixlen', int)}"
        for info in _list(entry, "addr_info", dict, [])
        if "local" in info and _value(info, "scope", str, "") == "global"
    ]


def _addresses(entry: dict[str, Any]) -> list[Address]:
    from ipaddress import ip_interface

    return [
        Address(
            # ip writes "::1.2.3.4", Python "::102:304".
            str(ip_interface(f"{_value(info, 'local', str)}/{_value(info, 'prefixlen', int)}")),
            _value(info, "tentative", bool, default=False),
            _value(info, "dadfailed", bool, default=False),
        )
        for info in _list(entry, "addr_info", dict, [])
        if "local" in info
    ]


def _default_interfaces(entry: dict[str, Any]) -> list[tuple[int, str]]:
    # In IPv6, an unreachable default route has the device lo.
    if _value(entry, "type", str, "unicast") != "unicast":
        return []
    metric = _value(entry, "metric", int, 0)
    hops = [entry, *_list(entry, "nexthops", dict, [])]
    return [(metric, _value(hop, "dev", str)) for hop in hops if "dev" in hop]


def _link(entry: dict[str, Any]) -> Link:
    info = _value(entry, "linkinfo", dict, {})
    kind = _value(info, "info_kind", str, "")
    data = _value(info, "info_data", dict, {})
    return Link(
        ifindex=_value(entry, "ifindex", int),
        name=_value(entry, "ifname", str),
        kind=kind,
        mtu=_value(entry, "mtu", int),
        mac=_value(entry, "address", str, ""),
        is_up="UP" in _list(entry, "flags", str),
        is_ethernet=_value(entry, "link_type", str) in _ETHERNET,
        parent="" if entry.get("link") is None else _value(entry, "link", str),
        parent_index=_value(entry, "link_index", int, 0),
        parent_netns=_optional(entry, "link_netnsid", int),
        master=_value(entry, "master", str, ""),
        slave_kind=_value(info, "info_slave_kind", str, ""),
        mode=_value(data, "mode", str, "") if kind in IPVLAN_KINDS else "",
        flag=_flag(data) if kind in IPVLAN_KINDS else "",
        alternative_names=tuple(_list(entry, "altnames", str, [])),
        alias=_value(entry, "ifalias", str, ""),
        has_carrier="LOWER_UP" in _list(entry, "flags", str),
        has_arp="NOARP" not in _list(entry, "flags", str),
        vlan=_value(data, "id", int, 0) if data.get("protocol") == "802.1Q" else 0,
    )


def _flag(data: dict[str, Any]) -> str:
    flags = ("private", "vepa")
    return next((flag for flag in flags if _value(data, flag, bool, default=False)), "bridge")


def _route(entry: dict[str, Any]) -> Route:
    from ipaddress import ip_address

    parts = _list(entry, "metrics", dict, [])
    metrics = {key: value for part in parts for key, value in part.items()}
    via = _value(entry, "via", dict, {})  # of the other family
    gateway = _value(entry, "gateway", str, "") or _value(via, "host", str, "")
    return Route(
        dst=_prefix(entry),
        gateway=str(ip_address(gateway)) if gateway else "",
        device=_value(entry, "dev", str, ""),
        table=int(_value(entry, "table", str, str(MAIN_TABLE))),
        priority=_value(entry, "metric", int, 0),
        scope=int(_value(entry, "scope", str, "0")),
        mtu=_optional(metrics, "mtu", int),
        advmss=_optional(metrics, "advmss", int),
        is_connected=_value(entry, "protocol", str, "") == "2",  # RTPROT_KERNEL
        is_unreachable=_value(entry, "type", str, _UNICAST) == _UNREACHABLE,
    )


def _prefix(entry: dict[str, Any]) -> str:
    prefix = _value(entry, "dst", str)
    if prefix == "default":
        # Only IPv6 routes have a router preference ("pref"); a gateway shows the family, too.
        is_ipv6 = "pref" in entry or ":" in _value(entry, "gateway", str, "")
        return "::/0" if is_ipv6 else "0.0.0.0/0"
    from ipaddress import ip_network

    return str(ip_network(prefix))


def _value(entry: dict[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """Return a value, or else the default; raises TypeError if it is not exactly of that type."""
    value = entry.get(key, default)
    if type(value) is not kind:  # isinstance() takes a bool for an int
        raise TypeError(key)
    return value


def _optional(entry: dict[str, Any], key: str, kind: type[T]) -> T | None:
    return _value(entry, key, kind) if key in entry else None


def _list(
    entry: dict[str, Any], key: str, kind: type[T], default: list[T] | None = None
) -> list[T]:
    """Return a list, or else the default; raises TypeError if an item is of another type."""
    items = _value(entry, key, list, default)
    if any(type(item) is not kind for item in items):
        raise TypeError(key)
    return items
