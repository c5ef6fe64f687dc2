"""Capture each call of a runtime in a file, from which ``ipvlan replay`` makes the call again.

The lines of the file are JSON documents: the request, each command when it has ended, the outcome.
So a file without an outcome is of a call that was killed, or still runs. A file that can't be
written is reported once and does not fail the call.
"""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from cni_ipvlan import __version__, log_file
from cni_ipvlan.cni.errors import shortened
from cni_ipvlan.iproute.commands import Command, select_parameters
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log, format_time
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import Any

FORM = 1  # of the file
_MOST_FILES = 100  # in a directory
_MOST_BYTES = 64 << 20  # of all files there but those of running calls
_MOST_COMMANDS = 1 << 20  # bytes of all commands of a call
_MOST_TEXT = 1 << 14  # characters of a command's output, input or argument
_MOST_ANSWER = 1 << 20  # characters
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Capture(Log):
    """A log that captures its call in a file, too."""

    def __init__(
        self, write_stderr: Callable[[str], None], environment: Mapping[str, str], stdin: bytes
    ) -> None:
        super().__init__(write_stderr, environment)
        self._start_time, self._start_seconds = format_time(time.time()), time.monotonic()
        self._stdin = stdin
        self._capacity, self._omissions = _MOST_COMMANDS, 0
        self._capture: int | None = None

    def open(self, config: Mapping[str, object]) -> None:
        """Open the log file; and the capture, in CNI_IPVLAN_CAPTURE or else captureDir."""
        super().open(config)
        self._capture = self._create(config)
        self._write(
            {
                "capture": FORM,
                "version": __version__,
                "time": self._start_time,
                "environment": select_parameters(self._environment),
                "stdin": self._stdin.decode("utf-8", "surrogateescape"),
            }
        )

    def command(self, command: Command, completed: Completed | None) -> None:
        """Add a command that has ended."""
        super().command(command, completed)
        if completed is not None:
            entry = {
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
            self._write({"command": entry}, is_command=True)

    def end(self, status: int, answer: bytes) -> None:
        """Add the exit status and the answer, and close the file."""
        outcome = {
            "status": status,
            "answer": shortened(answer.decode("utf-8", "surrogateescape"), _MOST_ANSWER),
            "seconds": self._seconds(),
            "commandsLeftOut": self._omissions,
        }
        self._write({"outcome": outcome})
        if self._capture is not None:
            os.close(self._capture)

    def _create(self, config: Mapping[str, object]) -> int | None:
        root_choice = self._environment.get("CNI_IPVLAN_CAPTURE")
        name = root_choice or config.get("captureDir")
        if not isinstance(name, str):
            return None  # it is refused like every faulty configuration
        verb = self._environment.get("CNI_COMMAND", "")
        verb = verb if verb.isascii() and verb.isalpha() else "unknown"
        start_time = self._start_time.replace("-", "").replace(":", "")
        try:
            directory = log_file.open_directory(name, is_roots_choice=bool(root_choice))
            try:
                _remove_oldest(directory)
                file = f"{start_time}-{verb}-{os.getpid()}.jsonl"
                return os.open(file, _CREATE, 0o600, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError as error:
            self.warn(f"cannot capture the call in {name!r}: {error.strerror}")
            return None

    def _seconds(self) -> float:
        return round(time.monotonic() - self._start_seconds, 4)

    def _write(self, document: dict[str, Any], *, is_command: bool = False) -> None:
        if self._capture is None:
            return
        try:
            line = json.dumps(document).encode("ascii") + b"\n"
            if is_command and len(line) > self._capacity:
                self._omissions += 1
                return
            self._capacity -= len(line) if is_command else 0
            while line:
                line = line[os.write(self._capture, line) :]
        except (OSError, MemoryError) as error:
            why = error.strerror if isinstance(error, OSError) else "out of memory"
            self.warn(f"cannot capture the call: {why}")
            os.close(self._capture)
            self._capture = None


def _text(output: bytes) -> str:
    return shortened(output.decode("utf-8", "replace"), _MOST_TEXT)


def _remove_oldest(directory: int) -> None:
    """Remove the oldest captures until another is within the limits."""
    import re

    pattern = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[A-Za-z]+-\d+\.jsonl")
    names, capacity = filter(pattern.fullmatch, os.listdir(directory)), _MOST_BYTES
    for number, name in enumerate(sorted(names, reverse=True)):
        with suppress(FileNotFoundError):  # another call has just removed it
            capacity -= os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
            if number >= _MOST_FILES - 1 or capacity < 0:
                os.unlink(name, dir_fd=directory)
