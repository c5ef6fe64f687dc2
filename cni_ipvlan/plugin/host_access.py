"""hostAccess: the host and the containers of a master reach each other.

The kernel keeps a master apart from its ipvlan interfaces. So the host gets one, too, beside
the containers': without an address, and with a route to each of theirs. It has no ARP: the
kernel then sends everything to the interface's own MAC address, which all of a master share,
and it stays right when that changes. A container sends to the host's addresses what it would
send to itself; ipvlan gives the master what belongs to no other interface.

The routes of an attachment are recorded before they are added. A master's interface is made and
removed under a lock of its own, with the first and the last record that has some.
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

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError
from cni_ipvlan.cni.result import Address, Result, Route, family
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Argv, Command, Undo
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import codes, links
from cni_ipvlan.plugin.addressing import Addressing, parsed
from cni_ipvlan.plugin.master import Master, key_of
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.plugin.shared import Feature, is_only, keep_bare
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import HOST, Registry

_PREFIX = "ipvhost"  # with the master's index it is a name
_LABEL = "cni-ipvlan/host-access"
_STRICT = 1  # of rp_filter
_METRICS_BEFORE = (0, 1024)  # of routes that were made before they had one, in IPv4 and IPv6


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

        Raises CniError if the host has no address on the master for it, may not have routes to its
        addresses, or if what it would reach through the host is the master's own subnet.
        """
        addresses = addressing.addresses
        addressing.check_count("hostAccess")
        own = _checked_own(master, addresses)
        given = {route.dst for route in addressing.routes}
        routes = [Route(f"{each}/{ip_address(each).max_prefixlen}") for each in own]
        via_host = _routes_via_host(master, addresses, conf)
        check_permitted(tx, master, addresses)
        return addressing._replace(
            # They come first, since the host may be the gateway of others.
            routes=(
                *(each for each in routes if each.dst not in given),
                *addressing.routes,
                *(each for each in via_host if each.dst not in given),
            ),
            neighbours=tuple(own) if conf.mode == "l2" else (),  # the others resolve no addresses
            is_conflict_likely=addressing.is_conflict_likely or _is_known(tx, master, addresses),
        )

    def check_ready(
        self, tx: Transaction, master: Master, conf: NetConf, addresses: Sequence[Address]
    ) -> None:
        """STATUS: refuse what ``extend`` would refuse whoever the container is."""
        _routes_via_host(master, addresses, conf)
        _checked_own(master, addresses)
        if addresses:
            check_permitted(tx, master, addresses)

    def apply(self, call: Call, master: Master, record: Record, addressing: Addressing) -> Record:
        """ADD: give the host routes to an attachment; return its record with them."""
        tx, index, addresses = call.tx, master.link.ifindex, addressing.addresses
        tx.hold(_locked(call, index))
        name = link_name(index)
        own = _own(master, addresses)
        sources, ours = _first_of_each_family(own), _reachable(own, addresses)
        if not ours:  # in a chain whose prevResult has no addresses
            return record
        there = _link(tx, name)
        if there is not None and not is_host_link(there):
            raise CniError(
                codes.INTERFACE_NAME_TAKEN,
                f"the host has an interface {name!r} already, which is not this plugin's",
                "hostAccess needs that name\ntry: rename that interface",
            )
        if record.mode == "l2" and (why := strictness(tx, master)):
            call.warn(why)
        left = _routes_to(tx, ours, name) if there else []
        for route in left:
            _check_left(call.registry, record, route)
        record = call.registry.add_routes(record, ours)
        tx.on_failure(lambda: _drop_routes(call, record))
        if there is None:  # nobody else uses it until it is undone
            tx.run(
                Command(
                    commands.link_add_ipvlan(master.link.name, name, record.mode, record.flag, 0),
                    f"create the host's own interface of {master.link.name}",
                    undo=(Undo(Command(commands.link_delete(name))),),
                )
            )
        if there is None or not there.is_up:
            keep_bare(tx, name)
        metric = record.attachment.number
        tx.run_batch(
            Command(commands.link_set(name, "alias", _LABEL), "label it"),
            Command(commands.link_set(name, "up"), "bring it up"),
            Command(commands.link_set(name, "arp", "off"), "have it resolve no addresses"),
            *_removals(left, name),
            *(
                Command(
                    commands.route_add(each, name, source=sources[family(each)], priority=metric),
                    f"let the host reach {each}",
                    undo=(Undo(Command(commands.route_delete(each, name, metric))),),
                )
                for each in ours
            ),
        )
        return record

    def asked(self, ifname: str) -> Argv:
        """CHECK: return the query for the container's neighbours."""
        return commands.neighbour_show(ifname)

    def differences(self, call: Call, link: Link, previous: Result, answer: bytes) -> Iterator[str]:
        """CHECK: yield what is not as ``apply`` and ``extend`` left it."""
        tx, name, addresses = call.tx, link_name(link.parent_index), previous.addresses
        hosts = _link(tx, name)
        if hosts is None or not is_host_link(hosts):
            yield f"the host's interface {name}, for hostAccess, is missing"
            return
        if not hosts.is_up or hosts.has_arp:
            how = "uses ARP" if hosts.is_up else "is down"
            yield f"the host's interface {name}, for hostAccess, {how}"
        shown = queries.links(tx.run(Command(commands.address_show(hosts.parent))).stdout)
        own = [ip for parent in shown for ip in _own(Master(parent), addresses)]
        recorded = (each.host_routes for each in call.registry.records_of(call.attachment))
        expected = next(filter(None, recorded), _reachable(own, addresses))
        for address, output in _answers(tx, expected, "match"):
            way = queries.find_best_route(queries.all_routes(output))
            if way is None or way.device != name:
                yield f"the host has no route to {address} through {name}"
        known = queries.neighbours(answer)
        permanent = {each.address for each in known if each.state == "PERMANENT"}
        routed = {route.dst.partition("/")[0] for route in previous.routes}  # not what came later
        for each in own if link.mode == "l2" else ():
            if each in routed and each not in permanent:
                yield f"the entry of the neighbour {each}, the host, is missing"

    def release(self, call: Call, attachment: AttachmentId, records: Sequence[Record]) -> None:
        """DEL, GC: remove the host's routes to an attachment, and after the last one its interface.

        ``records`` are those with routes; without any, what is certainly its own is removed. The
        interface stays for routes that no record names, as those of a dry run's script.
        """
        tx, registry = call.tx, call.registry
        for record in records:
            index = record.master[1]
            with _locked(call, index):
                is_last = is_only(registry.with_host(record.master), attachment)
                if is_last and not _has_others(tx, registry, record):
                    _remove_link(tx, link_name(index))  # and with it all its routes
                else:
                    _remove(tx, _routes_of(tx, record), link_name(index))
                registry.drop_routes(record)
        if not records:
            _release_unrecorded(call, attachment)


