"""Parse the output of ``ip -j``: links, addresses and routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

IPVLAN_KINDS, MACVLAN_KINDS = ("ipvlan", "ipvtap"), ("macvlan", "macvtap")
MAIN_TABLE = 254  # RT_TABLE_MAIN, <linux/rtnetlink.h>
# Words, and with -N numbers: ARPHRD_ETHER in <linux/if_arp.h>, RT_SCOPE_UNIVERSE and RTN_UNICAST.
_ETHERNET = ("ether", "[1]")
_GLOBAL = ("global", "0")
_UNICAST = ("unicast", "1")
_UNREACHABLE = "7"  # RTN_UNREACHABLE
_UNRESOLVED = ("FAILED", "INCOMPLETE", "NONE")  # states of a neighbour without MAC address


class UnreadableAnswerError(IprouteError):
    """An ``ip -j`` printed something other than the expected JSON."""


class Address(NamedTuple):
    """An address of a link; ``text`` is how ip writes it, with its prefix length.

    ``subnet`` is an address in the subnet of a global one with a prefix length: the host's own, or
    its peer's. It is dynamic if it has a lifetime, as by a router's advertisement.
    """

    text: str
    subnet: str = ""
    is_tentative: bool = False
    is_duplicate: bool = False
    is_dynamic: bool = False

    @property
    def address(self) -> str:
        """The text in canonical form: ip writes "::1.2.3.4", Python "::102:304"."""
        from ipaddress import ip_interface

        return str(ip_interface(self.text))

    @property
    def ip(self) -> str:
        """The text without the prefix length."""
        return self.text.partition("/")[0]


class Link(NamedTuple):
    """A link.

    ``parent_index`` is the index of the link below it, ``parent`` its name if it is
    in the same namespace, else ``parent_netns`` its namespace's number. ``master``
    and ``slave_kind`` name the link that this one is a port of. Only an ipvlan or ipvtap
    link has ``mode`` and ``flag``, only a VLAN (802.1Q) the ID ``vlan``. ``alias`` is empty if it
    has none, and ``addresses`` if they were not asked for.
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
    addresses: tuple[Address, ...] = ()

    @property
    def is_ipvlan(self) -> bool:
        """Whether it is an ipvlan or ipvtap link, which share their master's mode."""
        return self.kind in IPVLAN_KINDS


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
    source: str = ""

    @property
    def ip(self) -> str:
        """The address that it leads to, if that is one."""
        return self.dst.partition("/")[0]


class RouteLookup(NamedTuple):
    """How packets to an address leave; ``gateway`` is empty if the address is on the link.

    ``device`` is empty if there is no route; then ``error`` may say why. ``kind`` is the route's
    type, such as "unicast"; ``mtu`` is that of the path in bytes, if a router has reported it or a
    route has it.
    """

    device: str = ""
    gateway: str = ""
    source: str = ""
    mtu: int | None = None
    kind: str = "unicast"
    error: str = ""

    @property
    def is_local(self) -> bool:
        """Whether packets stay: the address is here, or seems to be a broadcast address."""
        return self.kind in ("local", "broadcast")


class Neighbour(NamedTuple):
    """An entry of the kernel's neighbour table; ``mac`` is empty if nobody has answered."""

    address: str = ""
    mac: str = ""
    state: str = ""

    @property
    def is_permanent(self) -> bool:
        """Whether a person or program has set it, so that nobody is asked."""
        return self.state in ("PERMANENT", "NOARP")


def links(output: bytes) -> list[Link]:
    """Read ``ip -j -d link show``, or ``address show`` with the addresses.

    No output at all is an error, not an empty list: it would leave a link behind.
    """
    if not output.strip():
        raise UnreadableAnswerError("nothing")
    return read(output, lambda entry: [_link(entry)] if entry else [])


def routes(output: bytes) -> list[Route]:
    """Read ``ip -N -j -d route show``: a route for each next hop of the unicast ones.

    In IPv6, an unreachable default route has the device lo.
    """
    return read(output, lambda entry: list(map(_route, _unicast(entry))))


