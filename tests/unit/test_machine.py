"""iproute.machine: capabilities and the ipvlan module, read from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni_ipvlan.iproute import machine

RELEASE = os.uname().release
BUILT_IN = "modules.builtin"
LOADABLE = "modules.dep"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Have a machine whose kernel has other modules."""
    directory = tmp_path / "lib/modules" / RELEASE
    directory.mkdir(parents=True)
    (directory / BUILT_IN).write_text("kernel/net/ipv6/ipv6.ko\n")
    (directory / LOADABLE).write_text("kernel/drivers/net/macvlan.ko.xz: kernel/x/ipvlan.ko\n")
    return directory


def state(root: Path) -> str:
    return machine.ipvlan_module(str(root)).state


def test_a_loaded_module_is_seen(tmp_path: Path) -> None:
    (tmp_path / "sys/module/ipvlan").mkdir(parents=True)
    found = machine.ipvlan_module(str(tmp_path))
    assert found.state == machine.LOADED
    assert found.text == f"Linux {RELEASE} has the module ipvlan loaded"


def test_a_kernel_that_has_it_built_in_needs_no_module(lists: Path, tmp_path: Path) -> None:
    with (lists / BUILT_IN).open("a") as file:
        file.write("kernel/drivers/net/ipvlan/ipvlan.ko\n")
    assert state(tmp_path) == machine.LOADED


def test_without_lists_nothing_is_known(tmp_path: Path) -> None:
    assert state(tmp_path) == machine.UNKNOWN


def test_a_module_that_no_list_has_is_absent(lists: Path, tmp_path: Path) -> None:
    found = machine.ipvlan_module(str(tmp_path))
    assert found.state == machine.ABSENT
    assert str(lists) in found.text


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_a_module_that_is_not_loaded_is_available(lists: Path, tmp_path: Path, suffix: str) -> None:
    (lists / LOADABLE).write_text(f"kernel/drivers/net/ipvlan/ipvlan.ko{suffix}: a.ko\n")
    assert state(tmp_path) == machine.AVAILABLE


@pytest.mark.parametrize(
    "line", ["blacklist ipvlan", "install  ipvlan /bin/false", "a\nblacklist ipvlan"]
)
@pytest.mark.parametrize("directory", ["etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d"])
def test_file_that_blocks_a_module_is_named(
    lists: Path, tmp_path: Path, line: str, directory: str
) -> None:
    (lists / LOADABLE).write_text("kernel/drivers/net/ipvlan/ipvlan.ko: a.ko\n")
    file = tmp_path / directory / "local.conf"
    file.parent.mkdir(parents=True)
    file.write_text(f"{line}\n")
    found = machine.ipvlan_module(str(tmp_path))
    assert found.state == machine.BLOCKED
    assert f"but {file} blocks it" in found.text


@pytest.mark.parametrize("line", ["#blacklist ipvlan", "blacklist ipvlan2", "options ipvlan x=1"])
def test_other_lines_block_nothing(lists: Path, tmp_path: Path, line: str) -> None:
    (lists / LOADABLE).write_text("kernel/drivers/net/ipvlan/ipvlan.ko: a.ko\n")
    (tmp_path / "etc/modprobe.d").mkdir(parents=True)
    (tmp_path / "etc/modprobe.d/local.conf").write_text(f"{line}\n")
    assert state(tmp_path) == machine.AVAILABLE


def test_missing_capabilities_are_those_of_this_process() -> None:
    missing = machine.missing_capabilities()
    assert set(missing) <= {"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}