def _is_known(tx: Transaction, master: Master, addresses: Sequence[Address]) -> bool:
    """Whether the host knows a neighbour with one of the IPv4 addresses.

    It may be gone. For IPv6, duplicate address detection finds out.
    """
    ours = [each.ip for each in addresses if not each.is_ipv6]
    shown = (Command(commands.neighbour_show(master.link.name, each)) for each in ours)
    output = tx.run_batch(*shown).stdout if ours else b""
    return any(each.mac for line in output.splitlines() for each in queries.neighbours(line))


def _release_unrecorded(call: Call, attachment: AttachmentId) -> None:
    """Remove the host's routes with the attachment's number, and the interface after the last.

    The network names a master, but which one it was, these routes say. Others may have the same
    number: what a record names is theirs.
    """
    tx, registry, number = call.tx, call.registry, attachment.number
    for link in filter(is_host_link, links.listed(tx, None)):
        index = int(link.name.removeprefix(_PREFIX))
        with _locked(call, index):
            key = key_of(index)
            others = {
                each for record in registry.with_host(key, number) for each in record.host_routes
            }
            found = _routes_through(tx, link.name)
            own = [each for each in found if each.priority == number and each.ip not in others]
            if own == found and own and is_only(registry.with_host(key), attachment):
                _remove_link(tx, link.name)
            else:
                _remove(tx, own, link.name)


def usable(master: Master) -> list[str]:
    """Return the host's addresses on a master, but for those of no use to others."""
    parsed = map(ip_address, dict.fromkeys(master.addresses))  # one may have two prefix lengths
    return [str(each) for each in parsed if not each.is_link_local]


def _checked_own(master: Master, addresses: Sequence[Address]) -> list[str]:
    """Return the host's addresses for such containers; raises CniError if there is none."""
    own = _own(master, addresses) if addresses else usable(master)
    if not own:
        raise _without_address(master)
    return own


def _routes_via_host(master: Master, addresses: Sequence[Address], conf: NetConf) -> list[Route]:
    """Return routes to subnets through the host, in the families that a container has.

    In mode l2 the host is their gateway; in the others it gets all that leaves the interface.
    """
    own = _first_of_each_family(_own(master, addresses))
    found = []
    for subnet in dict.fromkeys(conf.routes_via_host):
        wanted = ip_network(subnet)
        same = (each for each in _subnets(master) if each.version == wanted.version)
        covered = [each for each in same if each.overlaps(wanted)]
        if covered:
            raise CniError(
                codes.ROUTE_REFUSED,
                f"routesViaHost has {subnet}, which overlaps with {covered[0]}, the subnet of the "
                f"master {master.link.name!r}",
                "its hosts are reached directly\ntry: leave that out of routesViaHost",
            )
        number = family(subnet)
        if any(each.family == number for each in addresses):
            if number not in own:
                raise _without_address(master)
            found.append(Route(subnet, own[number] if conf.mode == "l2" else ""))
    return found


