"""hostAccess: the host and the containers of a master reach each other.

The kernel keeps a master apart from its ipvlan interfaces. So the host gets an ipvlan interface of
the master, too. It has no address, and a route to each address of the containers. It has no ARP:
the kernel then sends everything to the interface's own MAC address, which all interfaces of a
master share, even when it changes. A container sends to that MAC address what is for the host;
ipvlan gives the master what belongs to no other interface.

The routes of an attachment are recorded before they are added. The host's interface is made with
the first record that has routes and removed with the last, under a lock for each master.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, TRY_AGAIN_LATER, CniError
from cni_ipvlan.cni.result import Address, Result, Route, family
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Argv, Command, Undo
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import codes, links
from cni_ipvlan.plugin.addressing import Addressing, parse_address
from cni_ipvlan.plugin.master import Master, key_of
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.plugin.shared import Feature, disable_autoconfiguration, is_only
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import HOST, Registry

_PREFIX = "ipvhost"  # with the master's index it is a name
_LABEL = "cni-ipvlan/host-access"
_STRICT_FILTER = 1  # of rp_filter
_OLD_METRICS = (0, 1024)  # of routes in IPv4 and IPv6 that older versions made


def link_name(index: int) -> str:
    """Return the name of the host's interface on the master with that index."""
    return f"{_PREFIX}{index}"


def is_host_link(link: Link) -> bool:
    """Whether a link on the host is the host's own interface on a master.

    One that a killed call has just created has no label yet.
    """
    is_named = link.name.startswith(_PREFIX) and link.name.removeprefix(_PREFIX).isdecimal()
    return is_named and link.kind == "ipvlan" and link.alias in ("", _LABEL)


