"""Failures explained: what was tried and said, what it means, who is in the way, what to do."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni import delegate, errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import causes, commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import (
    CommandError,
    InterruptedBySignalError,
    ProgramNotFoundError,
    UnusableArgumentError,
)
from cni_ipvlan.plugin import codes
from cni_ipvlan.state.registry import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.state.registry import Registry

_CODES = {
    causes.NO_IPVLAN: codes.NO_IPVLAN,
    causes.NO_LINK: codes.COMMAND_FAILED,
    causes.BUSY: codes.MASTER_BUSY,
    causes.NAME_TAKEN: codes.INTERFACE_NAME_TAKEN,
    causes.ADDRESS_IN_USE: codes.ADDRESS_IN_USE,
    causes.ROUTE_REFUSED: codes.ROUTE_REFUSED,
    causes.BAD_MTU: errors.INVALID_CONFIGURATION,
    causes.NOT_PERMITTED: codes.NOT_PERMITTED,
    causes.TOOL_UNUSABLE: codes.TOOL_UNUSABLE,
    causes.NAMESPACE_GONE: errors.INVALID_ENVIRONMENT,
    causes.NO_IPV6: codes.NO_IPV6,
    causes.UNKNOWN: codes.COMMAND_FAILED,
}
# What is to be done in our own words, in place of iproute's.
_ADVICE = {
    causes.ADDRESS_IN_USE: "see who has what with ipvlan show, and check that no two networks on "
    "one master hand out the same range",
    causes.NAME_TAKEN: "choose another CNI_IFNAME",
}
_PACKAGES = {"ip": "iproute2", "nsenter": "util-linux", "tee": "coreutils", "cat": "coreutils"}
_RIVALS = ("macvlan", "macvtap")  # kinds that want a master for themselves, as ipvlan does
_SECONDS = 1.0
_UNANSWERED = (
    CommandError,
    InterruptedBySignalError,
    ProgramNotFoundError,
    UnreadableAnswerError,
    OSError,
    ValueError,
)
_MAIN_TABLE = "254"  # RT_TABLE_MAIN, <linux/rtnetlink.h>
_LEASES = "/var/lib/cni/networks"  # where host-local keeps them unless it is told otherwise


def as_cni_error(error: Exception) -> CniError:
    """Return ``error`` as a CniError; one that nobody foresaw is raised again."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, CommandError):
        return _command_failed(error)
    if isinstance(error, ProgramNotFoundError):
        package = _PACKAGES.get(error.program)
        return CniError(
            codes.TOOL_UNUSABLE,
            f"cannot find the program {error.program!r}",
            f"searched: {error.searched}" + (f"\ntry: install {package}" if package else ""),
        )
    if isinstance(error, UnusableArgumentError):
        return CniError(
            errors.INVALID_CONFIGURATION,
            f"cannot {error.purpose or 'run a command'}: no command can be given {error.word!r}",
            "it holds a NUL, or half of a UTF-16 surrogate pair",
        )
    if isinstance(error, UnreadableAnswerError):
        return CniError(
            codes.TOOL_UNUSABLE,
            "ip printed no JSON that can be understood",
            "try: install iproute2 5.10 or newer",
            f"it printed: {str(error)[:200]}",
        )
    if isinstance(error, InterruptedBySignalError):
        return CniError(codes.INTERRUPTED, f"interrupted by {error.signal}")
    if isinstance(error, OSError):
        return _system_refused(error)
    raise error


def _system_refused(error: OSError) -> CniError:
    file = str(error.filename or "")
    # In the directory's files, as in namespaces' paths, others' attachments have their names.
    place = f": {DIRECTORY}" if f"{file}/".startswith(f"{DIRECTORY}/") else ""
    failure = CniError(errors.IO_FAILURE, f"system error: {error.strerror or error}{place}")
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
    what_to_do = _ADVICE.get(cause.kind, cause.advice)
    advice = [f"try: {what_to_do}"] if what_to_do else []
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


def in_container(error: CommandError, tx: Transaction, container: Namespace) -> list[str]:
    """Return what the container itself shows about a refusal, a line each."""
    if _kind(error) != causes.ROUTE_REFUSED:
        return []
    try:
        return _route(error.argv, tx, container)
    except _UNANSWERED:
        return []


