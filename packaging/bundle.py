#!/usr/bin/env python3
"""Lay out a bundle.

Usage: packaging/bundle.py ROOT BUNDLE

scripts/build-bundle runs it with the Python of ROOT, which has the files of Debian's packages, and
the packages in ROOT/debs. BUNDLE has the launchers, man page and completions already. EMULATOR is
the command that runs the programs of ROOT, if this machine can't.
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
# Modules that other modules import only if they exist, and that the plugin does not need.
EXCLUDED_MODULES = (
    *("_curses", "_hashlib", "_pyrepl", "_ssl", "_testcapi", "_testinternalcapi"),
    *("_testlimitedcapi", "ctypes", "curses", "doctest", "multiprocessing", "pdb", "pydoc"),
    *("readline", "sitecustomize", "sqlite3", "ssl", "test", "tkinter", "unittest", "xmlrpc"),
)
EXCLUDED_DIRECTORIES = {"__pycache__", "benchmarks", "test", "tests"}
SCRIPTS = ("scripts/install-node", "scripts/lib/options.sh")
DOCUMENTS = ("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md")


def main(root: str, path: str) -> None:
    print("collecting files", file=sys.stderr, flush=True)
    bundle = Bundle(Path(root).resolve(), Path(path).resolve())
    bundle.add_programs()
    bundle.add_python()
    bundle.add_libraries()
    bundle.add_project()
    print("compiling Python's modules", file=sys.stderr, flush=True)
    bundle.compile_modules()
    bundle.add_licences()


class Bundle:
    """The directory of a bundle, and a line about each of Debian's packages whose files it has."""

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.owners = dict(_list_owners(root))
        self.packages: set[str] = set()

    def add(self, source: Path, target: str) -> None:
        """Copy a file of the root, unless the bundle has it already."""
        file = (self.root / source).resolve()
        if not (self.path / target).exists():
            self.copy(file, target)
            self.packages.add(self.owners[file])

    def copy(self, file: Path, target: str) -> None:
        path = self.path / target
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, path)

    def add_programs(self) -> None:
        """Add Python and the program of each launcher. The launchers contain a part of musl."""
        self.add(Path("usr/bin") / PYTHON, "lib/programs/python3")
        for launcher in sorted((self.path / "programs").iterdir()):
            program = min((self.root / "usr").glob(f"*bin/{launcher.name}"))
            self.add(program, f"lib/programs/{launcher.name}")
        self.packages |= {each for each in self.owners.values() if each.startswith("musl-dev ")}

    def add_python(self) -> None:
        """Add Python's packages, and what they and the project may import of Python's library."""
        for file in _list_files(self.root / PACKAGES):
            self.add(file, f"lib/python3/dist-packages/{file.relative_to(self.root / PACKAGES)}")
        for file in _find_imports(self.root):
            self.add(file, f"lib/{PYTHON}/{file.relative_to(self.root / LIBRARY)}")

    def add_libraries(self) -> None:
        """Add the loader, and the libraries that the programs and Python's modules load."""
        (loader,) = (self.root / "usr/lib").glob("*/ld-linux*.so.*")
        self.add(loader, f"lib/{loader.name}")
        argv: list[str | Path] = [*os.environ["EMULATOR"].split(), loader, "--inhibit-cache"]
        argv += ["--library-path", loader.parent, "--list"]
        files = (each for each in (self.path / "lib").rglob("*") if each.is_file())
        for file in sorted(each for each in files if each.read_bytes()[:4] == b"\x7fELF"):
            output = subprocess.check_output([*argv, file], text=True)
            for name, path in re.findall(r"\s([^/\s]+) => (.+) \(0x", output):
                self.add(Path(path).relative_to(self.root), f"lib/{name}")

    def add_project(self) -> None:
        """Add the project itself, its documents, and the scripts that install it on a node."""
        for file in _list_files(CHECKOUT / "cni_ipvlan"):
            self.copy(file, f"lib/python3/dist-packages/{file.relative_to(CHECKOUT)}")
        for name in DOCUMENTS:
            self.copy(CHECKOUT / name, f"share/doc/cni-ipvlan/{name}")
        for name in SCRIPTS:
            self.copy(CHECKOUT / name, name)

    def compile_modules(self) -> None:
        """Compile all modules; Python is to use the result whatever the times of the files."""
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        library = self.path / "lib"
        if not compileall.compile_dir(library, quiet=1, stripdir=self.path, invalidation_mode=mode):
            raise SystemExit("a module can't be compiled")

    def add_licences(self) -> None:
        """Add what each package says of its licence, common licences, and a list of packages."""
        for text in sorted((self.root / "usr/share/common-licenses").iterdir()):
            self.add(text, f"share/licences/common/{text.name}")
        packages = sorted(self.packages)
        for name in (package.split()[0] for package in packages):
            self.add(Path(f"usr/share/doc/{name}/copyright"), f"share/licences/{name}")
        (self.path / "share/licences/PACKAGES").write_text("".join(packages))


def _list_owners(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the real path of each file of Debian's packages, with a line about the package."""
    form = r"--showformat=${Package} ${Version} from ${source:Package} ${source:Version}\n"
    for archive in sorted((root / "debs").glob("*.deb")):
        package = subprocess.check_output(["dpkg-deb", "--show", form, archive], text=True)
        sums = subprocess.check_output(["dpkg-deb", "--info", archive, "md5sums"], text=True)
        for line in sums.splitlines():
            yield (root / line.partition("  ")[2]).resolve(), package


def _list_files(directory: Path) -> list[Path]:
    """Return the files that an installation of Python code needs."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return sorted(each for each in files if EXCLUDED_DIRECTORIES.isdisjoint(each.parts))


def _find_imports(root: Path) -> list[Path]:
    """Return the files of Python's library that the packages and the project may import."""
    library, packages = root / LIBRARY, root / PACKAGES
    path = map(str, (library, library / "lib-dynload", packages, CHECKOUT))
    finder = modulefinder.ModuleFinder([*path], excludes=EXCLUDED_MODULES)
    for parent, name in ((packages, "."), (CHECKOUT, "cni_ipvlan"), (library, "encodings")):
        for file in _list_files(parent / name):
            if file.suffix == ".py":
                parts = file.relative_to(parent).with_suffix("").parts
                finder.import_hook(".".join(parts).removesuffix(".__init__"))
    finder.import_hook("site")
    names = (getattr(module, "__file__", None) for module in finder.modules.values())
    files = map(Path, filter(None, names))
    return sorted(file for file in files if file.is_relative_to(library))


if __name__ == "__main__":
    main(*sys.argv[1:])
