"""How answers look to people: colour and columns on a terminal, plain text in a pipe."""

from __future__ import annotations

import errno
import json
import os
from shlex import join
from typing import TYPE_CHECKING, Any

import click

from cni_ipvlan.log import one_line

if TYPE_CHECKING:
    from cni_ipvlan.cni.errors import CniError
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.runner import Completed

_STDOUT, _STDERR = 1, 2


def styled(text: str, *, err: bool = False, **style: Any) -> str:
    """Return text in colour, if it goes to a terminal and NO_COLOR does not ask for none."""
    is_terminal = os.isatty(_STDERR if err else _STDOUT)
    return click.style(text, **style) if is_terminal and not os.environ.get("NO_COLOR") else text


class StdoutError(Exception):
    """Standard output can't be written, for example because its disk is full.

    Not an OSError, which commands report as a failure of what they were doing.
    """


def say(text: str) -> None:
    """Print to stdout; raises StdoutError."""
    try:
        _print(text, err=False)
    except OSError as error:
        raise StdoutError from error


def complain(text: str) -> None:
    """Print to stderr, or nowhere if it can't be written."""
    try:
        _print(text, err=True)
    except OSError:
        _drop(_STDERR)


def _print(text: str, *, err: bool) -> None:
    # A lone surrogate, which JSON can hold, has no encoding.
    printable = text.encode("utf-8", "backslashreplace").decode("utf-8")
    # In no case may click take out what looks like colour to it: a name may look so.
    click.echo(printable, err=err, color=True)


def give_up_stdout() -> bool:
    """Return whether stdout can't be written; say why, unless its reader just went away.

    What could not be written is still buffered, so another flush fails like the first.
    """
    try:
        click.echo(nl=False)  # which flushes, if stdout is open at all
    except OSError as error:
        _drop(_STDOUT)
        if error.errno != errno.EPIPE:
            refuse(f"cannot write to standard output: {error.strerror}")
        return True
    return False


def _drop(descriptor: int) -> None:
    """Lead a stream nowhere, or Python would fail to flush it at the end, with status 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def say_json(document: Any) -> None:
    """Print a JSON document."""
    say(json.dumps(document, indent=4))


def refuse(text: str) -> None:
    """Print why something can't be done, in a sentence."""
    complain(f"{styled('ipvlan:', err=True, fg='red', bold=True)} {text}")


def failure(error: CniError) -> None:
    """Print why a command failed: the sentence, then the details, indented.

    A configuration may be anybody's, and a terminal does what it is told.
    """
    refuse(one_line(error.msg))
    for line in error.explanation.split("\n"):
        if line:
            complain(f"    {one_line(line)}")


def trace(command: Command, completed: Completed) -> None:
    """Print a command that ran, as ``set -x`` does, with its time, its status and its undo."""
    colour = "red" if completed.status else "cyan"
    note = f"# {completed.seconds * 1000:.1f} ms, status {completed.status}"
    purpose = f", {command.purpose}" if command.purpose else ""
    words = styled(f"+ {join(command.entered_argv)}", err=True, fg=colour)
    complain(f"{words}  {note}{purpose}")
    for line in command.batch_lines:
        complain(f"    {line}")
    for undo in command.undo:
        complain(f"    undo: {join(undo.full_argv)}")


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
    width = max((len(key) for key, _ in rows), default=0)
    say("\n".join(f"{key.ljust(width)}  {value}" for key, value in rows))
