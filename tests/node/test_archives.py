"""The wheel and the source archive: their content, and no trace of where they were built."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from installing import CHECKOUT, copy_checkout, make_environment

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = (
    "data/share/man/man8/ipvlan.8",
    "data/share/bash-completion/completions/ipvlan",
    "data/share/fish/vendor_completions.d/ipvlan.fish",
    "data/share/zsh/site-functions/_ipvlan",
)
PIP_WHEEL = ("-m", "pip", "-q", "wheel", "--no-deps", "--no-index")


@pytest.fixture(scope="module")
def wheel(wheels: Path) -> dict[str, bytes]:
    return members(wheels)


@pytest.fixture(scope="module")
def sdist(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source archive, elsewhere and in another environment than the wheel."""
    source = copy_checkout(tmp_path_factory.mktemp("builder's"))
    python = make_environment(source / "venv")
    alone = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    for command in (("pip", "-q", "install", "build"), ("build", "--sdist")):
        argv = [python, "-m", *command]
        subprocess.run(argv, check=True, cwd=source, env=alone, capture_output=True)
    return next(source.glob("dist/*.tar.gz"))


def test_wheel_holds_the_package_the_launcher_and_nothing_else(wheel: dict[str, bytes]) -> None:
    package = {name for name in wheel if not name.startswith("cni_ipvlan-")}
    assert package == package_files()
    assert {name: wheel[name] for name in package} == contents(package)
    data = {name.partition(".data/")[2]: name for name in wheel if ".data/" in name}
    assert data.keys() == {"scripts/ipvlan", *DOCUMENTS}
    assert wheel[data["scripts/ipvlan"]] == (CHECKOUT / "scripts/ipvlan").read_bytes()
    others = {name.rpartition("dist-info/")[2] for name in wheel} - package - {*data.values()}
    assert others == {"METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE"}


def test_launcher_is_executable(wheels: Path) -> None:
    with zipfile.ZipFile(next(wheels.glob("cni_ipvlan-*.whl"))) as archive:
        entries = archive.infolist()
    (launcher,) = (each for each in entries if each.filename.endswith("/scripts/ipvlan"))
    assert launcher.external_attr >> 16 & 0o777 == 0o755


def test_source_archive_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert package_files() < names
    assert {"scripts/ipvlan", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"} < names


def test_wheel_is_the_same_wherever_it_is_built(
    wheel: dict[str, bytes], sdist: Path, wheels: Path, tmp_path: Path
) -> None:
    """Built from the source archive, by another Python in another place."""
    python = make_environment(tmp_path / "venv")
    build = [*PIP_WHEEL, f"--find-links={wheels}", f"--wheel-dir={tmp_path}/wheel", str(sdist)]
    subprocess.run([python, *build], check=True)
    assert members(tmp_path / "wheel") == wheel


def test_no_archive_names_a_directory_of_its_builder(
    wheel: dict[str, bytes], sdist: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    everything = dict(wheel)
    with tarfile.open(sdist) as archive:
        for each in archive:
            file = archive.extractfile(each)
            everything[each.name] = file.read() if file else b""
    builders = str(tmp_path_factory.getbasetemp()).encode()
    assert [name for name, content in everything.items() if builders in content] == []
    assert [name for name in everything if name.startswith("/")] == []


def members(folder: Path) -> dict[str, bytes]:
    """Return what the project's wheel in a folder holds."""
    with zipfile.ZipFile(next(folder.glob("cni_ipvlan-*.whl"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def package_files() -> set[str]:
    files = (path for path in (CHECKOUT / "cni_ipvlan").rglob("*") if path.is_file())
    return {str(path.relative_to(CHECKOUT)) for path in files if path.suffix != ".pyc"}


def contents(names: set[str]) -> dict[str, bytes]:
    return {name: (CHECKOUT / name).read_bytes() for name in names}
