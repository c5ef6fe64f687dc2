"""Capture a runtime's calls: a JSON file each, from which ``ipvlan replay`` makes the call again.

It is written while the call runs, so of a call that is killed there is what it did until then,
without a status. A file that can't be written is reported once and does not fail the call.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from cni_ipvlan import __version__, log_file
from cni_ipvlan.log import moment
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cni_ipvlan.cni.request import Given
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.log import Listener, Log

    Write = Callable[[bytes], None]

FORM = 1  # of the file
MOST_FILES = 100  # in a directory
_MOST_BYTES = 64 << 20  # of all files there but those of running calls
_MOST_COMMANDS = 1 << 20  # bytes of all commands of a call
_MOST_TEXT = 1 << 14  # characters of a command's output, input or argument
_MOST_ANSWER = 1 << 20  # characters
_MOST_VERB = 10  # characters in the file's name
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_END = "\n]}\n"


def captured(
    answer: Callable[[Listener, Write], int],
    environment: Mapping[str, str],
    given: Given,
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

    def __init__(self, environment: Mapping[str, str], given: Given, log: Log) -> None:
        self.printed = b""
        self.wait, self.warn = log.wait, log.warn
        self._log = log
        self._begun, self._started = time.time(), time.monotonic()
        self._descriptor: int | None = None
        self._length = self._commands = self._left_out = 0
        trusted = environment.get("CNI_IPVLAN_CAPTURE")
        directory = trusted or given.config.get("captureDir")
        if not isinstance(directory, str):
            return  # it is refused like every faulty configuration
        open_ = log_file.directory_for_administrator if trusted else log_file.directory_for_network
        try:
            self._descriptor = self._create(open_(directory), environment.get("CNI_COMMAND", ""))
        except (OSError, log_file.UnfitError) as error:
            self.warn(f"cannot capture the call in {directory!r}: {log_file.reason(error)}")
        self._write(lambda: self._head(environment, given))

    def command(self, command: Command, completed: Completed | None) -> None:
        """Add a command that has ended."""
        self._log.command(command, completed)
        if completed is not None:
            self._write(lambda: self._entry(command, completed))

    def end(self, status: int) -> None:
        """Add the exit status and the answer, and close the file."""

        def rest() -> str:
            about = {
                "commandsLeftOut": self._left_out,
                "status": status,
                "answer": _cut(self.printed.decode("utf-8", "surrogateescape"), _MOST_ANSWER),
                "seconds": self._seconds(),
            }
            return f"\n], {json.dumps(about)[1:]}\n"

        self._write(rest, "")
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _create(self, directory: int, command: str) -> int:
        """Create the file in a directory, which is closed, with the oldest ones removed."""
        try:
            _make_room(directory)
            verb = command if command.isascii() and command.isalpha() else "unknown"
            point = moment(self._begun).replace("-", "").replace(":", "")
            name = f"{point}-{verb[:_MOST_VERB]}-{os.getpid()}.json"
            return os.open(name, _CREATE, 0o600, dir_fd=directory)
        finally:
            os.close(directory)

    def _head(self, environment: Mapping[str, str], given: Given) -> str:
        variables = {
            name: environment[name]
            for name in sorted(environment)
            if name.startswith("CNI_") and not name.startswith("CNI_IPVLAN_")
        }
        about = {
            "capture": FORM,
            "version": __version__,
            "time": moment(self._begun),
            "environment": variables,
            "stdin": given.stdin.decode("utf-8", "surrogateescape"),
        }
        lines = (f'"{key}": {json.dumps(value)},\n' for key, value in about.items())
        return f'{{{"".join(lines)}"commands": ['

    def _entry(self, command: Command, completed: Completed) -> str:
        about = {
            "argv": [_cut(word) for word in command.full_argv],
            "purpose": _cut(command.purpose),
            "status": completed.status,
            "killed": completed.killed_because,
            "seconds": round(completed.seconds, 4),
            "ended": self._seconds(),
            "stdin": _cut(command.stdin.decode("utf-8", "replace")),
            "stdout": _cut(completed.stdout.decode("utf-8", "replace")),
            "stderr": _cut(completed.stderr.decode("utf-8", "replace")),
        }
        entry = ("," if self._commands else "") + f"\n{json.dumps(about)}"
        if self._commands + len(entry) > _MOST_COMMANDS:
            self._left_out += 1
            return ""
        self._commands += len(entry)
        return entry

    def _seconds(self) -> float:
        return round(time.monotonic() - self._started, 4)

    def _write(self, text: Callable[[], str], end: str = _END) -> None:
        """Append a text; the file is whole JSON after each, as ``end`` is overwritten by the next.

        Each is longer than the end that it overwrites.
        """
        if self._descriptor is None:
            return
        try:
            added = text().encode("ascii")
            rest, place = added + end.encode("ascii"), self._length
            while rest:
                written = os.pwrite(self._descriptor, rest, place)
                rest, place = rest[written:], place + written
            self._length += len(added)
        except (OSError, MemoryError) as error:
            self.warn(f"cannot capture the call: {log_file.reason(error) or 'out of memory'}")
            os.close(self._descriptor)
            self._descriptor = None


def _make_room(directory: int) -> None:
    """Remove the oldest captures, so that there is room for another."""
    import re

    of_calls = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[A-Za-z]+-\d+\.json")
    room = _MOST_BYTES
    for number, name in enumerate(sorted(filter(of_calls.fullmatch, os.listdir(directory)))[::-1]):
        with suppress(FileNotFoundError):  # another call has just removed it
            room -= os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            if number >= MOST_FILES - 1 or room < 0:
                os.unlink(name, dir_fd=directory)


def _cut(text: str, most: int = _MOST_TEXT) -> str:
    """Leave out the middle of a text that is too long."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"
