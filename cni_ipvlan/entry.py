"""Serve a runtime's call: connect the process to the protocol, with its streams and signals."""

from __future__ import annotations

import os

from cni_ipvlan.cni import version
from cni_ipvlan.start import signal
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_READ_CHUNK = 1 << 16
_CHUNK = 4096  # PIPE_BUF: a pipe that polls writable takes so many bytes without blocking
_MOST_STDIN = 1 << 20  # bytes; etcd does not store larger objects
_MOST_WITH_RESULT = 8 << 20  # of verbs that get ADD's result, or all valid attachments, besides
_WITH_RESULT = ("DEL", "CHECK", "GC")
_SLICE_MILLISECONDS = 100  # signals are checked between slices: they don't end poll(2)
_PATIENCE_SLICES = 50  # to wait for a reader of stderr
_NEED_STDOUT = ("ADD", "VERSION")


def serve() -> int:
    """Serve the call that the process's environment describes; return the exit status.

    It may raise anything, for example MemoryError; then nothing was written to stdout.
    """
    # Nothing is changed yet: until the request is read, a signal may simply end the process. The
    # launcher ignores SIGINT, which would end Python's own start with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    closed_descriptors = _fill_closed_descriptors()
    environment = dict(os.environ)
    command = environment.get("CNI_COMMAND")
    if not command:
        from cni_ipvlan.plugin import about

        _write_stderr(about())
        return 0
    if _STDOUT in closed_descriptors and command in _NEED_STDOUT:
        _write_stderr("stdout is closed, so no result could be delivered")
        return 1
    if command == "VERSION":
        stdin = _read()
        return 1 if stdin is None else _print(version.answer(stdin))
    return _serve(environment)


def _serve(environment: Mapping[str, str]) -> int:
    """Serve a call other than VERSION, which needs none of these imports."""
    from functools import partial

    from cni_ipvlan.cni.request import read
    from cni_ipvlan.iproute.interrupts import InterruptedBySignalError, Interrupts
    from cni_ipvlan.log import Log

    is_with_result = environment["CNI_COMMAND"] in _WITH_RESULT
    content = _read(_MOST_WITH_RESULT if is_with_result else _MOST_STDIN)
    if content is None:
        return 1
    interrupts = Interrupts()
    interrupts.install()
    stdin, status = read(content), 1
    has_begun, answer = False, b""

    def write(document: bytes) -> None:
        nonlocal has_begun, answer
        has_begun = True
        try:
            _write(_STDOUT, document, lambda _: interrupts.check())
        except InterruptedBySignalError as error:
            raise InterruptedError(error.signal) from None
        answer = document

    def warn(text: str) -> None:
        _write_stderr(text, lambda: interrupts.count > 0)

    log = Log(warn, environment)
    if environment.get("CNI_IPVLAN_CAPTURE") or stdin.config.get("captureDir"):
        from cni_ipvlan.capture import Capture

        log = Capture(warn, environment, stdin.content)
    log.open(stdin.config)
    try:
        from cni_ipvlan.cni import protocol
        from cni_ipvlan.plugin import perform
        from cni_ipvlan.plugin.node import assemble

        node = assemble(environment, interrupts, log)
        status = protocol.serve(environment, stdin, partial(perform, node), write, log)
    except Exception:
        if not has_begun:
            raise
    finally:
        log.end(status, answer)
    return status


def _print(answer: bytes) -> int:
    try:
        os.write(_STDOUT, answer)
    except OSError as error:
        _write_stderr(f"cannot write to stdout: {error}")
        return 1
    return 0


def _read(most: int = _MOST_STDIN) -> bytes | None:
    """Return standard input; if it can't be read, print an error document and return None."""
    stdin, why = bytearray(), ""
    try:
        while len(stdin) <= most and (chunk := _read_chunk()):
            stdin += chunk
    except OSError as error:
        why = f"{error.strerror}"
    if len(stdin) > most:
        why = f"it has more than {most >> 20} MiB"
    if not why:
        return bytes(stdin)
    from cni_ipvlan.cni import LATEST_VERSION, strict_json
    from cni_ipvlan.cni.errors import IO_FAILURE, CniError

    failure = CniError(IO_FAILURE, f"cannot read standard input: {why}")
    _print(strict_json.encode(failure.document(LATEST_VERSION)))
    return None


def _read_chunk() -> bytes:
    """Read some of standard input; wait for it even if whoever shares it has made it not block."""
    try:
        return os.read(_STDIN, _READ_CHUNK)
    except BlockingIOError:
        import select

        poll = select.poll()
        poll.register(_STDIN, select.POLLIN)
        poll.poll()
        return os.read(_STDIN, _READ_CHUNK)


def _write(descriptor: int, text: bytes, wait: Callable[[int], None]) -> None:
    """Write a text; ``wait`` is called while nobody reads.

    Its argument is how many slices of time there was no reader; it may raise.
    """
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    rest = memoryview(text)
    while rest:
        slices = 0
        while not poll.poll(_SLICE_MILLISECONDS):
            slices += 1
            wait(slices)
        rest = rest[os.write(descriptor, rest[:_CHUNK]) :]


def _write_stderr(text: str, must_stop: Callable[[], bool] = lambda: False) -> None:
    """Write to stderr; give up after a few seconds if nobody reads."""

    def wait(slices: int) -> None:
        if must_stop():
            raise InterruptedError
        if slices == _PATIENCE_SLICES:
            # Nobody reads: drop this and all that follows, and go on with the call.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), _STDERR)

    try:
        _write(_STDERR, (text.rstrip() + "\n").encode("utf-8", "backslashreplace"), wait)
    except OSError:
        return  # there is no other place to report it


def _fill_closed_descriptors() -> set[int]:
    """Open /dev/null for closed standard streams, so that no other file gets their numbers."""
    closed = set()
    # The lowest free number is taken.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        closed.add(descriptor)
    os.close(descriptor)
    return closed
