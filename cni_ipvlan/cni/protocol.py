"""The door's other side: verb, handler, exactly one document, an exit status."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni import strict_json
from cni_ipvlan.cni.delegate import DELEGATING
from cni_ipvlan.cni.errors import INTERNAL, INVALID_CONFIGURATION, IO_FAILURE, CniError
from cni_ipvlan.cni.request import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from cni_ipvlan.cni.request import Given, Request
    from cni_ipvlan.cni.result import Result

    class Listener(Protocol):
        """Whom failures are told besides the caller."""

        def warn(self, text: str) -> None:
            """Take what the caller may not get to see."""

        def fail(self, text: str, private: str = "") -> None:
            """Take what the caller is told as well, all but the ``private`` lines of it."""

    # Does what a request asks for. It gives a result away while it can still undo
    # everything, for one that can't be delivered must not stay.
    Perform = Callable[[Request, Callable[[Result], None]], None]


def serve(
    environment: Mapping[str, str],
    given: Given,
    perform: Perform,
    write: Callable[[bytes], None],
    listener: Listener,
) -> int:
    """Answer one call of a runtime, any but VERSION, and return the exit status, 0 or 1.

    ``write`` is given the one document for stdout, at most once; when it raises
    OSError, what was done is undone. ``listener`` hears of every failure.
    """
    delivered = False

    def deliver(result: Result) -> None:
        nonlocal delivered
        document = _document(result, request.version)
        delivered = True
        _write_result(document, write)

    try:
        if DELEGATING in environment:
            return _end_loop(environment)
        request = parse(environment, given)
        perform(request, deliver)
    except CniError as error:
        failure = error
    except MemoryError:
        failure = CniError(IO_FAILURE, "memory has run out")
    except Exception as error:  # noqa: BLE001 - the last boundary: a runtime needs an answer to a bug, too
        import traceback

        listener.warn(traceback.format_exc())
        failure = CniError(INTERNAL, f"internal error: {type(error).__name__}: {error}")
    else:
        return 0
    if delivered:
        # stdout has been tried already, and a second document would not be one.
        listener.warn(str(failure))
        return 1
    listener.fail(str(failure), failure.private)
    document = strict_json.encode(failure.document(given.version_to_answer))
    try:
        write(document)
    except OSError as error:
        listener.warn(f"cannot write to stdout: {error}: {document.decode('ascii')}")
    return 1


def _end_loop(environment: Mapping[str, str]) -> int:
    """Answer a call by ourselves, under whatever name: it would wait for its own end.

    An ADD comes to nothing then, so that a DEL has nothing to do.
    """
    if environment["CNI_COMMAND"] == "DEL":
        return 0
    raise CniError(INVALID_CONFIGURATION, "ipam.type leads back to this plugin")


def _document(result: Result, version: str) -> bytes:
    from cni_ipvlan.cni import result as results

    return strict_json.encode(results.render(result, version))


def _write_result(document: bytes, write: Callable[[bytes], None]) -> None:
    try:
        write(document)
    except OSError as error:
        raise CniError(IO_FAILURE, f"cannot write the result to stdout: {error}") from None
