"""A runtime's call: the process's environment, streams and signals handed to the protocol."""

from __future__ import annotations

import os

from cni_ipvlan.cni import version
from cni_ipvlan.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_ipvlan.iproute.runner import Interrupts

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CHUNK = 4096  # PIPE_BUF: what a pipe that polls writable takes without blocking


def serve() -> int:
    """Serve the call that the process's environment describes; return the exit status."""
    closed = _fill_closed_descriptors()
    _leave_deleted_directory()
    environment = dict(os.environ)
    if _STDOUT in closed and environment.get("CNI_COMMAND"):
        _complain("stdout is closed, so no result could be delivered")
        return 1
    if environment.get("CNI_COMMAND") == "VERSION":
        return _print(version.answer(_read()))
    return _serve(environment)


def _serve(environment: Mapping[str, str]) -> int:
    """Serve a call with all that may take; its imports are what VERSION does without."""
    import signal

    from cni_ipvlan.attachment import Plugin
    from cni_ipvlan.cni import protocol
    from cni_ipvlan.iproute.runner import Interrupts, Runner
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.journal import Journal
    from cni_ipvlan.registry import Registry

    if not environment.get("CNI_COMMAND"):
        _complain(protocol.about())
        return 0
    # Nothing is changed yet: until the request is read, a signal may just end us.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stdin = _read()
    interrupts = Interrupts()
    interrupts.install()

    def write(document: bytes) -> None:
        _write(document, interrupts)

    journal = Journal(_complain, environment)
    journal.open(protocol.lenient_config(stdin))
    runner = Runner(environment.get("PATH", ""), journal.command)
    plugin = Plugin(
        runner,
        interrupts,
        Registry(),
        begin=lambda: Transaction(runner, interrupts),
        warn=journal.warn,
    )
    return protocol.serve(environment, stdin, plugin.handlers(), write, journal)


def _print(answer: bytes) -> int:
    try:
        os.write(_STDOUT, answer)
    except OSError as error:
        _complain(f"cannot write to stdout: {error}")
        return 1
    return 0


def _read() -> bytes:
    chunks = []
    while chunk := os.read(_STDIN, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def _write(document: bytes, interrupts: Interrupts) -> None:
    """Write all of it, but never block where a signal could not end it."""
    import select

    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    while document:
        while not poll.poll(100):
            _check(interrupts)
        document = document[os.write(_STDOUT, document[:_CHUNK]) :]


def _check(interrupts: Interrupts) -> None:
    from cni_ipvlan.iproute.runner import InterruptedBySignalError

    try:
        interrupts.check()
    except InterruptedBySignalError as error:
        raise InterruptedError(error.signal) from None


def _complain(text: str) -> None:
    data = (text.rstrip() + "\n").encode("utf-8", "backslashreplace")
    try:
        os.write(_STDERR, data)
    except OSError:
        return  # nobody listens, and there is no other place to say so


def _fill_closed_descriptors() -> set[int]:
    """Open /dev/null in place of closed standard streams, lest another file get their number."""
    closed = set()
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)
    return closed


def _leave_deleted_directory() -> None:
    try:
        os.getcwd()
    except OSError:
        os.chdir("/")
