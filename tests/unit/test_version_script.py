"""scripts/lib/build.sh: the version of what is built from a clone."""

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from cloning import commit, git, set_version
from installing import CHECKOUT, run

SCRIPT = """
source scripts/lib/build.sh
checkout=$1
PATH=${PROGRAMS-$PATH}
find_version
echo "$version"
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    checkout = sources(tmp_path / "clone")
    git(checkout, "init", "--quiet")
    commit(checkout)
    return checkout


def sources(directory: Path) -> Path:
    (directory / "cni_ipvlan").mkdir(parents=True)
    (directory / "cni_ipvlan/__init__.py").write_text('__version__ = ""\n')
    set_version(directory, "0.1.0")
    return directory


def find(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = {"PATH": "/usr/bin:/bin", **environment}
    return run("/bin/bash", "-euc", SCRIPT, "build", checkout, env=path, cwd=CHECKOUT)


def version_of(checkout: Path) -> str:
    return find(checkout).stdout.strip()


def find_refusal(checkout: Path, **environment: str) -> str:
    done = find(checkout, **environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    return done.stderr


def test_later_commits_and_releases_have_later_versions(clone: Path) -> None:
    versions = [version_of(clone)]
    hashes = [commit(clone)]
    for tag in ("v0.2.0-rc.1", "v0.1.0"):
        git(clone, "tag", tag)
        versions += [version_of(clone)]
    hashes += [commit(clone)]
    versions += [version_of(clone)]
    set_version(clone, "0.2.0")
    hashes += [commit(clone)]
    versions += [version_of(clone)]
    git(clone, "tag", "--annotate", "--message", "release", "v0.2.0")
    versions += [version_of(clone)]
    (clone / "cni_ipvlan/untracked.py").touch()
    versions += [version_of(clone)]

    first = git(clone, "rev-list", "--max-parents=0", "--abbrev-commit", "--abbrev=12", "HEAD")
    assert versions == [
        f"0.1.0~git1.{first}",
        f"0.1.0~git2.{hashes[0]}",
        "0.1.0",
        f"0.1.0+git1.{hashes[1]}",
        f"0.1.0+git2.{hashes[2]}",
        "0.2.0",
        "0.2.0+dirty",
    ]
    for earlier, second in pairwise(versions):
        subprocess.run(["dpkg", "--compare-versions", earlier, "lt", second], check=True)


def test_copy_of_the_package_names_its_commit(clone: Path, tmp_path: Path) -> None:
    for checkout in (clone, sources(tmp_path / "unpacked")):
        script = SCRIPT.replace("find_version", 'write_commit "$1"').replace('echo "$version"', "")
        done = run("/bin/bash", "-euc", script, "build", checkout, cwd=CHECKOUT)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (clone / "commit").read_text() == git(clone, "rev-parse", "--short=12", "HEAD") + "\n"
    assert not (tmp_path / "unpacked/commit").exists()


def test_version_without_a_clone_or_of_a_shallow_one(clone: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")  # somebody else's
    assert version_of(sources(tmp_path / "unpacked")) == "0.1.0"
    last = commit(clone)
    shallow = ("clone", "--quiet", "--depth=1", f"file://{clone}")
    git(tmp_path, *shallow, "untagged")
    assert version_of(tmp_path / "untagged") == f"0.1.0~git0.{last}"
    git(clone, "tag", "v0.1.0")
    git(tmp_path, *shallow, "release")
    assert version_of(tmp_path / "release") == "0.1.0"


def test_misleading_versions_and_what_is_missing_are_named(clone: Path, tmp_path: Path) -> None:
    git(clone, "tag", "v0.2.0")
    sentence = find_refusal(clone)
    assert "v0.2.0" in sentence
    assert "0.1.0" in sentence
    (tmp_path / "sed").symlink_to("/usr/bin/sed")
    assert "apt-get install git" in find_refusal(clone, PROGRAMS=str(tmp_path))
    set_version(clone, "0.2.0rc1")
    assert "numbers and dots" in find_refusal(clone)
    git(sources(tmp_path / "empty"), "init", "--quiet")
    assert "no commit" in find_refusal(tmp_path / "empty")
