"""The masters on this node, the ipvlan interfaces they carry, what is wrong, what is left over."""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.attachments import drop_link_local, is_leased_to
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands, machine, namespace, queries
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import host_local, inventory, links
from cni_ipvlan.plugin.host_access import is_host_link
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

# Takes a namespace's identity if there is one, all names of a master, a container's ID, a pod.
IsWanted = Callable[[tuple[int, int] | None, Collection[str], str, str], bool]
_Document = dict[str, Any]  # as show --json prints it
_ROUTE_KEYS = ("mtu", "advmss", "priority", "table", "scope")
_LEFTOVER_KEYS = ("kind", "problem", "netns", "master", "pod", "address", "file")
_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")
_UNFINISHED = "unfinished"  # its ADD has not ended, but is not running either
_NO_INTERFACE = "no interface"
NEEDS_ROOT = "what only root may see"


def inspect(
    node: Node, networks: configs.Networks, is_wanted: IsWanted, *, with_routes: bool
) -> _Document:
    """Return the wanted attachments of this node as show --json prints them; null is unknown.

    ``networks`` are those of the node. Routes and gateways are read only ``with_routes``.
    """
    unseen = [NEEDS_ROOT] if machine.missing_capabilities(machine.TO_SEE_ALL) else []
    tx, registry = Transaction(node.runner), node.registry
    state = _read_state(tx, registry, networks, unseen)
    masters: dict[str, _Document] = {}
    routes: dict[namespace.Namespace | None, list[queries.Route]] = {}
    for each in state.attachments:
        link, netns, owner = each.link, each.netns, each.owner
        master, name = _find_master(each, state.masters)
        names = {name, link.parent, *(master.alternative_names if master else ())}
        identity = netns.identity if netns else namespace.own_identity()
        if not is_wanted(identity, names, owner.container_id if owner else "", each.pod):
            continue
        if with_routes and netns not in routes:
            routes[netns] = _read_routes(tx, netns, unseen.append)
        row = _attachment_row(each, state, routes.get(netns, ()))
        if master and link.mtu > master.mtu:  # larger packets are lost
            row["problems"].append("MTU above its master's")
        if master and not (master.is_up and master.has_carrier):
            row["problems"].append("master without carrier" if master.is_up else "master down")
        up, mtu = (master.is_up, master.mtu) if master else (None, None)
        master_row = {"master": name, "up": up, "mtu": mtu, "mode": link.mode, "flag": link.flag}
        masters.setdefault(name, {**master_row, "attachments": []})["attachments"].append(row)
    # What can't be read may be the interface of a record or lease.
    leftovers = () if unseen else _find_leftovers(tx, registry, state, is_wanted)
    return {
        "masters": [masters[name] for name in sorted(masters)],
        "leftovers": list(leftovers),
        "notSeen": unseen,
    }


class _State(NamedTuple):
    """What is on the node.

    It is read in this order, so that a call can't make it inconsistent: ``busy``, the keys of
    attachments on which a call is working; ``leases`` of host-local, by network; ``records``, which
    ADD writes before it has a lease, and DEL removes after that, by attachment and namespace.
    """

    masters: list[Master]  # on the host
    attachments: list[Attachment]
    busy: set[str]
    leases: dict[str, list[host_local.Lease]]
    records: dict[tuple[AttachmentId, tuple[int, int]], list[Record]]


