"""scripts/ipvlan: the command finds its package and its Python, whoever calls it from wherever."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from installing import CHECKOUT, read_launcher_error, run

from cni_ipvlan import __main__

LAUNCHER = CHECKOUT / "scripts/ipvlan"
VERSION = {"CNI_COMMAND": "VERSION"}
INSTALLED = Path(sys.executable).parent / "ipvlan"
HEARS = ("env", "--default-signal=INT")  # whoever runs the tests may ignore it
REPORT = """
import json, os, sys
def main():
    print(json.dumps({"main": __file__, "argv": sys.argv[1:], "executable": sys.executable,
                      "isolated": sys.flags.isolated, "no_site": sys.flags.no_site,
                      "utf8": sys.flags.utf8_mode, "path": sys.path,
                      "home": os.environ.get("HOME"), "has_asked": "pwd" in sys.modules,
                      "times": getattr(sys, "times", 0)}))
"""
COUNT = "import sys; sys.times = getattr(sys, 'times', 0) + 1\n"
PYTHON = f"python3.{sys.version_info.minor}"


class Tree:
    """A tree in which a package is installed that only reports how it was started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "lib" / PYTHON / "site-packages"
        (self.packages / "cni_ipvlan-1.0.dist-info").mkdir(parents=True)
        self.put_package(self.packages)
        self.bin = root / "bin"
        self.bin.mkdir(exist_ok=True)
        self.python = self.bin / PYTHON
        self.python.unlink(missing_ok=True)
        self.python.symlink_to(os.path.realpath(sys.executable))
        self.command = self.bin / "ipvlan"
        shutil.copy(LAUNCHER, self.command)

    def put_package(self, directory: Path) -> None:
        self.main = directory / "cni_ipvlan" / "__main__.py"
        self.main.parent.mkdir(parents=True)
        self.main.write_text(REPORT)

    def make_editable(self) -> None:
        """Leave in the tree no more than what leads to the package."""
        shutil.rmtree(self.main.parent)
        self.put_package(self.root / "source")
        (self.packages / "editable.pth").write_text(f"{self.root / 'source'}\n")

    def report_of(self, *argv: str | Path, **options: Any) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(run(*argv, **options).stdout)
        assert os.path.samefile(report["main"], self.main)  # noqa: PTH121
        return report


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "it's a tree; $HOME"
    root.mkdir()
    return Tree(root)


@pytest.fixture
def environment(tmp_path: Path) -> Tree:
    """Make a virtual environment that counts how often its .pth files are followed."""
    root = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    tree = Tree(root)
    (tree.packages / "count.pth").write_text(COUNT)
    return tree


@pytest.mark.parametrize("home", [None, "", "/root"])
def test_no_name_service_is_asked_for_a_home(tree: Tree, home: str | None) -> None:
    environment = {} if home is None else {"HOME": home}
    report = tree.report_of(tree.command, env=environment)
    assert (report["home"], report["has_asked"]) == (home, False)


def test_python_is_isolated_and_in_utf8_with_site_and_the_arguments(tree: Tree) -> None:
    words = ["add", "", "*", "$HOME", "it's", 'a"b', "a b", "-x", "é"]
    odd = {"LANG": "tlh_KX", "LANGUAGE": "de", "PYTHONUTF8": "0", "PATH": ""}
    for locale in ("C", "C.UTF-8"):  # for the first, Python uses UTF-8 by itself
        report = tree.report_of(tree.command, *words, env={**odd, "LC_ALL": locale})
        assert (report["isolated"], report["no_site"], report["utf8"]) == (1, 0, 1)
        assert os.path.normpath(report["executable"]) == str(tree.python)
        assert report["argv"] == words


def test_sigint_ends_no_call_with_a_traceback(tree: Tree) -> None:
    tree.main.write_text(f"import os; os.kill(os.getpid(), 2)\n{REPORT}")
    tree.report_of(tree.command, env=VERSION)
    pipe = subprocess.PIPE
    argv: list[str | Path] = [*HEARS, tree.command, "show"]
    of_a_person = subprocess.run(argv, stderr=pipe, env=VERSION, check=False)
    assert of_a_person.returncode == -signal.SIGINT
    call = {"CNI_COMMAND": "ADD"}
    reading = subprocess.Popen([*HEARS, INSTALLED], stdin=pipe, stderr=pipe, env=call)
    assert reading.stdin is not None
    reading.stdin.write(b" " * (1 << 18))  # more than a pipe holds, so it is read
    reading.send_signal(signal.SIGINT)
    assert (reading.communicate()[1], reading.returncode) == (b"", -signal.SIGINT)


