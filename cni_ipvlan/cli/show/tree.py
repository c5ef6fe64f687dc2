"""The masters on this node, the ipvlan interfaces they carry, and what is left of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_network
from typing import NamedTuple

from cni_ipvlan.cli.attachments import is_called
from cni_ipvlan.cli.show import leftovers
from cni_ipvlan.cli.show.leftovers import Leftover
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link, Route
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import inventory
from cni_ipvlan.plugin import master as plugin_master
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry


class Row(NamedTuple):
    """An ipvlan interface: its owner if one is known, routes, leases, and what is wrong.

    ``leases`` is None where host-local is not involved.
    """

    attachment: Attachment
    owner: AttachmentId | None
    routes: Sequence[Route]
    leases: Sequence[str] | None
    problems: Sequence[str]


class Master(NamedTuple):
    """A master and what it carries; ``link`` is None if it is not on the host."""

    name: str
    link: Link | None
    rows: Sequence[Row]


class Tree(NamedTuple):
    """All that was found; ``unseen`` has each place that can't be read, and why."""

    masters: Sequence[Master]
    leftovers: Sequence[Leftover]
    unseen: Sequence[str]


class Filter(NamedTuple):
    """Which attachments are wanted: all, or those in a namespace, on a master, of a container.

    ``pod`` is NAMESPACE/NAME, or a name in any namespace.
    """

    netns: Namespace | None = None
    master: str = ""
    container_id: str = ""
    pod: str = ""


def look(tx: Transaction, registry: Registry, wanted: Filter, unseen: Iterable[str]) -> Tree:
    """Return what is wanted of this node; ``unseen`` is what is known to be out of sight."""
    missed = list(unseen)
    host = queries.links(tx.run(Command(commands.link_show_all())).stdout)
    by_name = {link.name: link for link in host}
    by_key = {plugin_master.Master(link).key: link.name for link in host}
    altnames = {name: link.name for link in host for name in link.alternative_names}
    wanted = wanted._replace(master=altnames.get(wanted.master, wanted.master))
    found = sorted(inventory.take(tx, registry, unseen=missed.append), key=_place_and_name)
    known = leftovers.known(registry, found)
    rows: dict[str, list[Row]] = {}
    for each in found:
        name, owner = _master_name(each, host), leftovers.owner(known, each)
        netns = each.place.identity if each.place else namespace.own()
        container_id = owner.container_id if owner else ""
        if _is_wanted(wanted, netns, (name, each.link.parent), container_id, each.pod):
            leases, problems = leftovers.leases_of(known, each), leftovers.problems(known, each)
            row = Row(each, owner, _routes(tx, each, missed.append), leases, problems)
            rows.setdefault(name, []).append(row)
    masters = [Master(name, by_name.get(name), rows[name]) for name in sorted(rows, key=_natural)]
    left = [
        each
        # If something can't be seen, it may be the interface.
        for each in (() if missed else leftovers.leftovers(tx, registry, known, found, by_key))
        if _is_wanted(
            wanted, each.netns_identity, (each.master,), each.attachment.container_id, each.pod
        )
    ]
    return Tree(masters, sorted(left, key=_of_leftover), missed)


def _is_wanted(
    wanted: Filter, netns: object, masters: Sequence[str], container_id: str, pod: str
) -> bool:
    return (
        (wanted.netns is None or wanted.netns.identity == netns)
        and (not wanted.master or wanted.master in masters)
        and (not wanted.container_id or is_called(container_id, wanted.container_id))
        and (not wanted.pod or wanted.pod in (pod, pod.partition("/")[2]))
    )


def _master_name(attachment: Attachment, host: Iterable[Link]) -> str:
    link, place = attachment.link, attachment.place
    for master in host:
        if plugin_master.Master(master).carries(link, place):
            return master.name
    if link.parent:
        return f"{link.parent} in {place.path}" if place else link.parent
    return f"interface {link.parent_index} of another namespace"


def _routes(tx: Transaction, each: Attachment, unseen: Callable[[str], None]) -> list[Route]:
    """Return the routes of an interface, but for those that the kernel made for its addresses."""
    query = Command(commands.route_show(each.link.name), inside=each.place, absent_ok=True)
    try:
        found = queries.routes(tx.run(query).stdout)
    except CommandError as error:
        unseen(f"the routes of {each.describe()}: {error.answer}")
        return []
    return sorted((route for route in found if not route.is_connected), key=_table_and_prefix)


def _table_and_prefix(route: Route) -> tuple[bool, int, int, int, int]:
    """Return a key by which the main table comes first, and in each table IPv4."""
    to = ip_network(route.dst)
    is_other = route.table != queries.MAIN_TABLE
    return is_other, route.table, to.version, int(to.network_address), to.prefixlen


def _place_and_name(each: Attachment) -> tuple[list[str | int], list[str | int]]:
    return _natural(each.place.path if each.place else ""), _natural(each.link.name)


def _of_leftover(each: Leftover) -> tuple[bool, list[str | int]]:
    about = each.lease.address if each.lease else each.netns
    return each.lease is not None, _natural(" ".join((*each.attachment, about)))


def _natural(text: str) -> list[str | int]:
    """Return a key by which eth10 comes after eth9; its items are in turn text and a number."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
