"""A registry in a temporary directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cni_ipvlan.state.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cni-ipvlan"


@pytest.fixture
def registry(directory: Path) -> Registry:
    return Registry(str(directory))
