"""Check what the IPAM plugin dhcp needs: its daemon, and answers that containers hear."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from shlex import join
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import machine, tc
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.iproute.runner import Runner

_SOCKET = "/run/cni/dhcp.sock"  # its default
_BROADCAST = re.compile(r" --?broadcast(=true)?(?= |$)")  # as Go's package flag reads options
_SOCKET_PATH = re.compile(r" --?socketpath[= ](\S+)")
_SECONDS = 5.0


def examine(runner: Runner, config: dict[str, Any]) -> Iterator[Finding]:
    """Yield the findings about a network's configuration."""
    socket = str(config["ipam"].get("daemonSocketPath") or _SOCKET)
    start = f"start its daemon on this node: {explain.dhcp_daemon('dhcp')}"
    daemons = list(_daemons(socket))
    if not os.path.exists(socket):
        yield Finding(PROBLEM, "ipam", f"{socket} does not exist", start)
    elif not daemons and not _is_open(socket):
        yield Finding(PROBLEM, "ipam", f"nothing listens on {socket}", f"remove it, and {start}")
    if not machine.missing_capabilities():  # or the kernel would refuse it for that reason
        yield from _answers(runner, daemons)


def _answers(runner: Runner, daemons: list[tuple[str, str]]) -> Iterator[Finding]:
    """Ask the kernel and tc for what ADD asks of them, in a network namespace that ends with it."""
    commands = (tc.clsact_add("lo"), tc.broadcast_filter_add("lo"))
    script = " && ".join(map(join, commands))
    done = runner.run(Command(("unshare", "--net", "sh", "-c", script), seconds=_SECONDS))
    if not done.status:
        text = "tc can have DHCP answers broadcast, so that containers hear them"
        yield Finding(OK, "ipam", text)
        return
    why = done.killed_because or done.stderr.decode("utf-8", "replace").strip()
    text = f"tc can't have DHCP answers broadcast: {why}"
    yield Finding(WARNING, "ipam", text, explain.BROADCASTING)
    for process, line in daemons:
        if not _BROADCAST.search(line):
            text = f"process {process}, the daemon of dhcp, runs without -broadcast"
            yield Finding(WARNING, "ipam", text)


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
