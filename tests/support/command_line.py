"""The command line as people use it: in this very process, or from a shell."""

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from executable import Executable
from runtime import PLUGINS, Conf

from cni_ipvlan.cli import program
from cni_ipvlan.iproute.interrupts import Interrupts


class CommandResult(NamedTuple):
    """The status and the output of a command."""

    status: int
    out: str
    err: str

    def check_output(self) -> str:
        """Return the output of a command that must succeed."""
        assert self.status == 0, self
        return self.out


def ipvlan(*arguments: str) -> CommandResult:
    """Run ipvlan in this process, which keeps its own handlers of signals."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(Interrupts, "install"),
        mock.patch.object(sys, "argv", [str(Path(sys.executable).with_name("ipvlan"))]),
    ):
        status = program.main(arguments)
    return CommandResult(status, *map(_read_text, (out, err)))


def _read_text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


def options(**arguments: str | Sequence[str]) -> list[str]:
    """Return options by their names: ``prev_result="f"`` is ``--prev-result f``."""
    argv = []
    for name, values in arguments.items():
        for value in [values] if isinstance(values, str) else values:
            argv += [f"--{name.replace('_', '-')}", value]
    return argv


class User:
    """A user who runs commands in a shell, in a directory with the examples."""

    def __init__(self, ipvlan: Executable, directory: Path) -> None:
        self._ipvlan = ipvlan
        self.directory = directory
        path = f"{Path(ipvlan.path).parent}:{os.environ['PATH']}"
        self.environment = {"PATH": path, "CNI_PATH": PLUGINS}

    def run(self, line: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["sh", "-c", line],
            input=stdin,
            env={**self.environment, **environment},
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    def check_output(self, line: str, stdin: str = "", **environment: str) -> str:
        status, out, err = self.run(line, stdin, **environment)
        assert status == 0, (line, out, err)
        return out

    def write_conf(self, conf: Conf, name: str = "net.conf") -> str:
        (self.directory / name).write_text(json.dumps(conf))
        return str(self.directory / name)


class InProcessUser(User):
    """A user who runs nothing but ipvlan, in this process, which is faster."""

    def run(self, line: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        name, *arguments = shlex.split(line)
        assert (name, stdin) == ("ipvlan", "")
        with mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True):
            return ipvlan(*arguments)
