"""Attacks by tenants: authors of networks, IPAM plugins, owners of containers.

Each of these attacks succeeded once. This tier may use everything: the installed executable,
real namespaces, real IPAM plugins. docs/security.md lists the defence against each of them.
"""

from pathlib import Path

import pytest
from executable import Executable
from person import Person
from runtime import Runtime, call_in_process


@pytest.fixture
def person(ipvlan: Executable, tmp_path: Path) -> Person:
    return Person(ipvlan, tmp_path)


@pytest.fixture
def runtime() -> Runtime:
    """Calls the plugin in this process, since that is faster; signals would hit the tests."""
    return Runtime(call_in_process)
