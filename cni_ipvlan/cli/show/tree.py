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
_NO_RECORD = "no record"  # it is labelled, but root has not recorded it where it is
_NO_LEASE = "no lease"  # host-local, which gave out its address, no longer knows that
_NO_INTERFACE = "no interface"
_MTU_TOO_LARGE = "MTU above its master's"  # which loses larger packets
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
    routes = _Routes(tx, missed.append)
    on_host = [Master(link) for link in host]
    for each in found:
        owner = known.owner(each)
        carrier = next((of for of in on_host if of.carries(each.link, each.netns)), None)
        master = carrier and carrier.link
        name = master.name if master else _name_of_distant(each)
        netns = each.netns.identity if each.netns else namespace.own()
        names = {name, each.link.parent, *(master.alternative_names if master else ())}
        if is_wanted(netns, names, owner.container_id if owner else "", each.pod):
            row = _row(each, known, routes.of(each) if with_routes else ())
            row["problems"] += [_MTU_TOO_LARGE] * bool(master and each.link.mtu > master.mtu)
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
    leases, problems = _leases_and_problems(known, each)
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
        "problems": problems,
    }


class _Routes:
    """The routes of interfaces: a process for each namespace, and none for each interface."""

    def __init__(self, tx: Transaction, unseen: Callable[[str], None]) -> None:
        self._tx, self._unseen = tx, unseen
        self._known: dict[Namespace | None, list[queries.Route]] = {}

    def of(self, each: Attachment) -> list[queries.Route]:
        """Return those of an interface, but for those that the kernel made for its addresses."""
        if each.netns not in self._known:
            self._known[each.netns] = self._ask(each.netns)
        of_link = (route for route in self._known[each.netns] if route.device == each.link.name)
        main = queries.MAIN_TABLE  # it comes first, and in each table IPv4
        return sorted(
            (route for route in of_link if not route.is_connected),
            key=lambda each: (
                each.table != main,
                each.table,
                ":" in each.dst,
                ip_network(each.dst),
            ),
        )

    def _ask(self, netns: Namespace | None) -> list[queries.Route]:
        query = Command(commands.route_show(), netns=netns)
        try:
            return queries.routes(self._tx.run_batch(query).stdout)  # which enters faster
        except CommandError as error:
            where = netns.path if netns else "the host"
            self._unseen(f"the routes in {where}: {error.answer}")
            return []


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


def _leases_and_problems(known: _Known, each: Attachment) -> tuple[list[str] | None, list[str]]:
    """Return which addresses are leased to an attachment, and what is wrong with it.

    The former is None if host-local has none to give. A container's label could name any network,
    so only a recorded attachment has leases.
    """
    owner, identity = each.owner, each.netns and each.netns.identity
    here = [record for record in known.records.get(owner, ()) if record.netns_identity == identity]
    leased = None
    if owner and here and owner.network in known.leases:
        of_network, names = known.leases[owner.network], _names(owner)
        leased = [lease.address for holder, lease in of_network if holder in names]
    is_there = each.netns is not None or namespace.own_has_link(each.link.name)
    if not _key(each) or _key(each) in known.busy or not is_there:
        return leased, []
    is_unmoved = bool(links.key_of(each.link.name))
    records = known.records.get(known.owner(each), ()) if is_unmoved else here
    if not records and not is_unmoved:
        return leased, [_NO_RECORD]
    complete = [record for record in records if record.is_complete]
    if not complete:
        return leased, [_UNFINISHED]
    link, lacks_lease = each.link, leased is not None and not _own(each).issubset(leased)
    found = [_NO_LEASE] if lacks_lease and not is_unmoved else []
    if not complete[0].has_mode_of(link):  # another program has changed it
        was = f"{complete[0].mode} {complete[0].flag}"
        found.append(f"mode {link.mode} {link.flag}, not {was}")
    return leased, found


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
            on = (masters[key] for key in registry.masters_of(record) if key in masters)
            names = next(on, ("",))
            if is_wanted(record.netns_identity, names, record.container_id, record.pod):
                problem = _NO_INTERFACE if record.is_complete else _UNFINISHED
                where = {
                    "netns": record.netns,
                    "master": names[0] or None,
                    "pod": record.pod or None,
                }
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
    kind: str, problem: str, attachment: AttachmentId, where: dict[str, str | None]
) -> dict[str, Any]:
    found = {"kind": kind, "problem": problem, "interface": attachment.ifname or None}
    found |= {"netns": None, "master": None, "containerID": attachment.container_id}
    found |= {"network": attachment.network, "pod": None, "address": None, "file": None}
    return found | where


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
