"""How answers look to people: colour and columns on a terminal, plain text in a pipe."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_ipvlan.cni.errors import CniError
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.runner import Event


def say(text: str) -> None:
    """Print to stdout; colours go only to a terminal, and not to one that asks for none."""
    click.echo(text, color=False if os.environ.get("NO_COLOR") else None)


def complain(text: str) -> None:
    """Print to stderr."""
    click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)


def say_json(document: Any) -> None:
    """Print a JSON document."""
    say(json.dumps(document, indent=4))


def failure(error: CniError) -> None:
    """Print why a command failed: the sentence, then the details, indented."""
    complain(f"{click.style('ipvlan:', fg='red', bold=True)} {error.msg}")
    for line in error.details.splitlines():
        complain(f"    {line}")


def trace(event: Event) -> None:
    """Print a command that ran, as ``set -x`` does, with its time, its status and its undo."""
    from shlex import join

    completed = event.completed
    colour = "red" if completed.status else "cyan"
    note = f"# {completed.seconds * 1000:.1f} ms, status {completed.status}"
    purpose = f", {event.purpose}" if event.purpose else ""
    complain(f"{click.style('+ ' + join(completed.argv), fg=colour)}  {note}{purpose}")
    for line in event.batch:
        complain(f"    {line}")
    for undo in event.undo:
        complain(f"    undo: {join(undo)}")


def result(outcome: Result) -> None:
    """Print what an ADD came to."""
    rows: list[tuple[str, str]] = []
    for interface in outcome.interfaces:
        mtu = f", MTU {interface.mtu}" if interface.mtu else ""
        where = f" in {interface.sandbox}" if interface.sandbox else ""
        rows.append(("interface", f"{interface.name} ({interface.mac}{mtu}){where}"))
    for address in outcome.addresses:
        gateway = f", gateway {address.gateway}" if address.gateway else ""
        rows.append(("address", f"{address.address}{gateway}"))
    for route in outcome.routes:
        rows.append(("route", f"{route.dst}{f' via {route.gateway}' if route.gateway else ''}"))
    for key, value in outcome.dns.items():
        rows.append((f"dns {key}", " ".join(value) if isinstance(value, list) else str(value)))
    say(table(rows))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned columns; the last column is left as it is."""
    rows = [list(row) for row in rows]
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[column]) for row in rows if column < len(row) - 1), default=0)
        for column in range(columns)
    ]
    return "\n".join(
        "  ".join(
            cell if column == len(row) - 1 else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        )
        for row in rows
    )
