"""The wheel and the source archive: their content, and no trace of where they were built."""

import os
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path

import documents
import pytest
from installing import CHECKOUT, copy_checkout, copy_everything, make_environment, run

DOCUMENTS = (
    "data/share/man/man8/ipvlan.8",
    "data/share/bash-completion/completions/ipvlan",
    "data/share/fish/vendor_completions.d/ipvlan.fish",
    "data/share/zsh/site-functions/_ipvlan",
)
PIP_WHEEL = ("-m", "pip", "-q", "wheel", "--no-deps", "--no-index")
READING = "tests/unit/test_documents.py"  # unit tests that read the project's files, and quickly


@pytest.fixture(scope="module")
def wheel(wheels: Path) -> dict[str, bytes]:
    return members(wheels)


@pytest.fixture(scope="module")
def builder(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Have pypa's build in an environment whose builds find what they need in a folder."""
    directory = tmp_path_factory.mktemp("builder's")
    python = make_environment(directory / "venv")
    install = ("-m", "pip", "-q", "install", "--no-index", f"--find-links={wheels}", "build")
    subprocess.run([python, *install], check=True)
    return python


@pytest.fixture(scope="module")
def dist(builder: Path, wheels: Path) -> Path:
    """Build the source archive, and a wheel from that, each in an environment of its own."""
    return build(builder, copy_everything(builder.parents[2] / "checkout"), wheels)


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return next(dist.glob("*.tar.gz"))


@pytest.fixture
def unpacked(sdist: Path, tmp_path: Path) -> Path:
    """Unpack the source archive as a distribution does."""
    subprocess.run(["tar", "-xzf", sdist, "-C", tmp_path], check=True)
    (directory,) = tmp_path.iterdir()
    return directory


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, bytes]) -> Message:
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel[name].decode())


def test_wheel_holds_package_launcher_and_documents(wheel: dict[str, bytes], wheels: Path) -> None:
    package = {name for name in wheel if not name.startswith("cni_ipvlan-")}
    files = filter(Path.is_file, (CHECKOUT / "cni_ipvlan").rglob("*"))
    sources = {str(each.relative_to(CHECKOUT)): each for each in files if each.suffix != ".pyc"}
    assert {name: wheel[name] for name in package} == {
        name: path.read_bytes() for name, path in sources.items()
    }
    data = {name.partition(".data/")[2]: name for name in wheel if ".data/" in name}
    assert data.keys() == {"scripts/ipvlan", *DOCUMENTS}
    assert wheel[data["scripts/ipvlan"]] == (CHECKOUT / "scripts/ipvlan").read_bytes()
    info_files = {name.rpartition("dist-info/")[2] for name in wheel} - package - {*data.values()}
    metadata = {"METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE"}
    assert info_files == metadata
    page, *completions = (wheel[data[name]] for name in DOCUMENTS)
    assert b".SS doctor" in page
    assert all(b"_IPVLAN_COMPLETE" in each for each in completions)
    with zipfile.ZipFile(next(wheels.glob("cni_ipvlan-*.whl"))) as archive:
        launcher = archive.getinfo(data["scripts/ipvlan"])
    assert launcher.external_attr >> 16 & 0o777 == 0o755


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="git lists what is the project's")
def test_source_archive_holds_all_files_of_the_repository(unpacked: Path) -> None:
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    git = ("git", "-c", "safe.directory=*", "-C", str(CHECKOUT))
    names = subprocess.check_output([*git, *listing], text=True).split("\0")
    tracked = {name for name in names if (CHECKOUT / name).is_file()}
    contents = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    built = {name for name in contents if name.startswith("cni_ipvlan.egg-info/")} | {"PKG-INFO"}
    assert contents - built == tracked
    changed_files = {"setup.cfg"}  # to which setuptools adds a section
    assert [
        name for name in tracked - changed_files if not are_equal(unpacked / name, CHECKOUT / name)
    ] == []
    before, after = (settings(each / "setup.cfg") for each in (CHECKOUT, unpacked))
    assert {name: after[name] for name in before} == before