class HostAccess(Feature):
    """The option hostAccess."""

    def extend(
        self, tx: Transaction, addressing: Addressing, master: Master, conf: NetConf
    ) -> Addressing:
        """ADD: return an addressing with what the container needs to reach the host.

        Raises CniError if the host has no address on the master for it, if the host may not have
        routes to its addresses, or if a subnet of routesViaHost overlaps with the master's.
        """
        addresses = addressing.addresses
        host_ips = _require_host_addresses(master, addresses)
        destinations = {route.dst for route in addressing.routes}
        host_routes = [Route(f"{each}/{ip_address(each).max_prefixlen}") for each in host_ips]
        via_host = _routes_via_host(master, addresses, conf)
        check_permitted(tx, master, addresses)
        return addressing._replace(
            # They come first, since the host may be the gateway of others.
            routes=(
                *(each for each in host_routes if each.dst not in destinations),
                *addressing.routes,
                *(each for each in via_host if each.dst not in destinations),
            ),
            # The other modes resolve no addresses.
            neighbours=tuple(host_ips) if conf.mode == "l2" else (),
            is_conflict_likely=addressing.is_conflict_likely
            or _has_neighbour(tx, master, addresses),
        )

    def check_ready(
        self, tx: Transaction, master: Master, conf: NetConf, addresses: Sequence[Address]
    ) -> None:
        """STATUS: raise CniError if ``extend`` would refuse every container."""
        _routes_via_host(master, addresses, conf)
        sources = _first_by_family(_require_host_addresses(master, addresses)).values()
        if unready := [e.ip for e in master.link.addresses if e.is_tentative and e.ip in sources]:
            msg = f"hostAccess can't use {unready[0]} yet: IPv6 duplicate detection has not ended"
            raise CniError(TRY_AGAIN_LATER, msg, "try: wait; that needs the master's carrier")
        _find_host_link(tx, link_name(master.link.ifindex))
        if addresses:
            check_permitted(tx, master, addresses)

    def apply(self, call: Call, master: Master, record: Record, addressing: Addressing) -> Record:
        """ADD: give the host routes to an attachment; return its record with them."""
        tx, index, addresses = call.tx, master.link.ifindex, addressing.addresses
        tx.hold(_lock(call, index))
        name = link_name(index)
        host_ips = _host_addresses(master, addresses)
        sources, destinations = _first_by_family(host_ips), _reachable(host_ips, addresses)
        if not destinations:  # in a chain whose prevResult has no addresses
            return record
        host_link = _find_host_link(tx, name)
        if record.mode == "l2" and (warning := describe_strict_filter(tx, master)):
            call.warn(warning)
        old_routes = _routes_to(tx, destinations, name) if host_link else []
        for route in old_routes:
            _check_old_route(call.registry, record, route)
        record = call.registry.add_routes(record, destinations)
        tx.on_failure(lambda: _record_removal(call, record))
        if host_link is None:  # under the lock, nobody else uses it before it may be removed
            tx.run(
                Command(
                    commands.link_add_ipvlan(master.link.name, name, record.mode, record.flag, 0),
                    f"create the host's own interface of {master.link.name}",
                    undo=(Undo(Command(commands.link_delete(name))),),
                )
            )
        if host_link is None or not host_link.is_up:
            disable_autoconfiguration(tx, name)
        metric = record.attachment.number
        tx.run_batch(
            Command(commands.link_set(name, "alias", _LABEL), "label it"),
            Command(commands.link_set(name, "up"), "bring it up"),
            Command(commands.link_set(name, "arp", "off"), "have it resolve no addresses"),
            *_removal_commands(old_routes, name),
            *(
                Command(
                    commands.route_add(each, name, source=sources[family(each)], priority=metric),
                    f"let the host reach {each}",
                    undo=(Undo(Command(commands.route_delete(each, name, metric))),),
                )
                for each in destinations
            ),
        )
        return record

    def query(self, ifname: str) -> Argv:
        """CHECK: return the query for the container's neighbours."""
        return commands.neighbour_show(ifname)

    def differences(self, call: Call, link: Link, previous: Result, answer: bytes) -> Iterator[str]:
        """CHECK: yield what is not as ``apply`` and ``extend`` left it."""
        tx, addresses = call.tx, previous.addresses
        records = [each for each in call.registry.records_of(call.attachment) if each.host_routes]
        # With CNI_NETNS_OVERRIDE, the kernel reports the master's name instead of its index.
        index = records[0].master[1] if records else link.parent_index
        name = link_name(index)
        host_link = _query_link(tx, name)
        if host_link is None or not is_host_link(host_link):
            yield f"the host's interface {name}, for hostAccess, is missing"
            return
        if not host_link.is_up or host_link.has_arp:
            fault = "uses ARP" if host_link.is_up else "is down"
            yield f"the host's interface {name}, for hostAccess, {fault}"
        # The master may be in another namespace by now, so that its name is not known.
        query = Command(commands.address_show(host_link.parent), accept=commands.ABSENT)
        parents = queries.links(tx.run(query).stdout)
        host_ips = [ip for parent in parents for ip in _host_addresses(Master(parent), addresses)]
        expected = records[0].host_routes if records else _reachable(host_ips, addresses)
        for address, output in _query_routes(tx, expected, "match"):
            route = queries.find_best_route(queries.all_routes(output))
            if route is None or route.device != name:
                yield f"the host has no route to {address} through {name}"
            elif not route.source:  # IPv6's routes stay when the address that is their source goes
                yield f"the host's route to {address} has lost its source"
        neighbours = queries.neighbours(answer)
        own = [each for each in neighbours if each.mac == link.mac]
        permanent = {each.address for each in own if each.state == "PERMANENT"}
        # The host may have got other addresses after the ADD.
        routed = {route.dst.partition("/")[0] for route in previous.routes}
        for each in host_ips if link.mode == "l2" else ():
            if each in routed and each not in permanent:
                yield f"the entry of the neighbour {each}, the host, is missing"

    def release(self, call: Call, attachment: AttachmentId, records: Sequence[Record]) -> None:
        """DEL, GC: remove the host's routes to an attachment, and with the last one its interface.

        ``records`` are those with routes. Without any, what certainly belongs to the attachment is
        removed. The interface stays if it has routes without a record, as a dry run's script makes.
        """
        tx, registry = call.tx, call.registry
        for record in records or _assume_records(call, attachment):
            index = record.master[1]
            with _lock(call, index):
                is_last = is_only(registry.records_with_routes(record.master), attachment)
                is_last = is_last and not _has_unrecorded_routes(tx, registry, record)
                _remove(tx, link_name(index), _routes_of(tx, record), with_link=is_last)
                registry.drop_routes(record)


def _has_neighbour(tx: Transaction, master: Master, addresses: Sequence[Address]) -> bool:
    """Whether the host knows a neighbour with one of the IPv4 addresses, which may be gone.

    For IPv6, the kernel detects duplicate addresses.
    """
    ips = [each.ip for each in addresses if not each.is_ipv6]
    parts = (Command(commands.neighbour_show(master.link.name, each)) for each in ips)
    output = tx.run_batch(*parts).stdout if ips else b""
    return any(each.mac for line in output.splitlines() for each in queries.neighbours(line))


