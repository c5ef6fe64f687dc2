"""The plugin in this very process, on namespaces that are made and thrown away for each test.

This tier may use everything the package has, real commands and real IPAM plugins.
"""

from pathlib import Path

import pytest
from executable import Executable
from person import QuickPerson
from runtime import Runtime, call_in_process


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(call_in_process)


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QuickPerson:
    """Have a person who may call the command, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    return QuickPerson(Executable(), tmp_path)
