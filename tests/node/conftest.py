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
# What is built twice, to compare, if anything.
TWICE = sampling.sample(("bundle", "image", "nothing"), 1)
TOOLS = ("build", "pip", "pipx", "setuptools", "uv")


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Give what is run here a place for temporary files, in which nothing may be in the end."""
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
    wanted = [str(source), *TOOLS]
    subprocess.run([python, "-m", "pip", "-q", "wheel", "--wheel-dir", folder, *wanted], check=True)
    return folder


@pytest.fixture(scope="session")
def fetching(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Have mmdebstrap fetch what is asked for again only once; each time with --long."""
    if sampling.is_long():
        return {}
    place = tmp_path_factory.mktemp("fetched")
    write_program(place / "mmdebstrap", FETCH_ONCE)
    return {"FETCHED": str(place), "PATH": f"{place}:{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory, fetching: dict[str, str]) -> list[Path]:
    """Build the bundle of one commit, perhaps twice, in unlike surroundings."""
    place = tmp_path_factory.mktemp("clones")
    one, other = make_clone(place / "one"), place / "another clone"
    git(place, "clone", "--quiet", one, other)
    unlike = {
        "HOME": "/nonexistent",
        "TZ": "Asia/Kathmandu",
        "PYTHONPATH": "/evil",
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(tmp_path_factory.mktemp("another temporary directory")),
    }
    builds: list[tuple[Path, dict[str, str], int]] = [(one, {}, 0o022), (other, unlike, 0o077)]
    for clone, more, mask in builds[: 1 + ("bundle" in TWICE)]:
        environment = {**os.environ, **fetching, **more}
        done = subprocess.run(
            [clone / BUILD_BUNDLE], check=True, env=environment, umask=mask, stderr=subprocess.PIPE
        )
        assert [each for each in done.stderr.decode().splitlines() if each in STEPS] == STEPS
    return [path for clone, *_ in builds for path in clone.glob("dist/*")]


@pytest.fixture(scope="session")
def bundle(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack it, as install instructions have it, in a directory of some name."""
    place = tmp_path_factory.mktemp("it's a place")
    subprocess.run(["tar", "-xJf", archives[0], "-C", place], check=True)
    (unpacked,) = place.iterdir()
    return unpacked


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Have a checkout in which nothing was run yet."""
    return copy_everything(tmp_path / "fresh")


@pytest.fixture(scope="session")
def images(
    archives: list[Path], tmp_path_factory: pytest.TempPathFactory, fetching: dict[str, str]
) -> list[Path]:
    """Build the image, perhaps twice, from bundles of one commit."""
    place = tmp_path_factory.mktemp("images")
    masks = {"one": 0o022, "other": 0o077} if "image" in TWICE else {"one": 0o022}
    for name, mask in masks.items():
        subprocess.run(
            [BUILD_IMAGE, "--bundle", archives[-1], "--output", place / name],
            check=True,
            env={**os.environ, **fetching},
            umask=mask,
        )
    return [next((place / name).iterdir()) for name in masks]