def _assume_records(call: Call, attachment: AttachmentId) -> Iterator[Record]:
    """Yield a record for each master where the host has routes with the attachment's number.

    They are searched for on all masters, since the network's master may have changed. Attachments
    may have the same number: a route to an address that a record has belongs to that one.
    """
    for link in filter(is_host_link, links.list_links(call.tx, None)):
        key = key_of(int(link.name.removeprefix(_PREFIX)))
        records = call.registry.records_with_routes(key, attachment.number)
        others = {each for record in records for each in record.host_routes}
        routes = _routes_through(call.tx, link.name)
        ips = dict.fromkeys(each.ip for each in routes if each.priority == attachment.number)
        if own := tuple(each for each in ips if each not in others):  # in a fixed order
            yield Record(*attachment, "", (0, 0), "", "", master=key, host_routes=own)


def usable_addresses(master: Master) -> list[str]:
    """Return the host's addresses on a master, without link-local and duplicate ones."""
    ips = (each.ip for each in master.link.addresses if not each.is_duplicate)
    addresses = map(ip_address, dict.fromkeys(ips))  # one may have two prefix lengths
    return [str(each) for each in addresses if not each.is_link_local]


def _require_host_addresses(master: Master, addresses: Sequence[Address]) -> list[str]:
    """Return the host's addresses for containers with such addresses; raises CniError if none."""
    if master.link.slave_kind == "vrf":
        raise CniError(
            INVALID_CONFIGURATION,
            f"hostAccess is set, but the master {master.link.name!r} is in a VRF",
            "try: use another interface of the host, or leave hostAccess out",
        )
    host_ips = _host_addresses(master, addresses) if addresses else usable_addresses(master)
    if not host_ips:
        raise _no_address_error(master)
    return host_ips


def _routes_via_host(master: Master, addresses: Sequence[Address], conf: NetConf) -> list[Route]:
    """Return routes to subnets through the host, in the families that a container has.

    In mode l2 the host is their gateway; in the others it gets all that leaves the interface.
    """
    gateways = _first_by_family(_host_addresses(master, addresses))
    routes = []
    for subnet in dict.fromkeys(conf.routes_via_host):
        network = ip_network(subnet)
        subnets = (each for each in _subnets(master) if each.version == network.version)
        overlaps = [each for each in subnets if each.overlaps(network)]
        if overlaps:
            raise CniError(
                codes.ROUTE_REFUSED,
                f"routesViaHost has {subnet}, which overlaps with {overlaps[0]}, the subnet of the "
                f"master {master.link.name!r}",
                "its hosts are reached directly\ntry: leave that out of routesViaHost",
            )
        subnet_family = family(subnet)
        if any(each.family == subnet_family for each in addresses):
            if subnet_family not in gateways:
                raise _no_address_error(master)
            routes.append(Route(subnet, gateways[subnet_family] if conf.mode == "l2" else ""))
    return routes


def _no_address_error(master: Master) -> CniError:
    return CniError(
        INVALID_CONFIGURATION,
        f"hostAccess is set, but on the master {master.link.name!r} the host has no "
        "address of the same family as the container's",
        "try: give the host an address on the master, or leave hostAccess out",
    )


def check_permitted(tx: Transaction, master: Master, addresses: Sequence[Address]) -> None:
    """Raise CniError unless the host may have routes to the addresses through its interface.

    The network's author chooses the addresses, and a route to a single address takes precedence. So
    each must be in a subnet of the host's own global addresses on the master, which the host
    reaches directly, or in a subnet that root has reserved as unreachable. It must not be the first
    or last address of the subnet, nor a next hop of any route. The host must not have a route to it
    alone, which would have a lower metric.
    """
    argvs = (commands.route_show("table", "all"), commands.nexthop_show())
    routes, nexthops = tx.run_batch(*map(Command, argvs)).stdout.split(b"\n")
    gateways = set(map(ip_address, (*queries.next_hops(routes), *queries.next_hops(nexthops))))
    host_routes = [
        (ip_network(each.dst), each)
        for each in queries.all_routes(routes)
        if each.table == queries.MAIN_TABLE and each.device != link_name(master.link.ifindex)
    ]
    for address in map(parse_address, _reachable(_host_addresses(master, addresses), addresses)):
        if address is None:
            continue  # a dry run's script checks it, when it is known
        reason = ""
        if address.is_loopback or address.is_link_local or address.is_reserved:
            reason = "a loopback, link-local or reserved address, for which hostAccess is not"
        elif address in gateways:
            reason = "a gateway of the host, which hostAccess would cut off"
        matching = (route for network, route in host_routes if address in network)
        host_route = queries.find_best_route(matching)
        for subnet in () if reason else _permitting_subnets(address, master, host_route):
            has_ends = subnet.prefixlen < subnet.max_prefixlen - 1  # RFC 3021, RFC 6164
            if has_ends and address in (subnet.network_address, subnet.broadcast_address):
                reason = f"the first or last address of the subnet {subnet}"
        if not reason and host_route is not None and host_route.dst == str(ip_network(address)):
            reason = "an address to which there is a host route already, which would come first"
        if reason:
            raise CniError(
                codes.ROUTE_REFUSED,
                f"{address} is {reason}",
                "try: give the container another address, or exclude it from the range",
            )


