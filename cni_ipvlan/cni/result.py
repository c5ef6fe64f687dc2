"""Results of ADD: one internal form, and the JSON of every CNI version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from cni_ipvlan.cni import SUPPORTED_VERSIONS
from cni_ipvlan.cni.errors import DECODING_FAILURE, INCOMPATIBLE_VERSION, CniError
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.start.namedtuple import Any, NamedTuple

_WITHOUT_INTERFACES = ("0.1.0", "0.2.0")
_WITH_FAMILY = ("0.3.0", "0.3.1", "0.4.0")
_ROUTE_NUMBERS = ("mtu", "advmss", "priority", "table", "scope")
# A route's scope is a byte of struct rtmsg, <linux/rtnetlink.h>; the rest have 32 bits.
_HIGHEST = {"scope": 2**8 - 1}
_HIGHEST_U32 = 2**32 - 1


class Interface(NamedTuple):
    """An interface of the result; ``sandbox`` is empty for one on the host."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int | None = None
    socket_path: str = ""
    pci_id: str = ""


class Address(NamedTuple):
    """An address with its prefix length, and its interface's index in the result."""

    address: str
    gateway: str = ""
    interface: int | None = None

    @property
    def ip(self) -> str:
        """The address without its prefix length."""
        return self.address.partition("/")[0]

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.address)

    @property
    def is_ipv6(self) -> bool:
        """Whether it is an IPv6 address."""
        return ":" in self.address


class Route(NamedTuple):
    """A route; None leaves an attribute to the kernel."""

    dst: str
    gateway: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None

    @property
    def family(self) -> int:
        """4 or 6."""
        return family(self.dst)


