"""Problems in the ipam part of a configuration, for the plugins static and host-local."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.problem import slips
from cni_ipvlan.config.netconf import Fault
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.configs import Path

_RANGE = ("subnet", "gateway", "rangeStart", "rangeEnd")
_OPTIONS = {
    "static": ("type", "addresses", "routes", "dns"),
    "host-local": (*_RANGE, "type", "ranges", "routes", "dataDir", "resolvConf"),
}
_STATIC_ADDRESS = ("address", "gateway")
_ROUTE = ("dst", "gw", "mtu", "advmss", "priority", "table", "scope")


Subnet = IPv4Network | IPv6Network


class _Given(NamedTuple):
    """The subnets that addresses will come from, and the families that have a gateway."""

    subnets: list[Subnet]
    gateways: set[int]


def in_ipam(config: dict[str, Any]) -> Iterator[Fault]:
    """Yield the problems in a configuration whose ipam is valid by the schema."""
    ipam = config.get("ipam")
    if not isinstance(ipam, dict) or ipam.get("type") not in _OPTIONS:
        return
    kind = ipam["type"]
    yield from slips(ipam, _OPTIONS[kind], ("ipam",))
    given = _Given([], set())
    yield from (_static if kind == "static" else _host_local)(ipam, given)
    mode = config.get("mode") or "l2"
    for index, route in enumerate(_list(ipam, "routes")):
        yield from _route(route, ("ipam", "routes", index), mode, given)
    mtu = config.get("mtu")
    has_ipv6 = any(isinstance(subnet, IPv6Network) for subnet in given.subnets)
    if has_ipv6 and isinstance(mtu, int) and 0 < mtu < LEAST_MTU_OF_IPV6:
        text = f"mtu is {mtu}; IPv6 addresses need {LEAST_MTU_OF_IPV6} or more"
        yield Fault(("mtu",), text)


def _static(ipam: dict[str, Any], given: _Given) -> Iterator[Fault]:
    for index, entry in enumerate(_list(ipam, "addresses")):
        path: Path = ("ipam", "addresses", index)
        yield from slips(entry, _STATIC_ADDRESS, path)
        address = entry.get("address")
        subnet = _prefix(address) if "/" in str(address) else None
        if subnet is None:
            yield Fault(
                (*path, "address"),
                f"address is {address!r}; an address with a prefix length is needed",
            )
            continue
        given.subnets.append(subnet)
        yield from _gateway(entry, subnet, path, given)


def _host_local(ipam: dict[str, Any], given: _Given) -> Iterator[Fault]:
    places: list[tuple[dict[str, Any], Path]] = []
    if "subnet" in ipam:
        places.append((ipam, ("ipam",)))
    ranges = ipam.get("ranges")
    for number, group in enumerate(ranges if isinstance(ranges, list) else ()):
        for index, entry in enumerate(group if isinstance(group, list) else ()):
            if isinstance(entry, dict):
                path: Path = ("ipam", "ranges", number, index)
                yield from slips(entry, _RANGE, path)
                places.append((entry, path))
    if not places:
        yield Fault(("ipam",), "host-local needs a subnet or ranges")
    for entry, path in places:
        yield from _range(entry, path, given)


def _range(entry: dict[str, Any], path: Path, given: _Given) -> Iterator[Fault]:
    subnet = _prefix(entry.get("subnet"))
    if subnet is None:
        text = f"subnet is {entry.get('subnet')!r}; a prefix is needed"
        yield Fault((*path, "subnet"), text)
        return
    given.subnets.append(subnet)
    # If no gateway is given, host-local uses the subnet's first address.
    given.gateways.add(subnet.version)
    yield from _gateway(entry, subnet, path, given)
    ends = [key for key in ("rangeStart", "rangeEnd") if entry.get(key)]
    wrong = [problem for key in ends for problem in _inside(entry[key], subnet, (*path, key))]
    yield from wrong
    if len(ends) > 1 and not wrong:
        start, end = (ip_address(entry[key]) for key in ends)
        if int(start) > int(end):
            yield Fault((*path, "rangeEnd"), f"rangeEnd is {end}, before rangeStart {start}")


def _gateway(entry: dict[str, Any], subnet: Subnet, path: Path, given: _Given) -> Iterator[Fault]:
    if entry.get("gateway"):
        given.gateways.add(subnet.version)
        yield from _inside(entry["gateway"], subnet, (*path, "gateway"))


def _inside(text: object, subnet: Subnet, path: Path) -> Iterator[Fault]:
    address = _address(text)
    if address is None:
        yield Fault(path, f"{path[-1]} is {text!r}; an address is needed")
    elif address not in subnet:
        yield Fault(path, f"{path[-1]} is {text}, outside the subnet {subnet}")


def _route(route: dict[str, Any], path: Path, mode: str, given: _Given) -> Iterator[Fault]:
    yield from slips(route, _ROUTE, path)
    dst = route.get("dst")
    network = _prefix(dst)
    if network is None:
        yield Fault((*path, "dst"), f"dst is {dst!r}; a prefix is needed")
        return
    gateway = route.get("gw")
    if gateway:
        yield from _next_hop(gateway, (*path, "gw"), given)
    elif network.prefixlen == 0 and mode == "l2" and network.version not in given.gateways:
        yield Fault(
            path,
            f"the default route {dst} has no gateway; mode l2 needs one",
        )


def _next_hop(gateway: object, path: Path, given: _Given) -> Iterator[Fault]:
    address = _address(gateway)
    if address is None:
        yield Fault(path, f"gw is {gateway!r}; an address is needed")
    elif given.subnets and not (
        address.is_link_local or any(address in subnet for subnet in given.subnets)
    ):
        subnets = ", ".join(map(str, given.subnets))
        yield Fault(path, f"gw is {gateway}, outside every subnet: {subnets}")


def _address(text: object) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _prefix(text: object) -> Subnet | None:
    try:
        return ip_interface(text).network if isinstance(text, str) else None
    except ValueError:
        return None


def _list(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    values = entry.get(key)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
