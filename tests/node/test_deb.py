"""The Debian package: built, checked by lintian, installed, used, upgraded and removed."""

import gzip
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import roots
import sampling
from cloning import commit, git, make_clone
from doubles import replace_program
from installing import CHECKOUT, needs_system_packages, run

pytestmark = needs_system_packages  # build-deb makes the manual with them

BUILD = "scripts/build-deb"
LAB = CHECKOUT / "scripts/lab-kernel"
SCENARIO = Path(__file__).with_name("deb-scenario")
DEPENDENCIES = "python3-click,python3-jsonschema,python3-sh,python3-yaml,iproute2"
UNITS = ("gc.service", "metrics.service", "metrics.timer")
RIVAL = "containernetworking-plugins"

EXPECTED = """\
executable: #!/usr/bin/python3 -BIXutf8
theirs: untouched
for other runtimes: regular file 755 root
as Multus's daemon sees it: True
help: 1
logs: 700 root
ADD: 10.1.1.2/24
DEL: 0
ADD: 10.1.1.3/24
DEL: 0
ADD: 10.1.1.4/24
DEL: 0
calls meanwhile: enough
that failed: 0
the slow one: ipam must be given
after both upgrades: #!/usr/bin/python3 -BIXutf8 {later} starter
when a removal was given up: regular file 755 root
logs, removed: kept
logs, purged:
theirs: untouched
different:
left:
{removed}\
beside another plugin: /opt/cni/bin/other
an ipvlan that was there: theirs
"""
# Files that exist before the installation, and must exist after the removal.
REMOVALS = ("removed", "purged")
BEFORE = sampling.sample(("/", "/opt/cni", "/opt/cni/bin"), 1)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def package(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it on a machine that has what it depends on only in older versions, and is told so."""
    directory = tmp_path_factory.mktemp("dist")
    path = {"PATH": replace_program(directory / "path", "apt-cache", "echo '  Candidate: 1.0'")}
    printed = subprocess.check_output(
        [clone / BUILD, "--output", directory], env={**os.environ, **path}, text=True
    )
    assert "to install it" not in printed
    assert printed.endswith("has what it depends on only in older versions\n")
    return next(directory.glob("*.deb"))


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a small Debian without the package, with a conflicting package in /debs."""
    directory = tmp_path_factory.mktemp("debian") / "root"
    keep = f"mkdir $1/debs && cp $1/var/cache/apt/archives/{RIVAL}_*.deb $1/debs"
    options = ["--variant=essential", f"--include=mount,{DEPENDENCIES},{RIVAL}"]
    options.append(f"--customize-hook={keep}")
    with roots.make_root(directory, "trixie", *options) as root:
        yield root


def test_package_is_clean_and_its_overrides_have_reasons(package: Path) -> None:
    done = run("lintian", "--allow-root", "--fail-on=error,warning,info,pedantic", package)
    assert done.returncode == 0, done.stdout
    overrides = (CHECKOUT / "packaging/debian/lintian-overrides").read_text()
    assert overrides.startswith("# ")


def test_same_commit_gives_the_same_package(package: Path, clone: Path, tmp_path: Path) -> None:
    other, output = tmp_path / "other", tmp_path / "a directory"
    git(tmp_path, "clone", "--quiet", clone, other)
    if os.geteuid() == 0:  # root builds from a clone of another user
        for path in (other, *other.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
    printed = subprocess.check_output([other / BUILD, "--output", output], text=True)
    (copy,) = output.iterdir()
    assert copy.read_bytes() == package.read_bytes()
    command = printed.splitlines()[-1].partition(": ")[2]
    sudo = ["sudo"] if os.geteuid() or "SUDO_USER" in os.environ else []
    assert shlex.split(command) == [*sudo, "apt-get", "install", str(copy)]


def test_documents_are_where_debian_has_them(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    share = tmp_path / "usr/share"
    assert b".SS doctor" in gzip.decompress((share / "man/man8/ipvlan.8.gz").read_bytes())
    for file in (
        "bash-completion/completions/ipvlan",
        "fish/vendor_completions.d/ipvlan.fish",
        "zsh/vendor-completions/_ipvlan",
    ):
        assert "_IPVLAN_COMPLETE" in (share / file).read_text()
    units = {each.name for each in (tmp_path / "usr/lib/systemd/system").iterdir()}
    assert units == {f"cni-ipvlan-{each}" for each in UNITS}  # for who enables them
    assert not [*tmp_path.rglob("*.wants")]
    documents = share / "doc/cni-ipvlan"
    shipped = {}
    for path in documents.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            name = str(path.relative_to(documents)).removesuffix(".gz")
            shipped[name] = gzip.decompress(content) if path.suffix == ".gz" else content
    assert b"CHANGELOG.md" in shipped.pop("changelog")
    assert [*documents.glob("CHANGELOG.md*")]
    assert shipped.pop("copyright") == (CHECKOUT / "packaging/debian/copyright").read_bytes()
    names = [CHECKOUT / f"{name}.md" for name in ("README", "CHANGELOG", "SECURITY")]
    names += [path for name in ("docs", "examples") for path in (CHECKOUT / name).iterdir()]
    names.remove(CHECKOUT / "docs/conf.py")
    assert shipped == {str(path.relative_to(CHECKOUT)): path.read_bytes() for path in names}


def test_dependencies_are_those_of_setup_cfg(package: Path) -> None:
    depends = subprocess.check_output(["dpkg-deb", "--field", package, "Depends"], text=True)
    names = re.findall(r"[a-z0-9-]+(?= \(|,|\n)", depends)
    assert "python3-sh (<< 3)" in depends
    python = [f"python3-{name}" for name in ("click", "jsonschema", "yaml", "sh")]
    assert list(dict.fromkeys(names)) == ["python3", *python, "iproute2"]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="making a Debian needs root")
def test_use_upgrade_and_removal(package: Path, clone: Path, debian: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", clone, "later")
    commit(tmp_path / "later")
    subprocess.run([tmp_path / "later" / BUILD, "--output", tmp_path], check=True)
    (update,) = tmp_path.glob("cni-ipvlan_*_all.deb")
    for each in (package, update, SCENARIO, SCENARIO.with_name("scenario.sh")):
        shutil.copy(each, debian)
    scenario = [*(f"/{file.name}" for file in (SCENARIO, package, update)), *BEFORE]
    # ip netns exec needs a root directory that is a mount.
    in_root = ("sh", "-c", 'mount --bind "$1" "$1" && exec chroot "$@"', "sh", debian)
    plain = {**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = run(LAB, *in_root, *scenario, env=plain)
    printed = re.sub(r" +$", "", done.stdout, flags=re.MULTILINE)
    removed = "".join(f"with {place} before, {how}:\n" for place in BEFORE for how in REMOVALS)
    version = subprocess.check_output(["dpkg-deb", "--field", update, "Version"], text=True).strip()
    expected = EXPECTED.format(later=version, removed=removed)
    assert (printed, done.returncode) == (expected, 0), done.stderr
    assert "cannot open" not in done.stderr  # calls that end while postrm looks at them
