"""Each way in which Python's tools install the project: its command works after all of them."""

import os
import subprocess
from pathlib import Path

import pytest
from installing import PYTHON, assert_serves, copy_checkout, make_environment, run

VENV = "$UV_PYTHON -I -m venv --without-pip venv"
PIP = "$TOOLS/pip --python venv/bin/python3 install"
USER = "$TOOLS/pip --python $UV_PYTHON install --user --break-system-packages"
METHODS = {
    "venv": f"{VENV} && {PIP} cni-ipvlan",
    "pipx": "$TOOLS/pipx install cni-ipvlan",
    "uv tool": "$TOOLS/uv tool install cni-ipvlan",
    "venv with system packages": f"{VENV} --system-site-packages && {PIP} cni-ipvlan",
    "venv, editable": f"{VENV} && {PIP} --editable source",
    "uv, editable": (
        "$TOOLS/uv venv venv && $TOOLS/uv pip install --python venv/bin/python3 --editable source"
    ),
    "user beside a distribution's packages": f"{USER} cni-ipvlan",
    "user with packages of its own": f"{USER} --ignore-installed cni-ipvlan",
    "user, editable": f"{USER} --editable source",
}


# Variables that must not change what the command does.
VARIABLES = {"PYTHONPLATLIBDIR": "evil", "PYTHONEXECUTABLE": "/bin/false", "PYTHONINSPECT": "1"}
VARIABLES |= {"PYTHONVERBOSE": "1", "PYTHONOPTIMIZE": "2", "PYTHONBREAKPOINT": "os.abort"}
VARIABLES |= {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-16", "CDPATH": "/"}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """Install PyPI's installers; return the directory of their commands."""
    python = make_environment(tmp_path_factory.mktemp("tools"))
    options = ["--quiet", "--no-index", f"--find-links={wheels}", "--upgrade"]
    subprocess.run([python, "-m", "pip", "install", *options, "pip", "pipx", "uv"], check=True)
    return python.parent


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory of modules that end the process which imports them."""
    directory = tmp_path_factory.mktemp("evil")
    for name in ("cni_ipvlan", "sh", "jsonschema", "click", "json", "site", "usercustomize"):
        (directory / f"{name}.py").write_text("raise SystemExit('evil')\n")
    return directory


@pytest.mark.parametrize("method", METHODS)
def test_installed_command_serves_runtimes_and_people(
    method: str, tmp_path: Path, wheels: Path, tools: Path, modules: Path
) -> None:
    if "editable" in method:
        copy_checkout(tmp_path / "source")
    install(METHODS[method], tmp_path, wheels, tools)
    (command,) = (*tmp_path.glob("venv/bin/ipvlan"), *tmp_path.glob(".local/bin/ipvlan"))

    assert_serves(command)
    link = tmp_path / "opt/cni/bin/ipvlan"
    link.parent.mkdir(parents=True)
    link.symlink_to(command)
    variables = dict.fromkeys(("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HOME"), str(modules))
    variables |= dict.fromkeys(("PYTHONSTARTUP", "ENV", "BASH_ENV"), f"{modules}/json.py")
    assert_serves(link, modules, **variables, **VARIABLES)


def install(script: str, home: Path, wheels: Path, tools: Path) -> None:
    """Have a shell install it, with a temporary home, and packages only from a folder."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "TOOLS": str(tools),
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
    done = run("sh", "-ec", script, env=environment, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
