"""What a tenant may try: who writes a network, answers as its IPAM plugin, or lives in a container.

Each of these attacks has succeeded once. This tier may use everything: the installed executable,
real namespaces, real IPAM plugins. docs/security.md says what stops each of them.
"""

from __future__ import annotations

import pytest
from executable import Executable
from runtime import Runtime


@pytest.fixture
def ipvlan() -> Executable:
    return Executable()


@pytest.fixture
def runtime(ipvlan: Executable) -> Runtime:
    return Runtime(ipvlan)
