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
from cni_ipvlan.iproute import IprouteError, commands, machine, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError, UnusableArgumentError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import causes, codes, inventory
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master, shorten_list
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import DIRECTORY, Registry

_ERRNO_ADVICE = {
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
_MOST_NAMES = 3  # of interfaces, in a message
_SEARCH_SECONDS = 1.0
_UNANSWERED = (IprouteError, OSError, ValueError, LookupError)
_GO_PLUGIN_ERROR = 999  # the code of all failures of host-local and static but the protocol's
# Words in messages of containernetworking/plugins, and what to try.
_IPAM_ADVICE = {
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
        advice = f"a killed call has left a command behind; fuser -v {DIRECTORY}/locks shows it"
        return CniError(errors.TRY_AGAIN_LATER, str(error), "" if error.is_live else advice)
    if isinstance(error, OSError):
        return _system_error(error)
    raise error


def _system_error(error: OSError) -> CniError:
    file = str(error.filename or "")
    # File names may contain names of other containers, so only these directories are public.
    directories = (DIRECTORY, "/proc/self")
    directory = next((each for each in directories if f"{file}/".startswith(f"{each}/")), "")
    msg = f"system error: {error.strerror or error}{f': {directory}' if directory else ''}"
    failure = CniError(errors.IO_FAILURE, msg, private=f"file: {file}" if file else "")
    if isinstance(error, PermissionError):
        failure.add_details(f"found: {machine.why_not_permitted()}")
    if error.errno in _ERRNO_ADVICE:
        # Not the directory itself, which may not be there.
        parent = f" {os.path.dirname(directory)}" if directory else ""
        failure.add_details(f"try: {_ERRNO_ADVICE[error.errno].format(at=parent)}")
    return failure


def _command_failed(error: CommandError) -> CniError:
    cause = causes.explain(error.command, error.answer)
    status = error.completed.status
    ending = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    answer = error.answer or ending
    in_shell = commands.in_shell(error.command.entered_argv)
    purpose = error.command.purpose or f"run {in_shell!r}"
    reason = cause.meaning or answer.splitlines()[-1]
    command = [f"command: {in_shell}", f"answer: {answer}"]
    state = [f"found: {each}" for each in (*error.findings, *_describe_machine(cause.code, error))]
    advice = [f"try: {cause.advice}"] if cause.advice else []
    return CniError(
        cause.code, f"cannot {purpose}: {reason}", "\n".join((*command, *state, *advice))
    )


def _describe_machine(code: int, error: CommandError) -> list[str]:
    if code == codes.NO_IPVLAN:
        return [machine.ipvlan_module().text]
    needed = ("CAP_NET_RAW",) if error.command.argv[0] == "arping" else machine.ALWAYS_NEEDED
    return [machine.why_not_permitted(needed)] if code == codes.NOT_PERMITTED else []


def netns_error(path: str, error: Exception | None) -> CniError:
    """Return why CNI_NETNS can't be a container's; without an error, it is our own namespace."""
    reason = getattr(error, "strerror", None) or str(error)
    advice = "give the path of a network namespace: /run/netns/NAME, or /proc/PID/ns/net"
    if error is None:
        reason = "that is the namespace the plugin itself runs in"
        advice = (
            "add no interface, since a container on the host's network needs none "
            "(CNI_NETNS_OVERRIDE=1 adds one anyway)"
        )
    elif isinstance(error, FileNotFoundError):
        reason = "there is no such file"
        advice = (
            "list namespaces with ip netns or lsns -t net; the container may have ended already"
        )
    elif isinstance(error, PermissionError):
        advice = "run as root"
        if not os.geteuid():
            # The kernel asks as for ptrace(2): proc_ns_get_link() in fs/proc/namespaces.c.
            missing = machine.why_not_permitted(("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"))
            advice = f"run as the host's root with all capabilities: {missing}"
    msg = f"CNI_NETNS is {path!r}; {reason}"
    return CniError(errors.INVALID_ENVIRONMENT, msg, f"try: {advice}", subject="CNI_NETNS")


def explain_route(error: CommandError, tx: Transaction, netns: Namespace) -> list[str]:
    """Return lines about what in the container explains why a route was refused."""
    if _code(error) != codes.ROUTE_REFUSED:
        return []
    with suppress(*_UNANSWERED):
        words = error.command.argv[3:]  # of commands.route_add()
        arguments = dict(zip(words[1::2], words[2::2], strict=True))
        output = tx.run(Command(commands.address_show(arguments["dev"]), netns=netns)).stdout
        addresses = [each.address for link in queries.links(output) for each in link.addresses]
        lines = _explain_gateway(arguments.get("via", ""), arguments["dev"], addresses)
        output = tx.run(Command(commands.route_show("table", "all"), netns=netns)).stdout
        table = arguments.get("table", str(queries.MAIN_TABLE))
        for each in queries.routes(output):
            if each.dst == words[0] and str(each.table) == table:
                via = f" via {each.gateway}" if each.gateway else ""
                route = f"{each.dst}{via} dev {each.device} metric {each.priority}"
                lines.append(f"the container has the route {route}")
        return lines
    return []


def find_conflicts(
    error: CommandError, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    """Return lines about the other interfaces that cause a failure, for root only.

    The search takes up to a second, so no lock may be held.
    """
    code, deadline = _code(error), time.monotonic() + _SEARCH_SECONDS
    with suppress(*_UNANSWERED):
        if code == codes.MASTER_BUSY:
            macvlans = find_macvlans(tx, registry, master, deadline)
            if macvlans:
                kind = macvlans[0].link.kind
                names = shorten_list([each.describe() for each in macvlans], _MOST_NAMES)
                return [f"{master.link.name} already carries {kind}: {names}"]
        if code == codes.ADDRESS_IN_USE:
            address = ip_interface(error.command.argv[3]).ip  # of commands.address_add()
            attachments = inventory.search(tx, registry, deadline=deadline)
            for each in inventory.select_of_master(attachments, master):
                if any(ip_interface(other).ip == address for other in each.addresses):
                    return [f"{address} belongs to {each.describe()}"]
    return []


def find_macvlans(
    tx: Transaction, registry: Registry, master: Master, deadline: float = math.inf
) -> list[Attachment]:
    """Return the links of other kinds that keep a master from carrying ipvlan."""
    attachments = inventory.search(tx, registry, queries.MACVLAN_KINDS, deadline=deadline)
    return list(inventory.select_of_master(attachments, master))


def _code(error: CommandError) -> int:
    return causes.explain(error.command, error.answer).code


def _explain_gateway(gateway: str, name: str, addresses: list[str]) -> list[str]:
    if not gateway:
        return []
    address = ip_address(gateway)
    interfaces = [
        each
        for each in map(ip_interface, addresses)
        if each.version == address.version and (address.is_link_local or not each.is_link_local)
    ]
    if not interfaces:
        return [
            f"{name} has no IPv{address.version} address, so it can't reach the gateway {gateway}"
        ]
    if any(address in each.network for each in interfaces):
        return []
    subnets = ", ".join(f"{each} (subnet {each.network})" for each in interfaces)
    return [f"the gateway {gateway} is in no subnet of {name}, which has {subnets}"]


def dhcp_daemon(plugin: str) -> str:
    """Return the command that starts the daemon of the IPAM plugin dhcp."""
    if os.path.exists(_DHCP_UNIT):
        return "systemctl enable --now cni-dhcp.socket cni-dhcp.service"
    return f"{plugin} daemon"


def advice(request: Request, plugin: str, error: CniError) -> Iterator[str]:
    """Yield advice about an IPAM plugin's failure, if any; correct a misleading message."""
    is_in_go = plugin in ("host-local", "static") and error.code == _GO_PLUGIN_ERROR
    lines = [line for words, line in _IPAM_ADVICE.items() if words in error.msg]
    if is_in_go and not lines and request.command == "ADD":
        lines = ["see what is wrong in ipam: ipvlan validate FILE"]
    if error.code == errors.INCOMPATIBLE_VERSION:
        versions = [each for each in SUPPORTED_VERSIONS if f'"{each}"' in error.details]
        version = next((each for each in reversed(versions) if each != request.version), "one")
        yield f"set cniVersion to {version}, which {plugin} supports, or install a newer one"
    elif request.command == "STATUS" and error.code in errors.OF_OLDER_PLUGINS:
        error.msg = f"the IPAM plugin {plugin} does not know STATUS (it said: {error.msg})"
        yield (
            f"set cniVersion to 1.0.0, or install a newer {plugin}: this one is older than CNI "
            "1.1.0, which has STATUS"
        )
    for line in lines:
        yield line.format(leases=netconf.lease_directory(request.config))
    if error.code == errors.DELEGATE_FAILED:
        yield delegate.BY_HAND
    if "dhcp.sock" in error.msg:
        daemon = dhcp_daemon(delegate.find(plugin, request.path))
        yield f"start its daemon on this node: {daemon}"
