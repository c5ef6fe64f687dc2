"""Addresses, as the IPAM plugins read them: Go's net.ParseIP and net.ParseCIDR; and next hops."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli.validate.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cni_ipvlan.cli.reading import Path

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Subnet = IPv4Network | IPv6Network


class Around(NamedTuple):
    """What a next hop is seen from: the container's subnets, and its own addresses if known."""

    subnets: Collection[Subnet]
    own: Collection[Address] = ()


def address(text: object) -> Address | None:
    """Return an address without a zone; None if it isn't one."""
    try:
        found = ip_address(text) if isinstance(text, str) and "%" not in text else None
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def interface(text: object) -> Interface | None:
    """Return an address with its prefix length, in decimal; None if it isn't one."""
    if not isinstance(text, str) or "%" in text:
        return None
    _, slash, length = text.partition("/")
    if not (slash and length.isascii() and length.isdecimal()):
        return None
    try:
        return ip_interface(text)
    except ValueError:
        return None


def has_broadcast(subnet: Subnet) -> bool:
    """Whether the subnet's last address is for broadcasts: not in IPv6, nor in RFC 3021's /31."""
    return isinstance(subnet, IPv4Network) and _is_shared(subnet)


def _is_shared(subnet: Subnet) -> bool:
    """Whether it is more than one address, or a link between two."""
    return subnet.prefixlen < subnet.max_prefixlen - 1


def unfit(own: Interface | Address, subnet: Subnet) -> tuple[str, bool]:
    """Return why a container should not have an address, and whether it works all the same.

    The first is empty if it may.
    """
    ip = own.ip if isinstance(own, (IPv4Interface, IPv6Interface)) else own
    if has_broadcast(subnet) and ip == subnet.broadcast_address:
        return f"the broadcast address of {subnet}", False
    if _is_shared(subnet) and ip == subnet.network_address:
        if isinstance(ip, IPv4Address):
            return (
                f"the address of the subnet {subnet}, which Linux before 5.14 broadcasts to",
                True,
            )
        # RFC 4291, section 2.6.1
        return f"the address of the subnet {subnet}, which its routers answer to", True
    return "", False


def next_hop(path: Path, given: object, around: Around, *, is_needed: bool) -> Iterator[Problem]:
    """Yield what is wrong with a gateway; as long as no route needs it, it does no harm."""
    key = path[-1]
    hop = address(given)
    if hop is None:
        yield Problem(path, f"{key} is {given!r}; an address is needed")
        return
    if isinstance(hop, IPv6Address) and hop.is_link_local:
        return
    if hop in around.own:
        yield Problem(path, f"{key} is {hop}, the container's own address", not is_needed)
    elif around.subnets and not any(hop in subnet for subnet in around.subnets):
        names = ", ".join(map(str, around.subnets))
        where = f"every subnet: {names}" if len(around.subnets) > 1 else f"the subnet {names}"
        yield Problem(path, f"{key} is {hop}, outside {where}", not is_needed)
    for subnet in around.subnets:
        if isinstance(hop, IPv4Address) and hop in subnet:
            why, works = unfit(hop, subnet)
            if why:
                yield Problem(path, f"{key} is {hop}, {why}", works or not is_needed)
