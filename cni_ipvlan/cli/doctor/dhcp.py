"""Check the daemon of the IPAM plugin dhcp: it runs, and asks for answers that containers hear."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.finding import PROBLEM, Finding
from cni_ipvlan.plugin import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

_SOCKET = "/run/cni/dhcp.sock"  # its default
_BROADCAST = re.compile(r" --?broadcast(=true)?(?= |$)")  # as Go's package flag reads options
_SOCKET_PATH = re.compile(r" --?socketpath[= ](\S+)")


def daemon(config: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the daemon of a network's configuration."""
    socket = str(config["ipam"].get("daemonSocketPath") or _SOCKET)
    wanted = explain.dhcp_daemon("dhcp")
    start = f"start its daemon on this node: {wanted}"
    if not os.path.exists(socket):
        yield Finding(PROBLEM, "ipam", f"{socket} does not exist", start)
        return
    daemons = list(_daemons(socket))
    if not daemons and not _is_open(socket):
        yield Finding(PROBLEM, "ipam", f"nothing listens on {socket}", f"remove it, and {start}")
    for process, line in daemons:
        if not _BROADCAST.search(line):
            text = f"process {process}, the daemon of dhcp, runs without -broadcast"
            yield Finding(PROBLEM, "ipam", text, f"run it as {wanted}")


def _is_open(socket: str) -> bool:
    """Whether a process here has the socket: systemd, which starts the daemon when it is needed."""
    with open("/proc/net/unix", "rb") as file:
        return any(line.split()[-1] == os.fsencode(socket) for line in file)


def _daemons(socket: str) -> Iterator[tuple[str, str]]:
    """Yield the process ID and the command line of each daemon that listens on a socket."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
            line = " ".join(words).rstrip()
            given = _SOCKET_PATH.search(line)
            is_daemon = os.path.basename(words[0]) == "dhcp" and words[1:2] == ["daemon"]
            if is_daemon and (given[1] if given else _SOCKET) == socket:
                yield process, line
