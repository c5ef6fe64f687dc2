"""The installed executable, called as a runtime calls it.

This tier knows nothing of the package: only the executable, its environment and its streams.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runtime import Answer, Runtime

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture(scope="session")
def executable() -> str:
    """The command that pip installs beside the Python which runs the tests."""
    return str(Path(sys.executable).parent / "ipvlan")


@pytest.fixture
def runtime(executable: str) -> Runtime:
    def call(environment: Mapping[str, str], stdin: bytes) -> Answer:
        done = subprocess.run(
            [executable], input=stdin, env=environment, capture_output=True, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr.decode())

    return Runtime(call)
