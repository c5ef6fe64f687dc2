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
    if not os.path.exists(socket):
        advice = f"start its daemon on this node: {wanted}"
        yield Finding(PROBLEM, "ipam", f"{socket} does not exist", advice)
        return
    for process, line in _daemons():
        given = _SOCKET_PATH.search(line)
        if (given[1] if given else _SOCKET) == socket and not _BROADCAST.search(line):
            text = f"process {process}, the daemon of dhcp, runs without -broadcast"
            yield Finding(PROBLEM, "ipam", text, f"run it as {wanted}")


def _daemons() -> Iterator[tuple[str, str]]:
    """Yield the process ID and the command line of each daemon on this machine."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{process}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
            if os.path.basename(words[0]) == "dhcp" and words[1:2] == ["daemon"]:
                yield process, " ".join(words).rstrip()
