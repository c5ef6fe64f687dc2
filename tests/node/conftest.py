"""Tests of installation on nodes: in temporary directories, as root if necessary."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from installing import copy_checkout, make_environment

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("build", "pip", "pipx", "setuptools", "uv")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a folder as install-node's help describes, and with other tools that install it."""
    source = copy_checkout(tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("wheels")
    python = make_environment(tmp_path_factory.mktemp("pip"))
    wanted = [f"{source}[yaml]", *TOOLS]
    subprocess.run([python, "-m", "pip", "-q", "wheel", "--wheel-dir", folder, *wanted], check=True)
    return folder
