"""A person at a shell, with the installed command at hand, or with that of this very process."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from unittest import mock

import people
from executable import Executable
from runtime import PLUGINS, Conf


class Person:
    """Runs the command from a shell, in the project's directory."""

    def __init__(self, ipvlan: Executable, directory: Path) -> None:
        self._ipvlan = ipvlan
        self.directory = directory
        self.environment = {
            "PATH": f"{Path(ipvlan.path).parent}:{os.environ['PATH']}",
            "CNI_PATH": PLUGINS,
        }

    def types(self, line: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
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

    def succeeds(self, line: str, stdin: str = "", **environment: str) -> str:
        status, out, err = self.types(line, stdin, **environment)
        assert status == 0, (line, out, err)
        return out

    def writes(self, conf: Conf, name: str = "net.conf") -> str:
        (self.directory / name).write_text(json.dumps(conf))
        return str(self.directory / name)


class QuickPerson(Person):
    """Types nothing but calls of the command; this process, in the directory, makes them itself."""

    def types(self, line: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        name, *arguments = shlex.split(line)
        assert (name, stdin) == ("ipvlan", "")
        with mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True):
            return people.ipvlan(*arguments)
