"""Common to all tiers: which kernel each needs, its samples, and how it calls the plugin."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import lab
import pytest
import sampling
from command_line import InProcessUser, User
from doubles import FakeIpam
from executable import Executable
from patience import extend
from runtime import Runtime, call_in_process

pytest_plugins = ["outcomes", "setup"]

KERNEL_TIERS = {"kernel", "e2e", "faults", "attacks"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="test everything rather than samples")
    parser.addoption("--seed", type=int, help="which samples are taken (otherwise by the date)")


def pytest_configure(config: pytest.Config) -> None:
    """Leaves both in the environment, for what parametrizes tests, and for other processes."""
    config.addinivalue_line("markers", "slow(group): run every fifth day; those of one name on one")
    refuse_old_copy(config.rootpath)
    os.environ["HISTFILE"] = os.devnull  # shells that tests type into are nobody's history
    os.environ["TESTS_SEED"] = str(config.getoption("seed") or sampling.seed())
    if config.getoption("long"):
        os.environ["TESTS_LONG"] = "1"


def pytest_report_header() -> str:
    return f"{'everything' if sampling.is_long() else 'samples'}, seed {sampling.seed()}"


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Takes samples; limits times; fails, rather than skips, tests whose kernel is missing."""
    tests = config.rootpath / "tests"
    if not any("::" in argument for argument in config.args):
        unit_items = [item for item in items if tests / "unit" in item.path.parents]
        rows = sampling.sample_rows([item for item in items if item not in unit_items])
        slow: dict[str, list[pytest.Item]] = {}
        for item in rows:
            if mark := item.get_closest_marker("slow"):
                slow.setdefault(mark.kwargs.get("group", item.nodeid), []).append(item)
        groups = [] if config.option.keyword else [*slow.values()]
        slow_groups = sampling.take_every(groups, 5)
        selected = {*unit_items, *rows} - {*chain(*groups)} | {*chain(*slow_groups)}
        config.hook.pytest_deselected(items=[item for item in items if item not in selected])
        items[:] = [item for item in items if item in selected]
    if "PYTEST_TIMEOUT" not in os.environ:
        for item in items:
            mark = item.get_closest_marker("timeout")
            seconds = mark.args[0] if mark else float(config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(extend(seconds)), append=False)
    tiers = {item.path.relative_to(tests).parts[0] for item in items if tests in item.path.parents}
    if tiers & KERNEL_TIERS and not kernel_has_ipvlan():
        message = (
            "tests/kernel, e2e, faults and attacks need root on a kernel with ipvlan; "
            "scripts/lab-kernel runs a command on one: scripts/lab-kernel pytest tests/kernel"
        )
        raise pytest.UsageError(message)


def refuse_old_copy(checkout: Path) -> None:
    """Refuse to test a copy older than the last edit; a changed one is meant as it is."""
    installed = Path(sysconfig.get_path("purelib"))
    for path in checkout.glob("cni_ipvlan/**/*.[pj]*"):
        copy = installed / path.relative_to(checkout)
        if path.suffix in {".py", ".json"} and not is_current(copy, path):
            name = path.relative_to(checkout)
            raise pytest.UsageError(
                f"{name} is newer than its installed copy, which the tests would run against; "
                f"scripts/test installs it, or {sys.executable} -m pip install --no-deps {checkout}"
            )


def is_current(copy: Path, path: Path) -> bool:
    if not copy.exists():
        return False
    is_newer = path.stat().st_mtime > copy.stat().st_mtime
    return not is_newer or copy.read_bytes() == path.read_bytes()


def kernel_has_ipvlan() -> bool:
    attempt = "ip link add name up type dummy && ip link add name down link up type ipvlan"
    argv = ("unshare", "--net", "sh", "-c", attempt)
    done = subprocess.run(argv, check=False, capture_output=True)
    return done.returncode == 0


@pytest.fixture(scope="session")
def process_isolation() -> None:
    lab.isolate_process()


@pytest.fixture
def node(process_isolation: None) -> Iterator[lab.Node]:
    with lab.make_node() as node:
        yield node


@pytest.fixture
def no_ipvlan(process_isolation: None) -> Iterator[None]:
    with lab.remove_module():
        yield


@pytest.fixture
def ipvlan() -> Executable:
    return Executable()


@pytest.fixture
def tier(request: pytest.FixtureRequest) -> str:
    return request.path.relative_to(request.config.rootpath / "tests").parts[0]


@pytest.fixture
def runtime(ipvlan: Executable, tier: str) -> Runtime:
    """Call the plugin in this process, which is faster, but where signals would hit the tests."""
    return Runtime(call_in_process if tier in ("kernel", "attacks") else ipvlan)


@pytest.fixture
def user(ipvlan: Executable, tmp_path: Path, tier: str, monkeypatch: pytest.MonkeyPatch) -> User:
    """Have a user in a directory with the project's examples."""
    shutil.copytree(Path(__file__).resolve().parents[1] / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return (InProcessUser if tier == "kernel" else User)(ipvlan, tmp_path)


@pytest.fixture
def fake_ipam(tmp_path: Path) -> FakeIpam:
    return FakeIpam(tmp_path)
