"""The addresses and routes of an attachment, from IPAM or from a previous result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from cni_ipvlan.cni.delegate import BY_HAND
from cni_ipvlan.cni.errors import DELEGATE_FAILED, INVALID_CONFIGURATION, CniError
from cni_ipvlan.cni.result import Address, Interface, Result, Route
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import ADDRESS_IN_USE
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.start.namedtuple import Any, NamedTuple

MOST_ADDRESSES = 64  # with options that cost a question by ARP or a host's route for each
LEAST_MTU_OF_IPV6 = 1280  # RFC 8200, section 5; below it the kernel disables IPv6 on a link
_BROADCAST = "255.255.255.255"
SCOPES_WITHOUT_GATEWAY = (253, 254)  # RT_SCOPE_LINK, RT_SCOPE_HOST, <linux/rtnetlink.h>


class Addressing(NamedTuple):
    """The interface's ``addresses`` and ``routes``.

    ``others`` is the part of a previous result that is about other interfaces. ``neighbours`` are
    the host's addresses, whose MAC address is the interface's own. ``is_conflict_likely`` is
    whether ARP must find out if another host has one of the addresses.
    """

    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    others: Result
    dns: Mapping[str, Any]
    neighbours: tuple[str, ...] = ()
    is_conflict_likely: bool = False

    @property
    def has_ipv6(self) -> bool:
        """Whether any address is IPv6."""
        return any(address.is_ipv6 for address in self.addresses)

    @property
    def leads_through_host(self) -> bool:
        """Whether a route's gateway is the host, which may send an ICMP redirect to its own.

        In IPv6, a redirect comes from a link-local address, which is none of these gateways.
        """
        gateways = {each.gateway for each in self.routes if ":" not in each.gateway}
        return not gateways.isdisjoint(self.neighbours)

    @property
    def routes_to_add(self) -> list[Route]:
        """The routes without those that the kernel adds by itself."""
        connected = connected_routes(self.routes, self.addresses)
        return [each for each in self.routes if each not in connected]

    def result(self, link: queries.Link, netns: str) -> Result:
        """Return the result of ADD; ``link`` is read from the kernel, in the container."""
        index = len(self.others.interfaces)
        addresses = [address._replace(interface=index) for address in self.addresses]
        return Result(
            interfaces=(*self.others.interfaces, Interface(link.name, link.mac, netns, link.mtu)),
            addresses=(*self.others.addresses, *addresses),
            routes=(*self.others.routes, *self.routes),
            dns=self.dns,
        )


def make_addressing(conf: NetConf, master: Master, allocated: Result | None) -> Addressing:
    """Return the interface's addressing, from IPAM if it was asked, else from prevResult.

    In a chain, prevResult contains the master, which does not go into the result.
    Other interfaces of prevResult keep their addresses.
    """
    previous = conf.prev_result or Result()
    others, own_part = _split(previous, master)
    source = own_part if allocated is None else allocated
    plugin = conf.ipam_type if allocated is not None else ""
    mtu_name = "mtu" if conf.mtu else f"the MTU of the master {master.link.name!r}"
    addresses, routes = usable_parts(source, plugin, conf.mtu or master.link.mtu, mtu_name)
    option = "checkIPv4Conflict" if conf.check_ipv4_conflict else "hostAccess"
    if len(addresses) > MOST_ADDRESSES and (conf.check_ipv4_conflict or conf.host_access):
        raise CniError(
            INVALID_CONFIGURATION,
            f"the container gets {len(addresses)} addresses; {option} is for at most "
            f"{MOST_ADDRESSES} addresses",
        )
    dns = conf.dns or source.dns or previous.dns
    parts = addresses, routes, others, dns
    return Addressing(*parts, is_conflict_likely=conf.check_ipv4_conflict)


def usable_parts(
    source: Result, plugin: str, mtu: int, mtu_name: str
) -> tuple[tuple[Address, ...], tuple[Route, ...]]:
    """Return a result's addresses and routes, each once, as an interface with ``mtu`` gets them.

    ``plugin`` is the IPAM plugin that allocated them, if any. Raises CniError if no interface can
    have them.
    """
    if plugin and not source.addresses:
        advice = BY_HAND
        if plugin == "static":
            advice = (
                "give ipam.addresses, or ask for some: ips in the pod's annotation, CNI_ARGS IP=…"
            )
        raise CniError(
            DELEGATE_FAILED, f"the plugin {plugin!r} returned no address", f"try: {advice}"
        )
    addresses = tuple(dict.fromkeys(each._replace(interface=None) for each in source.addresses))
    # The kernel silently does not add 0.0.0.0: __inet_insert_ifa(), devinet.c. With a multicast or
    # broadcast address, a container in mode l3 would take the host's packets to that address.
    parsed = ((each.address, parse_address(each.address)) for each in addresses)
    invalid = [text for text, address in parsed if address and not is_unicast(address)]
    if invalid:
        raise CniError(
            DELEGATE_FAILED if plugin else INVALID_CONFIGURATION,
            f"{f'the plugin {plugin!r} returned' if plugin else 'prevResult has'} "
            f"{', '.join(invalid)}, which is not a valid interface address",
        )
    if mtu < LEAST_MTU_OF_IPV6 and any(each.is_ipv6 for each in addresses):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{mtu_name} is {mtu}; IPv6 addresses need {LEAST_MTU_OF_IPV6} or more",
        )
    connected = connected_routes(source.routes, addresses)
    gateways = {each.family: each.gateway for each in reversed(addresses) if each.gateway}
    routes = dict.fromkeys(
        route if route in connected else _with_gateway(route, gateways.get(route.family, ""))
        for route in source.routes
    )
    # Routes to gateways come first, as the kernel needs them for the others.
    return addresses, tuple(sorted(routes, key=lambda e: e.gateway not in commands.NO_GATEWAY))


def check_not_host_addresses(tx: Transaction, master: Master, addresses: Sequence[Address]) -> None:
    """Refuse the host's own address or broadcast: the kernel would allow it, and cut the host off.

    The master delivers packets for a container's address to the container, also those to an
    address that the host has on another interface.
    """
    networks = host_networks(tx, master, addresses)
    for each in addresses:
        check_not_host_address(each, networks)


def host_networks(
    tx: Transaction, master: Master, addresses: Sequence[Address]
) -> list[IPv4Network | IPv6Network]:
    """Return the host's own addresses and broadcasts, of the families of such addresses."""
    if master.netns:
        return []
    prefixes = [*master.addresses, *master.host_prefixes]
    if any(each.is_ipv6 for each in addresses):
        prefixes += queries.local_prefixes(tx.run(Command(commands.route_show_local("-6"))).stdout)
    return list(map(ip_network, prefixes))


