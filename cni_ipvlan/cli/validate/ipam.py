"""Read and check the part of a configuration that is for host-local or static.

The schemas check its form; the code checks what a schema can't express.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from cni_ipvlan.cni import SUPPORTED_VERSIONS
from cni_ipvlan.cni.delegate import INTERFACE_PLUGINS, PERMITTED
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Path, Problem
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6, SCOPES_WITHOUT_GATEWAY, is_unicast
from cni_ipvlan.plugin.host_local import Address, Range, Subnet
from cni_ipvlan.suggest import nearest_first

_Entries = list[tuple[Path, dict[str, Any]]]

_IPV6 = 6
_LEAST_ADDRESSES = 4  # of a subnet with a broadcast address; host-local refuses a smaller one
_ONE_PER_FAMILY = (None, "", "0.1.0", "0.2.0")  # versions with one address for each family
MOST_COMPARED = 1000  # ranges; each is compared with every other


class IpamConfig:
    """The addresses and routes in a configuration for host-local or static; none for others.

    A container gets one address from the ranges of each of the ``sets``. Raises ValueError,
    TypeError or KeyError if the configuration is not of the form that the plugins need.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.options: dict[str, Any] = config.get("ipam") or {}
        plugin = self.options.get("type")
        self.is_static = plugin == "static"
        host_local = self.options if plugin == "host-local" else {}
        static = self.options if self.is_static else {}
        groups: list[_Entries] = [[(("ipam",), host_local)]] if "subnet" in host_local else []
        for index, group in enumerate(host_local.get("ranges") or ()):
            groups.append(_number_entries(group, "ranges", index))
        self.sets = [[_read_range(*each) for each in group] for group in groups]
        addresses = _number_entries(static.get("addresses"), "addresses")
        self.sets += [[_read_static_address(*each)] for each in addresses]
        self.pools = [each for group in self.sets for each in group]
        routes = _number_entries(host_local.get("routes") or static.get("routes"), "routes")
        # Of each route: its path, the destination, the next hop, and all that is given.
        self.routes = [
            (path, _read_prefix(route["dst"]), _read_address(route.get("gw")), route)
            for path, route in routes
        ]
        gateways = (each.gateway for each in reversed(self.pools) if each.gateway)
        self.gateways = {each.version: each for each in gateways}  # the first of each family
        # Destinations of routes without a next hop, as to a gateway that is in no subnet.
        self.on_link = [
            dst.network
            for _, dst, gw, route in self.routes
            if (gw and gw.is_unspecified)
            or (not gw and self.gateways.get(dst.version) in (None, dst.ip))
            or (not gw and route.get("scope") in SCOPES_WITHOUT_GATEWAY)
        ]

    def may_come_from_runtime(self, capability: str) -> bool:
        """Whether the runtime hands addresses or ranges to the plugin."""
        parts = ("capabilities", "runtimeConfig")
        return any(netconf.value_at(self.config, part, capability) for part in parts)


def _number_entries(values: list[dict[str, Any]] | None, *path: str | int) -> _Entries:
    return [(("ipam", *path, index), each) for index, each in enumerate(values or ())]


def _read_static_address(path: Path, entry: dict[str, Any]) -> Range:
    prefix, gateway = _read_prefix(entry["address"]), _read_address(entry.get("gateway"))
    return Range(prefix.network, prefix.ip, prefix.ip, gateway, path)


def _read_range(path: Path, entry: dict[str, Any]) -> Range:
    """Read a range, with host-local's defaults for what is not given."""
    subnet = _read_subnet(entry["subnet"])
    first = _read_address(entry.get("rangeStart")) or subnet[1]
    last = _read_address(entry.get("rangeEnd")) or subnet[-1 if subnet.version == _IPV6 else -2]
    return Range(subnet, first, last, _read_address(entry.get("gateway")) or subnet[1], path)


def _read_address(text: object) -> Address | None:
    """Read an address as Go's net.ParseIP does; None, or an empty string, is none."""
    if text is None or text == "":
        return None
    with suppress(ValueError):
        if isinstance(text, str) and "%" not in text:
            return ipaddress.ip_address(text)
    raise ValueError("an address is needed")


