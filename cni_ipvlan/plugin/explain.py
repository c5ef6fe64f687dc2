"""Explain failures: the command and its error, the cause, conflicts, and what to try next."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_interface

from cni_ipvlan.cni import SUPPORTED_VERSIONS, delegate, errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import IprouteError, commands, machine, queries, tc
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, UnusableArgumentError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import causes, codes, inventory
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master, shortened
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import DIRECTORY, Registry

_ADVICE = {
    errno.EACCES: "run as root",
    errno.EPERM: "run as root",
    errno.ENOSPC: "make room: df{at} and df -i{at} show where there is none",
    errno.EDQUOT: "make room: df{at} and df -i{at} show where there is none",
    errno.EROFS: "make it writable: findmnt -T{at} shows how it is mounted",
}
_PACKAGES = {
    **dict.fromkeys(("ip", "tc"), "iproute2"),
    **dict.fromkeys(("flock", "nsenter", "unshare"), "util-linux"),
    **dict.fromkeys(("cat", "tee"), "coreutils"),
    "arping": "iputils' arping (Debian: iputils-arping)",
    "ping": "iputils' ping (Debian: iputils-ping)",
}
_NAMED = 3  # of many
_SECONDS = 1.0
_UNANSWERED = (IprouteError, OSError, ValueError, LookupError)
# The dhcp plugin of containernetworking/plugins; and when it is killed before it gives up.
_NO_ANSWER = ("no more tries", "it had not ended after")
_OF_PLUGINS_IN_GO = 999  # every failure of host-local and static that is not of the protocol
# Words in messages of containernetworking/plugins, and what to do about them.
_ADVICE_OF_IPAM = {
    "no space left on device": "look at the file system of the leases: df {leases}",
    "read-only file system": "look at the file system of the leases: findmnt -T {leases}",
    "no IP addresses available in range set": (
        "release those of containers that are gone: ipvlan gc -c FILE --keep-existing; "
        "{leases} has a file for each, with the container's ID in it; or enlarge the range"
    ),
    "requested ": (
        "ask for another address (ips, or IP in CNI_ARGS), in a range of ipam and free: {leases} "
        "has a file for each that is not"
    ),
    "duplicate allocation is not allowed": (
        "delete the container's attachment first; its lease is in {leases}"
    ),
    "Failed to find address added by container": (
        "delete the attachment and add it again: its lease in {leases} is gone, so the "
        "address may be given away"
    ),
    "ARGS: ": (
        "correct CNI_ARGS, which has NAME=VALUE pairs with semicolons between them; with "
        "IgnoreUnknown=1 among them, the plugin ignores those that it does not know"
    ),
}
BROADCASTING = (
    "let the DHCP server broadcast (dnsmasq: dhcp-broadcast), or the daemon of dhcp ask for it, "
    "see docs/dhcp.md"
)
# containernetworking-plugins of Debian has it, with ExecStart=/usr/lib/cni/dhcp daemon
_DHCP_UNIT = "/usr/lib/systemd/system/cni-dhcp.service"


def as_cni_error(error: Exception) -> CniError:
    """Return ``error`` as a CniError; raise it again if it is unexpected."""
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
            f"cannot {error.purpose or 'run a command'}: {error.word!r} is not a valid argument",
            "it contains a NUL, or half of a UTF-16 surrogate pair",
        )
    if isinstance(error, UnreadableAnswerError):
        return CniError(
            codes.TOOL_UNUSABLE,
            "cannot parse the output of ip -j",
            "try: install iproute2 5.10 or newer",
            f"it printed: {str(error)[:200]}",
        )
    if isinstance(error, InterruptedBySignalError):
        return CniError(codes.INTERRUPTED, f"interrupted by {error.signal}")
    if isinstance(error, BusyError):
        left = f"a killed call has left a command behind; fuser -v {DIRECTORY}/locks shows it"
        return CniError(errors.TRY_AGAIN_LATER, str(error), "" if error.is_live else left)
    if isinstance(error, OSError):
        return _system_error(error)
    raise error


def _system_error(error: OSError) -> CniError:
    file = str(error.filename or "")
    # File names may contain names of other containers, so only these are public.
    places = (DIRECTORY, "/proc/self")
    place = next((each for each in places if f"{file}/".startswith(f"{each}/")), "")
    msg = f"system error: {error.strerror or error}{f': {place}' if place else ''}"
    failure = CniError(errors.IO_FAILURE, msg, private=f"file: {file}" if file else "")
    if isinstance(error, PermissionError):
        failure.add_details(f"found: {machine.why_not_permitted()}")
    if error.errno in _ADVICE:
        # Not the directory itself, which may not be there.
        at = f" {os.path.dirname(place)}" if place else ""
        failure.add_details(f"try: {_ADVICE[error.errno].format(at=at)}")
    return failure


def _command_failed(error: CommandError) -> CniError:
    cause = causes.explain(error.command, error.answer)
    status = error.completed.status
    ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    answer = error.answer or ended
    in_shell = commands.in_shell(error.command.entered_argv)
    what = error.command.purpose or f"run {in_shell!r}"
    why = cause.meaning or answer.splitlines()[-1]
    command = [f"command: {in_shell}", f"answer: {answer}"]
    state = [f"found: {each}" for each in (*error.findings, *_state_of_machine(cause.code, error))]
    advice = [f"try: {cause.advice}"] if cause.advice else []
    return CniError(cause.code, f"cannot {what}: {why}", "\n".join((*command, *state, *advice)))


def _state_of_machine(code: int, error: CommandError) -> list[str]:
    if code == codes.NO_IPVLAN:
        return [machine.ipvlan_module().text]
    needed = ("CAP_NET_RAW",) if error.command.argv[0] == "arping" else machine.ALWAYS_NEEDED
    return [machine.why_not_permitted(needed)] if code == codes.NOT_PERMITTED else []


def in_container(error: CommandError, tx: Transaction, netns: Namespace) -> list[str]:
    """Return what in the container explains why a route was refused, one line each."""
    if _code(error) != codes.ROUTE_REFUSED:
        return []
    with suppress(*_UNANSWERED):
        words = error.command.argv[3:]  # of commands.route_add()
        given = dict(zip(words[1::2], words[2::2], strict=True))
        output = tx.run(Command(commands.address_show(given["dev"]), netns=netns)).stdout
        has = [each.address for link in queries.links(output) for each in link.addresses]
        found = _next_hop(given.get("via", ""), given["dev"], has)
        output = tx.run(Command(commands.route_show("table", "all"), netns=netns)).stdout
        table = given.get("table", str(queries.MAIN_TABLE))
        for each in queries.routes(output):
            if each.dst == words[0] and str(each.table) == table:
                via = f" via {each.gateway}" if each.gateway else ""
                route = f"{each.dst}{via} dev {each.device} metric {each.priority}"
                found.append(f"the container has the route {route}")
        return found
    return []


def elsewhere(
    error: CommandError, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    """Return which other interfaces cause a failure, one line each, for root only.

    It takes up to a second, so it must be called without holding a lock.
    """
    code, deadline = _code(error), time.monotonic() + _SECONDS
    with suppress(*_UNANSWERED):
        if code == codes.MASTER_BUSY and (found := rivals(tx, registry, master, deadline)):
            what = f"{master.link.name} already carries {found[0].link.kind}"
            return [f"{what}: {shortened([each.describe() for each in found], _NAMED)}"]
        if code == codes.ADDRESS_IN_USE:
            address = ip_interface(error.command.argv[3]).ip  # of commands.address_add()
            there = inventory.take(tx, registry, deadline=deadline)
            for each in inventory.on_master(there, master):
                if any(ip_interface(other).ip == address for other in each.addresses):
                    return [f"{address} belongs to {each.describe()}"]
            if time.monotonic() >= deadline:
                searched = f"no owner of {address} was found in {_SECONDS:.0f} s"
                return [f"{searched}; ipvlan show searches longer"]
    return []


def rivals(
    tx: Transaction, registry: Registry, master: Master, deadline: float = math.inf
) -> list[Attachment]:
    """Return the links of other kinds that keep a master from carrying ipvlan."""
    found = inventory.take(tx, registry, queries.MACVLAN_KINDS, deadline=deadline)
    return list(inventory.on_master(found, master))


def _code(error: CommandError) -> int:
    return causes.explain(error.command, error.answer).code


def _next_hop(gateway: str, name: str, addresses: list[str]) -> list[str]:
    if not gateway:
        return []
    wanted = ip_address(gateway)
    own = [
        each
        for each in map(ip_interface, addresses)
        if each.version == wanted.version and (wanted.is_link_local or not each.is_link_local)
    ]
    if not own:
        return [
            f"{name} has no IPv{wanted.version} address, so it can't reach the gateway {gateway}"
        ]
    if any(wanted in each.network for each in own):
        return []
    subnets = ", ".join(f"{each} (subnet {each.network})" for each in own)
    return [f"the gateway {gateway} is in no subnet of {name}, which has {subnets}"]


def dhcp_daemon(plugin: str) -> str:
    """Return the command that starts the daemon of the IPAM plugin dhcp."""
    if os.path.exists(_DHCP_UNIT):
        return "systemctl enable --now cni-dhcp.socket cni-dhcp.service"
    return f"{plugin} daemon"


def without_answer(
    error: CniError, tx: Transaction, netns: Namespace, refusal: str
) -> Iterator[str]:
    """Yield lines about DHCP requests that nobody answered; ``refusal`` is what tc said, if any."""
    if not any(each in error.msg for each in _NO_ANSWER):
        return
    if refusal:
        yield f"found: tc can't have DHCP answers broadcast: {refusal}"
        yield f"try: {BROADCASTING}, since ipvlan delivers packets by IP address"
        return
    with suppress(*_UNANSWERED):
        count = tc.edited_packets(tx.run(Command(tc.edits_show(), netns=netns)).stdout)
        yield f"found: {count} DHCP requests were sent, which asked for broadcast answers"
    yield "try: look for a DHCP server on the master's network"


def advice(request: Request, plugin: str, error: CniError) -> Iterator[str]:
    """Yield advice about an IPAM plugin's failure, if any; put a misleading message right."""
    is_in_go = plugin in ("host-local", "static") and error.code == _OF_PLUGINS_IN_GO
    found = [what for words, what in _ADVICE_OF_IPAM.items() if words in error.msg]
    if is_in_go and not found and request.command == "ADD":
        found = ["see what is wrong in ipam: ipvlan validate FILE"]
    if error.code == errors.INCOMPATIBLE_VERSION:
        known = [each for each in SUPPORTED_VERSIONS if f'"{each}"' in error.details]
        older = next((each for each in reversed(known) if each != request.version), "")
        yield f"set cniVersion to {older or 'one'}, which {plugin} supports, or install a newer one"
    elif request.command == "STATUS" and error.code in errors.OF_OLDER_PLUGINS:
        error.msg = f"the IPAM plugin {plugin} does not know STATUS (it said: {error.msg})"
        yield (
            f"set cniVersion to 1.0.0, or install a newer {plugin}: this one is older than CNI "
            "1.1.0, which has STATUS"
        )
    for what in found:
        yield what.format(leases=netconf.lease_directory(request.config))
    if error.code == errors.DELEGATE_FAILED:
        yield delegate.BY_HAND
    if "dhcp.sock" in error.msg:
        daemon = dhcp_daemon(delegate.find(plugin, request.path))
        yield f"start its daemon on this node: {daemon}"