def _read_state(
    tx: Transaction, registry: Registry, networks: configs.Networks, unseen: list[str]
) -> _State:
    host_links = queries.links(tx.run(commands.Command(commands.link_show())).stdout)
    attachments = sorted(
        inventory.search(tx, registry, report=unseen.append),
        key=lambda each: (each.netns.path if each.netns else "", each.link.name),
    )
    busy = {key for key in map(_attachment_key, attachments) if key and registry.is_live(key)}
    leases, records = _read_leases(networks), defaultdict(list)
    for record in registry.all_records():
        records[record.attachment, record.netns_identity].append(record)
        unseen += [record.describe()] if record.is_hidden else []
    # Until ADD has moved an interface, its name has the key of its attachment.
    by_key = {attachment.key: attachment for attachment, _ in records}
    owners = (each.owner or by_key.get(links.key_in_name(each.link.name)) for each in attachments)
    owned = [each._replace(owner=own) for each, own in zip(attachments, owners, strict=True)]
    return _State([*map(Master, host_links)], owned, busy, leases, records)


def _find_master(
    each: Attachment, host_masters: Iterable[Master]
) -> tuple[queries.Link | None, str]:
    link, netns = each.link, each.netns
    for master in host_masters:
        if master.carries(link, netns):
            return master.link, master.link.name
    suffix = f" in {netns.path}" if netns else ""
    unnamed = f"interface {link.parent_index} of another namespace"
    return None, link.parent + suffix if link.parent else unnamed


def _attachment_row(each: Attachment, state: _State, routes: Iterable[queries.Route]) -> _Document:
    link, netns, owner = each.link, each.netns, each.owner
    records = state.records.get((owner, netns.identity), []) if owner and netns else []
    leased_addresses = None
    # A container's label could name any network, so only a recorded attachment has leases.
    if owner and records and owner.network in state.leases:
        leases = state.leases[owner.network]
        leased_addresses = [each.address for each in leases if is_leased_to(each, owner)]
    route_rows = _route_rows(link.name, routes)
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
        "gateways": [route["gw"] for route in route_rows if is_by_gateway(route)],
        "routes": route_rows,
        "leases": leased_addresses,
        "problems": [*_find_problems(each, state, records, leased_addresses)],
    }


def _read_routes(
    tx: Transaction, netns: namespace.Namespace | None, unseen: Callable[[str], None]
) -> list[queries.Route]:
    try:
        query = commands.Command(commands.route_show("table", "all"), netns=netns)
        return queries.routes(tx.run_batch(query).stdout)  # a batch enters a namespace faster
    except CommandError as error:
        unseen(f"the routes in {netns.path if netns else 'the host'}: {error.answer}")
        return []


def _route_rows(device: str, routes: Iterable[queries.Route]) -> list[dict[str, Any]]:
    """Return an interface's routes in the words of CNI, except those that its addresses made.

    The main table comes first, and in each table IPv4.
    """
    own_routes = [each for each in routes if each.device == device and not each.is_connected]
    own_routes.sort(key=lambda e: (e.table != queries.MAIN_TABLE, e.table, ":" in e.dst))
    return [
        {"dst": each.dst, "gw": each.gateway or None}
        | {name: getattr(each, name) for name in _ROUTE_KEYS}
        for each in own_routes
    ]


def is_by_gateway(route: dict[str, Any]) -> bool:
    """Whether a route is a default route by way of a gateway."""
    is_default = route["table"] == queries.MAIN_TABLE and route["dst"] in _DEFAULT_ROUTES
    return is_default and bool(route["gw"])


def _find_problems(
    each: Attachment, state: _State, records: Sequence[Record], leased_addresses: list[str] | None
) -> Iterator[str]:
    """Yield what is wrong with an attachment, unless a call is working on it."""
    link, key = each.link, _attachment_key(each)
    if key in state.busy or not (each.netns or namespace.own_has_link(link.name)):
        return
    if not link.is_up:
        yield "down"
    yield from (f"duplicate {address.ip}" for address in link.addresses if address.is_duplicate)
    if not key:
        return
    complete = next((record for record in records if record.is_complete), None)
    if complete is None:  # a label alone does not prove that root has recorded it here
        yield _UNFINISHED if records or links.key_in_name(link.name) else "no record"
        return
    own = [address.address for address in link.addresses if not address.is_dynamic]
    if leased_addresses is not None and not _plain_addresses(own).issubset(leased_addresses):
        yield "no lease"  # host-local, which gave out its address, no longer knows that
    addresses = {address.partition("/")[0] for address in each.addresses}
    yield from (f"lacks {text}" for text in leased_addresses or () if text not in addresses)
    if not complete.has_mode_of(link):  # another program has changed it
        yield f"mode {link.mode} {link.flag}, not {complete.mode} {complete.flag}"


