"""The masters on this node, the ipvlan interfaces they carry, and what is left of others."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_network
from typing import Any

from cni_ipvlan.cli.show import leftovers
from cni_ipvlan.cli.show.drawing import is_by_gateway
from cni_ipvlan.cli.show.leftovers import Known
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.queries import Link, Route
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import inventory
from cni_ipvlan.plugin.host_access import is_host_link
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.registry import Registry

# Takes a namespace's identity if there is one, all names of a master, a container's ID, a pod.
IsWanted = Callable[[tuple[int, int] | None, Collection[str], str, str], bool]
_OF_ROUTE = ("mtu", "advmss", "priority", "table", "scope")


def look(
    tx: Transaction, registry: Registry, is_wanted: IsWanted, unseen: Iterable[str]
) -> dict[str, Any]:
    """Return what is wanted of this node as show --json prints it; what is not known is null.

    ``unseen`` is what is known to be out of sight.
    """
    missed = list(unseen)
    host = queries.links(tx.run(Command(commands.link_show_all())).stdout)
    found = sorted(inventory.take(tx, registry, unseen=missed.append), key=_place_and_name)
    known = leftovers.known(registry, found)
    masters: dict[str, dict[str, Any]] = {}
    for each in found:
        link, owner = each.link, known.owner(each)
        master = next((of for of in host if Master(of).carries(link, each.place)), None)
        name = master.name if master else _distant(each)
        netns = each.place.identity if each.place else namespace.own()
        names = {name, link.parent, *(master.alternative_names if master else ())}
        if is_wanted(netns, names, owner.container_id if owner else "", each.pod):
            row = _row(each, known, _routes(tx, each, missed.append))
            head = masters.setdefault(name, _head(name, master, link))
            head["attachments"].append(row)
    # If something can't be seen, it may be the interface.
    left = () if missed else leftovers.leftovers(tx, registry, known, found, host, is_wanted)
    return {
        "masters": [masters[name] for name in sorted(masters, key=_natural)],
        "leftovers": sorted(left, key=_kind_and_names),
        "notSeen": missed,
    }


def _distant(attachment: Attachment) -> str:
    link, place = attachment.link, attachment.place
    if link.parent:
        return f"{link.parent} in {place.path}" if place else link.parent
    return f"interface {link.parent_index} of another namespace"


def _head(name: str, master: Link | None, link: Link) -> dict[str, Any]:
    return {
        "master": name,
        "up": master and master.is_up,
        "mtu": master and master.mtu,
        "mode": link.mode,
        "flag": link.flag,
        "attachments": [],
    }


def _row(each: Attachment, known: Known, found: Iterable[Route]) -> dict[str, Any]:
    link, place, owner = each.link, each.place, known.owner(each)
    routes = [
        {"dst": route.dst, "gw": route.gateway or None}  # in the words of CNI
        | {name: getattr(route, name) for name in _OF_ROUTE}
        for route in found
    ]
    return {
        "interface": link.name,
        "netns": place and place.path,
        "kind": link.kind,
        "hostAccess": place is None and is_host_link(link),
        "containerID": owner and owner.container_id,
        "network": owner and owner.network,
        "pod": each.pod or None,
        "up": link.is_up,
        "mtu": link.mtu,
        "mac": link.mac,
        "addresses": each.addresses,
        "gateways": [route["gw"] for route in routes if is_by_gateway(route)],
        "routes": routes,
        "leases": known.leased(each),
        "problems": known.problems(each),
    }


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


def _kind_and_names(left: dict[str, Any]) -> tuple[bool, list[str | int]]:
    keys = ("network", "containerID", "interface", "address", "netns")
    return left["kind"] == "lease", _natural(" ".join(left[key] or "" for key in keys))


def _natural(text: str) -> list[str | int]:
    """Return a key by which eth10 comes after eth9; its items are in turn text and a number."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]