def all_routes(output: bytes) -> list[Route]:
    """Read ``ip -N -j -d route show``: routes of every type, each once."""
    return read(output, lambda entry: [_route(entry)])


def find_best_route(matches: Iterable[Route]) -> Route | None:
    """Return the route that applies to an address, of those of a table that it matches."""
    return max(
        matches, key=lambda each: (int(each.dst.rpartition("/")[2]), -each.priority), default=None
    )


def next_hops(output: bytes) -> list[str]:
    """Read ``route_show`` or ``nexthop_show``: the addresses that routes lead through."""
    return read(output, lambda entry: list(filter(None, map(_gateway, _hops(entry)))))


def local_prefixes(output: bytes) -> list[str]:
    """Read ``route_show_local``: addresses and subnets, as ip writes them, but not "default"."""
    prefixes = read(output, lambda entry: [_value(entry, "dst", str)])
    return [each for each in prefixes if each != "default"]


def neighbours(output: bytes) -> list[Neighbour]:
    """Read ``ip -j neighbour show``."""

    def parse_entry(entry: dict[str, Any]) -> list[Neighbour]:
        state = next(iter(_list(entry, "state", str)), "")
        mac = "" if state in _UNRESOLVED else _value(entry, "lladdr", str, "")
        return [Neighbour(_value(entry, "dst", str), mac, state)]

    return read(output, parse_entry)


def route_lookup(output: bytes, error: bytes) -> RouteLookup:
    """Read ``route_get``, which prints nothing if there is no route."""

    def parse_entry(entry: dict[str, Any]) -> list[RouteLookup]:
        device, source = (_value(entry, key, str, "") for key in ("dev", "prefsrc"))
        mtu, kind = _metrics(entry).get("mtu"), _value(entry, "type", str, "unicast")
        return [RouteLookup(device, _gateway(entry), source, mtu, kind)]

    lookup = next(iter(read(output, parse_entry)), RouteLookup())
    return lookup._replace(error=error.decode("utf-8", "replace"))


def answering_mac(output: bytes) -> str:
    """Read ``arping -D``: the MAC address of the host that answered."""
    # Unicast reply from 10.1.0.2 [02:00:00:00:00:02]  0.574ms
    return output.decode("utf-8", "replace").partition("[")[2].partition("]")[0]


def read(output: bytes, parse_entry: Callable[[dict[str, Any]], list[T]]) -> list[T]:
    """Return what is read of each object in a list that ``ip -j`` or ``tc -j`` prints."""
    items: list[T] = []
    for entry in entries(output):
        try:
            items += parse_entry(entry)
        except (KeyError, AttributeError, TypeError, ValueError):
            raise UnreadableAnswerError(json.dumps(entry)) from None
    return items


def entries(output: bytes) -> list[dict[str, Any]]:
    """Read the objects in a list that ``ip -j`` prints, whatever they are."""
    # For some objects, though never for links, ip prints nothing instead of an empty list.
    text = output.decode("utf-8", "surrogateescape").strip()
    try:
        # Not strict, since ip does not escape control characters in names.
        items = json.loads(text or "[]", strict=False)
    except (ValueError, RecursionError):
        raise UnreadableAnswerError(text) from None
    if not isinstance(items, list) or not all(isinstance(entry, dict) for entry in items):
        raise UnreadableAnswerError(text)
    return items


