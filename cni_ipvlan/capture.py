"""Capture a runtime's calls: a file each, from which ``ipvlan replay`` makes the call again.

Its lines are JSON documents, written as things happen: the request, each command that has
ended, the outcome. So a file without an outcome is of a call that was killed, or still runs. A
file that can't be written is reported once and does not fail the call.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from cni_ipvlan import __version__, log_file
from cni_ipvlan.cni.errors import shortened
from cni_ipvlan.log import moment
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cni_ipvlan.cni.request import Stdin
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.log import Listener, Log

    Write = Callable[[bytes], None]

FORM = 1  # of the file
_MOST_FILES = 100  # in a directory
_MOST_BYTES = 64 << 20  # of all files there but those of running calls
_MOST_COMMANDS = 1 << 20  # bytes of all commands of a call
_MOST_TEXT = 1 << 14  # characters of a command's output, input or argument
_MOST_ANSWER = 1 << 20  # characters
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def captured(
    answer: Callable[[Listener, Write], int],
    environment: Mapping[str, str],
    given: Stdin,
    log: Log,
    write: Write,
) -> int:
    """Have a call answered, and capture it; return its exit status.

    The directory is that of CNI_IPVLAN_CAPTURE, or else the configuration's captureDir.
    """
    capture = _Capture(environment, given, log)
    status = 1

    def write_captured(document: bytes) -> None:
        write(document)
        capture.printed = document

    try:
        status = answer(capture, write_captured)
    finally:
        capture.end(status)
    return status


class _Capture:
    """A file with one call, which is logged as well. ``printed`` is what the runtime has got."""

    def __init__(self, environment: Mapping[str, str], given: Stdin, log: Log) -> None:
        self.printed = b""
        self.wait, self.warn = log.wait, log.warn
        self._log = log
        self._begun, self._started = moment(time.time()), time.monotonic()
        self._room, self._left_out = _MOST_COMMANDS, 0
        self._file = self._open(environment, given)
        names = [name for name in sorted(environment) if name.startswith("CNI_")]
        self._write(
            {
                "capture": FORM,
                "version": __version__,
                "time": self._begun,
                "environment": {
                    name: environment[name] for name in names if not name.startswith("CNI_IPVLAN_")
                },
                "stdin": given.stdin.decode("utf-8", "surrogateescape"),
            }
        )

    def command(self, command: Command, completed: Completed | None) -> None:
        """Add a command that has ended."""
        self._log.command(command, completed)
        if completed is not None:
            about = {
                "argv": [shortened(word, _MOST_TEXT) for word in command.full_argv],
                "purpose": shortened(command.purpose, _MOST_TEXT),
                "status": completed.status,
                "killed": completed.killed_because,
                "seconds": round(completed.seconds, 4),
                "ended": self._seconds(),
                "stdin": _text(command.stdin),
                "stdout": _text(completed.stdout),
                "stderr": _text(completed.stderr),
            }
            self._write({"command": about}, is_command=True)

    def end(self, status: int) -> None:
        """Add the exit status and the answer, and close the file."""
        outcome = {
            "status": status,
            "answer": shortened(self.printed.decode("utf-8", "surrogateescape"), _MOST_ANSWER),
            "seconds": self._seconds(),
            "commandsLeftOut": self._left_out,
        }
        self._write({"outcome": outcome})
        if self._file is not None:
            os.close(self._file)

    def _open(self, environment: Mapping[str, str], given: Stdin) -> int | None:
        by_root = environment.get("CNI_IPVLAN_CAPTURE")
        name = by_root or given.config.get("captureDir")
        if not isinstance(name, str):
            return None  # it is refused like every faulty configuration
        verb = environment.get("CNI_COMMAND", "")
        verb = verb if verb.isascii() and verb.isalpha() else "unknown"
        begun = self._begun.replace("-", "").replace(":", "")
        try:
            directory = log_file.open_directory(name, is_roots_choice=bool(by_root))
            try:
                _remove_oldest(directory)
                file = f"{begun}-{verb}-{os.getpid()}.jsonl"
                return os.open(file, _CREATE, 0o600, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            self.warn(f"cannot capture the call in {name!r}: {error.strerror}")
            return None

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 4)

    def _write(self, document: dict[str, Any], *, is_command: bool = False) -> None:
        if self._file is None:
            return
        try:
            line = json.dumps(document).encode("ascii") + b"\n"
            if is_command and len(line) > self._room:
                self._left_out += 1
                return
            self._room -= len(line) if is_command else 0
            while line:
                line = line[os.write(self._file, line) :]
        except (OSError, MemoryError) as error:
            why = error.strerror if isinstance(error, OSError) else "out of memory"
            self.warn(f"cannot capture the call: {why}")
            os.close(self._file)
            self._file = None


def _text(output: bytes) -> str:
    return shortened(output.decode("utf-8", "replace"), _MOST_TEXT)


def _remove_oldest(directory: int) -> None:
    """Remove the oldest captures, so that there is room for another."""
    import re

    of_calls = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[A-Za-z]+-\d+\.jsonl")
    room = _MOST_BYTES
    for number, name in enumerate(sorted(filter(of_calls.fullmatch, os.listdir(directory)))[::-1]):
        with suppress(FileNotFoundError):  # another call has just removed it
            room -= os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            if number >= _MOST_FILES - 1 or room < 0:
                os.unlink(name, dir_fd=directory)