def test_unit_tests_run_from_the_source_archive(unpacked: Path) -> None:
    """A distribution builds it where there is no git."""
    pytest_ = [sys.executable, "-m", "pytest", "-q", f"--basetemp={unpacked.parent}/tmp"]
    everything = subprocess.check_output(
        [*pytest_, "--collect-only", "tests/unit"], cwd=unpacked, text=True
    )
    assert f"{READING}::" in everything
    # Ordinary arguments: what pytest was told by its caller is not for these.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = run(*pytest_, READING, cwd=unpacked, env=variables)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.parametrize("method", ["build", "pip"])
def test_every_way_of_building_makes_the_same_wheel(
    wheel: dict[str, bytes], builder: Path, dist: Path, sdist: Path, wheels: Path, tmp_path: Path,
    method: str,
) -> None:  # fmt: skip
    """From a checkout or the source archive, by pip or build, by another Python elsewhere."""
    assert members(dist) == wheel
    if method == "build":
        directory = build(builder, copy_checkout(tmp_path / "checkout"), wheels, "--wheel")
    else:
        python, directory = make_environment(tmp_path / "venv"), tmp_path / "wheel"
        pip = [*PIP_WHEEL, f"--find-links={wheels}", f"--wheel-dir={directory}", str(sdist)]
        subprocess.run([python, *pip], check=True)
    assert members(directory) == wheel


def test_no_wheel_names_an_interpreter_but_the_shell(wheel: dict[str, bytes]) -> None:
    """A wheel could name the builder's environment in /tmp, where anybody may make it again."""
    heads = {name: content.split(b"\n")[0] for name, content in wheel.items()}
    interpreters = {name: head for name, head in heads.items() if head.startswith(b"#!")}
    assert list(interpreters.values()) == [b"#!/bin/sh"], interpreters
    assert [name for name in wheel if name.endswith("entry_points.txt")] == []


def test_no_archive_names_a_directory_of_its_builder(
    wheel: dict[str, bytes], sdist: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with tarfile.open(sdist) as archive:
        files = {each.name: archive.extractfile(each) for each in archive}
        source = {name: file.read() if file else b"" for name, file in files.items()}
    builders = [str(tmp_path_factory.getbasetemp()).encode(), os.environ["TMPDIR"].encode()]
    for item in (wheel, source):
        assert [name for name in item if name.startswith("/") or ".." in name] == []
        assert [name for name in item if any(each in item[name] for each in builders)] == []


def test_metadata_has_one_address_and_an_author(metadata: Message) -> None:
    home = settings(CHECKOUT / "setup.cfg")["metadata"]["url"]
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Changelog", "Documentation", "Source"}
    assert [url for url in urls.values() if not url.startswith(home)] == []
    assert metadata["Home-page"] == home
    assert metadata["Author"] == "the authors of cni-ipvlan"
    assert metadata["License"] == "Apache-2.0"


def test_long_description_is_the_readme_with_absolute_links(metadata: Message) -> None:
    description = metadata.get_payload()
    assert isinstance(description, str)
    files, raw = (f"{metadata['Home-page']}/{kind}/HEAD/" for kind in ("blob", "raw"))
    relative = description.replace(files, "").replace(raw, "")
    assert relative.strip() == (CHECKOUT / "README.md").read_text().strip()
    linked = documents.targets(documents.parse(description))
    assert [link for link in linked if not link.startswith(("https://", "#"))] == []
    assert {f"{files}docs/node.md#without-python", f"{raw}docs/session.svg"} <= set(linked)


def build(python: Path, source: Path, wheels: Path, *options: str) -> Path:
    """Have pypa's build make archives of a source; return their directory."""
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = ("-m", "build", *options)
    subprocess.run([python, *command], check=True, cwd=source, env=environment, capture_output=True)
    return source / "dist"


def settings(file: Path) -> dict[str, dict[str, str]]:
    parser = ConfigParser(interpolation=None)
    parser.read(file)
    return {name: dict(section) for name, section in parser.items()}


def are_equal(first: Path, second: Path) -> bool:
    modes = {path.stat().st_mode & 0o111 for path in (first, second)}
    return len(modes) == 1 and first.read_bytes() == second.read_bytes()


def members(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(next(folder.glob("cni_ipvlan-*.whl"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
