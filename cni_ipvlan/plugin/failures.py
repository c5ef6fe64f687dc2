"""Every failure as the one that leaves the plugin: what was tried, what was said, what it means."""

from __future__ import annotations

from shlex import join

from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import causes
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import (
    CommandError,
    InterruptedBySignalError,
    ProgramNotFoundError,
)
from cni_ipvlan.state.registry import DIRECTORY

_CODES = {
    causes.NO_IPVLAN: errors.NO_IPVLAN,
    causes.NO_LINK: errors.COMMAND_FAILED,
    causes.BUSY: errors.MASTER_BUSY,
    causes.NAME_TAKEN: errors.INTERFACE_NAME_TAKEN,
    causes.ADDRESS_IN_USE: errors.ADDRESS_IN_USE,
    causes.ROUTE_REFUSED: errors.ROUTE_REFUSED,
    causes.BAD_MTU: errors.INVALID_CONFIGURATION,
    causes.NOT_PERMITTED: errors.NOT_PERMITTED,
    causes.TOOL_UNUSABLE: errors.TOOL_UNUSABLE,
    causes.NAMESPACE_GONE: errors.INVALID_ENVIRONMENT,
    causes.NO_IPV6: errors.NO_IPV6,
    causes.UNKNOWN: errors.COMMAND_FAILED,
}
_PACKAGES = {"ip": "iproute2", "nsenter": "util-linux", "tee": "coreutils", "cat": "coreutils"}


def as_cni_error(error: Exception) -> CniError:
    """Return ``error`` as a CniError; one that nobody foresaw is raised again."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, CommandError):
        return _command_failed(error)
    if isinstance(error, ProgramNotFoundError):
        package = _PACKAGES.get(error.program)
        return CniError(
            errors.TOOL_UNUSABLE,
            f"cannot find the program {error.program!r}",
            f"searched: {error.searched}" + (f"\ntry: install {package}" if package else ""),
        )
    if isinstance(error, UnreadableAnswerError):
        return CniError(
            errors.TOOL_UNUSABLE,
            "ip printed no JSON that can be understood",
            "try: install iproute2 5.10 or newer",
            f"it printed: {str(error)[:200]}",
        )
    if isinstance(error, InterruptedBySignalError):
        return CniError(errors.INTERRUPTED, f"interrupted by {error.signal}")
    if isinstance(error, OSError):
        return _system_refused(error)
    raise error


def _system_refused(error: OSError) -> CniError:
    file = str(error.filename or "")
    # In the directory's files, as in namespaces' paths, others' attachments have their names.
    place = f": {DIRECTORY}" if f"{file}/".startswith(f"{DIRECTORY}/") else ""
    failure = CniError(errors.IO_FAILURE, f"the system refuses: {error.strerror or error}{place}")
    if file:
        failure.add_private(f"file: {file}")
    if isinstance(error, PermissionError):
        for each in _state_of_machine(causes.NOT_PERMITTED):
            failure.add_details(f"found: {each}")
        failure.add_details("try: run as root")
    return failure


def _command_failed(error: CommandError) -> CniError:
    cause = causes.explain(error.argv, error.answer)
    said = error.answer or (
        f"killed by signal {-error.status}" if error.status < 0 else f"exit status {error.status}"
    )
    what = error.purpose or f"run {join(error.argv)!r}"
    why = cause.meaning or said.splitlines()[-1]
    command = [f"command: {join(error.argv)}", f"answer: {said}"]
    state = [f"found: {each}" for each in (*error.found, *_state_of_machine(cause.kind))]
    advice = [f"try: {cause.advice}"] if cause.advice else []
    return CniError(
        _CODES[cause.kind],
        f"cannot {what}: {why}",
        "\n".join((*command, *state, *advice)),
    )


def _state_of_machine(kind: str) -> list[str]:
    if kind not in (causes.NO_IPVLAN, causes.NOT_PERMITTED):
        return []
    from cni_ipvlan.iproute import machine

    if kind == causes.NO_IPVLAN:
        return [machine.ipvlan_module().text]
    missing = machine.missing_capabilities()
    if missing:
        return [f"without {' and '.join(missing)}"]
    return ["no capability is missing here: a user namespace, seccomp or AppArmor may forbid it"]
