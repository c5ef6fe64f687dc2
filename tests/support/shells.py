"""Shells that run the script of a dry run, in every way that a user may give it to one."""

import fcntl
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from lab import wait_until
from patience import extend

SHELLS = ("dash", "bash", "dash in a pipe", "bash at a terminal", "dash at a terminal")
_INTERACTIVE = {"bash": ["bash", "--norc", "-i"], "dash": ["dash", "-i"]}
_PROMPT = "and now? "
_SECONDS = 60


def run_script(shell: str, script: str, **environment: str) -> tuple[int, str]:
    """Let a shell run a script, in its own process group; return the status and the output."""
    program, _, method = shell.partition(" ")
    if method == "at a terminal":
        return paste_script(program, script)
    is_piped = method == "in a pipe"
    done = subprocess.run(
        [program] if is_piped else [program, "-c", script],
        input=script if is_piped else None,
        env={**os.environ, **environment},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=extend(_SECONDS),
    )
    return done.returncode, done.stdout


def paste_script(
    program: str, script: str, wait_for_interrupt: Callable[[], None] | None = None
) -> tuple[int, str]:
    """Paste a script into an interactive shell, which must live on; perhaps type ^C at a time."""
    controller, terminal = pty.openpty()
    closing_lines = 'echo "the status was $?"\ntype undo || echo and "nothing stayed"\nexit\n'

    def type_all() -> None:
        screen.write(f"{script}\n".encode())
        if wait_for_interrupt:
            wait_for_interrupt()
            screen.write(b"\x03")
            # What is typed before the shell has seen it is thrown away.
            wait_until(lambda: _PROMPT.encode() in output.partition(b"^C")[2])
        screen.write(closing_lines.encode())

    with (
        subprocess.Popen(
            _INTERACTIVE[program],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "PS1": _PROMPT},
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - there is no other thread yet
        ) as process,
        os.fdopen(controller, "r+b", buffering=0) as screen,
    ):
        os.close(terminal)
        output = bytearray()
        Thread(target=type_all).start()
        with suppress(OSError):  # that is how a terminal ends
            while more := screen.read(65536):
                output += more
    assert process.returncode == 0
    assert b"and nothing stayed" in output, output
    status = re.search(rb"the status was ([0-9]+)", output)
    assert status, output
    return int(status[1]), output.decode(errors="replace")  # an echo may be cut within a character


def _take_terminal() -> None:
    """Make the terminal the one that ^C interrupts this process's jobs from."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
