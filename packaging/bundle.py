#!/usr/bin/env python3
"""Lay out a bundle, and pack it.

Usage: packaging/bundle.py ROOT BUNDLE ARCHIVE

scripts/build-bundle runs it, with the Python of ROOT: a directory into which Debian's packages were
extracted, and which has these themselves in ROOT/debs. BUNDLE has the launchers, man page and
completions already; it is filled, and packed as ARCHIVE. SOURCE_DATE_EPOCH is the time of it all,
EMULATOR what runs the root's programs, if this machine can't.
"""

from __future__ import annotations

import compileall
import io
import lzma
import modulefinder
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
PYTHON = f"python3.{sys.version_info.minor}"
LIBRARY = Path("usr/lib") / PYTHON
PACKAGES = Path("usr/lib/python3/dist-packages")
# Modules that nothing here needs, but some other module imports if it can, and what they lead to.
LEFT_OUT = (
    *("_curses", "_hashlib", "_pyrepl", "_ssl", "_testcapi", "_testinternalcapi"),
    *("_testlimitedcapi", "ctypes", "curses", "doctest", "multiprocessing", "pdb", "pydoc"),
    *("readline", "sitecustomize", "sqlite3", "ssl", "test", "tkinter", "unittest", "xmlrpc"),
)
NOT_INSTALLED = {"__pycache__", "benchmarks", "test", "tests"}
SCRIPTS = ("install-node", "lib/options.sh")
DOCUMENTS = ("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md")
# A higher preset takes twice as long, and 2 % off; a search as deep as its own half as long again.
XZ = ({"id": lzma.FILTER_LZMA2, "preset": 1, "depth": 4},)
BLOCK = 8 << 20


def main(arguments: Sequence[str]) -> None:
    """Make the bundle and its archive."""
    root, path, archive = map(Path, arguments)
    say("collecting files")
    bundle = Bundle(root.resolve(), path.resolve())
    bundle.take_programs()
    bundle.take_python()
    bundle.take_libraries()
    bundle.take_project()
    say("compiling Python's modules")
    bundle.compile()
    bundle.take_licences()
    say("packing")
    pack(bundle.path, archive)


def say(step: str) -> None:
    """Tell who waits what is done now."""
    print(step, file=sys.stderr, flush=True)


class Bundle:
    """The files of a bundle, and the packages of Debian's that some of them are of."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root = root
        self.path = path
        self.owners = dict(_owners(root))
        self.packages: set[Package] = set()

    def take(self, source: Path, target: Path | str) -> None:
        """Copy a file of the root, unless that has been done."""
        file = (self.root / source).resolve()
        place = self.path / target
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            place.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
            self.packages.add(self.owners[file])

    def take_programs(self) -> None:
        """Take Python, and the program of each launcher; they have a part of musl."""
        self.take(Path("usr/bin") / PYTHON, "lib/programs/python3")
        for launcher in sorted((self.path / "programs").iterdir()):
            places = [Path(each) / launcher.name for each in ("usr/bin", "usr/sbin")]
            found = next(place for place in places if (self.root / place).exists())
            self.take(found, f"lib/programs/{launcher.name}")
        self.packages |= {each for each in self.owners.values() if each.name == "musl-dev"}

    def take_python(self) -> None:
        """Take Python's packages, and of its library what they and the project may import."""
        for source in _files(self.root / PACKAGES):
            place = source.relative_to(self.root / PACKAGES)
            self.take(source, f"lib/python3/dist-packages/{place}")
        for source in _imported(self.root):
            self.take(source, f"lib/{PYTHON}/{source.relative_to(self.root / LIBRARY)}")

    def take_libraries(self) -> None:
        """Take the loader, and what the programs, Python's modules and they themselves load."""
        (loader,) = (self.root / "usr/lib").glob("*/ld-linux*.so.*")
        self.take(loader, f"lib/{loader.name}")
        listing: list[str | Path] = [*os.environ["EMULATOR"].split(), loader, "--inhibit-cache"]
        listing += ["--library-path", loader.parent]
        for file in sorted(filter(_is_elf, (self.path / "lib").rglob("*"))):
            listed = subprocess.check_output([*listing, "--list", file], text=True)
            for name, found in re.findall(r"\s([^/\s]+) => (.+) \(0x", listed):
                self.take(Path(found).relative_to(self.root), f"lib/{name}")

    def take_project(self) -> None:
        """Take the project itself, its documents, and what installs it on a node."""
        code = self.path / "lib/python3/dist-packages/cni_ipvlan"
        for file in _files(CHECKOUT / "cni_ipvlan"):
            place = code / file.relative_to(CHECKOUT / "cni_ipvlan")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        documents = self.path / "share/doc/cni-ipvlan"
        documents.mkdir(parents=True)
        for name in DOCUMENTS:
            shutil.copyfile(CHECKOUT / name, documents / name)
        (self.path / "scripts/lib").mkdir(parents=True)
        for name in SCRIPTS:
            shutil.copy(CHECKOUT / "scripts" / name, self.path / "scripts" / name)

    def compile(self) -> None:
        """Compile all modules, in a way that their files' times don't matter."""
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        library = self.path / "lib"
        if not compileall.compile_dir(library, quiet=1, stripdir=self.path, invalidation_mode=mode):
            raise SystemExit("a module can't be compiled")

    def take_licences(self) -> None:
        """Take what each package tells of its licence, the texts that they refer to, and a list."""
        for text in sorted((self.root / "usr/share/common-licenses").iterdir()):
            self.take(text, f"share/licences/common/{text.name}")
        lines = []
        for package in sorted(self.packages):
            self.take(
                Path(f"usr/share/doc/{package.name}/copyright"), f"share/licences/{package.name}"
            )
            lines.append(f"{package.name} {package.version} from {package.source}\n")
        (self.path / "share/licences/PACKAGES").write_text("".join(lines))