def _link(entry: dict[str, Any]) -> Link:
    info = _value(entry, "linkinfo", dict, {})
    kind = _value(info, "info_kind", str, "")
    data = _value(info, "info_data", dict, {})
    flags = _list(entry, "flags", str)
    return Link(
        ifindex=_value(entry, "ifindex", int),
        name=_value(entry, "ifname", str),
        kind=kind,
        mtu=_value(entry, "mtu", int),
        mac=_value(entry, "address", str, ""),
        is_up="UP" in flags,
        is_ethernet=_value(entry, "link_type", str) in _ETHERNET,
        parent="" if entry.get("link") is None else _value(entry, "link", str),
        parent_index=_value(entry, "link_index", int, 0),
        parent_netns=_optional(entry, "link_netnsid"),
        master=_value(entry, "master", str, ""),
        slave_kind=_value(info, "info_slave_kind", str, ""),
        mode=_value(data, "mode", str, "") if kind in IPVLAN_KINDS else "",
        flag=_flag(data) if kind in IPVLAN_KINDS else "",
        alternative_names=tuple(_list(entry, "altnames", str, [])),
        alias=_value(entry, "ifalias", str, ""),
        has_carrier="LOWER_UP" in flags,
        has_arp="NOARP" not in flags,
        vlan=_value(data, "id", int, 0) if data.get("protocol") == "802.1Q" else 0,
        addresses=tuple(
            _address(info) for info in _list(entry, "addr_info", dict, []) if "local" in info
        ),
    )


def _flag(data: dict[str, Any]) -> str:
    flags = ("private", "vepa")
    return next((flag for flag in flags if _value(data, flag, bool, default=False)), "bridge")


def _address(info: dict[str, Any]) -> Address:
    local, length = _value(info, "local", str), _value(info, "prefixlen", int)
    is_global = _value(info, "scope", str, "") in _GLOBAL
    return Address(
        f"{local}/{length}",
        f"{_value(info, 'address', str, local)}/{length}" if is_global else "",
        _value(info, "tentative", bool, default=False),
        _value(info, "dadfailed", bool, default=False),
        _value(info, "dynamic", bool, default=False),
    )


def _unicast(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return _hops(entry) if _value(entry, "type", str, "unicast") in _UNICAST else []


def _hops(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**entry, **hop} for hop in _list(entry, "nexthops", dict, [])] or [entry]


def _gateway(entry: dict[str, Any]) -> str:
    via = _value(entry, "via", dict, {})  # of the other family
    return _value(entry, "gateway", str, "") or _value(via, "host", str, "")


def _route(entry: dict[str, Any]) -> Route:
    from ipaddress import ip_address

    metrics, gateway = _metrics(entry), _gateway(entry)
    return Route(
        dst=_prefix(entry),
        gateway=str(ip_address(gateway)) if gateway else "",
        device=_value(entry, "dev", str, ""),
        table=int(_value(entry, "table", str, str(MAIN_TABLE))),
        priority=_value(entry, "metric", int, 0),
        scope=int(_value(entry, "scope", str, "0")),
        mtu=_optional(metrics, "mtu"),
        advmss=_optional(metrics, "advmss"),
        is_connected=_value(entry, "protocol", str, "") == "2",  # RTPROT_KERNEL
        is_unreachable=_value(entry, "type", str, "") == _UNREACHABLE,
        source=_value(entry, "prefsrc", str, ""),
    )


def _metrics(entry: dict[str, Any]) -> dict[str, Any]:
    parts = _list(entry, "metrics", dict, [])
    return {key: value for part in parts for key, value in part.items()}


def _prefix(entry: dict[str, Any]) -> str:
    from ipaddress import ip_network

    prefix = _value(entry, "dst", str)
    if prefix == "default":
        # Only IPv6 routes have a router preference ("pref"); a gateway shows the family, too.
        is_ipv6 = "pref" in entry or ":" in _value(entry, "gateway", str, "")
        return "::/0" if is_ipv6 else "0.0.0.0/0"
    return str(ip_network(prefix))


def _value(entry: dict[str, Any], key: str, kind: type[T], default: T | None = None) -> T:
    """Return a value, or else the default; raises TypeError if it is not exactly of that type."""
    value = entry.get(key, default)
    if type(value) is not kind:  # isinstance() takes a bool for an int
        raise TypeError(key)
    return value


def _optional(entry: dict[str, Any], key: str) -> int | None:
    return _value(entry, key, int) if key in entry else None


def _list(
    entry: dict[str, Any], key: str, kind: type[T], default: list[T] | None = None
) -> list[T]:
    """Return a list, or else the default; raises TypeError if an item is of another type."""
    items = _value(entry, key, list, default)
    if any(type(item) is not kind for item in items):
        raise TypeError(key)
    return items
