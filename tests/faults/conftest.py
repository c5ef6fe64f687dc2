"""Faults on purpose: every step failing, strange surroundings, races, long runs.

This tier may use everything: the plugin in this process, the installed executable, real namespaces
and real IPAM plugins. docs/reliability.md has the results for each class of fault.
"""

import pytest
from executable import Executable
from runtime import Runtime


@pytest.fixture
def runtime(ipvlan: Executable) -> Runtime:
    return Runtime(ipvlan)