def _without_address(master: Master) -> CniError:
    return CniError(
        INVALID_CONFIGURATION,
        f"hostAccess is set, but on the master {master.link.name!r} the host has no "
        "address of the same family as the container's",
        "try: give the host an address on the master, or leave hostAccess out",
    )


def check_permitted(tx: Transaction, master: Master, addresses: Sequence[Address]) -> None:
    """Raise CniError unless the host may have routes to the addresses through its interface.

    Whoever writes the network chooses them, and a route to one address comes before all others. So
    each must be in a subnet of the host's own global addresses on the master, which it reaches
    there directly, or in one that root has reserved as unreachable. And it must be an address of
    one host, without a host route, which would have a lower metric, and no next hop of any route.
    """
    asked = (commands.route_show("table", "all"), commands.nexthop_show())
    shown, objects = tx.run_batch(*map(Command, asked)).stdout.split(b"\n")
    hops = set(map(ip_address, (*queries.next_hops(shown), *queries.next_hops(objects))))
    ways = [
        (ip_network(each.dst), each)
        for each in queries.all_routes(shown)
        if each.table == queries.MAIN_TABLE and each.device != link_name(master.link.ifindex)
    ]
    for address in map(parsed, _reachable(_own(master, addresses), addresses)):
        if address is None:
            continue  # a dry run's script asks again, when it is known
        why = ""
        if address.is_loopback or address.is_link_local or address.is_reserved:
            why = "a loopback, link-local or reserved address, for which hostAccess is not"
        elif address in hops:
            why = "a gateway of the host, which hostAccess would cut off"
        way = queries.find_best_route(route for network, route in ways if address in network)
        for subnet in () if why else _permitted(address, master, way):
            has_ends = subnet.prefixlen < subnet.max_prefixlen - 1  # RFC 3021, RFC 6164
            if has_ends and address in (subnet.network_address, subnet.broadcast_address):
                why = f"the first or last address of the subnet {subnet}"
        if not why and way is not None and way.dst == str(ip_network(address)):
            why = "an address to which there is a host route already, which would come first"
        if why:
            raise CniError(
                codes.ROUTE_REFUSED,
                f"{address} is {why}",
                "try: give the container another address, or exclude it from the range",
            )


def _permitted(
    address: IPv4Address | IPv6Address, master: Master, way: queries.Route | None
) -> list[IPv4Network | IPv6Network]:
    """Return the subnets that permit a route to an address; raises CniError if none does.

    ``way`` is how the host reaches it without such a route.
    """
    if way is not None and way.is_unreachable and not way.dst.endswith("/0"):
        return [ip_network(way.dst)]
    is_direct = way is None or (way.device == master.link.name and not way.gateway)
    found = [each for each in _subnets(master) if is_direct and address in each]
    if found:
        return found
    name = repr(master.link.name)
    msg = f"{address} is in no subnet that the host has on the master {name}"
    if way is not None and not (is_direct or way.is_unreachable):
        msg = f"the host reaches {address} in another way, which hostAccess would replace"
    error = CniError(
        codes.ROUTE_REFUSED,
        msg,
        "try: use the subnet of the host's address on the master; or if only containers have these "
        "addresses, say so on the host: ip route add unreachable SUBNET",
    )
    if way is not None:
        via = f" via {way.gateway}" if way.gateway else ""
        error.add_private(f"found: the route to {way.dst}{via} dev {way.device}")
    raise error


def _subnets(master: Master) -> list[IPv4Network | IPv6Network]:
    """Return the subnets of the host's global addresses on a master."""
    return [ip_interface(each.subnet).network for each in master.link.addresses if each.subnet]


def _locked(call: Call, index: int) -> AbstractContextManager[None]:
    """Keep other calls from changing the host's interface on the master with that index."""
    waiting = call.node.while_locked(f"the interface {link_name(index)}")
    return call.registry.master_lock(key_of(index), waiting, HOST)


def _check_left(registry: Registry, own: Record, route: queries.Route) -> None:
    """Raise CniError if a route belongs to another attachment, whose container still exists."""
    for record in registry.with_host(own.master, route.priority):
        is_others = record.attachment != own.attachment and route.ip in record.host_routes
        if is_others and record.has_container:
            raise CniError(
                codes.ADDRESS_IN_USE,
                f"the host's route to {route.ip} is another container's",
                "try: give the container another address, or delete that attachment first",
                f"found: it is that of {record.describe()}",
            )


