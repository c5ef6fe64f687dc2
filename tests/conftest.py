"""Common to all tiers: which kernel each of them needs, and whether it takes samples."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import sampling
from doubles import FakeIpam

pytest_plugins = ["outcomes"]

KERNEL_TIERS = {"kernel", "e2e", "faults", "attacks"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="test everything rather than samples")
    parser.addoption("--seed", type=int, help="which samples are taken (otherwise by the date)")


def pytest_configure(config: pytest.Config) -> None:
    """Leaves both in the environment, for what parametrizes tests, and for other processes."""
    os.environ["TESTS_SEED"] = str(config.getoption("seed") or sampling.seed())
    if config.getoption("long"):
        os.environ["TESTS_LONG"] = "1"


def pytest_report_header() -> str:
    return f"{'everything' if sampling.is_long() else 'samples'}, seed {sampling.seed()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fails, rather than skips, tests whose kernel is missing."""
    here = config.rootpath / "tests"
    tiers = {item.path.relative_to(here).parts[0] for item in items if here in item.path.parents}
    if tiers & KERNEL_TIERS and not kernel_has_ipvlan():
        message = (
            "tests/kernel, e2e, faults and attacks need root on a kernel with ipvlan; "
            "scripts/lab-kernel runs a command on one: scripts/lab-kernel pytest tests/kernel"
        )
        raise pytest.UsageError(message)


def kernel_has_ipvlan() -> bool:
    attempt = "ip link add name up type dummy && ip link add name down link up type ipvlan"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", attempt], check=False, capture_output=True
    )
    return done.returncode == 0


@pytest.fixture(scope="session")
def own_directories() -> None:
    lab.keep_off_the_machine()


@pytest.fixture
def node(own_directories: None) -> Iterator[lab.Node]:
    with lab.node() as made:
        yield made


@pytest.fixture
def no_ipvlan(own_directories: None) -> Iterator[None]:
    with lab.kernel_without():
        yield


@pytest.fixture
def fake_ipam(tmp_path: Path) -> FakeIpam:
    return FakeIpam(tmp_path)