def check_not_host_address(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> None:
    """Raise CniError if an address is in one of the host's own ``host_networks``."""
    ip = parse_address(address.address)
    if ip is not None and any(ip in network for network in networks):
        raise CniError(
            ADDRESS_IN_USE,
            f"{address.address} is the host's own address or broadcast; the container would take "
            "its packets",
            "try: give the container another address; exclude the host's from the IPAM "
            "plugin's range",
        )


def connected_routes(routes: Sequence[Route], addresses: Sequence[Address]) -> set[Route]:
    """Return the routes that the kernel adds by itself for addresses: those to their subnets."""
    texts = (each.address for each in addresses if parse_address(each.address))
    networks = (ip_interface(each).network for each in texts)
    # It adds none to 0.0.0.0/0, nor to a single address.
    subnets = {str(each) for each in networks if 0 < each.prefixlen < each.max_prefixlen}
    plain = (each for each in routes if each._replace(dst="", scope=None) == Route(""))
    return {each for each in plain if each.dst in subnets}


def is_unicast(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is the address of a single host."""
    is_group = address.is_multicast or str(address) == _BROADCAST
    return not (address.is_unspecified or is_group)


def parse_address(address: str) -> IPv4Address | IPv6Address | None:
    """Return an address; None for a dry run's stand-in of an address that is not known yet."""
    try:
        return ip_address(address.partition("/")[0])
    except ValueError:
        return None


def _split(previous: Result, master: Master) -> tuple[Result, Result]:
    """Split prevResult into the part of other interfaces and the part of the master."""
    other_numbers = [
        number
        for number, interface in enumerate(previous.interfaces)
        if not _is_master(interface, master, is_single=len(previous.interfaces) == 1)
    ]
    # There may be thousands.
    new_numbers = {number: new_number for new_number, number in enumerate(other_numbers)}
    container_numbers = {number for number in other_numbers if previous.interfaces[number].sandbox}
    others = Result(
        interfaces=tuple(previous.interfaces[number] for number in other_numbers),
        addresses=tuple(
            address._replace(interface=new_numbers[address.interface])
            for address in previous.addresses
            if address.interface in container_numbers
        ),
        routes=previous.routes if container_numbers else (),
    )
    addresses = (each for each in previous.addresses if each.interface not in container_numbers)
    own_part = Result(
        addresses=tuple(addresses),
        routes=() if container_numbers else previous.routes,
        dns=previous.dns,
    )
    return others, own_part


def _is_master(interface: Interface, master: Master, *, is_single: bool) -> bool:
    """Whether an interface of prevResult is the master.

    Its sandbox counts, too, since a container's interface may have the name of the host's master.
    A master in the container may lack the sandbox if it is the only interface.
    """
    if interface.name not in (master.link.name, *master.link.alternative_names):
        return False
    is_in_container = bool(interface.sandbox)
    return is_in_container or is_single if master.netns else not is_in_container


def _with_gateway(route: Route, gateway: str) -> Route:
    """Give a route the first gateway of its family, unless it has one or leads to that.

    A route with scope link or host can't have one: fib_create_info() in net/ipv4/fib_semantics.c.
    """
    if route.gateway or route.scope in SCOPES_WITHOUT_GATEWAY:
        return route
    leads_to_gateway = route.dst.partition("/")[0] == gateway
    return route if leads_to_gateway else route._replace(gateway=gateway)
