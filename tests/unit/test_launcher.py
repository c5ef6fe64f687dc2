"""scripts/ipvlan: the command finds its package and its Python, whoever calls it from wherever."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LAUNCHER = Path(__file__).parents[2] / "scripts" / "ipvlan"
INSTALLED = Path(sys.executable).parent / "ipvlan"
VERSION = {"CNI_COMMAND": "VERSION"}
REPORT = """
import json, sys
print(json.dumps({"main": __file__, "argv": sys.argv[1:], "executable": sys.executable,
                  "isolated": sys.flags.isolated, "no_site": sys.flags.no_site,
                  "utf8": sys.flags.utf8_mode, "path": sys.path}))
"""


class Tree:
    """A tree in which a package is installed that only reports how it was started."""

    def __init__(self, root: Path) -> None:
        python = os.path.realpath(sys.executable)
        version = f"python3.{sys.version_info.minor}"
        self.main = root / "lib" / version / "site-packages" / "cni_ipvlan" / "__main__.py"
        self.main.parent.mkdir(parents=True)
        self.main.write_text(REPORT)
        self.bin = root / "bin"
        self.bin.mkdir()
        self.python = self.bin / version
        self.python.symlink_to(python)
        self.command = self.bin / "ipvlan"
        launcher(self.command, built_by=str(self.bin / "python"))

    def started_by(self, *argv: str | Path, **options: Any) -> dict[str, Any]:
        """Return the report of the package when a command starts it."""
        done = subprocess.run(argv, check=True, capture_output=True, **options)
        report: dict[str, Any] = json.loads(done.stdout)
        assert os.path.samefile(report["main"], self.main)  # noqa: PTH121
        return report


def launcher(path: Path, built_by: str) -> None:
    """Install the launcher, as setup.py does."""
    text = LAUNCHER.read_text().replace("@PYTHON@", shlex.quote(built_by))
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture(params=["tree", "it's a tree; $HOME"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    root = tmp_path / request.param
    root.mkdir()
    return Tree(root)


def test_python_is_started_isolated_without_site_and_in_utf8(tree: Tree) -> None:
    report = tree.started_by(tree.command)
    assert (report["isolated"], report["no_site"], report["utf8"]) == (1, 1, 1)
    assert os.path.normpath(report["executable"]) == str(tree.python)


def test_arguments_arrive_as_they_are(tree: Tree) -> None:
    words = ["add", "", "*", "$HOME", "it's", 'a"b', "a b", "-x", "é"]
    assert tree.started_by(tree.command, *words)["argv"] == words


def test_link_leads_to_the_installation(tree: Tree, tmp_path: Path) -> None:
    place = tmp_path / "opt" / "cni bin"
    place.mkdir(parents=True)
    (place / "ipvlan").symlink_to(tree.command)
    tree.started_by(place / "ipvlan")


def test_relative_link_to_a_link(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(os.path.relpath(tree.command, tmp_path))
    (tmp_path / "two").symlink_to("one")
    tree.started_by(tmp_path / "two")


def test_copy_finds_the_installation_it_was_copied_from(tree: Tree, tmp_path: Path) -> None:
    shutil.copy(tree.command, tmp_path / "copy")
    tree.started_by(tmp_path / "copy")


def test_installation_that_was_moved_is_still_one(tree: Tree, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    tree.bin.parent.rename(moved)
    tree.main = moved / tree.main.relative_to(tree.bin.parent)
    tree.started_by(moved / "bin" / "ipvlan")


def test_command_in_the_current_directory(tree: Tree) -> None:
    tree.started_by("./ipvlan", cwd=tree.bin)
    tree.started_by("sh", "ipvlan", cwd=tree.bin)


def test_command_found_on_path(tree: Tree) -> None:
    tree.started_by("ipvlan", env={"PATH": f"{tree.bin}"})


@pytest.mark.parametrize("path", [None, "", "/nowhere"])
def test_path_may_be_empty_or_missing(tree: Tree, tmp_path: Path, path: str | None) -> None:
    (tmp_path / "link").symlink_to(tree.command)
    environment = {} if path is None else {"PATH": path}
    tree.started_by(tree.command, env=environment)
    tree.started_by(tmp_path / "link", env=environment)


def test_python_of_the_system_stands_in_for_one_that_is_gone(tree: Tree) -> None:
    system = Path("/usr/bin") / tree.python.name
    if not system.exists():
        pytest.skip(f"there is no {system}")
    tree.python.unlink()
    assert tree.started_by(tree.command)["executable"] == str(system)


def test_copy_without_an_installation_says_so_as_a_plugin_does(tmp_path: Path) -> None:
    launcher(tmp_path / "ipvlan", built_by=str(tmp_path / "gone" / "bin" / "python"))
    done = subprocess.run(
        [tmp_path / "ipvlan"],
        env=VERSION,
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert (error["cniVersion"], error["code"]) == ("1.0.0", 5)
    assert "not where it was installed" in error["msg"]


def version(command: Path, **options: Any) -> dict[str, Any]:
    """Return what an installed command answers to VERSION."""
    done = subprocess.run(
        [command], check=True, capture_output=True, stdin=subprocess.DEVNULL, **options
    )
    assert done.stderr == b""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert "1.0.0" in answer["supportedVersions"]
    return answer


def test_installed_command_answers() -> None:
    version(INSTALLED, env=VERSION)


def test_nothing_of_the_callers_python_is_used(tmp_path: Path) -> None:
    evil = 'raise SystemExit("evil")\n'
    (tmp_path / "cni_ipvlan").mkdir()
    for name in ("cni_ipvlan/__init__", "sh", "jsonschema", "json", "os", "site", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(evil)
    hostile = {
        **VERSION,
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "sh.py"),
        "PYTHONINSPECT": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-16",
        "PYTHONUTF8": "0",
        "PYTHONPLATLIBDIR": "evil",
        "PYTHONUSERBASE": str(tmp_path),
        "PYTHONDEVMODE": "1",
        "PYTHONVERBOSE": "1",
        "LC_ALL": "C",
        "ENV": str(tmp_path / "sh.py"),
        "BASH_ENV": str(tmp_path / "sh.py"),
        "IFS": "/",
        "CDPATH": str(tmp_path),
    }
    version(INSTALLED, env=hostile, cwd=tmp_path)
    (tmp_path / "link").symlink_to(INSTALLED)
    version(tmp_path / "link", env=hostile, cwd=tmp_path)


def test_program_without_cni_command_says_what_it_is() -> None:
    done = subprocess.run(
        [INSTALLED], env={}, check=True, capture_output=True, stdin=subprocess.DEVNULL, text=True
    )
    assert done.stdout == ""
    assert "CNI protocol versions supported: 0.1.0" in done.stderr
