"""scripts/build-bundle: what is in the bundle, and that it works where there is nothing else."""

import json
import lzma
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import documents
import pytest
from doubles import replace_program, write_program
from image_layout import ARCHITECTURE
from installing import (
    AS_ROOT,
    CHECKOUT,
    assert_serves,
    installer,
    list_tree,
    needs_root,
    path_options,
    plugin_path,
    read_launcher_error,
    run,
)

BUILD = "scripts/build-bundle"
LAB = CHECKOUT / "scripts/lab-kernel"
USE = Path(__file__).with_name("using_bundle.py")
MIB = 1 << 20
VERSION = {"CNI_COMMAND": "VERSION"}
# host-local with its loader and libraries, which every Debian has, but not a bare root.
HOST_LOCAL = """\
#!/opt/bundle/programs/sh
echo "$PATH" >/run/path
exec /opt/cni/lib/ld.so --library-path /opt/cni/lib /opt/cni/lib/host-local
"""
# What docs/node.md has people write where there is no bash.
(STARTER,) = (
    each.text.replace("/opt/cni-ipvlan/", "/opt/bundle/")
    for each in documents.code("docs/node.md")
    if each.text.startswith("#!")
)


def test_same_commit_gives_the_same_archive_wherever_and_whenever(archives: list[Path]) -> None:
    if len(archives) == 1:
        pytest.skip("with this seed, it was built once")
    assert len({(each.name, each.read_bytes()) for each in archives}) == 1


def test_archive_is_one_directory_that_is_roots(archives: list[Path]) -> None:
    name = archives[0].name.removesuffix(".tar.xz")
    assert re.fullmatch(rf"cni-ipvlan-0\.1\.0~git1\.[0-9a-f]{{12}}-linux-{ARCHITECTURE}", name)
    with tarfile.open(archives[0]) as archive:
        entries = archive.getmembers()
    assert {each.name.partition("/")[0] for each in entries} == {name}
    assert {(each.uid, each.gid, each.mtime) for each in entries} == {(0, 0, entries[0].mtime)}
    assert {each.mode for each in entries if each.isdir()} == {0o755}
    assert {each.mode for each in entries if not each.isdir()} == {0o755, 0o644}
    assert {each.type for each in entries} == {tarfile.DIRTYPE, tarfile.REGTYPE}


