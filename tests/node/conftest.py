"""Tests of installation on nodes: in temporary directories, as root if necessary."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sampling
from cloning import git, make_clone
from doubles import write_program
from installing import CHECKOUT, copy_checkout, copy_everything, make_environment

BUILD_BUNDLE = "scripts/build-bundle"
BUILD_IMAGE = CHECKOUT / "scripts/build-image"
STEPS = ["fetching Debian's packages", "collecting files", "compiling Python's modules", "packing"]
# Called as mmdebstrap is, with the directory at the end.
FETCH_ONCE = """#!/bin/bash
kept=$FETCHED/$(sha256sum <<<"${*:1:$#-1}" | cut -c 1-64)
[[ -d $kept ]] || PATH=${PATH#*:} mmdebstrap "${@:1:$#-1}" "$kept" || exit
cp -a "$kept" "${!#}"
"""
# What is built twice, to compare the results.
REPEATED_BUILD = sampling.sample(("bundle", "image", "nothing"), 1)
TOOLS = ("build", "pip", "pipx", "setuptools", "uv")


@pytest.fixture(scope="session", autouse=True)
def temporary_directory() -> Iterator[None]:
    """Give programs a directory for temporary files, which must be empty in the end."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", name)
        yield
        assert list(Path(name).iterdir()) == []


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fill a folder as install-node's help describes, and with other tools that install it."""
    source = copy_checkout(tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("wheels")
    python = make_environment(tmp_path_factory.mktemp("pip"))
    names = [str(source), *TOOLS]
    subprocess.run([python, "-m", "pip", "-q", "wheel", "--wheel-dir", folder, *names], check=True)
    return folder


@pytest.fixture(scope="session")
def debian_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Have mmdebstrap fetch the same packages only once, but each time with --long."""
    if sampling.is_long():
        return {}
    directory = tmp_path_factory.mktemp("fetched")
    write_program(directory / "mmdebstrap", FETCH_ONCE)
    return {"FETCHED": str(directory), "PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory, debian_cache: dict[str, str]) -> list[Path]:
    """Build the bundle of one commit, perhaps twice, with different environments."""
    directory = tmp_path_factory.mktemp("clones")
    clone1, clone2 = make_clone(directory / "one"), directory / "another clone"
    git(directory, "clone", "--quiet", clone1, clone2)
    changes = {
        "HOME": "/nonexistent",
        "TZ": "Asia/Kathmandu",
        "PYTHONPATH": "/evil",
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(tmp_path_factory.mktemp("another temporary directory")),
    }
    builds: list[tuple[Path, dict[str, str], int]] = [(clone1, {}, 0o022), (clone2, changes, 0o077)]
    for clone, variables, mask in builds[: 1 + ("bundle" in REPEATED_BUILD)]:
        environment = {**os.environ, **debian_cache, **variables}
        done = subprocess.run(
            [clone / BUILD_BUNDLE], check=True, env=environment, umask=mask, stderr=subprocess.PIPE
        )
        assert [each for each in done.stderr.decode().splitlines() if each in STEPS] == STEPS
    return [path for clone, *_ in builds for path in clone.glob("dist/*")]


@pytest.fixture(scope="session")
def bundle(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack it, as install instructions have it, in a directory of some name."""
    directory = tmp_path_factory.mktemp("it's a place")
    subprocess.run(["tar", "-xJf", archives[0], "-C", directory], check=True)
    (unpacked,) = directory.iterdir()
    return unpacked


@pytest.fixture
def fresh_checkout(tmp_path: Path) -> Path:
    """Make a checkout in which nothing was run yet."""
    return copy_everything(tmp_path / "fresh")


@pytest.fixture(scope="session")
def images(
    archives: list[Path], tmp_path_factory: pytest.TempPathFactory, debian_cache: dict[str, str]
) -> list[Path]:
    """Build the image, perhaps twice, from bundles of one commit."""
    directory = tmp_path_factory.mktemp("images")
    masks = {"one": 0o022, "other": 0o077} if "image" in REPEATED_BUILD else {"one": 0o022}
    for name, mask in masks.items():
        subprocess.run(
            [BUILD_IMAGE, "--bundle", archives[-1], "--output", directory / name],
            check=True,
            env={**os.environ, **debian_cache},
            umask=mask,
        )
    return [next((directory / name).iterdir()) for name in masks]
