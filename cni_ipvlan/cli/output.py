"""Output for people: colour on a terminal, plain text in a pipe, no escape sequences of strangers.

Names of interfaces, namespaces and pods, labels, and the output of programs may hold anything. So
``_print`` quotes all unprintable characters, except those of our own colours.
"""

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import Result
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.commands import Command, in_shell
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log, one_line, printable
from cni_ipvlan.plugin.codes import NOT_PERMITTED
from cni_ipvlan.plugin.explain import as_cni_error

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_STDOUT, _STDERR = 1, 2
_COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
_ESCAPE = "\x1b"
# Replaces the escape character of our own colours. No name contains it, as nobody can guess it.
_ESCAPE_MARK = os.urandom(8).hex()


class Finding(NamedTuple):
    """The outcome of a check, of a network if it has one; the advice may have several lines."""

    state: str
    subject: str
    text: str
    advice: str = ""
    network: str = ""


def styled(text: str, *, err: bool = False, **style: Any) -> str:
    """Return text for ``echo`` or ``echo_err``, in colour on a terminal unless NO_COLOR is set."""
    if not is_terminal(err=err) or os.environ.get("NO_COLOR"):
        return text
    start, end = click.style("", reset=False, **style), click.style("", reset=True)
    return f"{start.replace(_ESCAPE, _ESCAPE_MARK)}{text}{end.replace(_ESCAPE, _ESCAPE_MARK)}"


def is_terminal(*, err: bool = False) -> bool:
    """Whether standard output, or standard error, is a terminal."""
    return os.isatty(_STDERR if err else _STDOUT)


def echo(*lines: str) -> None:
    """Print lines, and what is still buffered, to stdout; raises Exit if it can't be written.

    The reason is printed on stderr, unless the reader has closed the pipe.
    """
    try:
        _print(lines, err=False)
    except OSError as error:
        _redirect_to_null(_STDOUT)
        if error.errno != errno.EPIPE:
            print_error(f"cannot write to standard output: {error.strerror}")
        raise click.exceptions.Exit(1) from None


def echo_err(*lines: str) -> None:
    """Print lines to stderr; if it can't be written, drop them."""
    try:
        _print(lines, err=True)
    except OSError:
        _redirect_to_null(_STDERR)


def _print(lines: Sequence[str], *, err: bool) -> None:
    if sys.stdout is None and not err:  # as Python has it where it is closed
        raise OSError(errno.EBADF, "it is closed")
    safe = "\n".join(_ESCAPE.join(map(printable, line.split(_ESCAPE_MARK))) for line in lines)
    # color=True, or click would take the colours out, even on a terminal that TERM calls dumb.
    click.echo(safe, err=err, nl=bool(lines), color=True)


def _redirect_to_null(descriptor: int) -> None:
    """Redirect a stream to /dev/null, or Python's flush at exit would fail with status 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def echo_json(document: Any) -> None:
    """Print a JSON document, in ASCII."""
    # json escapes all characters that are not printable, except DEL.
    echo(*json.dumps(document, indent=4).replace("\x7f", "\\u007f").split("\n"))


def print_error(text: str) -> None:
    """Print an error, prefixed with the program's name."""
    echo_err(f"{styled('ipvlan:', err=True, fg='red', bold=True)} {text}")


def print_failure(error: CniError) -> None:
    """Print why a command failed: the message, then the details, indented."""
    print_error(one_line(error.msg))
    echo_err(*(f"    {one_line(line)}" for line in error.explanation.split("\n") if line))


def failure_document(error: CniError) -> dict[str, Any]:
    """Return an error as JSON."""
    return {"code": error.code, "msg": error.msg, "details": error.explanation}


def print_finding(finding: Finding) -> None:
    """Print a finding."""
    state = styled(finding.state.ljust(7), fg=_COLOURS[finding.state])
    advice = (f"{' ' * 26}{one_line(line)}" for line in finding.advice.splitlines())
    echo(f"{state}  {finding.subject.ljust(13)}  {one_line(finding.text)}", *advice)


def collect(subject: str, check: Iterable[Finding]) -> Iterator[Finding]:
    """Yield the findings of a check; an error in the check itself is a finding, too."""
    try:
        yield from check
    except InterruptedBySignalError:
        raise
    except (CniError, IprouteError, OSError) as error:
        failure = as_cni_error(error)
        is_refused = isinstance(error, PermissionError) or failure.code == NOT_PERMITTED
        state = WARNING if is_refused else PROBLEM
        yield Finding(state, subject, failure.msg, failure.explanation)


def print_result(result: Result) -> None:
    """Print the result of an ADD."""
    for interface in result.interfaces:
        mtu = f", MTU {interface.mtu}" if interface.mtu else ""
        sandbox = f" in {interface.sandbox}" if interface.sandbox else ""
        echo(f"interface  {interface.name} ({interface.mac}{mtu}){sandbox}")
    for address in result.addresses:
        gateway = f", gateway {address.gateway}" if address.gateway else ""
        echo(f"address    {address.address}{gateway}")
    for route in result.routes:
        echo(f"route      {route.dst}{f' via {route.gateway}' if route.gateway else ''}")
    for key, value in result.dns.items():
        echo(f"dns {key}  {' '.join(value) if isinstance(value, list) else value}")


class Narrator(Log):
    """A log for ``-v``, which also prints on stderr what a call does.

    Commands may run at the same time, so each has a number, with which all of its lines begin.
    """

    def __init__(self, write_stderr: Callable[[str], None], environment: Mapping[str, str]) -> None:
        super().__init__(write_stderr, environment)
        self._running: dict[int, tuple[int, Command]] = {}
        self._last = 0

    def command(self, command: Command, completed: Completed | None) -> None:
        """Print a command, as ``set -x`` does, or its time, and its status if it failed."""
        if completed is None:
            self._last += 1
            self._running[id(command)] = self._last, command
            words = styled(one_line(f"+ {in_shell(command.entered_argv)}"), err=True, fg="cyan")
            undos = (f"undo: {in_shell(undo.command.full_argv)}" for undo in command.undo)
            lines = [f"    {one_line(line)}" for line in (*command.batch_lines, *undos)]
            lines.insert(0, words + one_line(f"  # {command.purpose}" if command.purpose else ""))
            echo_err(*(f"[{self._last}] {line}" for line in lines))
        else:
            number, _ = self._running.pop(id(command))
            status_text = styled(f", status {completed.status}", err=True, fg="red")
            time = f"{completed.seconds * 1000:.1f} ms"
            echo_err(f"[{number}]   {time}{status_text if completed.status else ''}")
        super().command(command, completed)

    def wait(self, text: str) -> None:
        """Print that the call has to wait."""
        echo_err(styled(one_line(text), err=True, fg="yellow"))
        super().wait(text)
