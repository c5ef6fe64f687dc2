"""What the command show found, in columns: those that fit the terminal, or all."""

import re
import shutil
from collections.abc import Sequence
from typing import Any

from cni_ipvlan.cli import output
from cni_ipvlan.cli.attachments import drop_link_local
from cni_ipvlan.cli.show.tree import is_by_gateway
from cni_ipvlan.iproute.queries import MAIN_TABLE

_FEW = ("INTERFACE", "POD/CONTAINER", "NAMESPACE", "ADDRESSES", "MODE", "MASTER", "PROBLEMS")
_ALL = (
    *("INTERFACE", "KIND", "POD/CONTAINER", "CONTAINER ID", "NETWORK", "NAMESPACE", "MTU"),
    *("ALL ADDRESSES", "GATEWAYS", "ROUTES", "MODE", "MASTER", "MASTER MTU", "LEASE", "PROBLEMS"),
)
_DIGITS = 12  # of a container's ID
_LEAST = 8  # characters of a column that is cut
_GAP, _ELLIPSIS, _NOTHING = "  ", "…", "-"


def lines(found: dict[str, Any], *, is_wide: bool) -> list[str]:
    """Return a line for each attachment and each leftover, below a head.

    Unless it ``is_wide``, it has some of the columns, cut to fit the terminal if there is one.
    """
    rows = [_attachment(of, each) for of in found["masters"] for each in of["attachments"]]
    rows += map(_leftover, found["leftovers"])
    names = _ALL if is_wide else _FEW
    cells = [[str(row.get(name) or _NOTHING) for name in names[:-1]] for row in rows]
    cells = [[*names], *([*own, row["PROBLEMS"]] for own, row in zip(cells, rows, strict=True))]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if output.is_terminal() and not is_wide:
        _make_fit(widths)
    head, *others = ([*map(_fit, row, widths)] for row in cells)
    return [output.styled(_GAP.join(head).rstrip(), bold=True), *map(_line, others)]


def _fit(cell: str, width: int) -> str:
    return (cell if len(cell) <= width else cell[: width - 1] + _ELLIPSIS).ljust(width)


def _line(cells: Sequence[str]) -> str:
    *others, problems = cells
    coloured = [output.styled(problems.strip(), fg="yellow")] if problems.strip() else []
    return _GAP.join((*others, *coloured)).rstrip()


def _make_fit(widths: list[int]) -> None:
    """Make columns narrower until they fit the terminal; problems are never cut."""
    most = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
    while sum(widths) > most and max(widths[:-1]) > _LEAST:
        widths[widths.index(max(widths[:-1]))] -= 1


def _attachment(master: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    is_down = [] if row["up"] else ["down"]
    is_down += ["master down"] if master["up"] is False else []
    return {
        **_whose(row),
        **({"POD/CONTAINER": "(hostAccess)"} if row["hostAccess"] else {}),
        **({} if row["netns"] else {"NAMESPACE": "(host)"}),
        "KIND": row["kind"],
        "MTU": row["mtu"],
        "ADDRESSES": " ".join(drop_link_local(row["addresses"])),
        "ALL ADDRESSES": " ".join(row["addresses"]),
        "GATEWAYS": " ".join(row["gateways"]),
        "ROUTES": ", ".join(_route(each) for each in row["routes"] if not is_by_gateway(each)),
        "MODE": f"{master['mode']} {master['flag']}",
        "MASTER": master["master"],
        "MASTER MTU": master["mtu"],
        "LEASE": " ".join(row["leases"] or ()),
        "PROBLEMS": ", ".join((*is_down, *row["problems"])),
    }


def _leftover(left: dict[str, Any]) -> dict[str, Any]:
    return {
        **_whose(left),
        "ADDRESSES": left["address"],
        "ALL ADDRESSES": left["address"],
        "MASTER": left["master"],
        "LEASE": left["file"],
        "PROBLEMS": f"{left['problem']} ({left['kind']})",
    }


def _whose(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "INTERFACE": row["interface"],
        "POD/CONTAINER": row["pod"] or (row["containerID"] or "")[:_DIGITS],
        "CONTAINER ID": row["containerID"],
        "NETWORK": row["network"],
        "NAMESPACE": re.sub("^(/var)?/run/netns/", "", row["netns"] or ""),
    }


def _route(route: dict[str, Any]) -> str:
    via = f" via {route['gw']}" if route["gw"] else ""
    table = "" if route["table"] == MAIN_TABLE else f" table {route['table']}"
    return f"{route['dst']}{via}{table}"
