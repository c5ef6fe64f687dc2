"""The installed command, run as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from patience import extend
from runtime import Answer


class Executable:
    """The command that pip installs beside the Python which runs the tests."""

    def __init__(self, path: str = str(Path(sys.executable).with_name("ipvlan"))) -> None:
        self.path = path

    def __call__(self, environment: Mapping[str, str], stdin: bytes) -> Answer:
        return self.start(environment, stdin).end()

    def start(
        self,
        environment: Mapping[str, str],
        stdin: bytes,
        *,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        leads_group: bool = False,
    ) -> "Call":
        """Start a call; one with its own process group can be signalled as a terminal does."""
        process = subprocess.Popen(
            [self.path],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=leads_group,
            bufsize=0,
        )
        assert process.stdin is not None
        remainder = memoryview(stdin)
        with process.stdin as pipe, suppress(BrokenPipeError):
            while remainder:  # it may answer before it has read all
                remainder = remainder[pipe.write(remainder) :]
        process.stdin = None
        return Call(process)


class Call(NamedTuple):
    process: subprocess.Popen[bytes]

    def end(self, seconds: float = 60) -> Answer:
        """Wait for the end; when that takes too long, or the test ends, bring it about."""
        try:
            stdout, stderr = self.process.communicate(timeout=extend(seconds))
        finally:
            self.kill()
        text = stderr.decode()
        assert "Traceback" not in text, text
        return Answer(self.process.returncode, stdout, text)

    def kill(self) -> None:
        if self.process.poll() is None:
            for process in (self.process.pid, *descendants(self.process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self.process.communicate(timeout=extend(30))


def descendants(process: int) -> list[int]:
    processes = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        for child in map(int, children):
            processes += [child, *descendants(child)]
    return processes
