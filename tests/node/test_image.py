"""scripts/build-image: an image that containerd runs, and that installs the bundle on its node."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from installing import AS_ROOT, CHECKOUT, tree

BUILD = CHECKOUT / "scripts/build-image"
ENTRY = CHECKOUT / "scripts/lib/image-entry"
LAB = CHECKOUT / "scripts/lab-kernel"
USE = Path(__file__).with_name("using_image.py")
Image = dict[str, bytes]


@pytest.fixture(scope="module")
def images(archives: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build it twice, from bundles of one commit."""
    places = [tmp_path_factory.mktemp(each) for each in ("images", "other images")]
    building = [
        subprocess.Popen([BUILD, "--bundle", archive, "--output", place], umask=mask)
        for archive, place, mask in zip(archives, places, (0o022, 0o077), strict=True)
    ]
    assert [each.wait() for each in building] == [0, 0]
    return [next(place.iterdir()) for place in places]


@pytest.fixture(scope="module")
def image(images: list[Path]) -> Image:
    """Return the files of the image's layout."""
    return contents(images[0].read_bytes())


def contents(archive: bytes) -> Image:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            file = opened.extractfile(entry) if entry.isfile() else None
            if file:
                found[entry.name] = file.read()
    return found


def blob(image: Image, descriptor: dict[str, Any]) -> bytes:
    """Return what a descriptor describes."""
    content = image["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def test_same_bundle_gives_the_same_image(images: list[Path], archives: list[Path]) -> None:
    one, other = images
    version = archives[0].name.split("-linux-")[0]
    assert [one.name, other.name] == [f"{version}.oci.tar"] * 2
    assert one.read_bytes() == other.read_bytes()


def test_image_has_the_bundle_and_starts_the_entry(image: Image, archives: list[Path]) -> None:
    assert json.loads(image["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (described,) = json.loads(image["index.json"])["manifests"]
    manifest = json.loads(blob(image, described))
    config = json.loads(blob(image, manifest["config"]))
    layers = [contents(blob(image, each)) for each in manifest["layers"]]
    assert len(config["rootfs"]["diff_ids"]) == len(layers) == 2
    place = "usr/lib/cni-ipvlan/"
    (entry,) = config["config"]["Entrypoint"]
    bundle = {
        f"{place}{name.partition('/')[2]}": content
        for name, content in contents(archives[0].read_bytes()).items()
    }
    assert layers[1] == {**bundle, entry.removeprefix("/"): ENTRY.read_bytes()}
    assert "usr/share/doc/bash/copyright" in layers[0]


def test_containerd_runs_it_and_it_installs_upgrades_and_removes_the_plugin(
    images: list[Path],
) -> None:
    path = {"PYTHONPATH": str(CHECKOUT / "tests/support")}
    printed = subprocess.check_output(
        [LAB, sys.executable, USE, images[0]], text=True, env={**os.environ, **path}
    )
    found = json.loads(printed)
    tag = images[0].name.removeprefix("cni-ipvlan-").removesuffix(".oci.tar").replace("~", "-")
    assert found.pop("names") == [f"localhost/cni-ipvlan:{tag}"]
    assert found.pop("bad input") == [
        2,
        "image-entry: --on-stop never: it is keep or remove\n",
    ]
    status, words = found.pop("foreign")
    assert status == 1
    assert "with --force it is replaced" in words
    assert "1.1.0" in found.pop("forced")
    kept = found.pop("kept")
    assert kept.pop("calls") > 3
    assert kept == {"statuses": [0, 0], "all": True}
    assert "1.1.0" in found.pop("kept, answers")
    assert found == {
        "foreign, changed": False,
        "health": 0,
        "health, without it": 1,
        "removed": 0,
        "removed, changed": False,
    }


@pytest.mark.parametrize("on_stop", ["keep", "remove"])
def test_signal_while_it_installs_changes_nothing(
    bundle: Path, tmp_path: Path, on_stop: str
) -> None:
    with entry(bundle, tmp_path, "--on-stop", on_stop) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("copying the bundle")
        process.terminate()
        process.communicate()
    assert process.returncode == (143 if on_stop == "keep" else 0)
    assert tree(tmp_path) == {}


def test_installation_that_fails_ends_the_entry(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cni/bin/ipvlan").mkdir(parents=True)
    before = tree(tmp_path)
    with entry(bundle, tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert len(stderr.splitlines()) == 1
    assert "is another program" in stderr
    assert tree(tmp_path) == before


def entry(bundle: Path, node: Path, *options: str) -> subprocess.Popen[str]:
    """Start the entry as the image has it, for directories of a test."""
    place = bundle / "scripts/lib/image-entry"
    if not place.exists():
        place.write_bytes(ENTRY.read_bytes())
        place.chmod(0o755)
    places = ["--prefix", f"{node}/prefix", "--bin-dir", f"{node}/cni/bin"]
    return subprocess.Popen(
        [*AS_ROOT, place, *places, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("script", "options", "words"),
    [
        (BUILD, ["--colour"], "no option --colour"),
        (BUILD, ["--output"], "needs a value"),
        (BUILD, ["--output", "/etc/passwd"], "not a directory"),
        (BUILD, ["--bundle", "/nonexistent"], "no such file"),
        (BUILD, ["--bundle", "/etc/passwd"], "no bundle for this machine"),
        (BUILD, ["now"], "no argument now"),
        (ENTRY, ["--colour"], "no option --colour"),
        (ENTRY, ["--on-stop", "never"], "keep or remove"),
        (ENTRY, ["now"], "no argument now"),
        (ENTRY, ["--prefix", "here"], "absolute path"),
        (ENTRY, ["--health", "--bin-dir", "here"], "absolute path"),
    ],
)
def test_bad_input_is_one_sentence(script: Path, options: list[str], words: str) -> None:
    done = subprocess.run([script, *options], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bundle_that_is_broken_is_reported(archives: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / archives[0].name
    broken.write_bytes(archives[0].read_bytes()[:1000])
    command: list[str | Path] = [BUILD, "--bundle", broken, "--output", tmp_path / "dist"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"build-image: cannot unpack {broken}\n"
    assert not (tmp_path / "dist").exists()
