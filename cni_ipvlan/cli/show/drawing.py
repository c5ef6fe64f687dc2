"""The tree of masters and attachments as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cni_ipvlan.cli.output import styled
from cni_ipvlan.cli.show.leftovers import Leftover
from cni_ipvlan.cli.show.tree import Master, Row, Tree
from cni_ipvlan.iproute.queries import MAIN_TABLE, Route
from cni_ipvlan.plugin.host_access import is_host_link

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
    gateways = _gateways(row)
    routes = [_route(each) for each in row.routes if not _is_by_gateway(each)]
    parts = (
        styled(link.name, fg="cyan"),
        f"in {place.path}" if place else "on the host",
        "for hostAccess" if place is None and is_host_link(link) else "",
        link.kind if link.kind != "ipvlan" else "",
        f"pod {pod}" if row.owner and pod else "",
        f"container {row.owner.container_id}" if row.owner else "",
        "" if link.is_up else styled("down", fg="red"),
        f"MTU {link.mtu}",
        " ".join(addresses) or "no addresses",
        f"gateway {' '.join(gateways)}" if gateways else "",
        f"routes {', '.join(routes)}" if routes else "",
        *(styled(each, fg="yellow") for each in row.problems),
    )
    return "  ".join(filter(None, parts))


def _gateways(row: Row) -> list[str]:
    return [each.gateway for each in row.routes if _is_by_gateway(each)]


def _is_by_gateway(route: Route) -> bool:
    return route.table == MAIN_TABLE and route.dst in _DEFAULT and bool(route.gateway)


def _route(route: Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{route.dst}{via}{'' if route.table == MAIN_TABLE else f' table {route.table}'}"


def _leftover(each: Leftover) -> str:
    network, container_id, ifname = each.attachment
    what = f"lease {each.lease.file}" if each.lease else f"record of {ifname} in {each.netns}"
    pod = f"pod {each.pod}" if each.pod else ""
    problem = styled(each.problem, fg="yellow")
    parts = (what, f"network {network}", pod, f"container {container_id}", problem)
    return "  ".join(filter(None, parts))


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
        "up": master.link and master.link.is_up,
        "mtu": master.link and master.link.mtu,
        "mode": link.mode,
        "flag": link.flag,
        "attachments": list(map(_row_document, master.rows)),
    }


def _row_document(row: Row) -> dict[str, Any]:
    link, place, _, addresses, pod = row.attachment
    return {
        "interface": link.name,
        "netns": place and place.path,
        "kind": link.kind,
        "hostAccess": place is None and is_host_link(link),
        "containerID": row.owner and row.owner.container_id,
        "network": row.owner and row.owner.network,
        "pod": pod or None,
        "up": link.is_up,
        "mtu": link.mtu,
        "mac": link.mac,
        "addresses": addresses,
        "gateways": _gateways(row),
        "routes": list(map(_route_document, row.routes)),
        "leases": row.leases,
        "problems": row.problems,
    }


def _route_document(route: Route) -> dict[str, Any]:
    """Return a route in the words of CNI."""
    attributes = ("mtu", "advmss", "priority", "table", "scope")
    others = {name: getattr(route, name) for name in attributes}
    return {"dst": route.dst, "gw": route.gateway or None, **others}


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
        "address": each.lease and each.lease.address,
        "file": each.lease and each.lease.file,
    }
