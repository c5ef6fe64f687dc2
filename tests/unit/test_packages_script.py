"""Which packages scripts install, and what they say if they may not, or find files of others."""

import os
import shutil
from pathlib import Path

import pytest
from doubles import write_program
from installing import CHECKOUT, needs_users, run

pytestmark = needs_users

LIBRARIES = CHECKOUT / "scripts/lib"
SOURCE = f"source '{LIBRARIES}/packages.sh'"
# In this user namespace, root is an ordinary user, and the files of others are nobody's.
SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("bash", "find", "stat", "true"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    stub(tmp_path, "apt-get", "echo installed")
    stub(tmp_path, "id", "echo somebody")
    return tmp_path


def stub(programs: Path, name: str, command: str) -> None:
    write_program(programs / name, f"#!/bin/sh\n{command}\n")


def run_script(programs: Path, command: str) -> tuple[int, str]:
    script = f"{SOURCE}; PATH='{programs}'; {command}"
    done = run(*SOMEBODY, "bash", "-euo", "pipefail", "-c", script, "scripts/it")
    assert not done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_without_sudo_it_names_the_line_that_root_runs(programs: Path, sudo: str | None) -> None:
    if sudo:
        stub(programs, "sudo", sudo)
    line = "apt-get install --yes --no-install-recommends nonesuch"
    expected = f"Debian packages are missing: sudo {line}\n"  # before sudo asks for a password
    expected += f"it: only root can install them: apt-get update && {line}\n"
    assert run_script(programs, "install_packages nonesuch") == (1, expected)


@pytest.mark.parametrize(("policy", "names", "status"), [("", "", 0), ("", "x", 1), ("x", "x", 0)])
def test_what_apt_knows_by_name_only_is_not_offered(
    programs: Path, policy: str, names: str, status: int
) -> None:
    stub(programs, "apt-cache", f"printf '{policy}'")
    stub(programs, "apt-get", f"printf '{names}'")
    assert run_script(programs, "is_offered nonesuch") == (status, "")


@pytest.mark.parametrize("lock", ["lib/apt/lists/lock", "cache/apt/archives/lock"])
def test_it_waits_until_another_apt_has_ended(programs: Path, lock: str) -> None:
    error = f"E: Could not get lock /var/{lock}. It is held by process 1 (apt-get)"
    marker = programs / "held"
    marker.touch()
    stub(programs, "apt-get", f"[ ! -e '{marker}' ] || {{ echo '{error}' >&2; exit 100; }}")
    stub(programs, "sleep", f"rm '{marker}'")
    for name in ("env", "rm"):
        (programs / name).symlink_to(shutil.which(name) or name)
    outcome = run_script(programs, "as_root=(); apt_get update")
    assert outcome == (0, f"waiting for the other apt: {error}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_files_that_sudo_left_in_a_clone_are_named_with_what_to_do(programs: Path) -> None:
    lock = programs / "build/venv.lock"
    lock.parent.mkdir()
    lock.touch()
    assert run_script(programs, f"check_file_owners '{programs}'") == (0, "")
    os.chown(lock, 1, 1)
    expected = f"{lock} belongs to nobody; first: sudo chown -R somebody: {programs}"
    assert run_script(programs, f"check_file_owners '{programs}'") == (1, f"it: {expected}\n")
    expected = f"you may not write to {programs}; clone it to a directory of yours"
    programs.chmod(0o500)
    assert run_script(programs, f"check_file_owners '{programs}'") == (1, f"it: {expected}\n")


ALL = [f"python3-{name}" for name in ("click", "jsonschema", "sh", "yaml")]
DEBIAN_13 = {"click": "8.2.0+0.really.8.1.8-1", "jsonschema": "4.19.2-6", "sh": "2.2.1-1"}


@pytest.mark.parametrize(
    ("offered", "of_use"),
    [
        ({**DEBIAN_13, "yaml": "6.0.2-1+b2"}, ALL),
        ({**DEBIAN_13, "yaml": "6.0-3+b2"}, []),  # one is too old, as Debian 12's are
        (dict.fromkeys(DEBIAN_13, "(none)"), ALL),
    ],
)
def test_packages_are_of_use(tmp_path: Path, offered: dict[str, str], of_use: list[str]) -> None:
    cases = [f'Cpython3-{name}) echo "  Candidate: {offered[name]}" ;;' for name in offered]
    stub(tmp_path, "apt-cache", "\n".join(['case "$LC_ALL$2" in', *cases, "esac"]))
    script = f"{SOURCE} && list_python_packages"
    path = {"PATH": f"{tmp_path}:{os.defpath}"}
    done = run("bash", "-euo", "pipefail", "-c", script, env=path)
    assert (done.returncode, done.stdout.split()) == (0, of_use)