class Package(NamedTuple):
    """A package of Debian's, with its source package."""

    name: str
    version: str
    source: str


def _package(archive: Path) -> Package:
    form = r"${Package}\n${Version}\n${source:Package} ${source:Version}"
    shown = subprocess.check_output(["dpkg-deb", "--show", f"--showformat={form}", archive])
    return Package(*shown.decode().split("\n"))


def _owners(root: Path) -> Iterator[tuple[Path, Package]]:
    """Yield each file of Debian's packages, by its real path, with the package."""
    for archive in sorted((root / "debs").glob("*.deb")):
        package = _package(archive)
        sums = subprocess.check_output(["dpkg-deb", "--info", archive, "md5sums"], text=True)
        for line in sums.splitlines():
            yield (root / line.partition("  ")[2]).resolve(), package


def _files(directory: Path) -> list[Path]:
    """Return the files that an installation of Python code needs."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(each for each in files if NOT_INSTALLED.isdisjoint(each.parts))


def _imported(root: Path) -> list[Path]:
    """Return the files of Python's library that the packages and the project may import."""
    path = [root / LIBRARY, root / LIBRARY / "lib-dynload", root / PACKAGES, CHECKOUT]
    finder = modulefinder.ModuleFinder([*map(str, path)], excludes=LEFT_OUT)
    for top in (root / PACKAGES, CHECKOUT / "cni_ipvlan", root / LIBRARY / "encodings"):
        start = top if top.name == "dist-packages" else top.parent
        for file in _files(top):
            if file.suffix == ".py":
                parts = file.relative_to(start).with_suffix("").parts
                finder.import_hook(".".join(parts).removesuffix(".__init__"))
    finder.import_hook("site")
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    found = map(Path, filter(None, files))
    return sorted(file for file in found if file.is_relative_to(root / LIBRARY))


def _is_elf(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:4] == b"\x7fELF"


def pack(directory: Path, archive: Path) -> None:
    """Pack a directory: in order, root's, and with one time for all."""
    time = int(os.environ["SOURCE_DATE_EPOCH"])

    def same_everywhere(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = time
        return entry

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as content:
        content.add(directory, directory.name, filter=same_everywhere)  # which sorts
    # Side by side. For xz(1), as for tar(1), they are one file together.
    blocks = (made.getbuffer()[at : at + BLOCK] for at in range(0, made.tell(), BLOCK))
    with ThreadPoolExecutor() as pool, archive.open("wb") as file:
        file.writelines(pool.map(lambda block: lzma.compress(block, filters=XZ), blocks))


if __name__ == "__main__":
    main(sys.argv[1:])