class Result(NamedTuple):
    """The result of an ADD (SPEC.md, "ADD Success")."""

    interfaces: tuple[Interface, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Mapping[str, Any] = {}


def family(address: str) -> int:
    """Return 4 or 6 for an address or prefix in canonical text form."""
    return 6 if ":" in address else 4


def parse(document: object, default_version: str) -> Result:
    """Return a result document of any CNI version as a Result.

    ``default_version`` is used if the document names none. Addresses and routes are returned in
    canonical form. Raises CniError 6 for a malformed document and 1 for an unsupported version.
    """
    if not isinstance(document, dict):
        raise _error("it is not a JSON object")
    version = document.get("cniVersion") or default_version
    if version not in SUPPORTED_VERSIONS:
        raise CniError(
            INCOMPATIBLE_VERSION,
            f"the result's cniVersion {quote(version)} is not supported",
            f"supported: {', '.join(SUPPORTED_VERSIONS)}",
        )
    dns = _parse_dns(_get(document, "dns", dict) or {})
    if version in _WITHOUT_INTERFACES:
        addresses, routes = _parse_by_family(document)
        return Result((), addresses, routes, dns)
    return Result(
        tuple(_parse_interface(entry) for entry in _get_objects(document, "interfaces")),
        tuple(_parse_address(entry) for entry in _get_objects(document, "ips")),
        tuple(_parse_route(entry) for entry in _get_objects(document, "routes")),
        dns,
    )


def render(result: Result, version: str) -> dict[str, Any]:
    """Return a Result as the JSON document of CNI ``version``."""
    if version != SUPPORTED_VERSIONS[-1]:
        interfaces = tuple(Interface(*each[:3]) for each in result.interfaces)
        routes = tuple(Route(*each[:2]) for each in result.routes)
        result = result._replace(interfaces=interfaces, routes=routes)
    document: dict[str, Any] = {"cniVersion": version}
    if version in _WITHOUT_INTERFACES:
        document.update(_render_by_family(result))
    else:
        document["interfaces"] = [
            {"name": name, **_compact(mac=mac, mtu=mtu, sandbox=path, socketPath=socket, pciID=pci)}
            for name, mac, path, mtu, socket, pci in result.interfaces
        ]
        document["ips"] = [
            _compact(
                version=str(family(text)) if version in _WITH_FAMILY else "",
                interface=interface,
                address=text,
                gateway=gateway,
            )
            for text, gateway, interface in result.addresses
        ]
        if result.routes:
            document["routes"] = [_render_route(each) for each in result.routes]
    if result.dns:
        document["dns"] = dict(result.dns)
    return document


def _parse_by_family(document: dict[str, Any]) -> tuple[tuple[Address, ...], tuple[Route, ...]]:
    parts = [(key, part) for key in ("ip4", "ip6") if (part := _get(document, key, dict))]
    return (
        tuple(_make_address(f"{key}.ip", p.get("ip"), p.get("gateway")) for key, p in parts),
        tuple(_parse_route(entry) for _, p in parts for entry in _get_objects(p, "routes")),
    )


def _render_by_family(result: Result) -> dict[str, Any]:
    """Render the first address of each family, since these versions allow one."""
    document: dict[str, Any] = {}
    for text, gateway, _ in result.addresses:
        number = family(text)
        if f"ip{number}" not in document:
            routes = [_render_route(each) for each in result.routes if each.family == number]
            document[f"ip{number}"] = _compact(ip=text, gateway=gateway, routes=routes)
    return document


def _parse_dns(dns: dict[str, Any]) -> dict[str, Any]:
    _get(dns, "domain", str)
    for key in ("nameservers", "search", "options"):
        for value in _get(dns, key, list) or ():
            if not isinstance(value, str):  # the runtime could not decode the result
                raise _error(f"{key} of dns holds {quote(value)}; strings are needed")
    return {key: value for key, value in dns.items() if value}


def _parse_interface(entry: dict[str, Any]) -> Interface:
    keys = ("name", "mac", "sandbox", "socketPath", "pciID")
    name, mac, sandbox, socket_path, pci_id = (_get(entry, key, str) or "" for key in keys)
    return Interface(name, mac, sandbox, _get_number(entry, "mtu") or None, socket_path, pci_id)


def _parse_address(entry: dict[str, Any]) -> Address:
    parsed = _make_address("ips[].address", entry.get("address"), entry.get("gateway"))
    return parsed._replace(interface=_get_number(entry, "interface"))


def _make_address(key: str, text: object, gateway: object) -> Address:
    parsed = _convert(key, text, "an address with a prefix length", _parse_interface_address)
    return Address(str(parsed), _parse_gateway(gateway, f"{key} {parsed}", parsed.version))


def _parse_interface_address(text: str) -> IPv4Interface | IPv6Interface:
    if "/" not in text:
        raise ValueError
    return ip_interface(text)


def _parse_route(entry: dict[str, Any]) -> Route:
    # Mask host bits away, as Go's ParseCIDR does in other plugins.
    convert = partial(ip_network, strict=False)
    network = _convert("routes[].dst", entry.get("dst"), "a prefix", convert)
    gateway = _parse_gateway(entry.get("gw"), f"the route to {network}", network.version)
    return Route(str(network), gateway, **{key: _get_number(entry, key) for key in _ROUTE_NUMBERS})


def _render_route(route: Route) -> dict[str, Any]:
    numbers = {key: getattr(route, key) for key in _ROUTE_NUMBERS}
    return _compact(dst=route.dst, gw=route.gateway, **numbers)


def _compact(**values: object) -> dict[str, Any]:
    """Return a document's values without empty ones; 0 is a value."""
    return {key: value for key, value in values.items() if value not in (None, "", [])}


def _parse_gateway(value: object, owner: str, version: int) -> str:
    """Return a gateway, which must be of that address family; empty for none."""
    if value is None or value == "":
        return ""
    gateway = _convert("gateway", value, "an address", ip_address)
    if gateway.version != version:
        raise _error(f"{owner} has the gateway {gateway}: two address families")
    return str(gateway)


def _convert(key: str, value: object, what: str, convert: Callable[[str], Any]) -> Any:
    if isinstance(value, str) and "%" not in value:  # CNI has no zones ("fe80::1%eth0")
        with suppress(ValueError):
            return convert(value)
    zone = " without a zone" if "%" in str(value) else ""
    raise _error(f"{key} is {quote(value)}; {what}{zone} is needed")


def _get(entry: dict[str, Any], key: str, kind: type) -> Any:
    value = entry.get(key)
    if value is not None and not isinstance(value, kind):
        raise _error(f"{key} is {quote(value)}; a {_JSON_NAMES[kind]} is needed")
    return value


_JSON_NAMES: dict[type, str] = {dict: "JSON object", list: "list", str: "string"}


def _get_objects(entry: dict[str, Any], key: str) -> list[dict[str, Any]]:
    values = _get(entry, key, list) or []
    for value in values:
        if not isinstance(value, dict):
            raise _error(f"{key} holds {quote(value)}; JSON objects are needed")
    return list(values)


def _get_number(entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    highest = _HIGHEST.get(key, _HIGHEST_U32)
    if type(value) is not int or not 0 <= value <= highest:
        raise _error(f"{key} is {quote(value)}; a whole number from 0 to {highest} is needed")
    return value


def _error(why: str) -> CniError:
    return CniError(DECODING_FAILURE, f"cannot decode the result: {why}")
