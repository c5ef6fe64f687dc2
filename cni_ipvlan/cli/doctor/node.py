"""Check what any ADD on this node needs: the kernel, programs, permission, a place for records."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, failed, reported
from cni_ipvlan.iproute import causes, commands, machine
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError
from cni_ipvlan.state.registry import DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.iproute.runner import Runner

_OLDEST_IPROUTE2 = (5, 10)
_ITS_DATE = (2020, 12, 14)
# Until 2020, the version was the date of a snapshot, YYMMDD, and the first were made in 1999.
_YEAR_OF_THE_FIRST = 99
_VERSION = re.compile(r"iproute2-(?:v?(\d+)\.(\d+)|ss(\d\d)(\d\d)(\d\d))")
_PROGRAMS = ("nsenter", "tee", "cat")
_SECONDS = 5.0
_FROM_MODULE = {
    machine.LOADED: (OK, ""),
    machine.AVAILABLE: (WARNING, "the first ADD loads it; to load it now: modprobe ipvlan"),
    machine.BLOCKED: (PROBLEM, "remove that line, then: modprobe ipvlan"),
    machine.ABSENT: (
        PROBLEM,
        "install the kernel's extra modules, or a kernel with CONFIG_IPVLAN",
    ),
}


def examine(runner: Runner) -> Iterator[Finding]:
    """Yield the findings about the node."""
    yield from reported("kernel", _kernel(runner))
    yield from reported("iproute2", _iproute2(runner))
    yield from _programs(runner)
    yield from reported("permission", _permission())
    yield from reported("records", _records())


def _kernel(runner: Runner) -> Iterator[Finding]:
    module = machine.ipvlan_module()
    if module.state == machine.UNKNOWN:
        yield _asked(runner)
    else:
        state, advice = _FROM_MODULE[module.state]
        yield Finding(state, "kernel", module.text, advice)


def _asked(runner: Runner) -> Finding:
    """Ask the kernel itself; raises CommandError if it does not say."""
    purpose = "find out whether the kernel has ipvlan"
    probe = Command(commands.link_add_without_master(), purpose)
    answer = runner.run(probe)
    release = os.uname().release
    if b"Invalid argument" in answer.stderr:
        return Finding(OK, "kernel", f"Linux {release} has ipvlan")
    failure = CommandError(probe, answer)
    cause = causes.explain(failure.argv, failure.answer)
    if cause.kind != causes.NO_IPVLAN:
        raise failure
    return Finding(PROBLEM, "kernel", f"Linux {release} has no ipvlan", cause.advice)


def _iproute2(runner: Runner) -> Iterator[Finding]:
    answer = runner.run(Command(("ip", "-V"), seconds=_SECONDS))
    printed = (answer.stdout or answer.stderr).decode("utf-8", "replace").strip()
    oldest = ".".join(map(str, _OLDEST_IPROUTE2))
    version = _VERSION.search(printed)
    if "iproute2" not in printed:
        text = f"ip is not iproute2's: {printed[:60] or answer.killed_because}"
        yield Finding(PROBLEM, "iproute2", text, f"install iproute2 {oldest} or newer")
    elif version is None:
        text = f"{printed[:60]}: this version can't be compared with {oldest}, which is needed"
        yield Finding(WARNING, "iproute2", text)
    elif _is_too_old(version):
        text = f"{printed} is older than {oldest} of December 2020"
        yield Finding(PROBLEM, "iproute2", text, f"install {oldest} or newer")
    else:
        yield Finding(OK, "iproute2", printed)


def _is_too_old(version: re.Match[str]) -> bool:
    if version[1]:
        return (int(version[1]), int(version[2])) < _OLDEST_IPROUTE2
    year, month, day = (int(each) for each in version.groups()[2:])
    return (year + (1900 if year >= _YEAR_OF_THE_FIRST else 2000), month, day) < _ITS_DATE


def _programs(runner: Runner) -> Iterator[Finding]:
    for program in _PROGRAMS:
        try:
            runner.run(Command((program, "--version"), seconds=_SECONDS))
        except ProgramNotFoundError as error:
            yield failed("programs", error)


def _permission() -> Iterator[Finding]:
    missing = machine.missing_capabilities()
    if missing:
        text = f"without {' and '.join(missing)}, ADD and some of these checks can't work"
        yield Finding(WARNING, "permission", text, "run it as root, as runtimes do")
    else:
        text = "this user may change networks and enter namespaces"
        yield Finding(OK, "permission", text)


def _records() -> Iterator[Finding]:
    """Check that an ADD can write its records, without writing any."""
    place = DIRECTORY if os.path.lexists(DIRECTORY) else os.path.dirname(DIRECTORY)
    status, room = os.lstat(place), os.statvfs(place)
    is_root = os.geteuid() == 0
    if place == DIRECTORY and (
        not stat.S_ISDIR(status.st_mode) or (is_root and status.st_uid != 0)
    ):
        text = f"{place} is not a directory, or belongs to another user"
        yield Finding(PROBLEM, "records", text, f"remove it: mv {place} {place}.old")
    elif room.f_flag & os.ST_RDONLY:
        text = f"{place} is read-only, so no ADD can keep its record there"
        advice = "mount it writable, as tmpfs; in a container, give it the host's /run"
        yield Finding(PROBLEM, "records", text, advice)
    elif room.f_blocks and not room.f_bavail:
        yield Finding(PROBLEM, "records", f"{place} is full", f"make room: du -x {place}")
    elif is_root and not os.access(place, os.W_OK | os.X_OK):
        text = f"{place} can't be written to, so no ADD can keep its record there"
        yield Finding(PROBLEM, "records", text, f"look at its mode: ls -ld {place}")
    else:
        yield Finding(OK, "records", f"{place} is there for the records of attachments")
