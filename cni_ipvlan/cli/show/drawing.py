"""The tree of masters and attachments as text and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute.queries import MAIN_TABLE
from cni_ipvlan.plugin.host_access import is_host_link

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.show.leftovers import Leftover
    from cni_ipvlan.cli.show.tree import Master, Row, Tree
    from cni_ipvlan.iproute.queries import Route

_DEFAULT = ("0.0.0.0/0", "::/0")


def lines(tree: Tree) -> list[str]:
    """Return the lines of the tree, one for each attachment, so that grep finds all of it."""
    drawn: list[str] = []
    for master in tree.masters:
        drawn += _branch(_head(master), [_attachment(each) for each in master.rows])
    if tree.leftovers:
        drawn += _branch(styled("leftovers", bold=True), list(map(_leftover, tree.leftovers)))
    return drawn or ["no ipvlan interfaces"]


def _branch(head: str, parts: Sequence[str]) -> Iterator[str]:
    yield head
    for each in parts[:-1]:
        yield f"├─ {each}"
    yield f"└─ {parts[-1]}"


def _head(master: Master) -> str:
    parts = []
    if master.link is not None:
        parts.append("up" if master.link.is_up else styled("down", fg="red"))
        parts.append(f"MTU {master.link.mtu}")
    link = master.rows[0].attachment.link
    parts.append(f"mode {link.mode} {link.flag}")
    return f"{styled(master.name, bold=True)}  {', '.join(parts)}"


def _attachment(row: Row) -> str:
    link, place, _, addresses, pod = row.attachment
    parts = [styled(link.name, fg="cyan"), f"in {place.path}" if place else "on the host"]
    if place is None and is_host_link(link):
        parts.append("for hostAccess")
    if link.kind != "ipvlan":
        parts.append(link.kind)
    if row.owner:
        parts += [f"pod {pod}"] if pod else []
        parts.append(f"container {row.owner.container_id}")
    if not link.is_up:
        parts.append(styled("down", fg="red"))
    parts.append(f"MTU {link.mtu}")
    parts.append(" ".join(addresses) or "no addresses")
    if _gateways(row):
        parts.append(f"gateway {' '.join(_gateways(row))}")
    others = [each for each in row.routes if not _is_by_gateway(each)]
    if others:
        parts.append(f"routes {', '.join(map(_route, others))}")
    parts += [styled(each, fg="yellow") for each in row.problems]
    return "  ".join(parts)


def _gateways(row: Row) -> list[str]:
    return [each.gateway for each in row.routes if _is_by_gateway(each)]


def _is_by_gateway(route: Route) -> bool:
    is_main = route.table == MAIN_TABLE
    return is_main and route.dst in _DEFAULT and bool(route.gateway)


def _route(route: Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{route.dst}{via}{'' if route.table == MAIN_TABLE else f' table {route.table}'}"


def _leftover(each: Leftover) -> str:
    network, container_id, ifname = each.attachment
    what = f"lease {each.lease.file}" if each.lease else f"record of {ifname} in {each.netns}"
    pod = [f"pod {each.pod}"] if each.pod else []
    parts = [what, f"network {network}", *pod, f"container {container_id}"]
    return "  ".join((*parts, styled(each.problem, fg="yellow")))


def document(tree: Tree) -> dict[str, Any]:
    """Return the tree as JSON; what is not known is null."""
    return {
        "masters": list(map(_master_document, tree.masters)),
        "leftovers": list(map(_leftover_document, tree.leftovers)),
        "notSeen": list(tree.unseen),
    }


def _master_document(master: Master) -> dict[str, Any]:
    link = master.rows[0].attachment.link
    return {
        "master": master.name,
        "up": master.link.is_up if master.link else None,
        "mtu": master.link.mtu if master.link else None,
        "mode": link.mode,
        "flag": link.flag,
        "attachments": list(map(_row_document, master.rows)),
    }


def _row_document(row: Row) -> dict[str, Any]:
    link, place, _, addresses, pod = row.attachment
    return {
        "interface": link.name,
        "netns": place.path if place else None,
        "kind": link.kind,
        "hostAccess": place is None and is_host_link(link),
        "containerID": row.owner.container_id if row.owner else None,
        "network": row.owner.network if row.owner else None,
        "pod": pod or None,
        "up": link.is_up,
        "mtu": link.mtu,
        "mac": link.mac,
        "addresses": list(addresses),
        "gateways": _gateways(row),
        "routes": list(map(_route_document, row.routes)),
        "leases": list(row.leases) if row.leases is not None else None,
        "problems": list(row.problems),
    }


def _route_document(route: Route) -> dict[str, Any]:
    """Return a route in the words of CNI."""
    return {
        "dst": route.dst,
        "gw": route.gateway or None,
        "mtu": route.mtu,
        "advmss": route.advmss,
        "priority": route.priority,
        "table": route.table,
        "scope": route.scope,
    }


def _leftover_document(each: Leftover) -> dict[str, Any]:
    network, container_id, ifname = each.attachment
    return {
        "kind": "lease" if each.lease else "record",
        "problem": each.problem,
        "interface": ifname or None,
        "netns": each.netns or None,
        "master": each.master or None,
        "containerID": container_id,
        "network": network,
        "pod": each.pod or None,
        "address": each.lease.address if each.lease else None,
        "file": each.lease.file if each.lease else None,
    }
