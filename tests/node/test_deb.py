"""The Debian package: built, checked by lintian, installed, used, upgraded and removed."""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BUILD = "scripts/build-deb"
LAB = CHECKOUT / "scripts/lab-kernel"
SCENARIO = Path(__file__).with_name("deb-scenario")
DEPENDENCIES = "python3-click,python3-jsonschema,python3-sh,iproute2"
RIVAL = "containernetworking-plugins"

EXPECTED = """\
executable: #!/usr/bin/python3 -BIXutf8
theirs: untouched
link: /usr/lib/cni/ipvlan
help: 1
logs: 700 root
ADD: 10.1.1.2/24
DEL: 0
ADD: 10.1.1.3/24
DEL: 0
calls meanwhile: enough
that failed: 0
the slow one: ipam must be given
after both upgrades: #!/usr/bin/python3 -BIXutf8 99.0
logs, removed: kept
logs, purged:
theirs: untouched
different:
left:
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CHECKOUT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small Debian that has everything but the package, and in /debs its rival's."""
    root = tmp_path_factory.mktemp("debian") / "root"
    keep = f"mkdir $1/debs && cp $1/var/cache/apt/archives/{RIVAL}_*.deb $1/debs"
    options = [f"--include={DEPENDENCIES},{RIVAL}", f"--customize-hook={keep}"]
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", *options, "trixie", root],
        check=True,
    )
    return root


def test_package_is_clean_and_its_overrides_have_reasons(package: Path) -> None:
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning,info,pedantic", package],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    overrides = (CHECKOUT / "packaging/debian/lintian-overrides").read_text()
    assert overrides.startswith("# ")


def test_same_commit_gives_the_same_package(package: Path, tmp_path: Path) -> None:
    assert build(CHECKOUT, tmp_path).read_bytes() == package.read_bytes()


def test_dependencies_are_those_of_setup_cfg(package: Path) -> None:
    depends = subprocess.check_output(["dpkg-deb", "--field", package, "Depends"], text=True)
    names = re.findall(r"[a-z0-9-]+(?= \(|,|\n)", depends)
    assert "python3-sh (<< 3)" in depends
    assert list(dict.fromkeys(names)) == [
        "python3",
        "python3-click",
        "python3-jsonschema",
        "python3-sh",
        "iproute2",
    ]


def test_manual_and_completions_are_where_debian_has_them(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    share = tmp_path / "usr/share"
    assert b".SS doctor" in gzip.decompress((share / "man/man8/ipvlan.8.gz").read_bytes())
    for file in (
        "bash-completion/completions/ipvlan",
        "fish/vendor_completions.d/ipvlan.fish",
        "zsh/vendor-completions/_ipvlan",
    ):
        assert "_IPVLAN_COMPLETE" in (share / file).read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a Debian needs root")
def test_installed_used_upgraded_and_removed(
    package: Path, debian: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    later = build(copy_with_version("99.0", tmp_path_factory), tmp_path_factory.mktemp("later"))
    for each in (package, later, SCENARIO):
        shutil.copy(each, debian)
    scenario = [f"/{file.name}" for file in (SCENARIO, package, later)]
    done = subprocess.run(
        # ip netns exec needs a root directory that is a mount.
        [LAB, "sh", "-c", 'mount --bind "$1" "$1" && exec chroot "$@"', "sh", debian, *scenario],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )
    printed = re.sub(r" +$", "", done.stdout, flags=re.MULTILINE)
    assert (printed, done.returncode) == (EXPECTED, 0), done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--colour"], "no option --colour"),
        (["--output"], "needs a directory"),
        (["--output", "/etc/passwd"], "not a directory"),
    ],
)
def test_bad_input_is_one_sentence(options: list[str], words: str) -> None:
    done = subprocess.run([CHECKOUT / BUILD, *options], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def build(checkout: Path, directory: Path) -> Path:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run([checkout / BUILD, "--output", directory], check=True, env=environment)
    return next(directory.glob("cni-ipvlan_*_all.deb"))


def copy_with_version(version: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("cni_ipvlan", "packaging", "scripts"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "setup.cfg", copy)
    file = copy / "cni_ipvlan/__init__.py"
    file.write_text(re.sub('version__ = ".*"', f'version__ = "{version}"', file.read_text()))
    return copy
