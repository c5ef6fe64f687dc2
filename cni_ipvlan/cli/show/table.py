"""What the command show found, in columns that fit the terminal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from ipaddress import ip_interface
from typing import Any

from cni_ipvlan.cli import output

_HEAD = ("INTERFACE", "POD/CONTAINER", "NAMESPACE", "ADDRESSES", "MODE", "MASTER", "PROBLEMS")
_DIGITS = 12  # of a container's ID
_LEAST = 8  # characters of a column that is cut
_GAP, _ELLIPSIS, _NOTHING = "  ", "…", "-"


def lines(found: dict[str, Any]) -> list[str]:
    """Return a line for each attachment and each leftover, below a head."""
    rows = [_attachment(of, each) for of in found["masters"] for each in of["attachments"]]
    rows += map(_leftover, found["leftovers"])
    cells = [_HEAD, *(tuple(cell or _NOTHING for cell in row[:-1]) + row[-1:] for row in rows)]
    widths = _fitting([max(map(len, column)) for column in zip(*cells, strict=True)])
    head, *others = ([*map(_fit, row, widths)] for row in cells)
    return [output.styled(_GAP.join(head).rstrip(), bold=True), *map(_line, others)]


def _fit(cell: str, width: int) -> str:
    return (cell if len(cell) <= width else cell[: width - 1] + _ELLIPSIS).ljust(width)


def _line(cells: Sequence[str]) -> str:
    *others, problems = cells
    coloured = [output.styled(problems.strip(), fg="yellow")] if problems.strip() else []
    return _GAP.join((*others, *coloured)).rstrip()


def _fitting(widths: list[int]) -> list[int]:
    """Return widths that fit the terminal, if there is one; problems are never cut."""
    if output.is_terminal():
        most = shutil.get_terminal_size().columns - len(_GAP) * (len(widths) - 1)
        while sum(widths) > most and max(widths[:-1]) > _LEAST:
            widths[widths.index(max(widths[:-1]))] -= 1
    return widths


def _attachment(master: dict[str, Any], row: dict[str, Any]) -> tuple[str, ...]:
    addresses = [each for each in row["addresses"] if not ip_interface(each).is_link_local]
    is_down = [] if row["up"] else ["down"]
    is_down += ["master down"] if master["up"] is False else []
    return (
        row["interface"],
        "(hostAccess)" if row["hostAccess"] else _container(row),
        _namespace(row["netns"]) if row["netns"] else "(host)",
        " ".join(addresses),
        f"{master['mode']} {master['flag']}",
        master["master"],
        ", ".join((*is_down, *row["problems"])),
    )


def _leftover(left: dict[str, Any]) -> tuple[str, ...]:
    return (
        left["interface"] or "",
        _container(left),
        _namespace(left["netns"] or ""),
        left["address"] or "",
        "",
        left["master"] or "",
        f"{left['problem']} ({left['kind']})",
    )


def _container(row: dict[str, Any]) -> str:
    return row["pod"] or (row["containerID"] or "")[:_DIGITS]


def _namespace(path: str) -> str:
    return re.sub("^(/var)?/run/netns/", "", path)
