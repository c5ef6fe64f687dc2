"""The project as it is installed: from a copy of this checkout, in Python environments of tests."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runtime import call_environment

CHECKOUT = Path(__file__).resolve().parents[2]
# The distribution's Python, which install-node uses, whichever Python runs the tests.
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
# What keeps the plugin from running on the distribution's Python packages, as on Debian 12.
MISSING_PACKAGES = subprocess.check_output(
    (PYTHON, "-I", CHECKOUT / "packaging/missing_packages.py"), text=True
).strip()
needs_system_packages = pytest.mark.skipif(
    bool(MISSING_PACKAGES), reason=f"on this distribution's Python, {MISSING_PACKAGES}"
)


def run(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with no input unless it is given; return what became of it."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(argv, check=False, capture_output=True, text=True, **options)


def may_unshare(*options: str) -> bool:
    return run("unshare", *options, "true").returncode == 0


def copy_checkout(target: Path) -> Path:
    """Copy what an installation needs, since a build leaves files beside it; return the target."""
    for name in ("cni_ipvlan", "packaging", "scripts"):
        compiled = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, target / name, ignore=compiled)
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, target)
    return target


def copy_everything(target: Path) -> Path:
    """Copy the checkout as a fresh clone has it; return the target."""
    ignored_names = [line.strip("/") for line in (CHECKOUT / ".gitignore").read_text().splitlines()]
    ignore = shutil.ignore_patterns(".git", *ignored_names)
    return shutil.copytree(CHECKOUT, target, symlinks=True, ignore=ignore)


def make_environment(directory: Path, *options: str) -> Path:
    subprocess.run([PYTHON, "-I", "-m", "venv", *options, directory], check=True)
    return directory / "bin" / "python3"


def assert_serves(command: Path, directory: Path | str = "/", **variables: str) -> None:
    """Assert that a command answers what it is asked, wrong input included, and that with care."""
    stdin = '{"cniVersion": "1.0.0"}'
    answer = call_plugin(command, stdin, directory, {"CNI_COMMAND": "VERSION", **variables})
    assert "1.0.0" in answer["supportedVersions"]

    call = call_environment("ADD", "/run/netns/none")
    # Takes jsonschema and all that it needs to explain.
    stdin = '{"cniVersion": "1.0.0", "name": "n", "type": "ipvlan", "mtu": "x"}'
    answer = call_plugin(command, stdin, directory, {**call, **variables})
    assert answer["code"] == 7, answer
    assert "mtu" in answer["msg"]

    done = run(command, "--help", env=variables, cwd=directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ipvlan")

    # PyYAML comes along.
    example = CHECKOUT / "examples/ipvlan0.yaml"
    done = run(command, "validate", example, env=variables, cwd=directory)
    assert (done.returncode, done.stdout) == (0, "1 network: no problems\n")


def call_plugin(
    command: Path, stdin: str, directory: Path | str, environment: dict[str, str]
) -> dict[str, Any]:
    """Return the document that a call answers."""
    done = run(command, input=stdin, env=environment, cwd=directory)
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == ("code" in answer)
    return answer


def read_launcher_error(command: Path, stdin: int = subprocess.DEVNULL) -> dict[str, Any]:
    """Return the error that a runtime gets from a launcher that can't start anything."""
    done = run(command, env={"CNI_COMMAND": "VERSION"}, stdin=stdin)
    assert (done.returncode, done.stderr) == (1, "")
    error: dict[str, Any] = json.loads(done.stdout)
    assert (error["cniVersion"], error["code"]) == ("1.0.0", 5)
    return error


# Where install-node puts a node of a test, and how it is run there.

USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
NO_USERS = "this machine permits no user namespaces, as in a chroot"
needs_root = pytest.mark.skipif(not may_unshare(*USER, "--mount"), reason=NO_USERS)
needs_users = pytest.mark.skipif(not may_unshare("--user"), reason=NO_USERS)
# With another /var/log than the machine's.
WITH_PRIVATE_LOGS = ["sh", "-c", 'mount -t tmpfs tmpfs /var/log && exec "$@"', "sh"]
AS_ROOT = ["unshare", *USER, "--mount", *WITH_PRIVATE_LOGS]


def installer(checkout: Path) -> Path:
    return checkout / "scripts/install-node"


def path_options(node: Path) -> list[str]:
    words = f"--prefix {node}/prefix --bin-dir {node}/cni/bin".split()
    return words + f"--share-dir {node}/share --command-dir {node}/command".split()


def plugin_path(node: Path) -> Path:
    return node / "cni/bin/ipvlan"


def list_tree(directory: Path) -> dict[str, object]:
    """Return what is in a directory: kind, mode, and content or target."""
    entries: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        content = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        entries[str(path.relative_to(directory))] = (mode, content)
    return entries
