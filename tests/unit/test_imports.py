"""What a call may import: names of our modules, and of those that take long; how sh is loaded."""

import json
import os
import sys
import sysconfig
import typing
from pathlib import Path

import installing
import pytest
from doubles import write_program
from runtime import call_environment

from cni_ipvlan.start.namedtuple import NamedTuple

ROOT = Path(sysconfig.get_paths()["purelib"])
MAIN = ROOT / "cni_ipvlan" / "__main__.py"

# What a call without faults has no use for, and what it takes time to import. Over the modules
# that an ADD has, each took at least 0.4 ms with -X importtime in one of Python 3.10 to 3.15, the
# longest 30; or it is a package whose modules did.
HEAVY = {
    *("annotationlib", "argparse", "ast", "asyncio", "calendar", "code", "concurrent"),
    *("configparser", "copy", "csv", "ctypes", "dataclasses", "datetime", "decimal"),
    *("difflib", "dis", "email", "fractions", "getpass", "glob", "gzip", "hashlib", "hmac", "html"),
    *("http", "importlib.metadata", "importlib.resources", "inspect", "linecache", "locale"),
    *("logging", "mimetypes", "multiprocessing", "optparse", "pathlib", "pickle", "pkgutil"),
    *("platform", "plistlib", "pprint", "pty", "queue", "random", "re", "secrets", "selectors"),
    *("shlex", "shutil", "socket", "socketserver", "sqlite3", "ssl", "statistics", "string"),
    *("subprocess", "sysconfig", "tarfile", "tempfile", "textwrap", "threading", "tokenize"),
    *("tomllib", "traceback", "tracemalloc", "typing", "unittest", "urllib", "uuid", "warnings"),
    *("enum", "signal", "weakref", "xml", "zipfile", "zoneinfo"),
}
# What VERSION has no use for, either.
HEAVY_FOR_VERSION = {*HEAVY, "collections", "functools", "json"}
# How many modules of ours a call without faults needs at most, with the packages they are in.
MOST_OURS = {"ADD": 41, "CHECK": 40, "DEL": 36, "GC": 40, "STATUS": 42}
OURS_OF_FAILURES = {
    "iproute.machine",
    *("plugin.causes", "plugin.explain", "plugin.host_local", "plugin.inventory"),
}
HEAVY_OF_FAILURES = {"enum", "re", "shlex"}


def find_imports(verb: str, stdin: str, cni_path: Path = Path("/nonexistent")) -> set[str]:
    """Return the modules that a call imports beyond those of a bare interpreter."""
    path = "/nonexistent" if verb == "DEL" else "/proc/self/ns/net"
    variables = {"CNI_PATH": str(cni_path), "CNI_NETNS_OVERRIDE": "1"}
    environment = call_environment(verb, path, **variables)
    return imports([str(MAIN)], environment, stdin) - imports(["-c", "import os"], {}, "")


def imports(arguments: list[str], environment: dict[str, str], stdin: str) -> set[str]:
    """The modules that the launcher's Python tries to import."""
    argv = (sys.executable, "-I", "-X", "utf8", "-X", "importtime", *arguments)
    done = installing.run(*argv, env=environment, input=stdin)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def with_packages(names: set[str]) -> set[str]:
    return {".".join(name.split(".")[:count]) for name in names for count in (1, 2, 3)}


def select_installed(names: set[str]) -> set[str]:
    """Return packages that are installed beside the plugin, without those of Python itself."""
    packages = with_packages(names) - {"cni_ipvlan"}
    return {each for each in packages if any(ROOT.glob(f"{each}/")) or any(ROOT.glob(f"{each}.*"))}