def test_no_file_names_its_builder(
    archives: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = lzma.decompress(archives[0].read_bytes())
    assert str(tmp_path_factory.getbasetemp()).encode() not in content
    assert re.search(rb"/build-bundle\.\w{6}", content) is None


def test_each_package_has_its_version_and_licence(bundle: Path) -> None:
    licences = bundle / "share/licences"
    lines = [line.split() for line in (licences / "PACKAGES").read_text().splitlines()]
    versions = {name: version for name, version, *_ in lines}
    tell = {"iproute2": "programs/ip", "python3.13-minimal": "bin/python3"}
    for name, program in tell.items():
        printed = subprocess.check_output([bundle / program, "-V"], text=True)
        assert versions[name].partition("-")[0] in printed
    assert {"libc6", "musl-dev", "python3-click"} <= versions.keys()
    texts = "".join((licences / name).read_text() for name in versions)
    assert texts.count("icense") > len(versions)
    names = re.findall("/usr/share/common-licenses/([A-Z][A-Za-z0-9.-]*[A-Za-z0-9])", texts)
    assert {name for name in names if not (licences / "common" / name).exists()} == set()


def test_programs_are_those_that_are_trusted(bundle: Path) -> None:
    trusted = (CHECKOUT / "docs/security.md").read_text().partition("the programs\n")[2]
    programs_listed = set(re.findall("`([a-z]+)`", trusted.partition(";")[0]))
    of_options = {"arping", "ping"}  # checkIPv4Conflict, and the command probe
    assert {each.name for each in (bundle / "programs").iterdir()} == programs_listed | of_options


def test_every_module_can_be_imported(bundle: Path) -> None:
    script = """
import importlib, pathlib, sys
top = pathlib.Path(sys.prefix, "lib/python3/dist-packages")
lacking = []
for file in sorted(top.rglob("*.py")):
    parts = file.relative_to(top).with_suffix("").parts
    name = ".".join(parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except ImportError:
            lacking.append(name)
outside = [path for path in sys.path if not path.startswith(sys.prefix)]
print(lacking, outside)
"""
    printed = subprocess.check_output([bundle / "bin/python3", "-I", "-c", script], text=True)
    assert printed == "['click._winconsole'] []\n"


def test_it_serves_wherever_it_is(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "moved")
    (tmp_path / "link").symlink_to(bundle / "bin/ipvlan")
    for command in (bundle / "bin/ipvlan", tmp_path / "moved/bin/ipvlan", tmp_path / "link"):
        assert_serves(command)
    (commit,) = re.findall(r"git1\.(\w+)", bundle.name)
    printed = subprocess.check_output([bundle / "bin/ipvlan", "--version"], text=True)
    assert printed == f"ipvlan, version 0.1.0, commit {commit}\n"


@needs_root
@pytest.mark.parametrize("prefix", ["a directory", "through a link"])
def test_it_installs_itself_without_python(bundle: Path, tmp_path: Path, prefix: str) -> None:
    if prefix == "through a link":
        (tmp_path / "there").mkdir()
        (tmp_path / "prefix").symlink_to("there")
    before = list_tree(tmp_path)
    for _ in range(2):  # the second time is an upgrade
        done = install(bundle, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert_serves(plugin_path(tmp_path))
        assert_serves(tmp_path / "command/ipvlan")
    assert not plugin_path(tmp_path).is_symlink()
    links = [path for path in (tmp_path / "share").rglob("*") if path.is_symlink()]
    assert len(links) == 4
    assert "doctor" in (tmp_path / "share/man/man8/ipvlan.8").read_text()
    done = install(bundle, tmp_path, "--uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert list_tree(tmp_path) == before


@needs_root
def test_bundle_takes_packages_from_nowhere_else(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "some.whl").touch()
    node = tmp_path / "node"
    node.mkdir()
    for options in (["--system-packages"], ["--wheels", str(tmp_path)]):
        done = install(bundle, node, *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "install-node: a bundle has its packages: leave out --wheels and --system-packages\n"
        )
        assert list_tree(node) == {}


def install(bundle: Path, node: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Have the bundle install itself where Python can't be started."""
    hide = 'mount --bind /dev/null "$(realpath /usr/bin/python3)" && exec "$@"'
    return run(*AS_ROOT, "sh", "-c", hide, "sh", installer(bundle), *path_options(node), *options)


def test_nothing_of_the_callers_environment_is_used(bundle: Path, tmp_path: Path) -> None:
    for name in ("os", "sh", "json", "site", "sitecustomize", "cni_ipvlan"):
        (tmp_path / f"{name}.py").write_text('raise SystemExit("evil")\n')
    for name in ("libc.so.6", "libz.so.1"):
        (tmp_path / name).write_bytes(b"evil")
    folder = str(tmp_path)
    python = {"PYTHONPATH": folder, "PYTHONHOME": folder, "PYTHONPLATLIBDIR": "evil"}
    loader = {"LD_LIBRARY_PATH": folder, "LD_PRELOAD": f"{folder}/libz.so.1", "LD_DEBUG": "all"}
    tunables = {"GLIBC_TUNABLES": "glibc.rtld.dynamic_sort=2:glibc.nonsense=1"}
    assert_serves(bundle / "bin/ipvlan", tmp_path, **python, **loader, **tunables)


def test_few_files_get_one_answer(bundle: Path) -> None:
    for number in range(3, 25):
        assert_answers(bundle, resource.RLIMIT_NOFILE, number)


@pytest.mark.parametrize("kind", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_little_memory_gets_one_answer(bundle: Path, kind: int) -> None:
    for size in (2, 6, 16, 31, 33, 40, 80):
        answer = assert_answers(bundle, kind, size * MIB)
        assert size > 32 or str(size * MIB) in answer["msg"]


def assert_answers(bundle: Path, kind: int, limit: int) -> dict[str, Any]:
    """Assert that a call within a limit gets one answer, or one error; return it."""
    set_limit = partial(resource.setrlimit, kind, (limit, limit))
    done = run(bundle / "bin/ipvlan", env=VERSION, preexec_fn=set_limit)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, "code" in answer) in {(1, True), (0, False)}, (kind, limit)
    return answer


def test_directory_as_standard_input_is_reported(bundle: Path, tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        answer = read_launcher_error(bundle / "bin/ipvlan", stdin=directory)
    finally:
        os.close(directory)
    assert answer["msg"] == "cannot start ipvlan: standard input is a directory"


def test_copy_without_its_bundle_is_reported(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    copy = Path(shutil.copy(bundle / "bin/ipvlan", tmp_path / "bin"))
    answer = read_launcher_error(copy)
    assert "the rest of its bundle is not where it was unpacked" in answer["msg"]
    assert "instead of copying it" in answer["details"]
    done = run(copy, "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert "instead of copying it\n" in done.stderr.replace(".", "")


def test_directory_that_the_loader_can_not_take_is_reported(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a:b/bin").mkdir(parents=True)
    copy = Path(shutil.copy(bundle / "bin/ipvlan", tmp_path / "a:b/bin"))
    assert "with one of :;$ in its name" in read_launcher_error(copy)["msg"]


@pytest.mark.slow
def test_it_works_in_a_root_that_has_nothing_else_or_busybox(
    archives: list[Path], bundle: Path, busybox: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    make_root(root)
    put_busybox(root / "busybox", busybox)
    unpacking: list[str | Path] = [busybox, "tar", "-xJf", archives[0], "-C", root / "opt"]
    subprocess.run(unpacking, check=True)
    (root / "opt" / bundle.name).rename(root / "opt/bundle")
    report = json.loads(subprocess.check_output([LAB, sys.executable, USE, root], text=True))
    used = report.pop("runtime")
    assert "1.1.0" in used.pop("versions")
    addresses = ["10.1.1.2/24", "fd00:1::2/64"]
    assert used == {
        "addresses": addresses,
        "has": addresses,
        "path of IPAM": "/usr/sbin:/bin",
        "printed by CHECK and DEL": "",
        "left": [],
    }
    person = report.pop("person")
    assert len(person["doctor"]) > 10
    assert [line for line in person.pop("doctor") if not line.startswith("ok ")] == []
    (filtered,) = person.pop("DHCP")
    assert filtered.split()[:4] == ["ok", "ipam", "tc", "can"]
    assert person == {"has": ["10.1.1.3/24", "fd00:1::3/64"], "shown": ["10.1.1.3/24"], "left": []}
    assert report == {"changed": []}


@pytest.fixture(scope="module")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Debian's static BusyBox."""
    directory = tmp_path_factory.mktemp("busybox") / "root"
    anybody = ("--mode=chrootless", "--skip=check/chrootless")  # as build-bundle does
    options = ("--quiet", *anybody, "--variant=extract", "--include=busybox-static")
    subprocess.run(["mmdebstrap", *options, "trixie", directory], check=True)
    return directory / "usr/bin/busybox"


def make_root(root: Path) -> None:
    """Make a root directory with a host-local that does without anything but the bundle."""
    plugins = root / "opt/cni/bin"
    libraries = root / "opt/cni/lib"
    plugins.mkdir(parents=True)
    libraries.mkdir()
    write_program(plugins / "ipvlan", STARTER)
    write_program(plugins / "host-local", HOST_LOCAL)
    shutil.copy("/usr/lib/cni/host-local", libraries)
    output = subprocess.check_output(["ldd", "/usr/lib/cni/host-local"], text=True)
    for library in re.findall(r"(/\S+) \(", output):
        shutil.copy(library, libraries / ("ld.so" if "/ld-" in library else ""))


def put_busybox(directory: Path, busybox: Path) -> None:
    directory.mkdir()
    shutil.copy(busybox, directory)
    for name in subprocess.check_output([busybox, "--list"], text=True).split():
        if name != "busybox":
            (directory / name).symlink_to("busybox")


def test_packages_that_can_not_be_fetched_are_reported(tmp_path: Path) -> None:
    path = replace_program(tmp_path, "mmdebstrap", "echo 'E: no network' >&2; exit 1")
    output = tmp_path / "dist"
    environment = {**os.environ, "PATH": path, "TMPDIR": str(tmp_path)}
    done = run(CHECKOUT / BUILD, "--output", output, env=environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("build-bundle: cannot fetch the packages")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mmdebstrap"]