def _permitting_subnets(
    address: IPv4Address | IPv6Address, master: Master, route: queries.Route | None
) -> list[IPv4Network | IPv6Network]:
    """Return the subnets that permit a route to an address; raises CniError if none does.

    ``route`` is how the host reaches it without such a route.
    """
    if route is not None and route.is_unreachable and not route.dst.endswith("/0"):
        return [ip_network(route.dst)]
    is_direct = route is None or (route.device == master.link.name and not route.gateway)
    subnets = [each for each in _subnets(master) if is_direct and address in each]
    if subnets:
        return subnets
    name = repr(master.link.name)
    msg = f"{address} is in no subnet that the host has on the master {name}"
    if route is not None and not (is_direct or route.is_unreachable):
        msg = f"the host reaches {address} in another way, which hostAccess would replace"
    error = CniError(
        codes.ROUTE_REFUSED,
        msg,
        "try: use the subnet of the host's address on the master; or if only containers have these "
        "addresses, say so on the host: ip route add unreachable SUBNET",
    )
    if route is not None:
        via = f" via {route.gateway}" if route.gateway else ""
        error.add_private(f"found: the route to {route.dst}{via} dev {route.device}")
    raise error


def _subnets(master: Master) -> list[IPv4Network | IPv6Network]:
    """Return the subnets of the host's global addresses on a master."""
    return [ip_interface(each.subnet).network for each in master.link.addresses if each.subnet]


def _lock(call: Call, index: int) -> AbstractContextManager[None]:
    """Keep other calls from changing the host's interface on the master with that index."""
    check = call.node.wait_check(f"the interface {link_name(index)}")
    return call.registry.master_lock(key_of(index), check, HOST)


def _check_old_route(registry: Registry, own_record: Record, route: queries.Route) -> None:
    """Raise CniError if a route belongs to another attachment, whose container still exists."""
    for record in registry.records_with_routes(own_record.master, route.priority):
        if record.attachment == own_record.attachment or route.ip not in record.host_routes:
            continue
        if record.has_container:
            raise CniError(
                codes.ADDRESS_IN_USE,
                f"the host's route to {route.ip} is another container's",
                "try: give the container another address, or delete that attachment first",
                f"found: it is that of {record.describe()}",
            )


def describe_strict_filter(tx: Transaction, master: Master) -> str:
    """Return why the kernel drops a container's packets, and what to try; empty if it does not.

    It does if rp_filter of the master is strict, as the host answers through another link.
    """
    key = commands.RP_FILTER.format(master.link.name)
    query = Command(commands.sysctl_read(commands.RP_FILTER.format("all"), key))
    values = [int(each) for each in tx.run(query).stdout.split() if each.isdigit()]
    if max(values, default=0) != _STRICT_FILTER:  # the kernel takes the greater
        return ""
    return (
        f"containers can't reach the host: the kernel drops their packets, since {key} (or that of "
        f"all) is {_STRICT_FILTER}; try: echo 2 >/proc/sys/{key}"
    )


def _host_addresses(master: Master, addresses: Sequence[Address]) -> list[str]:
    """Return the host's addresses on a master that containers with such addresses can reach."""
    families = {each.family for each in addresses}
    return [each for each in usable_addresses(master) if family(each) in families]


def _first_by_family(host_ips: Sequence[str]) -> dict[int, str]:
    """Return the oldest of each family: later ones may be services', which move to other hosts.

    Of IPv4 it is the first that the kernel lists, of IPv6 the last.
    """
    of_ipv6 = [each for each in host_ips if ":" in each]
    return {family(each): each for each in (*reversed(host_ips), *of_ipv6)}


def _reachable(host_ips: Iterable[str], addresses: Iterable[Address]) -> list[str]:
    """Return the addresses without prefix lengths for which the host has one of their family."""
    families = set(map(family, host_ips))
    return [each.ip for each in addresses if each.family in families]


