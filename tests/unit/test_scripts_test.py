"""scripts/test says what passed and what failed, and its status is that of the tests."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In place of pytest: says what the file of its tier has.
PYTEST = """\
#!/bin/bash
for argument; do
    case $argument in
        tests/*) tier=${argument#tests/} ;;
        --outcomes=*) outcomes=${argument#--outcomes=} ;;
    esac
done
cat "$tier.outcomes" >>"$outcomes"
echo "$tier says this"
exit "$(grep -c ^failed "$tier.outcomes")"
"""
TIERS = ("unit", "kernel", "e2e", "faults", "attacks", "node")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Have what runs tests, in which nothing needs to be prepared, and a lab that is none."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    executable(tmp_path / "scripts/lib/prepare-tests", "#!/bin/sh\n")
    executable(tmp_path / "scripts/lab-kernel", '#!/bin/sh\nshift 4\nexec "$@"\n')
    executable(tmp_path / "scripts/lib/lint", '#!/bin/sh\necho passed ruff >"$1"\n')
    (tmp_path / ".venv/bin").mkdir(parents=True)
    executable(tmp_path / ".venv/bin/pytest", PYTEST)
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def said(checkout: Path, unit: str, *argv: str) -> tuple[int, list[str]]:
    for tier in TIERS:
        (checkout / f"{tier}.outcomes").write_text(unit if tier == "unit" else f"passed {tier}\n")
    done = subprocess.run(
        [checkout / "scripts/test", "--seed", "7", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env=os.environ | {"TESTS_LONG": ""},
    )  # fmt: skip
    return done.returncode, [re.sub(r" \(\d+\.\d s\)$", "", x) for x in done.stdout.splitlines()]


def test_one_tier_is_counted_and_what_failed_is_named(checkout: Path) -> None:
    outcomes = "passed a\npassed b\nfailed c[x y]\nskipped d\npassed e\nfailed e\n"
    status, lines = said(checkout, outcomes, "unit")
    assert (status, lines[-7:]) == (
        1,
        [
            "unit says this",
            "unit           2 passed, 2 failed, 1 skipped",
            "1 skipped; the lists above say which and why",
            "FAILED  c[x y]",
            "FAILED  e",
            "--seed 7 takes the same samples again",
            "2 passed, 2 failed",
        ],
    )


def test_all_tiers_run_the_longest_first_and_each_line_says_whose_it_is(checkout: Path) -> None:
    status, lines = said(checkout, "passed unit\n")
    assert (status, lines[-1]) == (0, "7 passed, 0 failed")
    assert "attacks  /attacks says this" in lines
    begun = [line.split()[0] for line in lines if "begins; " in line]
    assert begun == ["prepare", "kernel", "node", "e2e", "faults", "attacks", "unit", "lint"]


@pytest.mark.parametrize("outcomes", ["", "skipped a\n", "passed a\nruns b\n"])
def test_a_tier_that_ran_nothing_or_broke_has_failed(checkout: Path, outcomes: str) -> None:
    status, lines = said(checkout, outcomes, "unit")
    where = " in b" if "runs" in outcomes else ""
    expected = f"FAILED  unit: ended with status 0{where}, see above"
    assert (status, lines[-1].endswith(" 1 failed")) == (1, True)
    assert expected in lines
