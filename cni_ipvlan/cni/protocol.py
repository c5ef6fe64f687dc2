"""Answer a runtime's call: perform the verb, write at most one document, return the status."""

from __future__ import annotations

from cni_ipvlan.cni import strict_json
from cni_ipvlan.cni.delegate import DELEGATING
from cni_ipvlan.cni.errors import INTERNAL, INVALID_CONFIGURATION, IO_FAILURE, CniError
from cni_ipvlan.cni.request import parse
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from cni_ipvlan.cni.request import Request, Stdin
    from cni_ipvlan.cni.result import Result

    class Listener(Protocol):
        """Receives what is logged besides the answer."""

        def warn(self, text: str) -> None:
            """Log a warning, which may not reach the caller otherwise."""

        def fail(self, text: str, private: str = "") -> None:
            """Log a failure; the caller is sent it, too, except its ``private`` lines."""

    # Performs a request. It delivers the result while it can still undo everything,
    # since an attachment whose result can't be delivered must not stay.
    Perform = Callable[[Request, Callable[[Result], None]], None]

_MOST_RESULT = 4 << 20  # bytes; CHECK and DEL get it on stdin, with the configuration


def serve(
    environment: Mapping[str, str],
    stdin: Stdin,
    perform: Perform,
    write: Callable[[bytes], None],
    listener: Listener,
) -> int:
    """Answer one call of a runtime (except VERSION); return the exit status, 0 or 1.

    ``write`` is called at most once, with the document for stdout; if it raises
    OSError, the changes are undone. Every failure is passed to ``listener``.
    """
    delivered = False

    def deliver(result: Result) -> None:
        nonlocal delivered
        from cni_ipvlan.cni import result as results

        document = strict_json.encode(results.render(result, request.version))
        if len(document) > _MOST_RESULT:
            raise CniError(IO_FAILURE, f"the result has more than {_MOST_RESULT >> 20} MiB")
        delivered = True
        try:
            write(document)
        except OSError as error:
            raise CniError(IO_FAILURE, f"cannot write the result to stdout: {error}") from None

    try:
        if DELEGATING in environment:
            return _refuse_own_call(environment)
        request = parse(environment, stdin)
        perform(request, deliver)
    except CniError as error:
        failure = error
    except MemoryError:
        failure = CniError(IO_FAILURE, "out of memory")
    except Exception as error:  # noqa: BLE001 - the last boundary: a bug is answered with an error document, too
        import traceback

        listener.warn(traceback.format_exc())
        failure = CniError(INTERNAL, f"internal error: {type(error).__name__}: {error}")
    else:
        return 0
    if delivered:
        # A second document on stdout would make the first one invalid.
        listener.warn(str(failure))
    else:
        _report(failure, stdin.version_to_answer, write, listener)
    return 1


def _report(
    failure: CniError, version: str, write: Callable[[bytes], None], listener: Listener
) -> None:
    listener.fail(str(failure), failure.private)
    document = strict_json.encode(failure.document(version))
    try:
        write(document)
    except OSError as error:
        listener.warn(f"cannot write to stdout: {error}: {document.decode('ascii')}")


def _refuse_own_call(environment: Mapping[str, str]) -> int:
    """Refuse a call from this plugin itself, which would wait for itself forever.

    DEL succeeds, since no ADD can have succeeded this way.
    """
    if environment["CNI_COMMAND"] == "DEL":
        return 0
    raise CniError(INVALID_CONFIGURATION, "ipam.type leads back to this plugin")
