"""DHCP: let requests and answers get through an interface that has no address yet.

ipvlan delivers what arrives by IP address, and the interface is only asking for one. Broadcasts
reach every interface, and servers broadcast their answer to a request with the flag BROADCAST
(RFC 2131, section 4.1). Not every DHCP client sets it, so tc(8) does.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from cni_ipvlan.cni.errors import NOT_AVAILABLE, CniError
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.plugin import explain
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import Any
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import DHCP

_SOCKET = "/run/cni/dhcp.sock"  # its default
_CONNECT_SECONDS = 1.0
_TURN_SECONDS = 30.0
# What the dhcp plugin of containernetworking/plugins says, and what we say when we kill it.
_TIMEOUT_MESSAGES = ("no more tries", "it had not ended after")


def check_daemon(config: Mapping[str, Any]) -> None:
    """Raise CniError unless the daemon of the plugin dhcp, or systemd for it, has its socket."""
    path = str(config["ipam"].get("daemonSocketPath") or _SOCKET)
    advice = f"start its daemon on this node: {explain.dhcp_daemon('dhcp')}"
    if not os.path.exists(path):
        raise CniError(NOT_AVAILABLE, f"{path} does not exist", f"try: {advice}")
    # Connected to, since /proc/net/unix has only those of this network namespace.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        try:
            connection.connect(path)
        except PermissionError:
            return  # only root may ask
        except OSError:
            raise CniError(
                NOT_AVAILABLE, f"nothing listens on {path}", f"try: remove it, and {advice}"
            ) from None


@contextmanager
def enable_requests(call: Call, master: Master, netns: Namespace) -> Iterator[None]:
    """Bring a container's interface up, and have its requests answered by broadcast.

    If the kernel or tc can't do that, the client may still ask for it, so only the failure of a
    request reports it. One container of a master asks at a time: the client of
    containernetworking/plugins 1.1.1 makes its transaction ID from the MAC address and the second,
    so that two containers would accept the same answers.
    """
    tx, name, refusal = call.tx, call.request.ifname, ""
    # The client would bring it up itself, but only after a first failure and a delay:
    # "network is down", "retrying in 2.98 seconds".
    tx.run(Command(commands.link_set(name, "up"), "bring it up", netns))
    changes = {  # without an undo, as the interface goes
        "prepare to change DHCP requests": commands.clsact_add(name),
        "have DHCP requests and their answers broadcast": commands.broadcast_filter_add(name),
    }
    for purpose, argv in changes.items():
        completed = tx.run(Command(argv, purpose, netns, accept=commands.OPTIONAL))
        if completed.status:
            refusal = completed.stderr.decode("utf-8", "replace").strip()
            refusal = refusal or f"exit status {completed.status}"
            break
    deadline = time.monotonic() + _TURN_SECONDS
    check_interrupt = call.node.wait_check(f"DHCP on {master.link.name}")

    def check() -> None:
        check_interrupt()
        if time.monotonic() >= deadline:
            raise BusyError("other containers are asking", is_live=True)

    with ExitStack() as turn:
        with suppress(BusyError):  # the server may not answer, so this one asks at the same time
            turn.enter_context(call.registry.master_lock(master.key, check, DHCP))
        try:
            yield
        except CniError as error:
            if any(each in error.msg for each in _TIMEOUT_MESSAGES):
                advice = "look for a DHCP server on the master's network"
                if refusal:
                    error.add_details(f"found: tc can't have DHCP answers broadcast: {refusal}")
                    advice = f"{explain.BROADCASTING}, since ipvlan delivers packets by IP address"
                error.add_details(f"try: {advice}")
            raise
