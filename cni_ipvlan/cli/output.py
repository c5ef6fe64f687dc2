"""Output for people: colour on a terminal, plain text in a pipe, no escape sequences of strangers.

Names of interfaces, namespaces and pods, labels, and what programs print, may hold anything. So
whatever is printed goes through ``_safe``, which quotes all unprintable characters.
"""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

import click

from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING
from cni_ipvlan.log import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_ipvlan.cli.finding import Finding
    from cni_ipvlan.cni.errors import CniError
    from cni_ipvlan.cni.result import Result

_STDOUT, _STDERR = 1, 2
_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
_ESCAPE = "\x1b"
# Stands for the escape character of our own colours. No name contains it, as nobody can guess it.
_OURS = os.urandom(8).hex()


def styled(text: str, *, err: bool = False, **style: Any) -> str:
    """Return text in colour, if it goes to a terminal and NO_COLOR is not set.

    It can be printed by ``echo`` and ``echo_err`` only.
    """
    if not is_terminal(err=err) or os.environ.get("NO_COLOR"):
        return text
    start, end = click.style("", reset=False, **style), click.style("", reset=True)
    return f"{start.replace(_ESCAPE, _OURS)}{text}{end.replace(_ESCAPE, _OURS)}"


def is_terminal(*, err: bool = False) -> bool:
    """Whether standard output, or standard error, is a terminal."""
    return os.isatty(_STDERR if err else _STDOUT)


def _safe(line: str) -> str:
    """Return a line with our own colours and no other unprintable characters, nor line breaks."""
    return _ESCAPE.join(map(printable, line.split(_OURS)))


class StdoutError(Exception):
    """Standard output can't be written, for example because its disk is full.

    Not an OSError, since commands report those as their own failures.
    """


def echo(*lines: str) -> None:
    """Print lines to stdout; raises StdoutError."""
    try:
        _print(lines, err=False)
    except OSError as error:
        raise StdoutError from error


def echo_err(*lines: str) -> None:
    """Print lines to stderr; if it can't be written, drop them."""
    try:
        _print(lines, err=True)
    except OSError:
        _drop(_STDERR)


def _print(lines: Sequence[str], *, err: bool) -> None:
    # color=True, or click would take the colours out, even on a terminal that TERM calls dumb.
    click.echo("\n".join(map(_safe, lines)), err=err, color=True)


def give_up_stdout() -> bool:
    """Return whether stdout can't be written; print why, unless its reader closed the pipe.

    Unwritten output is still buffered, so another flush fails as the first did.
    """
    try:
        click.echo(nl=False)  # flushes stdout, if it is open
    except OSError as error:
        _drop(_STDOUT)
        if error.errno != errno.EPIPE:
            print_error(f"cannot write to standard output: {error.strerror}")
        return True
    return False


def _drop(descriptor: int) -> None:
    """Redirect a stream to /dev/null, or Python's flush at exit would fail with status 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def echo_json(document: Any) -> None:
    """Print a JSON document, in ASCII."""
    # json escapes all that is not printable, but for DEL.
    echo(*json.dumps(document, indent=4).replace("\x7f", "\\u007f").split("\n"))


def print_error(text: str) -> None:
    """Print an error, prefixed with the program's name."""
    echo_err(f"{styled('ipvlan:', err=True, fg='red', bold=True)} {text}")


def failure(error: CniError, *, as_json: bool) -> None:
    """Print why a command failed; as text, it is the message, then the details, indented."""
    if as_json:
        echo_json({"code": error.code, "msg": error.msg, "details": error.explanation})
        return
    print_error(one_line(error.msg))
    for line in error.explanation.split("\n"):
        if line:
            echo_err(f"    {one_line(line)}")


def finding(found: Finding) -> None:
    """Print a finding."""
    state = styled(found.state.ljust(7), fg=_COLOURS[found.state])
    echo(f"{state}  {found.subject.ljust(13)}  {one_line(found.text)}")
    for line in found.advice.splitlines():
        echo(f"{' ' * 26}{one_line(line)}")


def result(outcome: Result) -> None:
    """Print the result of an ADD."""
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
    echo(*(f"{key.ljust(width)}  {value}" for key, value in rows))
