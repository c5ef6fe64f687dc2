"""What a configuration says to host-local and static, and what is wrong with it.

The schemas have the form; the code has what a schema can't say.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from cni_ipvlan.cli.reading import Path
from cni_ipvlan.cni import SUPPORTED_VERSIONS
from cni_ipvlan.cni.delegate import INTERFACE_PLUGINS, PERMITTED
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Problem
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6, SCOPES_WITHOUT_GATEWAY, is_unicast
from cni_ipvlan.suggest import nearest_first

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network
Entries = list[tuple[Path, dict[str, Any]]]

_IPV6 = 6
_LEAST_ADDRESSES = 4  # of a subnet with a broadcast address; host-local refuses a smaller one
_WITHOUT_SEVERAL = (None, "", "0.1.0", "0.2.0")  # versions with one address of each family
MOST_COMPARED = 1000  # ranges; each is compared with every other


class Pool(NamedTuple):
    """Addresses that containers get, and the path of what says so.

    Of static, it is one address; then ``gateway`` may be None. host-local never gives a gateway.
    """

    path: Path
    subnet: Subnet
    first: Address
    last: Address
    gateway: Address | None

    def holds(self, address: Address) -> bool:
        """Whether an address is in the range, which may be the gateway."""
        is_between = int(self.first) <= int(address) <= int(self.last)
        return is_between and address.version == self.first.version

    def overlaps(self, other: "Pool") -> bool:
        """Whether an address is in both."""
        return self.holds(other.first) or other.holds(self.first)

    @property
    def span(self) -> str:
        """The first and the last address."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


class IpamConfig:
    """The addresses and routes in a configuration of host-local or static; of others, it has none.

    Each of the ``sets`` has the ranges of which a container gets one address. Raises ValueError,
    TypeError or KeyError if the configuration is not of the form that the plugins need.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.options: dict[str, Any] = config.get("ipam") or {}
        kind = self.options.get("type")
        self.is_static = kind == "static"
        pool, own = (self.options if kind == each else {} for each in ("host-local", "static"))
        groups: list[Entries] = [[(("ipam",), pool)]] if "subnet" in pool else []
        for number, group in enumerate(pool.get("ranges") or ()):
            groups.append(_entries(group, "ranges", number))
        self.sets = [[_range(*each) for each in group] for group in groups]
        self.sets += [[_own(*each)] for each in _entries(own.get("addresses"), "addresses")]
        self.pools = [each for group in self.sets for each in group]
        routes = _entries(pool.get("routes") or own.get("routes"), "routes")
        # Where each is given, to what it leads, by which next hop.
        self.routes = [(path, _prefix(to["dst"]), _address(to.get("gw"))) for path, to in routes]
        found = (each.gateway for each in reversed(self.pools) if each.gateway)
        self.gateways = {each.version: each for each in found}  # the first of each family
        # To what routes lead straight, as to a gateway that is in no subnet.
        self.near = [
            dst.network
            for (_, dst, gw), (_, to) in zip(self.routes, routes, strict=True)
            if not gw
            and (
                self.gateways.get(dst.version) in (None, dst.ip)
                or to.get("scope") in SCOPES_WITHOUT_GATEWAY
            )
        ]

    def may_be_given(self, capability: str) -> bool:
        """Whether the runtime hands addresses or ranges to the plugin."""
        parts = ("capabilities", "runtimeConfig")
        return any(netconf.value_at(self.config, part, capability) for part in parts)


def _entries(values: list[dict[str, Any]] | None, *path: str | int) -> Entries:
    return [(("ipam", *path, number), each) for number, each in enumerate(values or ())]


def _own(path: Path, entry: dict[str, Any]) -> Pool:
    own = _prefix(entry["address"])
    return Pool(path, own.network, own.ip, own.ip, _address(entry.get("gateway")))


def _range(path: Path, entry: dict[str, Any]) -> Pool:
    """Read a range, with host-local's defaults for what is not given."""
    subnet = _subnet(entry["subnet"])
    first = _address(entry.get("rangeStart")) or subnet[1]
    last = _address(entry.get("rangeEnd")) or subnet[-1 if subnet.version == _IPV6 else -2]
    return Pool(path, subnet, first, last, _address(entry.get("gateway")) or subnet[1])