def elsewhere(
    error: CommandError, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    """Return who is in the way, a line each: nothing for a tenant to see.

    It takes a second at the most, and nothing may be held meanwhile.
    """
    try:
        if _kind(error) == causes.BUSY:
            return _rivals(tx, registry, master)
        if _kind(error) == causes.ADDRESS_IN_USE:
            return _holder_of_address(error.argv, tx, registry, master)
    except _UNANSWERED:
        pass
    return []


def rivals(
    tx: Transaction, registry: Registry, master: Master, deadline: float = math.inf
) -> list[Attachment]:
    """Return the links of other kinds that keep a master from serving ipvlan."""
    from cni_ipvlan.plugin import inventory

    return [
        each
        for kind in _RIVALS
        for each in inventory.on_master(
            inventory.take(tx, registry, kind, deadline=deadline), master
        )
    ]


def _kind(error: CommandError) -> str:
    return causes.explain(error.argv, error.answer).kind


def _rivals(tx: Transaction, registry: Registry, master: Master) -> list[str]:
    from cni_ipvlan.plugin import inventory

    found = rivals(tx, registry, master, time.monotonic() + _SECONDS)
    if not found:
        return []
    return [f"{master.link.name} already carries {found[0].link.kind}: {inventory.summary(found)}"]


def _holder_of_address(
    argv: Argv, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    from ipaddress import ip_interface

    from cni_ipvlan.plugin import inventory

    address = ip_interface(argv[argv.index("add") + 1]).ip
    deadline = time.monotonic() + _SECONDS
    for each in inventory.on_master(inventory.take(tx, registry, deadline=deadline), master):
        if any(ip_interface(theirs).ip == address for theirs in each.addresses):
            return [f"{address} belongs to {each.describe()}"]
    if time.monotonic() >= deadline:
        return [f"who has {address} was not found in {_SECONDS:.0f} s; ipvlan show takes its time"]
    return []


def _route(argv: Argv, tx: Transaction, container: Namespace) -> list[str]:
    """Read the command as commands.route_add() writes it."""
    words = argv[argv.index("add") + 1 :]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    output = tx.see(Command(commands.address_show(given["dev"]), inside=container))
    has = [each.address for each in queries.addresses(output)]
    found = _way_to_gateway(given.get("via", ""), given["dev"], has)
    output = tx.see(Command(commands.route_show_all(), inside=container))
    return found + [
        f"the container has the route {_described(each)}"
        for each in queries.routes(output)
        if each.dst == words[0] and str(each.table) == given.get("table", _MAIN_TABLE)
    ]


def _way_to_gateway(gateway: str, name: str, addresses: list[str]) -> list[str]:
    from ipaddress import ip_address, ip_interface

    if not gateway:
        return []
    wanted = ip_address(gateway)
    own = [
        each
        for each in map(ip_interface, addresses)
        if each.version == wanted.version and (wanted.is_link_local or not each.is_link_local)
    ]
    if not own:
        return [f"{name} has no IPv{wanted.version} address, so no way to the gateway {gateway}"]
    if any(wanted in each.network for each in own):
        return []
    subnets = ", ".join(f"{each} (subnet {each.network})" for each in own)
    return [f"the gateway {gateway} is in no subnet of {name}, which has {subnets}"]


def _described(route: queries.Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{route.dst}{via} dev {route.device} metric {route.priority}"


def lease_directory(config: Mapping[str, object]) -> str:
    """Return where host-local keeps a network's leases, a file each, named as the address."""
    ipam = config.get("ipam")
    directory = ipam.get("dataDir") if isinstance(ipam, dict) else None
    return f"{directory or _LEASES}/{config.get('name')}"


def advice(request: Request, plugin: str, error: CniError) -> Iterator[str]:
    """Yield what to do about an IPAM plugin's failure, where that is known."""
    leases = lease_directory(request.config)
    if error.code == errors.DELEGATE_FAILED:
        yield "run it by hand, with the network configuration on its standard input"
    # In the words of containernetworking/plugins:
    if "no IP addresses available in range set" in error.msg:
        yield (
            f"delete the leases of containers that are gone, as GC does where the plugin knows it: "
            f"{leases} has a file for each, with the container's ID in it; or enlarge the range"
        )
    if "duplicate allocation is not allowed" in error.msg:
        yield f"DEL the container's attachment first; its lease is in {leases}"
    if "dhcp.sock" in error.msg:
        yield f"start its daemon on this node: {delegate.find(plugin, request.path)} daemon"


class Failures:
    """Keeps the first of several failures, so that every step is tried before one is reported."""

    def __init__(self) -> None:
        self._first: CniError | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Go on after a CniError."""
        try:
            yield
        except CniError as error:
            if self._first is None:
                self._first = error
            else:
                self._first.add_failure(error)

    def raise_any(self) -> None:
        """Raise the first failure, with what else has failed, if there was one."""
        if self._first is not None:
            raise self._first