def _query_routes(
    tx: Transaction, addresses: Sequence[str], selector: str, *device: str
) -> Iterator[tuple[str, bytes]]:
    """Yield each address with the output of ip about its routes; a batch has only one family."""
    for number in (4, 6):
        family_addresses = [each for each in addresses if family(each) == number]
        if family_addresses:
            selectors = (("to", selector, each, *device) for each in family_addresses)
            argvs = (commands.route_show(*each, family=f"-{number}") for each in selectors)
            output = tx.run_batch(*map(Command, argvs)).stdout
            yield from zip(family_addresses, output.split(b"\n"), strict=True)


def _routes_to(tx: Transaction, addresses: Sequence[str], name: str) -> list[queries.Route]:
    answers = _query_routes(tx, addresses, "exact", "dev", name)
    return [route for _, output in answers for route in queries.routes(output)]


def _query_link(tx: Transaction, name: str) -> Link | None:
    if not namespace.own_has_link(name):
        return None
    query = Command(commands.link_show(name), accept=commands.ABSENT)
    return next(iter(queries.links(tx.run(query).stdout)), None)


def _find_host_link(tx: Transaction, name: str) -> Link | None:
    """Return the host's own interface, if it exists; raises CniError if another has its name."""
    link = _query_link(tx, name)
    if link is not None and not is_host_link(link):
        raise CniError(
            codes.INTERFACE_NAME_TAKEN,
            f"the host has an interface {name!r} already, which is not this plugin's",
            "hostAccess needs that name\ntry: rename that interface",
        )
    return link


def _record_removal(call: Call, record: Record) -> None:
    """Record that the host's routes are gone, unless something could not be undone."""
    name, registry = link_name(record.master[1]), call.registry
    was_last = is_only(registry.records_with_routes(record.master), record.attachment)
    if namespace.own_has_link(name) and (was_last or _routes_of(call.tx, record)):
        raise CniError(
            codes.COMMAND_FAILED,
            f"the host's interface {name} or its routes remain; DEL removes them",
        )
    for each in registry.records_of(record.attachment):  # it may have been finished since
        if (each.master, each.host_routes) == (record.master, record.host_routes):
            registry.drop_routes(each)


def _routes_of(tx: Transaction, record: Record) -> list[queries.Route]:
    """Return the existing routes of the host to an attachment, by their addresses and metrics."""
    name = link_name(record.master[1])
    if not namespace.own_has_link(name):
        return []
    return [each for each in _routes_to(tx, record.host_routes, name) if _is_route_of(record, each)]


def _is_route_of(record: Record, route: queries.Route) -> bool:
    metrics = (record.attachment.number, *_OLD_METRICS)
    return route.ip in record.host_routes and route.priority in metrics


def _routes_through(tx: Transaction, name: str) -> list[queries.Route]:
    """Return all routes through the host's interface except those that the kernel has added."""
    argv = commands.route_show("table", "all", "dev", name)
    output = tx.run(Command(argv, accept=commands.ABSENT)).stdout
    return [each for each in queries.routes(output) if not each.is_connected]


def _has_unrecorded_routes(tx: Transaction, registry: Registry, record: Record) -> bool:
    """Whether the host's interface has a route of no record, nor of this one, which may be assumed.

    The records are read without what a dry run takes for removed, as it has not removed the routes.
    """
    routes = _routes_through(tx, link_name(record.master[1]))
    records = [record, *registry.read_only.records_with_routes(record.master)] if routes else []
    return not all(any(_is_route_of(each, route) for each in records) for route in routes)


def _remove(
    tx: Transaction, name: str, routes: Sequence[queries.Route], *, with_link: bool
) -> None:
    """Remove routes of the host, and perhaps their interface, at once.

    A kill in between would leave an interface without routes, which DEL and GC take for one that a
    script has just made. A dry run's script removes the interface only if no route is left.
    """
    changes = [*_removal_commands(routes, name)]
    link = _query_link(tx, name) if with_link else None
    if link is not None and is_host_link(link):
        argv = commands.link_delete(name)
        changes.append(Command(argv, f"remove the host's interface {name}"))
    if changes:
        tx.run_batch(*changes)


def _removal_commands(routes: Iterable[queries.Route], name: str) -> Iterator[Command]:
    for each in routes:
        argv = commands.route_delete(each.ip, name, each.priority)
        yield Command(argv, f"remove the host's route to {each.ip}")
