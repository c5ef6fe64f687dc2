"""The masters on this node, the ipvlan interfaces they carry, what is wrong, what is left over."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from ipaddress import ip_network
from itertools import chain
from typing import Any, NamedTuple

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.attachments import is_leased_to, usual
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands, machine, namespace, queries
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import host_local, inventory, links
from cni_ipvlan.plugin.host_access import is_host_link
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

# Takes a namespace's identity if there is one, all names of a master, a container's ID, a pod.
IsWanted = Callable[[tuple[int, int] | None, Collection[str], str, str], bool]
_Found = dict[str, Any]  # as show --json prints it
_OF_ROUTE = ("mtu", "advmss", "priority", "table", "scope")
_OF_LEFTOVER = (
    *("kind", "problem", "interface", "netns", "master"),
    *("containerID", "network", "pod", "address", "file"),
)
_DEFAULT = ("0.0.0.0/0", "::/0")
_UNFINISHED = "unfinished"  # its ADD has neither ended nor is it running
_NO_INTERFACE = "no interface"
FOR_ROOT = "what only root may see"


def look(
    tx: Transaction,
    registry: Registry,
    networks: configs.Known,
    is_wanted: IsWanted,
    *,
    with_routes: bool,
) -> _Found:
    """Return what is wanted of this node as show --json prints it; what is not known is null.

    ``networks`` are those of the node. Unless it is ``with_routes``, those and the gateways are
    left out.
    """
    missed = [FOR_ROOT] if machine.missing_capabilities() else []
    listed = queries.links(tx.run(commands.Command(commands.link_show())).stdout)
    host = [Master(link) for link in listed]
    found, known = _take(tx, registry, networks, missed.append)
    masters: dict[str, _Found] = {}
    routes: dict[namespace.Namespace | None, list[queries.Route]] = {}
    for each in found:
        link, netns, owner = each.link, each.netns, each.owner
        master, name = _master_of(each, host)
        names = {name, link.parent, *(master.alternative_names if master else ())}
        place = netns.identity if netns else namespace.own_identity()
        if not is_wanted(place, names, owner.container_id if owner else "", each.pod):
            continue
        if with_routes and netns not in routes:
            routes[netns] = _routes(tx, netns, missed.append)
        row = _row(each, known, routes.get(netns, ()))
        if master and link.mtu > master.mtu:  # which loses larger packets
            row["problems"].append("MTU above its master's")
        if master and master.is_up and not master.has_carrier:
            row["problems"].append("master without carrier")
        up, mtu = (master.is_up, master.mtu) if master else (None, None)
        about = {"master": name, "up": up, "mtu": mtu, "mode": link.mode, "flag": link.flag}
        masters.setdefault(name, {**about, "attachments": []})["attachments"].append(row)
    # If something can't be seen, it may be the interface.
    left = () if missed else _leftovers(tx, registry, known, found, host, is_wanted)
    return {
        "masters": [masters[name] for name in sorted(masters, key=_natural)],
        "leftovers": sorted(left, key=_kind_and_names),
        "notSeen": missed,
    }


class _Known(NamedTuple):
    """What is known of attachments besides their interfaces.

    It is read after these, in this order: the keys of those on which a call is working, so that
    the others are at rest; leases by network, which are host-local's; records, which an ADD writes
    before it has a lease, and a DEL removes after that.
    """

    busy: set[str]
    leases: dict[str, list[host_local.Lease]]
    records: dict[AttachmentId, list[Record]]


def _take(
    tx: Transaction, registry: Registry, networks: configs.Known, unseen: Callable[[str], None]
) -> tuple[list[Attachment], _Known]:
    """Return the interfaces, in natural order, and what is known besides."""
    found = sorted(
        inventory.take(tx, registry, unseen=unseen),
        key=lambda each: _natural(f"{each.netns.path if each.netns else ''}\0{each.link.name}"),
    )
    busy = {key for key in map(_key, found) if key and registry.is_live(key)}
    known = _Known(busy, _leases(networks), defaultdict(list))
    for record in registry.all_records():
        known.records[record.attachment].append(record)
    unmoved = {attachment.key: attachment for attachment in known.records}  # if ADD still works
    owners = (each.owner or unmoved.get(links.key_of(each.link.name)) for each in found)
    return [each._replace(owner=own) for each, own in zip(found, owners, strict=True)], known


def _master_of(each: Attachment, host: Iterable[Master]) -> tuple[queries.Link | None, str]:
    """Return the master, if it is on the host, and what it is called."""
    link, netns = each.link, each.netns
    master = next((of.link for of in host if of.carries(link, netns)), None)
    if master:
        return master, master.name
    where = f" in {netns.path}" if netns else ""
    unnamed = f"interface {link.parent_index} of another namespace"
    return None, link.parent + where if link.parent else unnamed


def _row(each: Attachment, known: _Known, found: Iterable[queries.Route]) -> _Found:
    link, netns, owner = each.link, each.netns, each.owner
    place, records = netns and netns.identity, known.records.get(owner, []) if owner else []
    here = [record for record in records if record.netns_identity == place]
    leased = None
    if links.key_of(link.name):
        here = records  # it is not where they say yet
    elif here and here[0].network in known.leases:
        # A container's label could name any network, so only a recorded attachment has leases.
        leases = known.leases[here[0].network]
        leased = [lease.address for lease in leases if is_leased_to(lease, here[0])]
    routes = _routes_of(link.name, found)
    return {
        "interface": link.name,
        "netns": netns and netns.path,
        "kind": link.kind,
        "hostAccess": netns is None and is_host_link(link),
        "containerID": owner and owner.container_id,
        "network": owner and owner.network,
        "pod": each.pod or None,
        "up": link.is_up,
        "mtu": link.mtu,
        "mac": link.mac,
        "addresses": each.addresses,
        "gateways": [route["gw"] for route in routes if is_by_gateway(route)],
        "routes": routes,
        "leases": leased,
        "problems": [*_problems(each, known, here, leased)],
    }


def _routes(
    tx: Transaction, netns: namespace.Namespace | None, unseen: Callable[[str], None]
) -> list[queries.Route]:
    try:
        query = commands.Command(commands.route_show("table", "all"), netns=netns)
        return queries.routes(tx.run_batch(query).stdout)  # which enters faster
    except CommandError as error:
        unseen(f"the routes in {netns.path if netns else 'the host'}: {error.answer}")
        return []


def _routes_of(device: str, found: Iterable[queries.Route]) -> list[dict[str, Any]]:
    """Return an interface's routes in the words of CNI, but for those that its addresses made.

    The main table comes first, and in each table IPv4.
    """

    def order(route: queries.Route) -> tuple[Any, ...]:
        dst = ip_network(route.dst)
        return route.table != queries.MAIN_TABLE, route.table, dst.version, dst

    own = (each for each in found if each.device == device and not each.is_connected)
    return [
        {"dst": each.dst, "gw": each.gateway or None}
        | {name: getattr(each, name) for name in _OF_ROUTE}
        for each in sorted(own, key=order)
    ]


def is_by_gateway(route: dict[str, Any]) -> bool:
    """Whether a route is a default route by way of a gateway."""
    return route["table"] == queries.MAIN_TABLE and route["dst"] in _DEFAULT and bool(route["gw"])


def _problems(
    each: Attachment, known: _Known, records: Sequence[Record], leased: list[str] | None
) -> Iterator[str]:
    """Yield what is wrong with an attachment, unless a call is working on it."""
    link = each.link
    is_there = each.netns is not None or namespace.own_has_link(link.name)
    if not _key(each) or _key(each) in known.busy or not is_there:
        return
    complete = next((record for record in records if record.is_complete), None)
    if complete is None:  # with a label, but no record, root has not recorded it where it is
        yield _UNFINISHED if records or links.key_of(link.name) else "no record"
        return
    if leased is not None and not _own(each).issubset(leased):
        yield "no lease"  # host-local, which gave out its address, no longer knows that
    yield from (f"lacks {address}" for address in leased or () if address not in _own(each))
    if not complete.has_mode_of(link):  # another program has changed it
        yield f"mode {link.mode} {link.flag}, not {complete.mode} {complete.flag}"


def _leftovers(
    tx: Transaction,
    registry: Registry,
    known: _Known,
    found: Sequence[Attachment],
    host: Iterable[Master],
    is_wanted: IsWanted,
) -> Iterator[_Found]:
    """Yield the records and leases of attachments that have none of these interfaces.

    Each is looked at again, since a call may have ended meanwhile.
    """
    masters = {of.key: (of.link.name, *of.link.alternative_names) for of in host}
    owners, recorded = {each.owner for each in found}, set[AttachmentId]()
    for record in chain.from_iterable(known.records.values()):
        attachment = record.attachment
        recorded |= {attachment, attachment._replace(ifname="")}  # as old leases have it
        if attachment in owners or registry.is_live(attachment.key):
            continue
        if record in registry.records_of(attachment) and not links.is_there(tx, record):
            names = masters.get(record.master, ("",))
            if is_wanted(record.netns_identity, names, record.container_id, record.pod):
                problem = _NO_INTERFACE if record.is_complete else _UNFINISHED
                where = {"netns": record.netns, "master": names[0], "pod": record.pod}
                yield _leftover("record", problem, attachment, **where)
    used = set[str]().union(*map(_own, found))
    labels = {each.link.alias for each in found}
    for network, lease in ((name, each) for name in known.leases for each in known.leases[name]):
        attachment = AttachmentId(network, lease.container_id, lease.ifname)
        if lease.address in used or attachment.label in labels or attachment in recorded:
            continue
        is_left = not registry.is_live(attachment.key) and os.path.exists(lease.file)
        if is_left and is_wanted(None, (), attachment.container_id, ""):
            where = {"address": lease.address, "file": lease.file}
            yield _leftover("lease", _NO_INTERFACE, attachment, **where)


def _leftover(kind: str, problem: str, attachment: AttachmentId, **where: str) -> _Found:
    network, container_id, ifname = attachment
    found = {"kind": kind, "problem": problem, "interface": ifname, "containerID": container_id}
    found |= {"network": network, **where}
    return {key: found.get(key) or None for key in _OF_LEFTOVER}


def _kind_and_names(left: _Found) -> tuple[bool, list[str | int]]:
    keys = ("network", "containerID", "interface", "address", "netns")
    return left["kind"] == "lease", _natural(" ".join(left[key] or "" for key in keys))


def _natural(text: str) -> list[str | int]:
    """Return a key by which eth10 comes after eth9; its items are in turn text and a number."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def _key(each: Attachment) -> str:
    return links.key_of(each.link.name) or (each.owner.key if each.owner else "")


def _own(each: Attachment) -> set[str]:
    """Return the addresses that an interface was given, without prefix lengths."""
    return {address.partition("/")[0] for address in usual(each.addresses)}


def _leases(networks: configs.Known) -> dict[str, list[host_local.Lease]]:
    """Return host-local's leases by network, of those whose attachments may be ipvlan's.

    A network without an entry has its addresses from elsewhere, or is another plugin's.
    """
    known = {name: [each.config for each in given] for name, given in networks.items()}
    for name in configs.listed(netconf.LEASES):  # of some, all that is left are leases
        known.setdefault(name, [{"name": name, "ipam": {"type": "host-local"}}])
    found = {}
    for name, given in known.items():
        of_host_local = [each for each in given if netconf.ipam_type(each) == "host-local"]
        if of_host_local:
            places = sorted({netconf.lease_directory(each) for each in of_host_local})
            found[name] = [lease for store in places for lease in host_local.leases(store)]
    return found
