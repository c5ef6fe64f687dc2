"""The masters on this node, the ipvlan interfaces they carry, what is wrong, what is left over."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_interface, ip_network
from typing import Any, NamedTuple

from cni_ipvlan.cli import configs
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands, machine, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import host_local, inventory, links
from cni_ipvlan.plugin.host_access import is_host_link
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

# Takes a namespace's identity if there is one, all names of a master, a container's ID, a pod.
_Lease = tuple[AttachmentId, host_local.Lease]
IsWanted = Callable[[tuple[int, int] | None, Collection[str], str, str], bool]
_OF_ROUTE = ("mtu", "advmss", "priority", "table", "scope")
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
) -> dict[str, Any]:
    """Return what is wanted of this node as show --json prints it; what is not known is null.

    ``networks`` are those of the node. Unless it is ``with_routes``, those and the gateways are
    left out.
    """
    missed = [FOR_ROOT] if machine.missing_capabilities() else []
    host = queries.links(tx.run(Command(commands.link_show())).stdout)
    found = sorted(
        inventory.take(tx, registry, unseen=missed.append),
        key=lambda each: _natural(f"{each.netns.path if each.netns else ''}\0{each.link.name}"),
    )
    busy = {key for key in map(_key, found) if key and registry.is_live(key)}
    known = _Known(busy, _leases(networks), defaultdict(list))
    for record in registry.all_records():
        known.records[record.attachment].append(record)
    masters: dict[str, dict[str, Any]] = {}
    routes: dict[Namespace | None, list[queries.Route]] = {}
    on_host = [Master(link) for link in host]
    for each in found:
        owner = known.owner(each)
        carrier = next((of for of in on_host if of.carries(each.link, each.netns)), None)
        master = carrier and carrier.link
        name = master.name if master else _name_of_distant(each)
        netns = each.netns.identity if each.netns else namespace.own()
        names = {name, each.link.parent, *(master.alternative_names if master else ())}
        if is_wanted(netns, names, owner.container_id if owner else "", each.pod):
            if with_routes and each.netns not in routes:
                routes[each.netns] = _routes(tx, each.netns, missed.append)
            row = _row(each, known, _of_link(each.link, routes.get(each.netns, ())))
            if master and each.link.mtu > master.mtu:  # which loses larger packets
                row["problems"].append("MTU above its master's")
            of_master = masters.setdefault(name, _master(name, master, each.link))
            of_master["attachments"].append(row)
    # If something can't be seen, it may be the interface.
    left = () if missed else _leftovers(tx, registry, known, found, host, is_wanted)
    return {
        "masters": [masters[name] for name in sorted(masters, key=_natural)],
        "leftovers": sorted(left, key=_kind_and_names),
        "notSeen": missed,
    }


def _master(name: str, master: queries.Link | None, link: queries.Link) -> dict[str, Any]:
    up, mtu = (master.is_up, master.mtu) if master else (None, None)
    about = {"master": name, "up": up, "mtu": mtu, "mode": link.mode, "flag": link.flag}
    return {**about, "attachments": []}


def _name_of_distant(attachment: Attachment) -> str:
    """Return what to call a master that is not on the host."""
    link, netns = attachment.link, attachment.netns
    if link.parent:
        return f"{link.parent} in {netns.path}" if netns else link.parent
    return f"interface {link.parent_index} of another namespace"


def _row(each: Attachment, known: _Known, found: Iterable[queries.Route]) -> dict[str, Any]:
    link, netns, owner = each.link, each.netns, known.owner(each)
    place, records = netns and netns.identity, known.records.get(each.owner, ())
    here = [record for record in records if record.netns_identity == place]
    leases = _leased(known, each.owner, here)
    routes = [
        {"dst": route.dst, "gw": route.gateway or None}  # in the words of CNI
        | {name: getattr(route, name) for name in _OF_ROUTE}
        for route in found
    ]
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
        "leases": leases,
        "problems": [*_problems(known, each, here, leases)],
    }


def _routes(
    tx: Transaction, netns: Namespace | None, unseen: Callable[[str], None]
) -> list[queries.Route]:
    try:
        query = Command(commands.route_show("table", "all"), netns=netns)
        return queries.routes(tx.run_batch(query).stdout)  # which enters faster
    except CommandError as error:
        unseen(f"the routes in {netns.path if netns else 'the host'}: {error.answer}")
        return []


def _of_link(link: queries.Link, found: Iterable[queries.Route]) -> list[queries.Route]:
    """Return an interface's routes, but for those that the kernel made for its addresses.

    The main table comes first, and in each table IPv4.
    """
    return sorted(
        (each for each in found if each.device == link.name and not each.is_connected),
        key=lambda each: (
            each.table != queries.MAIN_TABLE,
            each.table,
            ip_network(each.dst).version,
            ip_network(each.dst),
        ),
    )


def _kind_and_names(left: dict[str, Any]) -> tuple[bool, list[str | int]]:
    keys = ("network", "containerID", "interface", "address", "netns")
    return left["kind"] == "lease", _natural(" ".join(left[key] or "" for key in keys))


def _natural(text: str) -> list[str | int]:
    """Return a key by which eth10 comes after eth9; its items are in turn text and a number."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def is_by_gateway(route: dict[str, Any]) -> bool:
    """Whether a route is a default route by way of a gateway."""
    return route["table"] == queries.MAIN_TABLE and route["dst"] in _DEFAULT and bool(route["gw"])


