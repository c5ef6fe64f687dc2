"""Problems in the ipam part of a configuration, for the plugins that are known."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import addresses, host_local, ranges, static
from cni_ipvlan.cli.validate.addresses import Around
from cni_ipvlan.cli.validate.options import DNS
from cni_ipvlan.cli.validate.problem import Problem, as_go_reads, misspelt_for_go
from cni_ipvlan.cni.delegate import INTERFACE_PLUGINS, PERMITTED
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6
from cni_ipvlan.suggest import nearest_first

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.reading import Path
    from cni_ipvlan.cli.validate.addresses import Subnet

_OPTIONS = {
    "static": static.OPTIONS,
    "host-local": ranges.OPTIONS,
    "dhcp": ("type", "daemonSocketPath", "request", "provide"),
}
_ROUTE = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")
_KNOWN = (*_OPTIONS, "whereabouts")  # plugins whose names people misspell
_WITHOUT_SEVERAL = (None, "", "0.1.0", "0.2.0")  # versions with one address of each family


class _Given(NamedTuple):
    """What containers get: their subnets, own addresses if known, and families with a gateway."""

    around: Around
    gateways: set[int]


def in_ipam(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield the problems in a configuration whose ipam is valid by the schema."""
    ipam = config.get("ipam")
    kind = netconf.ipam_type(config)
    if not isinstance(ipam, dict) or kind not in _OPTIONS:
        yield from _unknown(kind)
        return
    yield from misspelt_for_go(ipam, _OPTIONS[kind], ("ipam",))
    ipam = as_go_reads(ipam, _OPTIONS[kind])
    if kind == "dhcp":
        yield from _dhcp(config)
        return
    wrong = [*_objects(ipam, "routes"), *(_objects(ipam, "addresses") if kind == "static" else ())]
    if wrong:
        yield from wrong
        return
    for index, route in enumerate(ipam.get("routes") or ()):
        yield from misspelt_for_go(route, _ROUTE, ("ipam", "routes", index))
    routes = [as_go_reads(route, _ROUTE) for route in ipam.get("routes") or ()]
    needed = {
        each.version
        for route in routes
        if (each := addresses.interface(route.get("dst"))) and not route.get("gw")
    }
    if kind == "static":
        yield from _dns(ipam)
        yield from static.in_entries(config, ipam.get("addresses") or [], needed)
    else:
        yield from host_local.in_ranges(config, ipam, needed)
    yield from _with_routes(config, ipam, routes)


def _with_routes(
    config: dict[str, Any], ipam: dict[str, Any], routes: list[dict[str, Any]]
) -> Iterator[Problem]:
    given = _given(ipam)
    for index, route in enumerate(routes):
        path: Path = ("ipam", "routes", index)
        yield from _route(route, path, config.get("mode") or "l2", given)
    yield from _mtu(config, given.around.subnets)
    yield from _too_many(config, ipam)


def _given(ipam: dict[str, Any]) -> _Given:
    if ipam["type"] == "static":
        entries = ipam.get("addresses") or []
        own = static.own_addresses(entries)
        around = Around([each.network for each in own], [each.ip for each in own])
        return _Given(around, static.gateways(entries))
    subnets = ranges.subnets(ipam)
    # If no gateway is given, host-local uses the subnet's first address.
    return _Given(Around(subnets), {each.version for each in subnets})


def _unknown(kind: str) -> Iterator[Problem]:
    """Yield a name that is nearly a known plugin's, or that of no IPAM plugin."""
    if not kind or kind in _KNOWN:
        return
    if kind in INTERFACE_PLUGINS:
        text = (
            f"ipam.type is {kind!r}, which is not an IPAM plugin; root may permit it in {PERMITTED}"
        )
        yield Problem(("ipam", "type"), text, is_warning=True)
        return
    names, is_near = nearest_first(kind, _KNOWN)
    is_same = _bare(names[0]) == _bare(kind)
    if is_same or (is_near and abs(len(names[0]) - len(kind)) <= 1):
        text = f"ipam.type is {kind!r}; did you mean {names[0]}?"
        yield Problem(("ipam", "type"), text, is_warning=not is_same)


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def _dhcp(config: dict[str, Any]) -> Iterator[Problem]:
    mode = config.get("mode")
    if mode in ("l3", "l3s"):
        text = f"mode is {mode}, which carries no broadcasts, so dhcp gets no answer; use l2"
        yield Problem(("mode",), text)


def _dns(ipam: dict[str, Any]) -> Iterator[Problem]:
    dns = ipam.get("dns")
    if isinstance(dns, dict):
        yield from misspelt_for_go(dns, DNS, ("ipam", "dns"))


def _mtu(config: dict[str, Any], subnets: Any) -> Iterator[Problem]:
    mtu = config.get("mtu")
    has_ipv6 = any(isinstance(subnet, IPv6Network) for subnet in subnets)
    if has_ipv6 and isinstance(mtu, int) and 0 < mtu < LEAST_MTU_OF_IPV6:
        text = f"mtu is {mtu}; IPv6 addresses need {LEAST_MTU_OF_IPV6} or more"
        yield Problem(("mtu",), text)


def _too_many(config: dict[str, Any], ipam: dict[str, Any]) -> Iterator[Problem]:
    """Yield that an old version has no room for all addresses."""
    if config.get("cniVersion") not in _WITHOUT_SEVERAL:
        return
    families = _families(ipam)
    if len(families) > len(set(families)):
        text = "two addresses of one family need cniVersion 0.3.0 or newer"
        yield Problem(("ipam",), text)


def _families(ipam: dict[str, Any]) -> list[int]:
    """Return the family of each address that a container gets."""
    if ipam["type"] == "static":
        return [each.version for each in static.own_addresses(ipam.get("addresses") or [])]
    firsts = [next((each.subnet for each in group), None) for group in ranges.sets(ipam)]
    return [subnet.version for subnet in firsts if subnet is not None]


def _route(route: dict[str, Any], path: Path, mode: str, given: _Given) -> Iterator[Problem]:
    dst, gateway = route.get("dst"), route.get("gw")
    found = addresses.interface(dst)
    if found is None:
        yield Problem((*path, "dst"), f"dst is {dst!r}; a prefix is needed")
        return
    if gateway not in (None, ""):
        yield from _gw(found.network, gateway, (*path, "gw"), given.around)
    elif found.network.prefixlen == 0 and mode == "l2" and found.version not in given.gateways:
        yield Problem(path, f"the default route {dst} has no gateway; mode l2 needs one")


def _gw(subnet: Subnet, gateway: object, path: Path, around: Around) -> Iterator[Problem]:
    hop = addresses.address(gateway)
    if hop is not None and hop.version != subnet.version:
        yield Problem(path, f"gw is {gateway} for the route to {subnet}: two address families")
    else:
        yield from addresses.next_hop(path, gateway, around, is_needed=True)


def _objects(entry: dict[str, Any], key: str) -> Iterator[Problem]:
    """Yield what is not a list of objects; null counts as not given."""
    values = entry.get(key)
    if values is not None and not isinstance(values, list):
        yield Problem(("ipam", key), f"{key} must be a list")
        return
    for index, value in enumerate(values or ()):
        if not isinstance(value, dict):
            yield Problem(("ipam", key, index), f"{key} must hold objects")