def _address(text: object) -> Address | None:
    """Read an address as Go's net.ParseIP does; None, or an empty string, is none."""
    if text is None or text == "":
        return None
    with suppress(ValueError):
        if isinstance(text, str) and "%" not in text:
            return ipaddress.ip_address(text)
    raise ValueError("an address is needed")


def _prefix(text: object) -> Interface:
    """Read an address with a prefix length as Go's net.ParseCIDR does."""
    with suppress(ValueError):
        if isinstance(text, str) and re.fullmatch("[^%]+/[0-9]+", text):
            return ipaddress.ip_interface(text)
    raise ValueError("an address with a prefix length, as 10.1.0.0/24, is needed")


def _subnet(text: object) -> Subnet:
    """Read a subnet that host-local can allocate from."""
    found = _prefix(text)
    if found.ip != found.network.network_address:
        raise ValueError(f"it has host bits; the subnet is {found.network}")
    if found.network.num_addresses < _LEAST_ADDRESSES:
        raise ValueError(f"host-local needs a /{found.max_prefixlen - 2} or larger")
    return found.network


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    needed = {"required": [required]} if required else {}
    return {**needed, "type": "object", "properties": properties, "additionalProperties": False}


def _array(of: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {"type": ["array", "null"], "items": of, **rules}


_TEXT = {"type": ["string", "null"]}
_ADDRESS, _PREFIX = {"format": "address"}, {"format": "prefix"}
_ATTRIBUTES = dict.fromkeys(("mtu", "advmss", "priority", "table", "scope"), True)
_ROUTES = _array(_object("dst", dst=_PREFIX, gw=_ADDRESS, **_ATTRIBUTES))
_ENDS = ("rangeStart", "rangeEnd")
_RANGE: dict[str, Any] = {
    "subnet": {"format": "subnet"},
    **dict.fromkeys(("gateway", *_ENDS), _ADDRESS),
}
_SET = _array(_object("subnet", **_RANGE), minItems=1, type="array")
_SERVERS = _array({"type": "string", "format": "server"})
_OPTIONS = netconf.schema()["properties"]
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
    "address": _address,
    "prefix": _prefix,
    "subnet": _subnet,
    "server": ipaddress.ip_address,
}
_KNOWN = (*_SCHEMAS, "whereabouts")  # plugins whose names people misspell


