"""A runtime's call: connects the process's environment, streams and signals to the protocol."""

from __future__ import annotations

import os

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni import version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.iproute.runner import Interrupts

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CHUNK = 4096  # PIPE_BUF: a pipe that polls writable takes so many bytes without blocking
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # of UTF-8
_MOST_STDIN = 1 << 20  # bytes; etcd does not store larger objects
_SLICE_MILLISECONDS = 100  # signals are checked between slices: they don't end poll(2)
_PATIENCE_SLICES = 50  # to wait for a reader of stderr
_NEED_STDOUT = ("ADD", "VERSION")


def serve() -> int:
    """Serve the call that the process's environment describes; return the exit status.

    It may raise anything, for example MemoryError; then nothing was written to stdout.
    """
    closed = _fill_closed_descriptors()
    environment = dict(os.environ)
    if _STDOUT in closed and environment.get("CNI_COMMAND") in _NEED_STDOUT:
        _write_stderr("stdout is closed, so no result could be delivered")
        return 1
    if environment.get("CNI_COMMAND") == "VERSION":
        stdin = _read()
        return 1 if stdin is None else _print(version.answer(stdin))
    return _serve(environment)


def _serve(environment: Mapping[str, str]) -> int:
    """Serve a call other than VERSION, which needs none of these imports."""
    import signal
    from functools import partial

    from cni_ipvlan.cni import protocol
    from cni_ipvlan.cni.request import read
    from cni_ipvlan.iproute.runner import Interrupts
    from cni_ipvlan.log import Log
    from cni_ipvlan.plugin import about, perform
    from cni_ipvlan.plugin.node import assemble

    if not environment.get("CNI_COMMAND"):
        _write_stderr(about())
        return 0
    # Nothing is changed yet: until the request is read, a signal may simply end the process.
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

    def write_log(text: str) -> None:
        _write_stderr(text, lambda: interrupts.urgency > 0)

    log = Log(write_log, environment)
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
        _write_stderr(f"cannot write to stdout: {error}")
        return 1
    return 0


def _read() -> bytes | None:
    """Return standard input without a byte order mark, which plugins in Go can't decode.

    If it can't be read, print an error document and return None.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        while chunk := os.read(_STDIN, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > _MOST_STDIN:
                _report_unreadable(f"it has more than {_MOST_STDIN} bytes")
                return None
    except OSError as error:
        _report_unreadable(f"{error.strerror}")
        return None
    return b"".join(chunks).removeprefix(_BYTE_ORDER_MARK)


def _report_unreadable(why: str) -> None:
    import json

    from cni_ipvlan.cni.errors import IO_FAILURE, CniError
    from cni_ipvlan.cni.version import LATEST_VERSION

    failure = CniError(IO_FAILURE, f"cannot read standard input: {why}")
    _print(json.dumps(failure.document(LATEST_VERSION)).encode() + b"\n")


def _write(document: bytes, interrupts: Interrupts) -> None:
    """Write a document to stdout; a signal can interrupt it even if nobody reads."""
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


def _write_stderr(text: str, must_stop: Callable[[], bool] = lambda: False) -> None:
    """Write to stderr; give up after a few seconds if nobody reads."""
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
            elif must_stop():
                return
            else:
                slices += 1
        if rest:
            # Nobody reads: drop this and all that follows, and go on with the call.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), _STDERR)
    except OSError:
        return  # there is no other place to report it


def _fill_closed_descriptors() -> set[int]:
    """Open /dev/null for closed standard streams, so that no other file gets their numbers."""
    closed = set()
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            closed.add(descriptor)
            os.open(os.devnull, os.O_RDWR)
    return closed