def _read_prefix(text: object) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """Read an address with a prefix length as Go's net.ParseCIDR does."""
    with suppress(ValueError):
        if isinstance(text, str) and re.fullmatch("[^%]+/[0-9]+", text):
            return ipaddress.ip_interface(text)
    raise ValueError("an address with a prefix length, as 10.1.0.0/24, is needed")


def _read_subnet(text: object) -> Subnet:
    """Read a subnet that host-local can allocate from."""
    prefix = _read_prefix(text)
    if prefix.ip != prefix.network.network_address:
        raise ValueError(f"it has host bits; the subnet is {prefix.network}")
    if prefix.network.num_addresses < _LEAST_ADDRESSES:
        raise ValueError(f"host-local needs a /{prefix.max_prefixlen - 2} or larger")
    return prefix.network


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    rules = {"required": [required]} if required else {}
    return {**rules, "type": "object", "properties": properties, "additionalProperties": False}


def _array(items: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"type": ["array", "null"], "items": items, **rules}


_TEXT = {"type": ["string", "null"]}
_ADDRESS, _PREFIX = {"format": "address"}, {"format": "prefix"}
_ATTRIBUTES = dict.fromkeys(("mtu", "advmss", "priority", "table", "scope"), True)
_ROUTES = _array(_object("dst", dst=_PREFIX, gw=_ADDRESS, **_ATTRIBUTES))
_RANGE_ENDS = ("rangeStart", "rangeEnd")
_RANGE: dict[str, Any] = {
    "subnet": {"format": "subnet"},
    **dict.fromkeys(("gateway", *_RANGE_ENDS), _ADDRESS),
}
_SET = _array(_object("subnet", **_RANGE), minItems=1, type="array")
_SERVERS = _array({"type": "string", "format": "server"})
_OPTIONS = netconf.load_schema()["properties"]
_DNS = {
    **_object(**{**_OPTIONS["dns"]["properties"], "nameservers": _SERVERS}),
    "type": ["object", "null"],
}
_STRICTER = {"cniVersion": {"enum": [*SUPPORTED_VERSIONS, "", None]}, "dns": _DNS}
_SCHEMAS = {
    "static": _object(
        type=True,
        addresses=_array(_object("address", address=_PREFIX, gateway=_ADDRESS)),
        routes=_ROUTES,
        dns=_DNS,
    ),
    "host-local": _object(
        type=True, **_RANGE, ranges=_array(_SET), routes=_ROUTES, dataDir=_TEXT, resolvConf=_TEXT
    ),
    "dhcp": _object(type=True, daemonSocketPath=True, request=True, provide=True),
}
_FORMATS: dict[str, Callable[[Any], object]] = {
    "address": _read_address,
    "prefix": _read_prefix,
    "subnet": _read_subnet,
    "server": ipaddress.ip_address,
}
_PLUGINS = (*_SCHEMAS, "whereabouts")  # plugins whose names people misspell


