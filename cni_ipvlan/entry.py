"""A runtime's call: the process's environment, streams and signals handed to the protocol."""

from __future__ import annotations

import os

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni import version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.iproute.runner import Interrupts

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CHUNK = 4096  # PIPE_BUF: what a pipe that polls writable takes without blocking
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8
_MOST_STDIN = 1 << 20  # bytes; etcd, where configurations come from, takes no larger ones
_SLICE_MILLISECONDS = 100  # a signal's handler does not end poll(2)
_PATIENCE_SLICES = 50  # with a reader of our stderr
_NEED_STDOUT = ("ADD", "VERSION")


def serve() -> int:
    """Serve the call that the process's environment describes; return the exit status.

    Whatever it raises, for example where memory has run out, nothing is on stdout then.
    """
    closed = _fill_closed_descriptors()
    environment = dict(os.environ)
    if _STDOUT in closed and environment.get("CNI_COMMAND") in _NEED_STDOUT:
        _complain("stdout is closed, so no result could be delivered")
        return 1
    if environment.get("CNI_COMMAND") == "VERSION":
        stdin = _read()
        return 1 if stdin is None else _print(version.answer(stdin))
    return _serve(environment)


def _serve(environment: Mapping[str, str]) -> int:
    """Serve a call with all that may take; its imports are what VERSION does without."""
    import signal
    from functools import partial

    from cni_ipvlan.cni import protocol
    from cni_ipvlan.cni.request import read
    from cni_ipvlan.iproute.runner import Interrupts
    from cni_ipvlan.log import Log
    from cni_ipvlan.plugin import about, perform
    from cni_ipvlan.plugin.node import assemble

    if not environment.get("CNI_COMMAND"):
        _complain(about())
        return 0
    # Nothing is changed yet: until the request is read, a signal may just end us.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stdin = _read()
    if stdin is None:
        return 1
    interrupts = Interrupts()
    interrupts.install()

    begun = False

    def write(document: bytes) -> None:
        nonlocal begun
        begun = True
        _write(document, interrupts)

    def say(text: str) -> None:
        _complain(text, lambda: interrupts.urgency > 0)

    log = Log(say, environment)
    given = read(stdin)
    log.open(given.config)
    node = assemble(environment, interrupts, log.command, log.warn)
    try:
        return protocol.serve(environment, given, partial(perform, node), write, log)
    except Exception:
        if begun:
            return 1
        raise


def _print(answer: bytes) -> int:
    try:
        os.write(_STDOUT, answer)
    except OSError as error:
        _complain(f"cannot write to stdout: {error}")
        return 1
    return 0


def _read() -> bytes | None:
    """Return standard input, without a byte order mark, which plugins in Go would stumble over.

    None when that is not possible, and the caller has been told.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := os.read(_STDIN, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_STDIN:
                _tell_unreadable(f"it has more than {_MOST_STDIN} bytes")
                return None
    except OSError as error:
        _tell_unreadable(f"{error.strerror}")
        return None
    return b"".join(chunks).removeprefix(_BYTE_ORDER_MARK)


def _tell_unreadable(why: str) -> None:
    import json

    from cni_ipvlan.cni.errors import IO_FAILURE, CniError
    from cni_ipvlan.cni.version import LATEST_VERSION

    failure = CniError(IO_FAILURE, f"cannot read standard input: {why}")
    _print(json.dumps(failure.document(LATEST_VERSION)).encode() + b"\n")


def _write(document: bytes, interrupts: Interrupts) -> None:
    """Write all of it, but never block where a signal could not end it."""
    import select

    poll = select.poll()
    poll.register(_STDOUT, select.POLLOUT)
    rest = memoryview(document)
    while rest:
        while not poll.poll(_SLICE_MILLISECONDS):
            _check(interrupts)
        rest = rest[os.write(_STDOUT, rest[:_CHUNK]) :]


def _check(interrupts: Interrupts) -> None:
    from cni_ipvlan.iproute.runner import InterruptedBySignalError

    try:
        interrupts.check()
    except InterruptedBySignalError as error:
        raise InterruptedError(error.signal) from None


def _complain(text: str, has_to_end: Callable[[], bool] = lambda: False) -> None:
    """Write to stderr, but wait for a reader no longer than it takes one that is there."""
    import select

    rest = memoryview((text.rstrip() + "\n").encode("utf-8", "backslashreplace"))
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    slices = 0
    try:
        while rest and slices < _PATIENCE_SLICES:
            if poll.poll(_SLICE_MILLISECONDS):
                rest = rest[os.write(_STDERR, rest[:_CHUNK]) :]
                slices = 0
            elif has_to_end():
                return
            else:
                slices += 1
        if rest:
            # Nobody reads: this and all that follows is lost, but the call goes on.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), _STDERR)
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
