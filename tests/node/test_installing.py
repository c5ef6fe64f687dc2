"""Each way in which Python's tools install the project: its command works after all of them.

The Debian package and scripts/install-node have other tests.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sampling
from installing import PYTHON, assert_serves, copy_checkout, make_environment

PROJECT = "cni-ipvlan"


class Installer:
    """Common to all ways: a temporary home, and packages only from a folder."""

    def __init__(self, home: Path, wheels: Path, tools: Path) -> None:
        self.home = home
        self.tools = tools
        self.source = home / "source"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_INDEX": "1",
            "PIPX_DEFAULT_PYTHON": PYTHON,
            "UV_FIND_LINKS": str(wheels),
            "UV_NO_CONFIG": "1",
            "UV_OFFLINE": "1",
            "UV_PYTHON": PYTHON,
            "UV_PYTHON_DOWNLOADS": "never",
        }

    def run(self, *argv: str | Path) -> None:
        """Run a command in this environment; if it fails, fail with its output."""
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, env=self.environment, cwd=self.home
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def pip_install(self, python: Path | str, *what: str | Path) -> None:
        """Install into where an interpreter belongs, as its own pip would."""
        self.run(self.tools / "pip", "--python", python, "install", *what)

    def environment_python(self, *options: str) -> Path:
        """Make a virtual environment; return its interpreter."""
        return make_environment(self.home / "venv", "--without-pip", *options)

    def editable(self) -> tuple[str, Path]:
        """Return the options that install a copy of the checkout as editable."""
        return "--editable", copy_checkout(self.source)


def venv(at: Installer) -> Path:
    python = at.environment_python()
    at.pip_install(python, PROJECT)
    return python.with_name("ipvlan")


def venv_with_system_packages(at: Installer) -> Path:
    python = at.environment_python("--system-site-packages")
    at.pip_install(python, PROJECT)
    return python.with_name("ipvlan")


def venv_editable(at: Installer) -> Path:
    python = at.environment_python()
    at.pip_install(python, *at.editable())
    return python.with_name("ipvlan")


def user_beside_a_distributions_packages(at: Installer) -> Path:
    return user(at, PROJECT)


def user_with_packages_of_its_own(at: Installer) -> Path:
    return user(at, "--ignore-installed", PROJECT)


def user_editable(at: Installer) -> Path:
    return user(at, *at.editable())


def user(at: Installer, *what: str | Path) -> Path:
    at.pip_install(PYTHON, "--user", "--break-system-packages", *what)
    return at.home / ".local/bin/ipvlan"


def pipx(at: Installer) -> Path:
    at.run(at.tools / "pipx", "install", PROJECT)
    return at.home / ".local/bin/ipvlan"


def uv_tool(at: Installer) -> Path:
    at.run(at.tools / "uv", "tool", "install", PROJECT)
    return at.home / ".local/bin/ipvlan"


def uv_editable(at: Installer) -> Path:
    at.run(at.tools / "uv", "venv", at.home / "venv")
    python = at.home / "venv/bin/python3"
    at.run(at.tools / "uv", "pip", "install", "--python", python, *at.editable())
    return python.with_name("ipvlan")


OTHERS: list[Callable[[Installer], Path]] = [
    *(venv_with_system_packages, venv_editable, uv_editable),
    *(user_beside_a_distributions_packages, user_with_packages_of_its_own, user_editable),
]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Install PyPI's installers; return the directory of their commands."""
    python = make_environment(tmp_path_factory.mktemp("tools"))
    options = ["--quiet", "--no-index", f"--find-links={wheels}", "--upgrade"]
    subprocess.run([python, "-m", "pip", "install", *options, "pip", "pipx", "uv"], check=True)
    return python.parent


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory of modules that end the process which imports them."""
    directory = tmp_path_factory.mktemp("evil")
    for name in ("cni_ipvlan", "sh", "jsonschema", "click", "json", "site", "usercustomize"):
        (directory / f"{name}.py").write_text("raise SystemExit('evil')\n")
    return directory


@pytest.mark.parametrize(
    "way", [venv, pipx, uv_tool, *sampling.sample(OTHERS, 1)], ids=lambda way: way.__name__
)
def test_installed_command_serves_runtimes_and_people(
    way: Callable[[Installer], Path], tmp_path: Path, wheels: Path, tools: Path, evil: Path
) -> None:
    command = way(Installer(tmp_path, wheels, tools))

    assert_serves(command)
    link = tmp_path / "opt/cni/bin/ipvlan"
    link.parent.mkdir(parents=True)
    link.symlink_to(command)
    variables = dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME"), str(evil))
    assert_serves(link, evil, **variables)
