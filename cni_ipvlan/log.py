"""Logging: warnings on stderr, and a log file if one is configured."""

import os
import time
from collections.abc import Callable, Mapping

from cni_ipvlan.cni.errors import shortened
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.running import Completed

LEVELS = ("panic", "error", "verbose", "debug")  # as Multus names them, from least to most
DEFAULT_LEVEL = "verbose"
_MOST_BYTES = 4096  # of a line


class Log:
    """The log of one call, described by its ``environment``.

    Warnings go to stderr, through ``write_stderr``. A log file gets, by level,
    failures (error), each change, undo and wait (verbose) and each query (debug); its lines
    also name the verb, the namespace and the pod. A file that can't be written is reported
    once and does not fail the call. Line breaks and escape sequences in a text are quoted,
    so each entry is one harmless line.
    """

    def __init__(self, write_stderr: Callable[[str], None], environment: Mapping[str, str]) -> None:
        self._write_stderr = write_stderr
        self._environment = environment
        names = (environment.get("CNI_CONTAINERID"), environment.get("CNI_IFNAME"))
        context = " ".join(name for name in names if name)
        self._prefix = f"{context}: " if context else ""
        self._context = ""
        self._file: int | None = None
        self._level = LEVELS.index(DEFAULT_LEVEL)

    def open(self, config: Mapping[str, object]) -> None:
        """Open the log file named by CNI_IPVLAN_LOG, or else by the configuration.

        The configuration may be invalid: such calls are logged, too.
        """
        root_choice, level = self._environment.get("CNI_IPVLAN_LOG"), config.get("logLevel")
        path = root_choice or config.get("logFile")
        if not path or not isinstance(path, str):
            return
        from cni_ipvlan import log_file
        from cni_ipvlan.cni.request import pod

        level_name = level if isinstance(level, str) and level in LEVELS else DEFAULT_LEVEL
        self._level = LEVELS.index("debug" if root_choice else level_name)
        names = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS")
        values = (self._environment.get(name) for name in names)
        self._context = f"{' '.join(filter(None, (*values, pod(self._environment))))}: "
        try:
            self._file = log_file.open_file(path, is_roots_choice=bool(root_choice))
        except OSError as error:
            self._warn(f"cannot log to {path!r}: {error.strerror}")

    def warn(self, text: str) -> None:
        """Log a warning; the call goes on."""
        self._warn(text)
        self._log("error", lambda: f"warning: {text}")

    def fail(self, text: str, private: str = "") -> None:
        """Log a failure, which the caller gets as an error document.

        The lines in ``private`` are not in that document, so they go to stderr, too.
        """
        if private:
            self._warn(private)
        self._log("error", lambda: f"failed: {text}")

    def command(self, command: Command, completed: Completed | None) -> None:
        """Log a command that has ended; one that is about to run (None) has no line yet."""
        if completed is not None:
            level = "verbose" if command.purpose else "debug"
            self._log(level, lambda: describe(command, completed))

    def wait(self, text: str) -> None:
        """Log that the call has to wait."""
        self._log("verbose", lambda: text)

    def end(self, status: int, answer: bytes) -> None:
        """Note the exit status, and the answer that the runtime got."""

    def _warn(self, text: str) -> None:
        lines = text.rstrip().split("\n")
        self._write_stderr("\n".join(one_line(f"{self._prefix}{line}") for line in lines))

    def _log(self, level: str, text: Callable[[], str]) -> None:
        if self._file is None or LEVELS.index(level) > self._level:
            return
        line = one_line(f"{format_time(time.time())} [{os.getpid()}] {self._context}{text()}")
        try:
            # One write to a file opened for appending: lines of many processes don't mix.
            os.write(self._file, line.encode() + b"\n")
        except OSError as error:
            self._warn(f"cannot log: {error.strerror}")
            self._file = None


def format_time(seconds: float) -> str:
    """Return a time since the epoch as text, in UTC."""
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{second}.{int(seconds * 1000) % 1000:03}Z"


def one_line(text: str) -> str:
    """Return a text as one line of printable characters, at most 4096 bytes of UTF-8.

    Line breaks become ``|``, other unprintable characters Python escapes; the middle
    of a text that is too long is left out.
    """
    text = text.rstrip("\n")
    line = printable(shortened(text, _MOST_BYTES - 60))
    is_short = len(line.encode()) <= _MOST_BYTES
    return line if is_short else printable(shortened(text, 400))  # an escape has at most ten bytes


def printable(text: str) -> str:
    """Return a text of any length with what is not printable escaped as in ``one_line``."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return " | " if character == "\n" else character.encode("unicode_escape").decode()


def describe(command: Command, completed: Completed) -> str:
    """Return a line with a command, its time, status, purpose, and output if it failed."""
    from shlex import join, quote

    batch = "; ".join(command.batch_lines)
    parts = [
        join(command.entered_argv) + (f" <<< {quote(batch)}" if batch else ""),
        f"# {completed.seconds * 1000:.1f} ms, status {completed.status}",
    ]
    if command.purpose:
        parts.append(f"({command.purpose})")
    if completed.status:
        output = (completed.stderr.strip() or completed.stdout.strip()).decode("utf-8", "replace")
        parts.append(f"printed: {output}")
    return " ".join(parts)
