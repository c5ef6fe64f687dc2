"""Tests of installation on nodes: in temporary directories, as root if necessary."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloning import git, make_clone
from installing import CHECKOUT, copy_checkout, copy_everything, make_environment

BUILD_BUNDLE = "scripts/build-bundle"
BUILD_IMAGE = CHECKOUT / "scripts/build-image"
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
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the bundle of one commit twice, in unlike surroundings."""
    place = tmp_path_factory.mktemp("clones")
    one = make_clone(place / "one")
    git(place, "clone", "--quiet", one, "another clone")
    unlike = {
        "HOME": "/nonexistent",
        "TZ": "Asia/Kathmandu",
        "PYTHONPATH": "/evil",
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(tmp_path_factory.mktemp("another temporary directory")),
    }
    building = [
        subprocess.Popen([one / BUILD_BUNDLE]),
        subprocess.Popen(
            [place / "another clone" / BUILD_BUNDLE], env={**os.environ, **unlike}, umask=0o077
        ),
    ]
    assert [each.wait() for each in building] == [0, 0]
    return [next(place.glob(f"{name}/dist/*")) for name in ("one", "another clone")]


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
def images(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build the image twice, from bundles of one commit."""
    places = [tmp_path_factory.mktemp(each) for each in ("images", "other images")]
    building = [
        subprocess.Popen([BUILD_IMAGE, "--bundle", archive, "--output", place], umask=mask)
        for archive, place, mask in zip(archives, places, (0o022, 0o077), strict=True)
    ]
    assert [each.wait() for each in building] == [0, 0]
    return [next(place.iterdir()) for place in places]
