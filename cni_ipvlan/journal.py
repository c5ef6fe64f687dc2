"""What is told besides the answer: on stderr, and in a log file where one is configured."""

from __future__ import annotations

import os
import stat
import time
from shlex import join, quote

from cni_ipvlan.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.iproute.runner import Event

LEVELS = ("panic", "error", "verbose", "debug")  # as Multus names them, from least to most
DEFAULT_LEVEL = "verbose"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Journal:
    """Tells of one call, described by its ``environment``; ``say`` takes text for stderr.

    Warnings go to stderr; into a log file go, by level, failures (error), each
    change (verbose) and each query (debug). A file that can't be written is
    said once, and does not fail the call.
    """

    def __init__(self, say: Callable[[str], None], environment: Mapping[str, str]) -> None:
        self._say = say
        self._environment = environment
        names = (environment.get("CNI_CONTAINERID"), environment.get("CNI_IFNAME"))
        self._context = " ".join(name for name in names if name)
        self._file: int | None = None
        self._level = LEVELS.index(DEFAULT_LEVEL)

    def open(self, config: Mapping[str, object]) -> None:
        """Start logging, if CNI_IPVLAN_LOG or else the configuration asks for it.

        A call whose configuration is invalid is logged, too: nothing is
        presumed of it.
        """
        path, level = self._settings(config)
        if not path:
            return
        self._level = LEVELS.index(level)
        try:
            self._file = _open(path)
        except (OSError, ValueError) as error:
            self._say(f"{self._prefix()}cannot log to {path}: {error}")

    def warn(self, text: str) -> None:
        """Tell what does not stop the call but should be known."""
        self._say(f"{self._prefix()}{text}")
        self._log("error", f"warning: {text}")

    def fail(self, text: str) -> None:
        """Log the failure that the caller is told otherwise."""
        self._log("error", f"failed: {text}")

    def command(self, event: Event) -> None:
        """Log a command that ended."""
        self._log("verbose" if event.purpose else "debug", describe(event))

    def _settings(self, config: Mapping[str, object]) -> tuple[str, str]:
        path = self._environment.get("CNI_IPVLAN_LOG")
        if path:
            return path, "debug"
        configured, level = config.get("logFile"), config.get("logLevel")
        known = level if isinstance(level, str) and level in LEVELS else DEFAULT_LEVEL
        return (configured if isinstance(configured, str) else ""), known

    def _prefix(self) -> str:
        return f"{self._context}: " if self._context else ""

    def _log(self, level: str, text: str) -> None:
        if self._file is None or LEVELS.index(level) > self._level:
            return
        now = time.time()
        moment = (
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03}Z"
        )
        line = " | ".join(f"{moment} [{os.getpid()}] {self._prefix()}{text}".splitlines())
        try:
            # One write to a file opened for appending: lines of many processes don't mix.
            os.write(self._file, line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            self._say(f"{self._prefix()}cannot log: {error}")
            self._file = None


def describe(event: Event) -> str:
    """Return a command, its time and status, what it was for, and its failure, in one line."""
    completed = event.completed
    lines = f" <<< {quote('; '.join(event.batch))}" if event.batch else ""
    parts = [
        join(completed.argv) + lines,
        f"# {completed.seconds * 1000:.1f} ms, status {completed.status}",
    ]
    if event.purpose:
        parts.append(f"({event.purpose})")
    if completed.status:
        said = (completed.stderr.strip() or completed.stdout.strip()).decode("utf-8", "replace")
        parts.append(f"said: {said}")
    return " ".join(parts)


def _open(path: str) -> int:
    """Open a log file to append to, led there by no link and to no file of somebody else's making.

    Directory by directory: who can write to one could put a link there after we looked.
    """
    if not path.startswith("/"):
        raise ValueError("an absolute path is needed")
    *directories, name = [part for part in path.split("/") if part] or [""]
    parent = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        for directory in directories:
            child = _enter(parent, directory)
            os.close(parent)
            parent = child
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        # O_NONBLOCK: opening a pipe without a reader would wait for one.
        descriptor = os.open(name, flags | os.O_NONBLOCK, 0o600, dir_fd=parent)
    finally:
        os.close(parent)
    fault = _fault(os.fstat(descriptor))
    if fault:
        os.close(descriptor)
        raise ValueError(fault)
    return descriptor


def _enter(parent: int, name: str) -> int:
    is_open_to_others = bool(os.fstat(parent).st_mode & _OTHERS_MAY_WRITE)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW * is_open_to_others)
    try:
        return os.open(name, flags, dir_fd=parent)
    except NotADirectoryError:
        if is_open_to_others and stat.S_ISLNK(os.lstat(name, dir_fd=parent).st_mode):
            raise ValueError(f"{name} is a link in a directory that others can write to") from None
        raise


def _fault(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    if status.st_nlink > 1:
        return "it has another name as well"
    return ""
