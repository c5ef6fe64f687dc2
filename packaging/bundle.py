#!/usr/bin/env python3
"""Lay out a bundle.

Usage: packaging/bundle.py ROOT BUNDLE

scripts/build-bundle runs it, with the Python of ROOT, into which Debian's packages were extracted;
they themselves are in ROOT/debs. BUNDLE has the launchers, man page and completions already.
EMULATOR runs the root's programs, if this machine can't.
"""

import compileall
import modulefinder
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
SCRIPTS = ("scripts/install-node", "scripts/lib/options.sh")
DOCUMENTS = ("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md")


def main(root: str, path: str) -> None:
    print("collecting files", file=sys.stderr, flush=True)
    bundle = Bundle(Path(root).resolve(), Path(path).resolve())
    bundle.take_programs()
    bundle.take_python()
    bundle.take_libraries()
    bundle.take_project()
    print("compiling Python's modules", file=sys.stderr, flush=True)
    bundle.compile()
    bundle.take_licences()


class Bundle:
    """The files of a bundle, and the packages of Debian's that some of them are of."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.owners = dict(_owners(root))
        self.packages: set[str] = set()

    def take(self, source: Path, target: str) -> None:
        """Copy a file of the root, unless that has been done."""
        file = (self.root / source).resolve()
        if not (self.path / target).exists():
            self.copy(file, target)
            self.packages.add(self.owners[file])

    def copy(self, file: Path, target: str) -> None:
        place = self.path / target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)

    def take_programs(self) -> None:
        """Take Python, and the program of each launcher; they have a part of musl."""
        self.take(Path("usr/bin") / PYTHON, "lib/programs/python3")
        for launcher in sorted((self.path / "programs").iterdir()):
            program = min((self.root / "usr").glob(f"*bin/{launcher.name}"))
            self.take(program, f"lib/programs/{launcher.name}")
        self.packages |= {each for each in self.owners.values() if each.startswith("musl-dev ")}

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
        listing += ["--library-path", loader.parent, "--list"]
        files = (each for each in (self.path / "lib").rglob("*") if each.is_file())
        for file in sorted(each for each in files if each.read_bytes()[:4] == b"\x7fELF"):
            listed = subprocess.check_output([*listing, file], text=True)
            for name, found in re.findall(r"\s([^/\s]+) => (.+) \(0x", listed):
                self.take(Path(found).relative_to(self.root), f"lib/{name}")

    def take_project(self) -> None:
        """Take the project itself, its documents, and what installs it on a node."""
        for file in _files(CHECKOUT / "cni_ipvlan"):
            self.copy(file, f"lib/python3/dist-packages/{file.relative_to(CHECKOUT)}")
        for name in DOCUMENTS:
            self.copy(CHECKOUT / name, f"share/doc/cni-ipvlan/{name}")
        for name in SCRIPTS:
            self.copy(CHECKOUT / name, name)

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
        packages = sorted(self.packages)
        for name in (package.split()[0] for package in packages):
            self.take(Path(f"usr/share/doc/{name}/copyright"), f"share/licences/{name}")
        (self.path / "share/licences/PACKAGES").write_text("".join(packages))


def _owners(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file of Debian's packages, by its real path, with a line about the package."""
    form = r"--showformat=${Package} ${Version} from ${source:Package} ${source:Version}\n"
    for archive in sorted((root / "debs").glob("*.deb")):
        package = subprocess.check_output(["dpkg-deb", "--show", form, archive], text=True)
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
    for start, top in ((path[2], "."), (CHECKOUT, "cni_ipvlan"), (path[0], "encodings")):
        for file in _files(start / top):
            if file.suffix == ".py":
                parts = file.relative_to(start).with_suffix("").parts
                finder.import_hook(".".join(parts).removesuffix(".__init__"))
    finder.import_hook("site")
    files = (getattr(module, "__file__", None) for module in finder.modules.values())
    found = map(Path, filter(None, files))
    return sorted(file for file in found if file.is_relative_to(root / LIBRARY))


if __name__ == "__main__":
    main(*sys.argv[1:])