class _Known(NamedTuple):
    """What is known of attachments besides their interfaces.

    It is read after these, in this order: the keys of those on which a call is working, so that
    the others are at rest; leases by network, which are host-local's; records, which an ADD writes
    before it has a lease, and a DEL removes after that.
    """

    busy: set[str]
    leases: dict[str, list[_Lease]]
    records: Mapping[AttachmentId | None, list[Record]]

    def owner(self, each: Attachment) -> AttachmentId | None:
        """Return whose an interface is, if that is known, also if its ADD has not moved it yet."""
        key = links.key_of(each.link.name)
        unmoved = (known for known in self.records if known and known.key == key)
        return each.owner or next(unmoved, None)


def _leased(known: _Known, owner: AttachmentId | None, here: Sequence[Record]) -> list[str] | None:
    """Return which addresses are leased to an attachment; None if host-local has none to give.

    A container's label could name any network, so only a recorded attachment has leases.
    """
    if not (owner and here and owner.network in known.leases):
        return None
    names = _names(owner)
    return [lease.address for holder, lease in known.leases[owner.network] if holder in names]


def _problems(
    known: _Known, each: Attachment, here: Sequence[Record], leased: list[str] | None
) -> Iterator[str]:
    """Yield what is wrong with an attachment, unless a call is working on it."""
    link, is_unmoved = each.link, bool(links.key_of(each.link.name))
    is_there = each.netns is not None or namespace.own_has_link(link.name)
    if not _key(each) or _key(each) in known.busy or not is_there:
        return
    records = known.records.get(known.owner(each), ()) if is_unmoved else here
    complete = next((record for record in records if record.is_complete), None)
    if complete is None:  # with a label, but no record, root has not recorded it where it is
        yield _UNFINISHED if records or is_unmoved else "no record"
        return
    if leased is not None and not is_unmoved and not _own(each).issubset(leased):
        yield "no lease"  # host-local, which gave out its address, no longer knows that
    if not complete.has_mode_of(link):  # another program has changed it
        yield f"mode {link.mode} {link.flag}, not {complete.mode} {complete.flag}"


def _leftovers(
    tx: Transaction,
    registry: Registry,
    known: _Known,
    found: Sequence[Attachment],
    host: Iterable[queries.Link],
    is_wanted: IsWanted,
) -> Iterator[dict[str, Any]]:
    """Yield the records and leases of attachments that have none of these interfaces.

    Each is looked at again, since a call may have ended meanwhile.
    """
    masters = {Master(link).key: (link.name, *link.alternative_names) for link in host}
    owners, recorded = set(map(known.owner, found)), set[AttachmentId]()
    for record in (record for records in known.records.values() for record in records):
        attachment = record.attachment
        recorded.update(_names(attachment))
        if attachment in owners or registry.is_live(attachment.key):
            continue
        if record in registry.records_of(attachment) and not links.is_there(tx, record):
            names = masters.get(record.master, ("",))
            if is_wanted(record.netns_identity, names, record.container_id, record.pod):
                where = {"netns": record.netns, "master": names[0], "pod": record.pod}
                problem = _NO_INTERFACE if record.is_complete else _UNFINISHED
                yield _leftover("record", problem, attachment, where)
    used = set[str]().union(*map(_own, found))
    labels = {each.link.alias for each in found}
    for attachment, lease in (each for leases in known.leases.values() for each in leases):
        if lease.address in used or attachment.label in labels or attachment in recorded:
            continue
        is_left = not registry.is_live(attachment.key) and os.path.exists(lease.file)
        if is_left and is_wanted(None, (), attachment.container_id, ""):
            where = {"address": lease.address, "file": lease.file}
            yield _leftover("lease", _NO_INTERFACE, attachment, where)


def _leftover(
    kind: str, problem: str, attachment: AttachmentId, where: dict[str, str]
) -> dict[str, Any]:
    found = {"kind": kind, "problem": problem, "interface": attachment.ifname or None}
    found |= {"netns": None, "master": None, "containerID": attachment.container_id}
    found |= {"network": attachment.network, "pod": None, "address": None, "file": None}
    return found | {key: value or None for key, value in where.items()}


def _key(each: Attachment) -> str:
    return links.key_of(each.link.name) or (each.owner.key if each.owner else "")


def _names(attachment: AttachmentId) -> tuple[AttachmentId, AttachmentId]:
    """Return what an attachment is called in leases; old ones have no interface's name."""
    return attachment, attachment._replace(ifname="")


def _own(each: Attachment) -> set[str]:
    """Return the addresses that an interface was given, without prefix lengths."""
    found = map(ip_interface, each.addresses)
    return {str(address.ip) for address in found if not address.is_link_local}


def _leases(networks: configs.Known) -> dict[str, list[_Lease]]:
    """Return host-local's leases by network, of those whose attachments may be ipvlan's.

    A network without an entry has its addresses from elsewhere, or is another plugin's.
    """
    known = {name: [each.config for each in given] for name, given in networks.items()}
    for name in configs.listed(netconf.LEASES):  # of some, all that is left are leases
        known.setdefault(name, [{"name": name, "ipam": {"type": "host-local"}}])
    found = {}
    for name, given in known.items():
        of_host_local = [each for each in given if netconf.ipam_type(each) == "host-local"]
        places = sorted({netconf.lease_directory(each) for each in of_host_local})
        if places:
            leases = (each for store in places for each in host_local.leases(store))
            found[name] = [(AttachmentId(name, of.container_id, of.ifname), of) for of in leases]
    return found
