"""A registry in a temporary directory."""

from pathlib import Path

import pytest

from cni_ipvlan.state.registry import Registry


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cni-ipvlan"


@pytest.fixture
def registry(directory: Path) -> Registry:
    return Registry(str(directory))