def config(verb: str) -> str:
    """A configuration without faults, so that all of a call's modules are needed."""
    document: dict[str, object] = {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan"}
    document |= {"master": "lo", "ipam": {"type": "static"}, "cni.dev/valid-attachments": []}
    if verb == "CHECK":
        document["prevResult"] = {"cniVersion": "1.1.0", "interfaces": [], "ips": []}
    return json.dumps(document)


@pytest.mark.parametrize("verb", sorted(MOST_OURS))
def test_a_call_imports_what_it_needs_and_no_more(verb: str, tmp_path: Path) -> None:
    write_program(tmp_path / "static", "#!/bin/sh\n")
    names = find_imports(verb, config(verb), tmp_path)
    modules = {name.removeprefix("cni_ipvlan.") for name in names if name.startswith("cni_ipvlan.")}
    assert not any(name.startswith("cli") for name in modules)
    # STATUS fails where the kernel has no ipvlan, others where an ordinary user can't keep records.
    may_fail = verb == "STATUS" or os.geteuid() != 0
    assert len(modules - OURS_OF_FAILURES if may_fail else modules) <= MOST_OURS[verb], modules
    assert with_packages(names) & HEAVY <= (HEAVY_OF_FAILURES if may_fail else set())
    assert select_installed(names) == {"sh"}


def test_version_imports_next_to_nothing() -> None:
    names = find_imports("VERSION", '{"cniVersion": "1.0.0"}')
    assert {name for name in names if name.startswith("cni_ipvlan.")} == {
        *("cni_ipvlan.cni", "cni_ipvlan.cni.version", "cni_ipvlan.entry"),
        *("cni_ipvlan.start", "cni_ipvlan.start.namedtuple"),
    }
    assert with_packages(names) & HEAVY_FOR_VERSION == set()
    assert select_installed(names) == set()


class StandardTuple(typing.NamedTuple):
    one: int
    two: str = "b"


class FastTuple(NamedTuple):
    one: int
    two: str = "b"


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(1),
        lambda kind: kind(1, "x"),
        lambda kind: kind(two="x", one=1),
        lambda kind: kind(1)._replace(two="y"),
        lambda kind: kind(1)._asdict(),
        lambda kind: repr(kind(1)).replace(kind.__name__, ""),
        lambda kind: kind(1).two + kind(2)[1],
        lambda kind: kind._fields,
        lambda kind: kind(),
        lambda kind: kind(1, "x", 3),
        lambda kind: kind(1, one=1),
        lambda kind: kind(1, three=3),
        lambda kind: kind(1)._replace(three=3),
        lambda kind: setattr(kind(1), "one", 2),
    ],
)
def test_named_tuples_are_as_those_of_typing(make: typing.Callable[[type], object]) -> None:
    def make_or_error(kind: type) -> object:
        try:
            return make(kind)
        except AttributeError:
            return AttributeError
        except (TypeError, ValueError):  # before Python 3.13, _replace() raises the latter
            return TypeError

    assert make_or_error(FastTuple) == make_or_error(StandardTuple)


LOAD = "from cni_ipvlan.start import sh as _sh; sh = _sh.load()\n"


def run(script: str, *directories: str) -> str:
    """Run a script in a new interpreter that finds our packages; return its output."""
    path = f"import os, sys; sys.path[:0] = {[*directories, str(ROOT)]!r}\n"
    done = installing.run(sys.executable, "-I", "-c", path + script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_heavy_modules_of_sh_are_not_imported_and_stay_importable() -> None:
    script = """
print([name for name in ("asyncio", "logging", "inspect") if name in sys.modules])
import asyncio, logging
print(asyncio.sleep.__module__, logging.getLogger("x").name)
names = sh.Command.__call__.__globals__
print(names["get_num_args"](lambda one, two: 0))  # with inspect
print(names["rc_exc_regex"].match("ErrorReturnCode_7").group(1))  # with re
"""
    assert run(LOAD + script) == "[]\nasyncio.tasks x\n2\nErrorReturnCode"


def test_foreground_commands_are_started_by_their_environment() -> None:
    script = """
class Environment(dict):
    def spawn(self, program, argv):
        print(os.path.basename(program), argv[1:], dict(self))
        return 3
try:
    sh.Command("true")("a", "b", _fg=True, _env=Environment({"A": "1"}))
except sh.ErrorReturnCode as error:
    print(error.exit_code)
"""
    assert run(LOAD + script) == "true ['a', 'b'] {'A': '1'}\n3"
    assert run("import sh\nprint(sh.Command('true')(_fg=True))") == "None"


def test_sh_that_starts_commands_in_another_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sh.py").write_text("class Command: pass\n")
    script = """
from cni_ipvlan.start import sh as _sh
try:
    _sh.load()
except ImportError as error:
    print(error)
"""
    assert "this version of sh is not supported" in run(script, str(tmp_path))


def test_sh_that_cannot_do_without_them_is_imported_as_usual(tmp_path: Path) -> None:
    (tmp_path / "sh.py").write_text(
        "import asyncio, os, platform\n"
        "if not hasattr(asyncio, '__file__'): raise TypeError('no real asyncio')\n"
        "class Command:\n"
        "    def __call__(self): pass\n"
    )
    assert run(LOAD + "print(sh.asyncio.__name__, 'asyncio' in sys.modules)", str(tmp_path)) == (
        "asyncio True"
    )