def check_form(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield the values that the IPAM plugin can't read, and unknown keys.

    Of these, only those that look like an option, or are another program's.
    """
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(())
    for name, read in _FORMATS.items():
        # A value is valid if reading it raises nothing.
        formats.checks(name, raises=ValueError)(lambda value, read=read: bool(read(value)) or True)
    options = {**dict.fromkeys((*_OPTIONS, "plugins"), True), **_STRICTER}
    options["ipam"] = _SCHEMAS.get(netconf.ipam_type(config), True)
    schema = {"properties": options, "additionalProperties": False}
    for error in Draft202012Validator(schema, format_checker=formats).iter_errors(config):
        path = tuple(error.path)
        if error.validator != "additionalProperties":
            yield Problem(path, netconf.describe_schema_error(error))
            continue
        properties = error.schema["properties"]
        for key in (each for each in error.instance if each not in properties):
            (name, *_), is_similar = nearest_first(key, properties)
            option = netconf.FOREIGN_KEYS.get(key, name if is_similar else None)
            if option in properties:
                yield Problem((*path, key), f"{key} is unknown; did you mean {option}?")
            elif option == "":
                yield Problem((*path, key), f"{key} {netconf.NO_EFFECT}", is_warning=True)


def check_ipam(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the addresses and routes, if the plugin can read them."""
    plugin, mtu = netconf.ipam_type(config), netconf.mtu_of(config)
    mode, _ = netconf.mode_of(config)
    if plugin not in _SCHEMAS:
        yield from _check_plugin_name(plugin)
    if plugin == "dhcp" and mode in ("l3", "l3s"):
        text = f"mode is {mode}, which carries no broadcasts, so dhcp gets no answer; use l2"
        yield Problem(("mode",), text)
    try:
        ipam = IpamConfig(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # check_form says why
    yield from _check_static(ipam) if plugin == "static" else ()
    yield from _check_host_local(ipam) if plugin == "host-local" else ()
    yield from _check_routes(ipam, mode)
    families = [each[0].subnet.version for each in ipam.sets if each]
    if _IPV6 in families and 0 < mtu < LEAST_MTU_OF_IPV6:
        least = f"IPv6 addresses need {LEAST_MTU_OF_IPV6} or more"
        yield Problem(("mtu",), f"mtu is {mtu}; {least}")
    if config.get("cniVersion") in _ONE_PER_FAMILY and len(families) > len(set(families)):
        yield Problem(("ipam",), "two addresses of one family need cniVersion 0.3.0 or newer")


def _check_plugin_name(plugin: str) -> Iterator[Problem]:
    if plugin in INTERFACE_PLUGINS:
        text = f"which is not an IPAM plugin; root may permit it in {PERMITTED}"
        yield Problem(("ipam", "type"), f"ipam.type is {plugin!r}, {text}", is_warning=True)
    for name in _PLUGINS if plugin and plugin not in _PLUGINS else ():
        if netconf.is_typo(plugin, name):
            text = f"ipam.type is {plugin!r}; did you mean {name}?"
            yield Problem(("ipam", "type"), text, is_warning=True)


def _check_static(ipam: IpamConfig) -> Iterator[Problem]:
    if not ipam.options.get("addresses") and not ipam.may_come_from_runtime("ips"):
        text = "static has no addresses, so ADD needs some in CNI_ARGS (IP=…) or in args.cni.ips"
        yield Problem(("ipam", "addresses"), text, is_warning=True)
    addresses: dict[Address, Range] = {}
    for each in ipam.pools:
        path, ip = (*each.path, "address"), each.first
        text = f"address is {ip}/{each.subnet.prefixlen}"
        if ip.is_loopback or not is_unicast(ip):
            yield Problem(path, f"{text}; no interface but lo can have it")
        elif why := _find_address_fault(ip, [each]):
            yield Problem(path, f"{text}, {why}")
        first = addresses.setdefault(ip, each)
        if first is not each:  # the kernel refuses a second one that differs
            text = f"{text}; {ip} was given before"
            yield Problem(path, text, is_warning=first[:-1] == each[:-1])
        yield from _check_gateway(ipam, each, ipam.pools)


def _check_host_local(ipam: IpamConfig) -> Iterator[Problem]:
    options = ipam.options
    if not ("subnet" in options or options.get("ranges") or ipam.may_come_from_runtime("ipRanges")):
        yield Problem(("ipam",), "host-local needs a subnet or ranges")
    for key in () if "subnet" in options else filter(options.get, ("gateway", *_RANGE_ENDS)):
        yield Problem(("ipam", key), f"{key} is ignored, since it is not in one of the ranges")
    earlier: list[Range] = []
    for group in ipam.sets:
        sound = []
        for each in group:
            problems = [*_check_ends(each), *_check_gateway(ipam, each, [each])]
            yield from problems
            sound += [each] if all(problem.is_warning for problem in problems) else []
        if len({each.subnet.version for each in sound}) > 1:
            text = "a set of ranges has both IPv4 and IPv6; each needs a set of its own"
            yield Problem(sound[0].path[:-1], text)
        empty = [each for each in sound if each.first == each.last == each.gateway]
        for each in sound:
            if each in empty:
                text = f"the range has no address but the gateway's, {each.gateway}"
                yield Problem(each.path, text, is_warning=len(empty) < len(sound))
            compared = earlier if len(earlier) < MOST_COMPARED else ()
            rival = next(filter(each.overlaps, compared), None)
            if rival:
                yield Problem(each.path, f"the range {each} overlaps with {rival}")
            earlier.append(each)


def _check_ends(pool: Range) -> Iterator[Problem]:
    ends = dict(zip(_RANGE_ENDS, (pool.first, pool.last), strict=True))
    faults = {key: why for key, end in ends.items() if (why := _find_address_fault(end, [pool]))}
    if not faults and int(pool.first) > int(pool.last):
        faults["rangeEnd"] = f"before rangeStart {pool.first}"
    for key, why in faults.items():
        yield Problem((*pool.path, key), f"{key} is {ends[key]}, {why}")


def _check_gateway(ipam: IpamConfig, pool: Range, pools: list[Range]) -> Iterator[Problem]:
    """Yield why a gateway can't be one. In the right family, it harms only routes through it."""
    hop, family = pool.gateway, pool.subnet.version
    if hop and (why := _find_hop_fault(ipam, hop, pools, family)):
        is_needed = any(dst.version == family and gw is None for _, dst, gw, _ in ipam.routes)
        is_warning = hop.version == family and not is_needed
        yield Problem((*pool.path, "gateway"), f"gateway is {hop}, {why}", is_warning)


def _check_routes(ipam: IpamConfig, mode: str) -> Iterator[Problem]:
    families = {each.subnet.version for each in ipam.pools}
    # The kernel has a route to the subnet of an IPv4 address; in IPv6 that has another metric.
    subnets = (each.subnet for each in ipam.pools if each.subnet.version != _IPV6)
    connected = (each for each in subnets if 0 < each.prefixlen < each.max_prefixlen)
    hops: dict[Any, Any] = {(each, "0", "0"): "" for each in connected}
    for path, dst, gw, route in ipam.routes:
        is_default = not dst.network.prefixlen
        hop = gw or ipam.gateways.get(dst.version)
        numbers = (str(route.get(each) or 0) for each in ("priority", "table"))  # of any type
        key = (dst.network, *numbers)
        is_connected = hops.get(key) == "" and {*route} <= {"dst", "scope"}
        if not is_connected and hops.setdefault(key, hop) != hop:
            yield Problem(path, f"the container has another route to {dst.network} already")
        if is_default and families and dst.version not in families:
            text = f"the route to {dst} is of IPv{dst.version}"
            yield Problem(path, f"{text}, of which the container has no address", is_warning=True)
        if gw and (why := _find_hop_fault(ipam, gw, ipam.pools, dst.version)):
            yield Problem((*path, "gw"), f"gw is {gw}, {why}")
        if is_default and not gw and mode == "l2" and dst.version not in ipam.gateways:
            yield Problem(path, f"the default route {dst} has no gateway; mode l2 needs one")


def _find_hop_fault(ipam: IpamConfig, hop: Address, pools: list[Range], family: int) -> str:
    """Return why packets of a family (4 or 6) can't be sent to an address; empty if they can.

    0.0.0.0 and :: mean no gateway.
    """
    hop = getattr(hop, "ipv4_mapped", None) or hop
    if hop.version != family:
        return f"but IPv{family} needs an IPv{family} address"
    if hop.is_unspecified:
        return ""
    if ipam.is_static and hop in [each.first for each in ipam.pools]:
        return "the container's own address"
    if any(hop in each for each in ipam.on_link):
        return ""
    return "" if family == _IPV6 and hop.is_link_local else _find_address_fault(hop, pools)


def _find_address_fault(address: Address, pools: list[Range]) -> str:
    """Return why no host can have an address in the subnets of these ranges; empty if one can."""
    subnets = list(dict.fromkeys(each.subnet for each in pools))
    if subnets and not any(address in subnet for subnet in subnets):
        return f"outside the subnet {' or '.join(map(str, subnets))}"
    for each in subnets:
        # The last address is a host's in IPv6, and in IPv4 in a /31 (RFC 3021) and a /32.
        has_broadcast = each.version != _IPV6 and each.num_addresses >= _LEAST_ADDRESSES
        if has_broadcast and address == each.broadcast_address:
            return f"the broadcast address of {each}"
    return ""
