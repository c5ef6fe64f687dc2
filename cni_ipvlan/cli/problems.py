"""Everything that is wrong with network configurations, with the place of each problem."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan import netconf
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.cni.versions import SUPPORTED_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig

Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """A problem: the path to it inside the configuration, and the sentence that names it."""

    path: Path
    text: str


def in_config(network: NetworkConfig) -> list[Problem]:
    """Return the problems of one configuration."""
    config = network.config
    found = [Problem(fault.path, fault.text) for fault in netconf.faults(config)]
    broken = {problem.path[:1] for problem in found}
    found += [
        Problem((key,), f"{key} is unknown; is {meant} meant?")
        for key, meant in netconf.suspicious_keys(config)
    ]
    for check in (_version, _ipam_is_there, _hardware_address, _previous_result):
        found += check(config)
    if ("ipam",) not in broken:
        found += _addresses(config)
    return found


def between(networks: Sequence[NetworkConfig]) -> list[tuple[NetworkConfig, Problem]]:
    """Return the problems that configurations make for each other: one master, two modes."""
    first: dict[str, NetworkConfig] = {}
    found = []
    for network in networks:
        master = network.config.get("master")
        if not isinstance(master, str) or not master or network.config.get("linkInContainer"):
            continue
        other = first.setdefault(master, network)
        if _mode(other.config) != _mode(network.config):
            found.append(
                (
                    network,
                    Problem(
                        ("mode",),
                        f"the master {master} is used in mode {_mode(network.config)} here and in "
                        f"mode {_mode(other.config)} by {other.name or 'another network'} in "
                        f"{other.source}; a master has one mode and flag",
                    ),
                )
            )
    return found


def _mode(config: dict[str, Any]) -> str:
    return f"{config.get('mode') or 'l2'} {config.get('flag') or 'bridge'}"


def _version(config: dict[str, Any]) -> Iterator[Problem]:
    version = config.get("cniVersion")
    if version is None:
        yield Problem((), "cniVersion is not given; that means 0.1.0, which has no CHECK")
    elif isinstance(version, str) and version not in SUPPORTED_VERSIONS:
        yield Problem(
            ("cniVersion",),
            f"cniVersion is {version!r}; supported: {', '.join(SUPPORTED_VERSIONS)}",
        )


def _ipam_is_there(config: dict[str, Any]) -> Iterator[Problem]:
    ipam = config.get("ipam")
    if not (isinstance(ipam, dict) and ipam.get("type")) and not config.get("prevResult"):
        yield Problem((), "ipam must be given, with a type, unless the plugin is chained")


def _hardware_address(config: dict[str, Any]) -> Iterator[Problem]:
    for key in ("runtimeConfig", "capabilities"):
        part = config.get(key)
        if isinstance(part, dict) and part.get("mac"):
            yield Problem(
                (key, "mac"),
                f"{key}.mac asks for a MAC address; an ipvlan interface has its master's, always",
            )


def _previous_result(config: dict[str, Any]) -> Iterator[Problem]:
    document = config.get("prevResult")
    if isinstance(document, dict):
        try:
            parse_result(document, str(config.get("cniVersion") or SUPPORTED_VERSIONS[-1]))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)


def _addresses(config: dict[str, Any]) -> Iterator[Problem]:
    ipam = config.get("ipam")
    if not isinstance(ipam, dict):
        return
    gateways: list[bool] = []
    if ipam.get("type") == "static":
        yield from _static(ipam, gateways)
    elif ipam.get("type") == "host-local":
        yield from _host_local(ipam, gateways)
    else:
        return
    mode = config.get("mode") or "l2"
    for index, route in enumerate(_list(ipam, "routes")):
        yield from _route(route, ("ipam", "routes", index), mode, has_gateway=any(gateways))


def _static(ipam: dict[str, Any], gateways: list[bool]) -> Iterator[Problem]:
    for index, entry in enumerate(_list(ipam, "addresses")):
        path: Path = ("ipam", "addresses", index)
        address = entry.get("address")
        subnet = _prefix(address) if "/" in str(address) else None
        if subnet is None:
            yield Problem(
                (*path, "address"),
                f"address is {address!r}; an address with a prefix length is needed",
            )
            continue
        yield from _gateway(entry, subnet, path, gateways)


def _host_local(ipam: dict[str, Any], gateways: list[bool]) -> Iterator[Problem]:
    places: list[tuple[dict[str, Any], Path]] = []
    if "subnet" in ipam:
        places.append((ipam, ("ipam",)))
    ranges = ipam.get("ranges")
    for number, group in enumerate(ranges if isinstance(ranges, list) else ()):
        for index, entry in enumerate(group if isinstance(group, list) else ()):
            if isinstance(entry, dict):
                places.append((entry, ("ipam", "ranges", number, index)))
    if not places:
        yield Problem(("ipam",), "host-local needs a subnet or ranges")
    for entry, path in places:
        subnet = _prefix(entry.get("subnet"))
        if subnet is None:
            text = f"subnet is {entry.get('subnet')!r}; a prefix is needed"
            yield Problem((*path, "subnet"), text)
            continue
        # Without a gateway of its own, host-local takes the subnet's first address for it.
        gateways.append(True)
        yield from _gateway(entry, subnet, path, gateways)
        for key in ("rangeStart", "rangeEnd"):
            if key in entry:
                yield from _inside(entry[key], subnet, (*path, key))


def _gateway(
    entry: dict[str, Any], subnet: Any, path: Path, gateways: list[bool]
) -> Iterator[Problem]:
    gateway = entry.get("gateway")
    if gateway:
        gateways.append(True)
        yield from _inside(gateway, subnet, (*path, "gateway"))


def _inside(text: Any, subnet: Any, path: Path) -> Iterator[Problem]:
    try:
        address = ip_address(text)
    except ValueError:
        yield Problem(path, f"{path[-1]} is {text!r}; an address is needed")
        return
    if address not in subnet:
        yield Problem(path, f"{path[-1]} is {text}, outside of the subnet {subnet}")


def _route(route: dict[str, Any], path: Path, mode: str, *, has_gateway: bool) -> Iterator[Problem]:
    dst = route.get("dst")
    network = _prefix(dst)
    if network is None:
        yield Problem((*path, "dst"), f"dst is {dst!r}; a prefix is needed")
        return
    if network.prefixlen == 0 and mode == "l2" and not route.get("gw") and not has_gateway:
        yield Problem(
            path,
            f"the default route {dst} has no gateway; in mode l2 every packet needs one to go to",
        )


def _prefix(text: object) -> IPv4Network | IPv6Network | None:
    try:
        return ip_interface(text).network if isinstance(text, str) else None
    except ValueError:
        return None


def _list(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    values = entry.get(key)
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
