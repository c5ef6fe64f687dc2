"""iproute.machine: capabilities and the ipvlan module, read from files."""

import os
from pathlib import Path

import pytest

from cni_ipvlan.iproute import machine

RELEASE = os.uname().release
MODULE = "kernel/drivers/net/ipvlan/ipvlan.ko"


def lists(root: Path, built_in: str = "", loadable: str = "") -> Path:
    """Make the lists of a kernel's modules, which has others, too."""
    directory = root / "lib/modules" / RELEASE
    directory.mkdir(parents=True)
    (directory / "modules.builtin").write_text(f"kernel/net/ipv6/ipv6.ko\n{built_in}")
    other_modules = "kernel/drivers/net/macvlan.ko.xz: kernel/x/ipvlan.ko\n"
    (directory / "modules.dep").write_text(other_modules + loadable)
    return directory


def test_a_loaded_module_is_seen(tmp_path: Path) -> None:
    assert machine.ipvlan_module(str(tmp_path)).state == machine.UNKNOWN  # it has no lists
    (tmp_path / "sys/module/ipvlan").mkdir(parents=True)
    module = machine.ipvlan_module(str(tmp_path))
    assert module.state == machine.LOADED
    assert module.text == f"Linux {RELEASE} has the module ipvlan loaded"


@pytest.mark.parametrize(
    ("built_in", "loadable", "state"),
    [
        ("", "", machine.ABSENT),
        (f"{MODULE}\n", "", machine.LOADED),
        ("", f"{MODULE}.zst: a.ko\n", machine.AVAILABLE),
    ],
)
def test_modules_that_are_listed(tmp_path: Path, built_in: str, loadable: str, state: str) -> None:
    directory = lists(tmp_path, built_in, loadable)
    module = machine.ipvlan_module(str(tmp_path))
    assert module.state == state
    assert (str(directory) in module.text) == (state != machine.LOADED)


def test_file_that_blocks_a_module_is_named(tmp_path: Path) -> None:
    lists(tmp_path, loadable=f"{MODULE}: a.ko\n")
    for directory, line, state in (
        ("run", "#blacklist ipvlan\nblacklist ipvlan2\noptions ipvlan x=1", machine.AVAILABLE),
        ("usr/lib", "a\nblacklist ipvlan", machine.BLOCKED),
        ("etc", "install  ipvlan /bin/false", machine.BLOCKED),
    ):
        file = tmp_path / directory / "modprobe.d/local.conf"
        file.parent.mkdir(parents=True)
        file.write_text(f"{line}\n")
        module = machine.ipvlan_module(str(tmp_path))
        assert module.state == state
        assert (f"but {file} blocks it" in module.text) == (state == machine.BLOCKED)
        file.unlink()
