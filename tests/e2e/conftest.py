"""The installed executable, called as a runtime calls it.

This tier knows nothing of the package: only the executable, its environment and its streams.
"""

import shutil
from pathlib import Path

import pytest
from executable import Executable
from person import Person
from runtime import Runtime


@pytest.fixture
def runtime(ipvlan: Executable) -> Runtime:
    return Runtime(ipvlan)


@pytest.fixture
def person(ipvlan: Executable, tmp_path: Path) -> Person:
    """Have a person in a directory with the project's examples."""
    shutil.copytree(Path(__file__).resolve().parents[2] / "examples", tmp_path / "examples")
    return Person(ipvlan, tmp_path)
