"""Shells that run the script of a dry run, in every way that a person may give it to one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from contextlib import suppress
from threading import Thread

SHELLS = ("dash", "bash", "dash in a pipe", "bash in a pipe", "bash at a terminal")
_SECONDS = 60


def run_by(shell: str, script: str, **environment: str) -> tuple[int, str]:
    """Let a shell run a script; return the status, and what is printed on either stream.

    It has its own process group, so that it can be interrupted as by a terminal's ^C.
    """
    program, _, way = shell.partition(" ")
    if way == "at a terminal":
        return _at_a_terminal(program, script)
    is_piped = way == "in a pipe"
    done = subprocess.run(
        [program] if is_piped else [program, "-c", script],
        input=script if is_piped else None,
        env={**os.environ, **environment},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    return done.returncode, done.stdout


def _at_a_terminal(program: str, script: str) -> tuple[int, str]:
    """Paste a script into an interactive shell, which must live on and keep nothing of it."""
    own, terminal = pty.openpty()
    questions = 'echo "the status was $?"\ntype undo || echo and "nothing stayed"\nexit\n'
    with (
        subprocess.Popen(
            [program, "--norc", "-i"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as process,
        os.fdopen(own, "r+b", buffering=0) as screen,
    ):
        os.close(terminal)
        Thread(target=screen.write, args=(f"{script}\n{questions}".encode(),)).start()
        shown = bytearray()
        with suppress(OSError):  # that is how a terminal ends
            while more := screen.read(65536):
                shown += more
    assert process.returncode == 0
    assert b"and nothing stayed" in shown
    status = re.search(rb"the status was ([0-9]+)", shown)
    assert status, shown
    return int(status[1]), shown.decode()
