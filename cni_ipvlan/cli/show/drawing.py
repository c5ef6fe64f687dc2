"""The tree of masters and attachments as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute.queries import MAIN_TABLE

_DEFAULT = ("0.0.0.0/0", "::/0")


def lines(found: dict[str, Any]) -> list[str]:
    """Return the lines of what was found, one for each attachment, so that grep finds all of it."""
    drawn: list[str] = []
    for master in found["masters"]:
        drawn += _branch(_head(master), list(map(_attachment, master["attachments"])))
    if found["leftovers"]:
        drawn += _branch(styled("leftovers", bold=True), list(map(_leftover, found["leftovers"])))
    return drawn or ["no ipvlan interfaces"]


def is_by_gateway(route: dict[str, Any]) -> bool:
    """Whether a route is a default route by way of a gateway."""
    return route["table"] == MAIN_TABLE and route["dst"] in _DEFAULT and bool(route["gw"])


def _branch(head: str, parts: Sequence[str]) -> Iterator[str]:
    yield head
    yield from (f"├─ {each}" for each in parts[:-1])
    yield f"└─ {parts[-1]}"


def _head(master: dict[str, Any]) -> str:
    state = "up" if master["up"] else styled("down", fg="red")
    of_link = f"{state}, MTU {master['mtu']}, " if master["mtu"] is not None else ""
    name = styled(master["master"], bold=True)
    return f"{name}  {of_link}mode {master['mode']} {master['flag']}"


def _attachment(row: dict[str, Any]) -> str:
    routes = [_route(each) for each in row["routes"] if not is_by_gateway(each)]
    parts = (
        styled(row["interface"], fg="cyan"),
        f"in {row['netns']}" if row["netns"] else "on the host",
        "for hostAccess" if row["hostAccess"] else "",
        row["kind"] if row["kind"] != "ipvlan" else "",
        f"pod {row['pod']}" if row["pod"] else "",
        f"container {row['containerID']}" if row["containerID"] else "",
        "" if row["up"] else styled("down", fg="red"),
        f"MTU {row['mtu']}",
        " ".join(row["addresses"]) or "no addresses",
        f"gateway {' '.join(row['gateways'])}" if row["gateways"] else "",
        f"routes {', '.join(routes)}" if routes else "",
        *(styled(each, fg="yellow") for each in row["problems"]),
    )
    return "  ".join(filter(None, parts))


def _route(route: dict[str, Any]) -> str:
    via = f" via {route['gw']}" if route["gw"] else ""
    table = "" if route["table"] == MAIN_TABLE else f" table {route['table']}"
    return f"{route['dst']}{via}{table}"


def _leftover(each: dict[str, Any]) -> str:
    record = f"record of {each['interface']} in {each['netns']}"
    parts = (
        f"lease {each['file']}" if each["file"] else record,
        f"network {each['network']}",
        f"pod {each['pod']}" if each["pod"] else "",
        f"container {each['containerID']}",
        styled(each["problem"], fg="yellow"),
    )
    return "  ".join(filter(None, parts))
