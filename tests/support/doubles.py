"""Stand-ins: an IPAM plugin that does what no real one does on demand, and tools that fail."""

import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lab import wait_until
from runtime import PLUGINS

# The tools that the plugin may use.
_TOOLS = ("ip", "nsenter", "tee", "cat")

_FAKE_IPAM = """\
#!/bin/sh
# Records the call, then does what the test has put down for the verb.
cd {directory} || exit
echo "$CNI_COMMAND" >>calls
env -0 >"environment-$CNI_COMMAND"
cat >"stdin-$CNI_COMMAND"
[ ! -e "on-$CNI_COMMAND" ] || . "./on-$CNI_COMMAND"
"""

# A command started by another tool (ip netns exec) is not a step.
_STEP = """\
#!/bin/sh
# Stands before {program}: counts and records the steps, and fails at the one that is planned.
real() {{ {program} "$@"; }}
[ -z "$INSIDE_A_STEP" ] || exec {program} "$@"
export INSIDE_A_STEP=yes
# Other steps may run at the same time, so a file reserves each number.
set -C
n=1
while ! true >{directory}/taken-{name}-$n; do n=$((n + 1)); done 2>/dev/null
set +C
echo "{name}-$n {name}${{CNI_COMMAND+ $CNI_COMMAND}} $*" >>{directory}/log
[ ! -e {directory}/at-{name}-$n ] || . {directory}/at-{name}-$n
exec {program} "$@"
"""


class FakeIpam:
    type = "fake"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.program = f"{directory}/{self.type}"
        self.path = f"{directory}:{PLUGINS}"
        write_program(Path(self.program), _FAKE_IPAM.format(directory=shlex.quote(str(directory))))

    @property
    def conf(self) -> dict[str, Any]:
        return {"type": self.type}

    @property
    def calls(self) -> list[str]:
        try:
            return (self.directory / "calls").read_text().split()
        except FileNotFoundError:
            return []

    def run_on(self, verb: str, script: str) -> None:
        (self.directory / f"on-{verb}").write_text(script + "\n")

    def answer(self, verb: str, document: Mapping[str, Any], status: int = 0) -> None:
        self.run_on(verb, f"cat <<'END'\n{json.dumps(document)}\nEND\nexit {status}")

    def wait_for(self, verb: str) -> None:
        wait_until(lambda: verb in self.calls)

    def environment(self, verb: str) -> dict[str, str]:
        entries = (self.directory / f"environment-{verb}").read_bytes().split(b"\0")
        pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
        return {name: value for name, _, value in pairs}

    def stdin(self, verb: str) -> bytes:
        return (self.directory / f"stdin-{verb}").read_bytes()


class Step(NamedTuple):
    """A command that the plugin runs: its tool with a number, from 1, and its words."""

    number: str
    words: str


class FakeDhcp(FakeIpam):
    """A fake IPAM plugin that gets the interface up, as a DHCP client needs it."""

    type = "fake-dhcp"


class Steps:
    """Puts itself between the plugin and the commands it runs: tools, and ``plugins`` (paths)."""

    def __init__(self, directory: Path, *plugins: str) -> None:
        self._directory = directory
        for name in _TOOLS:
            self._wrap(directory / "tools" / name, str(shutil.which(name)))
        for plugin in plugins:
            self._wrap(directory / "plugins" / plugin.rpartition("/")[2], plugin)
        self.reset()

    @property
    def environment(self) -> dict[str, Any]:
        return {
            "PATH": f"{self._directory / 'tools'}:{os.environ['PATH']}",
            "CNI_PATH": f"{self._directory / 'plugins'}:{PLUGINS}",
        }

    @property
    def records(self) -> list[Step]:
        lines = (self._directory / "log").read_text().splitlines()
        return [Step(*line.split(" ", 1)) for line in lines]

    def reset(self) -> None:
        """Count from 1 again, and remove all plans."""
        for path in (*self._directory.glob("at-*"), *self._directory.glob("taken-*")):
            path.unlink()
        (self._directory / "log").write_text("")

    def plan(self, number: str, script: str) -> None:
        """Have a step run a shell script first, in which ``real "$@"`` does the step's work."""
        (self._directory / f"at-{number}").write_text(script + "\n")

    def _wrap(self, path: Path, real: str) -> None:
        words = {"name": path.name, "program": shlex.quote(real)}
        write_program(path, _STEP.format(directory=shlex.quote(str(self._directory)), **words))


def write_program(path: Path, text: str) -> Path:
    """Write a program, in a directory that may not be there yet; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def replace_program(directory: Path, name: str, script: str) -> str:
    """Put a script in the place of a program, which is ``$real`` in it; return the PATH to it."""
    real = f"real={shlex.quote(shutil.which(name) or '')}"
    write_program(directory / name, f"#!/bin/sh\n{real}\n{script}\n")
    return f"{directory}:{os.environ['PATH']}"