def _find_leftovers(
    tx: Transaction, registry: Registry, state: _State, is_wanted: IsWanted
) -> Iterator[_Document]:
    """Yield the records and leases of attachments that have none of these interfaces.

    Each is read again, since a call may have ended meanwhile.
    """
    masters = {each.key: (each.link.name, *each.link.alternative_names) for each in state.masters}
    owners, recorded = {each.owner for each in state.attachments}, set[AttachmentId]()
    for record in sorted(chain.from_iterable(state.records.values())):
        attachment = record.attachment
        recorded |= {attachment, attachment._replace(ifname="")}  # as old leases have it
        if attachment in owners or registry.is_live(attachment.key):
            continue
        is_current = record in registry.records_of(attachment)
        if is_current and not links.link_exists(tx, registry, record):
            names = masters.get(record.master, ("",))
            if is_wanted(record.netns_identity, names, record.container_id, record.pod):
                problem = _NO_INTERFACE if record.is_complete else _UNFINISHED
                fields = {"netns": record.netns, "master": names[0], "pod": record.pod}
                yield _leftover_row(attachment, kind="record", problem=problem, **fields)
    labels = {each.link.alias for each in state.attachments}
    leases = [
        (attachment, each)
        for network in state.leases
        for each in state.leases[network]
        if (attachment := AttachmentId(network, each.container_id, each.ifname)) not in recorded
        and attachment.label not in labels
    ]
    # The network may have been one of another plugin, whose containers still exist.
    every = inventory.search(tx, registry, (None,)) if leases else ()
    addresses = _plain_addresses(address for each in every for address in each.addresses)
    for attachment, lease in sorted(leases):
        if lease.address in addresses or registry.is_live(attachment.key):
            continue
        if os.path.exists(lease.file) and is_wanted(None, (), attachment.container_id, ""):
            fields = {"address": lease.address, "file": lease.file}
            yield _leftover_row(attachment, kind="lease", problem=_NO_INTERFACE, **fields)


def _leftover_row(attachment: AttachmentId, **fields: str) -> _Document:
    names = zip(("network", "containerID", "interface"), attachment, strict=True)
    row = {**dict.fromkeys(_LEFTOVER_KEYS, ""), **fields, **dict(names)}
    return {key: value or None for key, value in row.items()}


def _attachment_key(each: Attachment) -> str:
    return links.key_in_name(each.link.name) or (each.owner.key if each.owner else "")


def _plain_addresses(addresses: Iterable[str]) -> set[str]:
    """Return addresses without link-local ones, and without prefix lengths."""
    return {address.partition("/")[0] for address in drop_link_local(addresses)}


def _read_leases(networks: configs.Networks) -> dict[str, list[host_local.Lease]]:
    """Return host-local's leases by network; the attachments may be ipvlan's.

    A network without an entry has another IPAM plugin, or is another plugin's.
    """
    configurations = {name: [each.config for each in entries] for name, entries in networks.items()}
    # Of a network whose configuration is gone, there may still be leases.
    for name in configs.list_directory(netconf.DEFAULT_DATA_DIR):
        configurations.setdefault(name, [{"name": name, "ipam": {"type": "host-local"}}])
    leases = {}
    for name, entries in configurations.items():
        of_host_local = [each for each in entries if netconf.ipam_type(each) == "host-local"]
        if stores := sorted({*map(netconf.lease_directory, of_host_local)}):
            leases[name] = [lease for store in stores for lease in host_local.leases(store)]
    return leases
