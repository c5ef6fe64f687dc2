"""Checks before any change: the container, and room for what is written."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from cni_ipvlan.cni.errors import INVALID_ENVIRONMENT, NOT_AVAILABLE, CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.state.registry import DIRECTORY


def container(call: Call) -> Namespace:
    """Return the container's namespace, which is kept open until the transaction ends."""
    netns = container_namespace(call.request)
    call.tx.hold(call.node.runner.holding(netns))
    return netns


def container_namespace(request: Request) -> Namespace:
    """Return the namespace at CNI_NETNS; raises CniError 4 if it can't be a container's."""
    try:
        found = namespace.find(request.netns)
    except FileNotFoundError:
        raise _bad_netns(
            request,
            "there is no such file",
            "list namespaces with ip netns or lsns -t net; the container may have ended already",
        ) from None
    except PermissionError as error:
        raise _bad_netns(request, _reason(error), _how_to_open_it()) from None
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        raise _bad_netns(
            request,
            _reason(error),
            "give the path of a network namespace: /run/netns/NAME, or /proc/PID/ns/net",
        ) from None
    if found.identity == namespace.own() and not request.may_share_netns:
        raise _bad_netns(
            request,
            "that is the namespace the plugin itself runs in",
            "add no interface, since a container on the host's network needs none "
            "(CNI_NETNS_OVERRIDE=1 adds one anyway)",
        )
    return found


def _bad_netns(request: Request, why: str, advice: str) -> CniError:
    msg = f"CNI_NETNS is {request.netns!r}; {why}"
    return CniError(INVALID_ENVIRONMENT, msg, f"try: {advice}", subject="CNI_NETNS")


def _how_to_open_it() -> str:
    """Return what to try if this process may not open a namespace."""
    from cni_ipvlan.iproute import machine

    if os.geteuid():
        return "run as root"
    # The kernel asks as for ptrace(2): proc_ns_get_link() in fs/proc/namespaces.c.
    why = machine.why_not_permitted(("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"))
    return f"run as the host's root with all capabilities: {why}"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def check_records() -> None:
    """Raise CniError unless an ADD can write its records, without writing any."""
    with suppress(FileNotFoundError):
        status = os.lstat(DIRECTORY)
        if not stat.S_ISDIR(status.st_mode) or (status.st_uid and not os.geteuid()):
            raise CniError(
                NOT_AVAILABLE,
                f"{DIRECTORY} is not a directory, or belongs to another user",
                f"try: remove it: mv {DIRECTORY} {DIRECTORY}.old",
            )
    check_writable(DIRECTORY)


def check_writable(directory: str) -> None:
    """Raise CniError if root certainly can't write into a directory, which may be made for that."""
    place = os.path.abspath(directory)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    room, is_root = os.statvfs(place), os.geteuid() == 0
    if room.f_flag & os.ST_RDONLY or (is_root and not os.access(place, os.W_OK | os.X_OK)):
        raise CniError(
            NOT_AVAILABLE,
            f"{place} can't be written to",
            f"try: make it writable: findmnt -T {place} shows how it is mounted",
        )
    if (room.f_blocks and not room.f_bfree) or (room.f_files and not room.f_ffree):
        raise CniError(
            NOT_AVAILABLE, f"{place} is full", f"try: make room: df {place}; du -x {place}"
        )
