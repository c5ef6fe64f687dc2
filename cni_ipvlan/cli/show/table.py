"""The document of the command show as a table, which fits the terminal or has all columns."""

import re
import shutil
from collections.abc import Sequence
from typing import Any

from cni_ipvlan.cli import output
from cni_ipvlan.cli.attachments import drop_link_local
from cni_ipvlan.cli.show.tree import is_by_gateway
from cni_ipvlan.iproute.queries import MAIN_TABLE

_COLUMNS = ("INTERFACE", "POD/CONTAINER", "NAMESPACE", "ADDRESSES", "MODE", "MASTER", "PROBLEMS")
_ALL_COLUMNS = (
    *("INTERFACE", "KIND", "POD/CONTAINER", "CONTAINER ID", "NETWORK", "NAMESPACE", "MTU"),
    *("ALL ADDRESSES", "GATEWAYS", "ROUTES", "MODE", "MASTER", "MASTER MTU", "LEASE", "PROBLEMS"),
)
_ID_CHARACTERS = 12  # of a container's ID
_MINIMUM_WIDTH = 8  # of a column, in characters
_GAP, _ELLIPSIS, _EMPTY = "  ", "…", "-"


def render(document: dict[str, Any], *, is_wide: bool) -> list[str]:
    """Return a line for each attachment and each leftover, below a head.

    Unless it ``is_wide``, it has some of the columns, cut to fit the terminal if there is one.
    """
    rows = [
        _attachment_cells(master, row)
        for master in document["masters"]
        for row in master["attachments"]
    ]
    rows += map(_leftover_cells, document["leftovers"])
    *names, problems = _ALL_COLUMNS if is_wide else _COLUMNS
    table = [[*names, problems]]
    table += ([*(str(row.get(name) or _EMPTY) for name in names), row[problems]] for row in rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if output.is_terminal() and not is_wide:
        _fit_widths(widths)
    head, *others = ([*map(_fit_cell, cells, widths)] for cells in table)
    return [output.styled(_GAP.join(head).rstrip(), bold=True), *map(_line, others)]


def _fit_cell(cell: str, width: int) -> str:
    return (cell if len(cell) <= width else cell[: width - 1] + _ELLIPSIS).ljust(width)


def _line(cells: Sequence[str]) -> str:
    *others, problems = cells
    coloured = [output.styled(problems.strip(), fg="yellow")] if problems.strip() else []
    return _GAP.join((*others, *coloured)).rstrip()


def _fit_widths(widths: list[int]) -> None:
    """Make columns narrower until they fit the terminal; problems are never cut."""
    available = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
    while sum(widths) > available and max(widths[:-1]) > _MINIMUM_WIDTH:
        widths[widths.index(max(widths[:-1]))] -= 1


def _attachment_cells(master: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_owner_cells(row),
        **({"POD/CONTAINER": "(hostAccess)"} if row["hostAccess"] else {}),
        **({} if row["netns"] else {"NAMESPACE": "(host)"}),
        "KIND": row["kind"],
        "MTU": row["mtu"],
        "ADDRESSES": " ".join(drop_link_local(row["addresses"])),
        "ALL ADDRESSES": " ".join(row["addresses"]),
        "GATEWAYS": " ".join(row["gateways"]),
        "ROUTES": ", ".join(
            _describe_route(each) for each in row["routes"] if not is_by_gateway(each)
        ),
        "MODE": f"{master['mode']} {master['flag']}",
        "MASTER": master["master"],
        "MASTER MTU": master["mtu"],
        "LEASE": " ".join(row["leases"] or ()),
        "PROBLEMS": ", ".join(row["problems"]),
    }


def _leftover_cells(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **_owner_cells(row),
        "ADDRESSES": row["address"],
        "ALL ADDRESSES": row["address"],
        "MASTER": row["master"],
        "LEASE": row["file"],
        "PROBLEMS": f"{row['problem']} ({row['kind']})",
    }


def _owner_cells(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "INTERFACE": row["interface"],
        "POD/CONTAINER": row["pod"] or (row["containerID"] or "")[:_ID_CHARACTERS],
        "CONTAINER ID": row["containerID"],
        "NETWORK": row["network"],
        "NAMESPACE": re.sub("^(/var)?/run/netns/", "", row["netns"] or ""),
    }


def _describe_route(route: dict[str, Any]) -> str:
    via = f" via {route['gw']}" if route["gw"] else ""
    table = "" if route["table"] == MAIN_TABLE else f" table {route['table']}"
    return f"{route['dst']}{via}{table}"
