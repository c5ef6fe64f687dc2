"""The installed executable, called as a runtime calls it.

This tier knows nothing of the package: only the executable, its environment and its streams.
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
