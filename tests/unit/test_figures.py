"""scripts/figures: what it counts, on a small house and on this one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = {
    "__init__.py": "",
    "top.py": "import os\nfrom cni_ipvlan import low\n",
    "low.py": "def short():\n    return 1\n",
    "cli/__init__.py": "",
    "cli/main.py": """\
from typing import TYPE_CHECKING

from cni_ipvlan.cli import other
from cni_ipvlan.cni import errors
if TYPE_CHECKING:
    import cni_ipvlan.cni.result
    from cni_ipvlan.top import Thing


class Door:
    @property
    def long(self):  # noqa: N801 - a reason

        def inner():
            import cni_ipvlan.low

        return inner
""",
    "cni/errors.py": "\n",
    "plugin/add.py": "\n\n\n",
}
SAID = """\
room         files  lines  arrows to
cli              2     17  cni low (top)
top              1      2  low
low              1      2
"""


def figures(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/figures", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_small_house(tmp_path: Path) -> None:
    for name, text in HOUSE.items():
        path = tmp_path / "cni_ipvlan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = figures(tmp_path).stdout.splitlines()
    assert set(SAID.splitlines()) <= set(lines)
    assert lines[-6:] == [
        "product      25 lines",
        "without cli  8 lines",
        "plugin       3 lines",
        "functions    3, of 2 lines in the median, 6 at p90, at most 6",
        "arrows       3, and 1 for annotations alone",
        "noqa         1",
    ]


def test_this_house() -> None:
    done = figures()
    assert (done.returncode, done.stderr) == (0, "")
    sources = [path.read_text() for path in (ROOT / "cni_ipvlan").rglob("*.py")]
    assert f"product      {sum(map(len, map(str.splitlines, sources)))} lines" in done.stdout
    rooms = re.findall(r"^\S+ +\d+ +\d+", done.stdout, flags=re.MULTILINE)
    assert {room.split()[0] for room in rooms} == {
        path.stem for path in (ROOT / "cni_ipvlan").iterdir() if has_code(path)
    }


def has_code(path: Path) -> bool:
    return path.suffix == ".py" or any(path.glob("*.py"))


@pytest.mark.parametrize("arguments", [["/nowhere"], ["--colour"], [ROOT, ROOT]])
def test_bad_usage_is_one_sentence(arguments: list[str]) -> None:
    done = figures(*arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.parametrize(
    "script", sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())
)
def test_each_script_is_described_in_its_first_lines(script: Path) -> None:
    second = script.read_text().splitlines()[1]
    assert re.match(r'(# |""")[A-Z].{20}', second)
