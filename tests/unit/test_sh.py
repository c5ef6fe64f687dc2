"""sh loaded without what it does not need, and as usual when that does not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cni_ipvlan

PACKAGES = str(Path(cni_ipvlan.__file__).parent.parent)


def run(script: str, *directories: str) -> str:
    """Run a script in a new interpreter that finds our packages; return its output."""
    path = f"import os, sys; sys.path[:0] = {[*directories, PACKAGES]!r}\n"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", path + script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


LOAD = "from cni_ipvlan.iproute import _sh; sh = _sh.load()\n"


def test_heavy_modules_are_not_imported_and_stay_importable() -> None:
    script = """
print([name for name in ("asyncio", "logging", "inspect") if name in sys.modules])
import asyncio, logging
print(asyncio.sleep.__module__, logging.getLogger("x").name)
"""
    assert run(LOAD + script) == "[]\nasyncio.tasks x"


def test_other_attributes_come_from_the_real_module() -> None:
    script = """
names = sh.Command.__call__.__globals__
print(names["get_num_args"](lambda one, two: 0))  # with inspect
print(names["rc_exc_regex"].match("ErrorReturnCode_7").group(1))  # with re
"""
    assert run(LOAD + script) == "2\nErrorReturnCode"


def test_signals_have_their_names() -> None:
    """sh finds them with a regular expression while it is imported."""
    script = "print(sorted(sh.Command.__call__.__globals__['SIGNAL_MAPPING'].items()))"
    usual = run("import sh\n" + script)
    assert "SIGKILL" in usual
    assert run(LOAD + script) == usual


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
from cni_ipvlan.iproute import _sh
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