def strictness(tx: Transaction, master: Master) -> str:
    """Return why the kernel drops a container's packets, and what to try; empty if it does not.

    It does if the master's are filtered strictly, as the host answers through another link.
    """
    key = commands.RP_FILTER.format(master.link.name)
    read = Command(commands.sysctl_read(commands.RP_FILTER.format("all"), key))
    values = [int(each) for each in tx.run(read).stdout.split() if each.isdigit()]
    if max(values, default=0) != _STRICT:  # the kernel takes the greater
        return ""
    return (
        f"containers can't reach the host: the kernel drops their packets, since {key} (or that of "
        f"all) is {_STRICT}; try: echo 2 >/proc/sys/{key}"
    )


def _own(master: Master, addresses: Sequence[Address]) -> list[str]:
    """Return the host's addresses on a master that containers with such addresses can reach."""
    families = {each.family for each in addresses}
    return [each for each in usable(master) if family(each) in families]


def _first_of_each_family(own: Sequence[str]) -> dict[int, str]:
    """Return one of each family: a later one may be a service's, which moves to other hosts."""
    return {family(each): each for each in reversed(own)}


def _reachable(own: Iterable[str], addresses: Iterable[Address]) -> list[str]:
    """Return those addresses, plain, for which the host has one of the same family."""
    families = set(map(family, own))
    return [each.ip for each in addresses if each.family in families]


def _answers(
    tx: Transaction, addresses: Sequence[str], how: str, *through: str
) -> Iterator[tuple[str, bytes]]:
    """Yield each address with the routes to it, as ip prints them; a batch is for one family."""
    for number in (4, 6):
        ours = [each for each in addresses if family(each) == number]
        if ours:
            asked = (("to", how, each, *through) for each in ours)
            shown = (commands.route_show(*each, family=f"-{number}") for each in asked)
            output = tx.run_batch(*map(Command, shown)).stdout
            yield from zip(ours, output.split(b"\n"), strict=True)


def _routes_to(tx: Transaction, addresses: Sequence[str], name: str) -> list[queries.Route]:
    """Return the routes to single addresses through an interface."""
    shown = _answers(tx, addresses, "exact", "dev", name)
    return [route for _, output in shown for route in queries.routes(output)]


def _link(tx: Transaction, name: str) -> Link | None:
    if not namespace.own_has_link(name):
        return None
    shown = Command(commands.link_show(name), accept=commands.ABSENT)
    return next(iter(queries.links(tx.run(shown).stdout)), None)


def _drop_routes(call: Call, record: Record) -> None:
    """Record that the host's routes are gone, unless something could not be undone."""
    name, registry = link_name(record.master[1]), call.registry
    was_last = is_only(registry.with_host(record.master), record.attachment)
    if namespace.own_has_link(name) and (was_last or _routes_of(call.tx, record)):
        raise CniError(
            codes.COMMAND_FAILED,
            f"the host's interface {name} or its routes remain; DEL removes them",
        )
    for each in registry.records_of(record.attachment):  # it may have been finished since
        if (each.master, each.host_routes) == (record.master, record.host_routes):
            registry.drop_routes(each)


def _routes_of(tx: Transaction, record: Record) -> list[queries.Route]:
    """Return the host's routes to an attachment that are there; others may have its addresses."""
    name = link_name(record.master[1])
    if not namespace.own_has_link(name):
        return []
    return [each for each in _routes_to(tx, record.host_routes, name) if _is_of(record, each)]


def _is_of(record: Record, route: queries.Route) -> bool:
    metrics = (record.attachment.number, *_METRICS_BEFORE)
    return route.ip in record.host_routes and route.priority in metrics


def _routes_through(tx: Transaction, name: str) -> list[queries.Route]:
    """Return all routes through the host's interface but those that it has by itself."""
    argv = commands.route_show("table", "all", "dev", name)
    output = tx.run(Command(argv, accept=commands.ABSENT)).stdout
    return [each for each in queries.routes(output) if not each.is_connected]


def _has_others(tx: Transaction, registry: Registry, record: Record) -> bool:
    """Whether a route leads through the host's interface that is of no record.

    Of those that were there at first: in a dry run, no route has gone with its record.
    """
    found = _routes_through(tx, link_name(record.master[1]))
    known = [*registry.read_only.with_host(record.master)] if found else []
    return not all(any(_is_of(each, route) for each in known) for route in found)


def _remove(tx: Transaction, routes: Sequence[queries.Route], name: str) -> None:
    if routes:
        tx.run_batch(*_removals(routes, name))


def _removals(routes: Iterable[queries.Route], name: str) -> Iterator[Command]:
    for each in routes:
        argv = commands.route_delete(each.ip, name, each.priority)
        yield Command(argv, f"remove the host's route to {each.ip}")


def _remove_link(tx: Transaction, name: str) -> None:
    found = _link(tx, name)
    if found is not None and is_host_link(found):
        argv = commands.link_delete(name)
        tx.run(Command(argv, f"remove the host's interface {name}", accept=commands.ABSENT))