def in_form(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield the keys that are not options, and what the plugin that ipam names can't read.

    Of the former, these are what looks like an option, or is another program's.
    """
    from jsonschema import Draft202012Validator, FormatChecker

    formats = FormatChecker(())
    for name, read in _FORMATS.items():
        # What can be read is right; an address may be None.
        formats.checks(name, raises=ValueError)(lambda value, read=read: bool(read(value)) or True)
    options = {**dict.fromkeys((*_OPTIONS, "plugins"), True), **_STRICTER}
    options["ipam"] = _SCHEMAS.get(netconf.ipam_type(config), True)
    schema = {"properties": options, "additionalProperties": False}
    for error in Draft202012Validator(schema, format_checker=formats).iter_errors(config):
        path = tuple(error.path)
        if error.validator != "additionalProperties":
            yield Problem(path, netconf.describe_schema_error(error))
            continue
        known = error.schema["properties"]
        for key in (each for each in error.instance if each not in known):
            (name, *_), is_near = nearest_first(key, known)
            meant = netconf.FOREIGN_KEYS.get(key, name if is_near else None)
            if meant in known:
                yield Problem((*path, key), f"{key} is unknown; did you mean {meant}?")
            elif meant == "":
                yield Problem((*path, key), f"{key} {netconf.NO_EFFECT}", is_warning=True)


def in_ipam(config: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the addresses and routes, if the plugin can read them."""
    kind, mtu = netconf.ipam_type(config), netconf.mtu_of(config)
    mode, _ = netconf.mode_of(config)
    if kind not in _SCHEMAS:
        yield from _unknown(kind)
    if kind == "dhcp" and mode in ("l3", "l3s"):
        text = f"mode is {mode}, which carries no broadcasts, so dhcp gets no answer; use l2"
        yield Problem(("mode",), text)
    try:
        ipam = IpamConfig(config)
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # in_form says why
    yield from _in_static(ipam) if kind == "static" else ()
    yield from _in_host_local(ipam) if kind == "host-local" else ()
    yield from _in_routes(ipam, mode)
    families = [each[0].subnet.version for each in ipam.sets if each]
    if _IPV6 in families and 0 < mtu < LEAST_MTU_OF_IPV6:
        least = f"IPv6 addresses need {LEAST_MTU_OF_IPV6} or more"
        yield Problem(("mtu",), f"mtu is {mtu}; {least}")
    if config.get("cniVersion") in _WITHOUT_SEVERAL and len(families) > len(set(families)):
        yield Problem(("ipam",), "two addresses of one family need cniVersion 0.3.0 or newer")


def _unknown(kind: str) -> Iterator[Problem]:
    """Yield a name that is nearly a known plugin's, or that of no IPAM plugin."""
    if kind in INTERFACE_PLUGINS:
        text = f"which is not an IPAM plugin; root may permit it in {PERMITTED}"
        yield Problem(("ipam", "type"), f"ipam.type is {kind!r}, {text}", is_warning=True)
    elif kind and kind not in _KNOWN:
        (name, *_), is_near = nearest_first(kind, _KNOWN)
        is_same = re.sub("[-_]", "", kind.lower()) == name.replace("-", "")
        if is_same or (is_near and abs(len(name) - len(kind)) <= 1):
            text = f"ipam.type is {kind!r}; did you mean {name}?"
            yield Problem(("ipam", "type"), text, is_warning=not is_same)


def _in_static(ipam: IpamConfig) -> Iterator[Problem]:
    if not ipam.options.get("addresses") and not ipam.may_be_given("ips"):
        text = "static has no addresses, so ADD needs some in CNI_ARGS (IP=…) or in args.cni.ips"
        yield Problem(("ipam", "addresses"), text, is_warning=True)
    seen: dict[Address, Pool] = {}
    for each in ipam.pools:
        path, ip = (*each.path, "address"), each.first
        text = f"address is {ip}/{each.subnet.prefixlen}"
        if ip.is_loopback or not is_unicast(ip):
            yield Problem(path, f"{text}; no interface but lo can have it")
        elif why := _misfit(ip, [each]):
            yield Problem(path, f"{text}, {why}")
        first = seen.setdefault(ip, each)
        if first is not each:  # the kernel refuses it unless all is the same
            text = f"{text}; {ip} was given before"
            yield Problem(path, text, is_warning=first[1:] == each[1:])
        yield from _gateway(ipam, each, ipam.pools)


def _in_host_local(ipam: IpamConfig) -> Iterator[Problem]:
    options = ipam.options
    if not ("subnet" in options or options.get("ranges") or ipam.may_be_given("ipRanges")):
        yield Problem(("ipam",), "host-local needs a subnet or ranges")
    for key in () if "subnet" in options else filter(options.get, ("gateway", *_ENDS)):
        yield Problem(("ipam", key), f"{key} is ignored, since it is not in one of the ranges")
    others: list[Pool] = []
    for group in ipam.sets:
        sound = []
        for each in group:
            wrong = [*_ends(each), *_gateway(ipam, each, [each])]
            yield from wrong
            sound += [each] if all(problem.is_warning for problem in wrong) else []
        if len({each.subnet.version for each in sound}) > 1:
            text = "a set of ranges has both IPv4 and IPv6; each needs a set of its own"
            yield Problem(sound[0].path[:-1], text)
        empty = [each for each in sound if each.first == each.last == each.gateway]
        for each in sound:
            if each in empty:
                text = f"the range has no address but the gateway's, {each.gateway}"
                yield Problem(each.path, text, is_warning=len(empty) < len(sound))
            compared = others if len(others) < MOST_COMPARED else ()
            rival = next(filter(each.overlaps, compared), None)
            if rival:
                yield Problem(each.path, f"the range {each.span} overlaps with {rival.span}")
            others.append(each)


def _ends(each: Pool) -> Iterator[Problem]:
    ends = dict(zip(_ENDS, (each.first, each.last), strict=True))
    wrong = {key: why for key, end in ends.items() if (why := _misfit(end, [each]))}
    if not wrong and int(each.first) > int(each.last):
        wrong["rangeEnd"] = f"before rangeStart {each.first}"
    for key, why in wrong.items():
        yield Problem((*each.path, key), f"{key} is {ends[key]}, {why}")


def _gateway(ipam: IpamConfig, each: Pool, around: list[Pool]) -> Iterator[Problem]:
    """Yield why a gateway is none; one of its family does no harm until a route needs it."""
    hop, family = each.gateway, each.subnet.version
    if hop and (why := _no_next_hop(ipam, hop, around, family)):
        is_needed = any(dst.version == family and gw is None for _, dst, gw in ipam.routes)
        is_warning = hop.version == family and not is_needed
        yield Problem((*each.path, "gateway"), f"gateway is {hop}, {why}", is_warning)


def _in_routes(ipam: IpamConfig, mode: str) -> Iterator[Problem]:
    families = {each.subnet.version for each in ipam.pools}
    # The kernel's own to an address's subnet is in the way of IPv4's; IPv6's has another metric.
    own = (each.subnet for each in ipam.pools if each.subnet.version != _IPV6)
    taken: dict[Any, Any] = {(each, "0", "0"): "" for each in own if each.num_addresses > 1}
    for path, dst, gw in ipam.routes:
        given = ipam.options["routes"][path[-1]]
        is_default = not dst.network.prefixlen
        hop = gw or ipam.gateways.get(dst.version)
        where = (str(given.get(each) or 0) for each in ("priority", "table"))  # of any type
        if taken.setdefault((dst.network, *where), hop) != hop:
            yield Problem(path, f"the container has another route to {dst.network} already")
        if is_default and families and dst.version not in families:
            text = f"the route to {dst} is of IPv{dst.version}"
            yield Problem(path, f"{text}, of which the container has no address", is_warning=True)
        if gw and (why := _no_next_hop(ipam, gw, ipam.pools, dst.version)):
            yield Problem((*path, "gw"), f"gw is {gw}, {why}")
        if is_default and not gw and mode == "l2" and dst.version not in ipam.gateways:
            yield Problem(path, f"the default route {dst} has no gateway; mode l2 needs one")


def _no_next_hop(ipam: IpamConfig, hop: Address, around: list[Pool], family: int) -> str:
    """Return why packets of a family (4 or 6) can't be sent to an address; empty if they can."""
    if hop.version != family:
        return f"but IPv{family} needs an IPv{family} address"
    if ipam.is_static and hop in [each.first for each in ipam.pools]:
        return "the container's own address"
    if any(hop in each for each in ipam.near):
        return ""
    return "" if family == _IPV6 and hop.is_link_local else _misfit(hop, around)


def _misfit(address: Address, around: list[Pool]) -> str:
    """Return why no host can have an address in the subnets of ranges; empty if one can."""
    subnets = list(dict.fromkeys(each.subnet for each in around))
    if subnets and not any(address in subnet for subnet in subnets):
        return f"outside the subnet {' or '.join(map(str, subnets))}"
    for each in subnets:
        # In IPv6 the last address is a host's, as in IPv4's /31 (RFC 3021) and /32.
        has_broadcast = each.version != _IPV6 and each.num_addresses >= _LEAST_ADDRESSES
        if has_broadcast and address == each.broadcast_address:
            return f"the broadcast address of {each}"
    return ""