def test_it_is_started_however_it_is_called(tree: Tree, tmp_path: Path) -> None:
    older = tree.root / "lib" / "python3.00" / "site-packages"  # of a Python that is gone
    (older / "cni_ipvlan-0.9.dist-info").mkdir(parents=True)
    (tmp_path / "cni bin").mkdir()
    (tmp_path / "cni bin/ipvlan").symlink_to(tree.command)
    (tmp_path / "one").symlink_to(os.path.relpath(tree.command, tmp_path))
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "plugins").symlink_to(tree.bin)
    for name in ("cni bin/ipvlan", "two", "plugins/ipvlan"):
        tree.report_of(tmp_path / name)
    tree.report_of("./ipvlan", cwd=tree.bin)
    tree.report_of("sh", "ipvlan", cwd=tree.bin)
    tree.report_of("ipvlan", env={"PATH": f"{tree.bin}"})
    for environment in ({}, {"PATH": ""}, {"PATH": "/nowhere"}):
        tree.report_of(tmp_path / "two", env=environment)
    (tmp_path / "gone").mkdir()
    leave = ("sh", "-c", 'rmdir ../gone && exec "$0"', tree.command)
    tree.report_of(*leave, cwd=tmp_path / "gone")
    copy = tmp_path / "moved"
    tree.root.rename(copy)
    tree.main = copy / tree.main.relative_to(tree.root)
    tree.report_of(copy / "bin" / "ipvlan")


def test_editable_installation(tree: Tree, environment: Tree) -> None:
    for each in (tree, environment):
        each.make_editable()
        each.report_of(each.command)


def test_packages_come_after_the_standard_library_and_before_all_else(tree: Tree) -> None:
    (tree.packages / "more.pth").write_text("more\n")
    (tree.packages / "more").mkdir()
    path = tree.report_of(tree.command)["path"]
    ask = "import os, site; print(os.path.dirname(os.__file__), *site.getsitepackages(), sep='\\n')"
    library, *entries = run(os.path.realpath(sys.executable), "-I", "-c", ask).stdout.splitlines()
    indexes = [path.index(str(each.resolve())) for each in (tree.packages, tree.packages / "more")]
    assert path.index(library) < indexes[0] < indexes[1]
    assert all(indexes[1] < path.index(entry) for entry in entries if entry in path)


def test_virtual_environment_is_read_by_site_alone(environment: Tree, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(environment.root)
    ask = [str(environment.python), "-I", "-c", "import sys; print(sys.times)"]
    times = int(subprocess.check_output(ask))  # site itself reads it twice
    (tmp_path / "plugins").symlink_to(environment.bin)
    environment.report_of(tmp_path / "plugins/ipvlan")
    for root in (environment.root, tmp_path / "link"):
        report = environment.report_of(root / "bin" / "ipvlan")
        assert report["times"] == times
        assert report["path"].count(f"{root}/lib/{PYTHON}/site-packages") == 1


def test_python_of_the_system_stands_in_for_one_that_is_gone(tree: Tree) -> None:
    system = Path("/usr/bin") / tree.python.name
    if not system.exists():
        pytest.skip(f"there is no {system}")
    tree.python.unlink()
    assert tree.report_of(tree.command)["executable"] == str(system)


def test_missing_python_is_reported(tree: Tree) -> None:
    (tree.root / "lib" / PYTHON).rename(tree.root / "lib" / "python3.00")
    assert "no python3.00 for it" in read_launcher_error(tree.command)["msg"]


def test_copy_without_an_installation_says_so(tree: Tree, tmp_path: Path) -> None:
    shutil.copy(tree.command, tmp_path / "ipvlan")
    assert "not where it was installed" in read_launcher_error(tmp_path / "ipvlan")["msg"]
    done = run(tmp_path / "ipvlan", "--help", env={})
    assert (done.returncode, done.stdout) == (1, "")
    assert "not where it was installed" in done.stderr
    assert "instead of copying it" in done.stderr


def test_called_as_neither_runtimes_nor_people_do_it_describes_itself() -> None:
    done = run(INSTALLED, env={})
    assert (done.returncode, done.stdout, "1.1.0" in done.stderr) == (0, "", True)


def test_a_deleted_directory_is_left_since_shells_complain_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    monkeypatch.chdir(directory)
    directory.rmdir()
    __main__._leave_unusable_directory()
    assert Path.cwd() == Path("/")
