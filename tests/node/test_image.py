"""scripts/build-image: an image that installs the bundle on its node. test_deploy.py runs it."""

import json
import re
import subprocess
import tarfile
from pathlib import Path, PurePath

import pytest
from image_layout import ARCHITECTURE, Image, read_archive, read_blob, read_manifests
from installing import AS_ROOT, CHECKOUT, list_tree, needs_root, run

BUILD = CHECKOUT / "scripts/build-image"
ENTRY = CHECKOUT / "scripts/lib/image-entry"


@pytest.fixture(scope="module")
def image(images: list[Path]) -> Image:
    return read_archive(images[0].read_bytes())


def test_same_bundle_gives_the_same_image(images: list[Path], archives: list[Path]) -> None:
    version = archives[0].name.split("-linux-")[0]
    assert {each.name for each in images} == {f"{version}.oci.tar"}
    if len(images) == 1:
        pytest.skip("with this seed, it was built once")
    assert len({each.read_bytes() for each in images}) == 1


def test_image_has_the_bundle_and_starts_the_entry(image: Image, archives: list[Path]) -> None:
    assert json.loads(image["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    ((architecture, manifest),) = read_manifests(image).items()
    config = json.loads(read_blob(image, manifest["config"]))
    (layer,) = (read_archive(read_blob(image, each)) for each in manifest["layers"])
    assert config["architecture"] == architecture == ARCHITECTURE
    match = re.fullmatch(r"cni-ipvlan-(.*git1\.(\w+))-linux-.*", archives[0].name)
    assert match
    labels = {key.rpartition(".")[2]: value for key, value in config["config"]["Labels"].items()}
    assert (labels["version"], labels["revision"]) == match.groups()
    assert labels["licenses"] == "Apache-2.0"
    assert len(config["rootfs"]["diff_ids"]) == 1
    prefix = "usr/lib/cni-ipvlan/"
    (entry,) = config["config"]["Entrypoint"]
    bundle = {
        f"{prefix}{name.partition('/')[2]}": content
        for name, content in read_archive(archives[0].read_bytes()).items()
    }
    bundle[entry.removeprefix("/")] = ENTRY.read_bytes()
    assert {name: layer[name] for name in layer if name.startswith(prefix)} == bundle
    assert "usr/share/doc/bash/copyright" in layer


def test_each_file_comes_after_its_directories_which_anybody_may_enter(images: list[Path]) -> None:
    directories = {PurePath()}  # for tools that make no directory themselves
    with tarfile.open(images[0]) as tar:
        for entry in tar:
            assert PurePath(entry.name).parent in directories
            if entry.isdir():
                directories.add(PurePath(entry.name))
                assert entry.mode == 0o755
    assert PurePath("blobs/sha256") in directories


@needs_root
@pytest.mark.parametrize("on_stop", ["keep", "remove"])
def test_signal_during_it_changes_nothing(bundle: Path, tmp_path: Path, on_stop: str) -> None:
    with entry(bundle, tmp_path, "--on-stop", on_stop) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("copying the bundle")
        process.terminate()
        process.communicate()
    assert process.returncode == (143 if on_stop == "keep" else 0)
    assert list_tree(tmp_path) == {}


@needs_root
def test_installation_that_fails_ends_the_entry(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cni/bin/ipvlan").mkdir(parents=True)
    before = list_tree(tmp_path)
    with entry(bundle, tmp_path) as process:
        stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (1, "")
    assert len(stderr.splitlines()) == 1
    assert "is another program" in stderr
    assert list_tree(tmp_path) == before


@needs_root
def test_health_asks_the_directory_of_the_installation(bundle: Path, tmp_path: Path) -> None:
    with entry(bundle, tmp_path, "--once") as process:
        printed, complained = process.communicate()
    assert complained.count("\n") <= 1  # about IPAM plugins
    assert str(bundle) not in printed  # which exists only in the container
    assert f"to check this node: {tmp_path}/cni/bin/ipvlan doctor" in printed
    assert process.returncode == 0
    script, prefix = bundle / "scripts/lib/image-entry", f"{tmp_path}/prefix"
    argv: list[str | Path] = [*AS_ROOT, script, "--prefix", prefix, "--health"]
    printed = subprocess.check_output(argv, text=True)
    assert printed == f"{tmp_path}/cni/bin/ipvlan answers\n"


@needs_root
def test_networks_come_and_go_with_it(bundle: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "given", tmp_path / "net.d"
    source.mkdir()
    target.mkdir()
    options = ("--networks", str(source), "--conf-dir", str(target), "--on-stop", "remove")
    conf = {"cniVersion": "1.0.0", "type": "ipvlan", "master": "eth0", "ipam": {"type": "dhcp"}}
    first, second = ({**conf, "name": name} for name in ("first", "second"))
    (target / "10-first.conf").write_text("another program's")
    (source / "10-first.conf").write_text(json.dumps(first))

    def run_once(*arguments: str) -> tuple[int, str]:
        with entry(bundle, tmp_path, *options, "--once", *arguments) as process:
            _, complained = process.communicate()
        return process.returncode, complained

    status, complained = run_once()
    assert (status, "10-first.conf is there already" in complained) == (1, True)
    assert (target / "10-first.conf").read_text() == "another program's"
    assert not (tmp_path / "prefix").exists()
    (target / "10-first.conf").write_text(json.dumps(first))  # of an installation that was lost
    (source / "30-third.conf").write_text(json.dumps({**conf, "name": "third"}))
    assert run_once()[0] == 0
    (source / "30-third.conf").unlink()
    assert json.loads((target / "10-first.conf").read_text()) == first
    (source / "10-first.conf").rename(source / "20-second.conf")
    (source / "20-second.conf").write_text(json.dumps({**second, "mode": "l9"}))
    status, complained = run_once()
    assert (status, "$.mode" in complained) == (1, True)
    assert sorted(path.name for path in target.iterdir()) == ["10-first.conf", "30-third.conf"]
    (source / "20-second.conf").write_text(json.dumps(second))
    with entry(bundle, tmp_path, *options) as process:
        assert process.stdout is not None
        assert any(line.startswith("waiting") for line in process.stdout)
        assert [path.name for path in target.iterdir()] == ["20-second.conf"]
        process.terminate()
        process.communicate()
    assert process.returncode == 0
    assert not [*target.iterdir()]
    assert not (tmp_path / "prefix").exists()


def entry(bundle: Path, node: Path, *options: str) -> subprocess.Popen[str]:
    """Start the entry as the image has it, for directories of a test."""
    script = bundle / "scripts/lib/image-entry"
    if not script.exists():
        script.write_bytes(ENTRY.read_bytes())
        script.chmod(0o755)
    directories = ["--prefix", f"{node}/prefix", "--bin-dir", f"{node}/cni/bin"]
    return subprocess.Popen(
        [*AS_ROOT, script, *directories, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_bundle_that_is_broken_is_reported(archives: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / archives[0].name
    broken.write_bytes(archives[0].read_bytes()[:1000])
    done = run(BUILD, "--bundle", broken, "--output", tmp_path / "dist")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"build-image: cannot unpack {broken}: xz: ")
    assert not (tmp_path / "dist").exists()
