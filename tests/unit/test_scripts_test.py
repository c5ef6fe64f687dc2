"""scripts/test says what passed and what failed, also when interrupted, and leaves nothing."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attacker import is_running
from doubles import write_program
from lab import wait_until

ROOT = Path(__file__).parents[2]
# In place of pytest: says what the file of its tier has, and tells its process. What it starts
# ignores signals, as what a test has started may.
PYTEST = """\
#!/bin/bash
for argument; do
    case $argument in
        tests/*) tier=${argument#tests/} ;;
        --outcomes=*) outcomes=${argument#--outcomes=} ;;
    esac
done
cat "$tier.outcomes" >>"$outcomes"
trap 'exit 3' INT # which has no effect where it is ignored
(trap '' INT TERM; exec sleep 1000) &
echo $$ $! >>processes
echo "$tier says this"
grep -q ^runs "$tier.outcomes" && wait
exec 2>/dev/null # or bash says who was killed, if it hears of that in time
kill -KILL $!
exit "$(grep -c ^failed "$tier.outcomes")"
"""
ENDS = {"unit": "passed a\npassed b\nfailed c[x y]\tassert 1 == 2\nskipped d\npassed e\nfailed e\n"}
HANGING = {"kernel": "passed k\nruns l\n"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Have what runs tests, in which nothing needs to be prepared, and a lab that is none."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    write_program(
        tmp_path / "scripts/lib/prepare-tests", "#!/bin/sh\nexit $(cat broken || echo 0)\n"
    )
    write_program(tmp_path / "scripts/lab-kernel", '#!/bin/sh\nshift 4\nexec "$@"\n')
    write_program(tmp_path / "scripts/lib/lint", '#!/bin/sh\necho passed ruff >"$1"\n')
    (tmp_path / ".venv/bin").mkdir(parents=True)
    write_program(tmp_path / ".venv/bin/pytest", PYTEST)
    for tier in ("unit", "kernel", "e2e", "faults", "attacks", "node"):
        (tmp_path / f"{tier}.outcomes").write_text(f"passed {tier}\n")
    return tmp_path


@contextmanager
def start(checkout: Path, outcomes: dict[str, str], *argv: str) -> Iterator[subprocess.Popen[str]]:
    for tier, text in outcomes.items():
        (checkout / f"{tier}.outcomes").write_text(text)
    with subprocess.Popen(
        # As a job behind a shell, which ignores SIGINT.
        ["env", "--ignore-signal=INT", checkout / "scripts/test", "--seed", "7", *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"TESTS_LONG": ""},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def run_to_end(checkout: Path, outcomes: dict[str, str], *argv: str) -> tuple[int, list[str]]:
    with start(checkout, outcomes, *argv) as process:
        output, _ = process.communicate()
        wait_until(lambda: not list_processes(checkout))
        return process.returncode, [re.sub(r" \(\d+:\d\d\)$", "", x) for x in output.splitlines()]


def list_processes(checkout: Path) -> list[str]:
    return [each for each in (checkout / "processes").read_text().split() if is_running(int(each))]


def test_one_tier_is_counted_and_what_failed_is_named(checkout: Path) -> None:
    status, lines = run_to_end(checkout, ENDS, "unit")
    assert status == 1
    assert lines[-7:] == [
        "unit says this",
        "unit           2 passed, 2 failed, 1 skipped",
        "1 skipped; the lists above say which and why",
        "FAILED  c[x y]: assert 1 == 2",
        "FAILED  e",
        "--seed 7 takes the same samples again",
        "2 passed, 2 failed",
    ]


def test_all_tiers_run_the_longest_first_and_each_line_says_whose_it_is(checkout: Path) -> None:
    status, lines = run_to_end(checkout, {})
    assert (status, lines[-1]) == (0, "7 passed, 0 failed")
    assert "attacks  /attacks says this" in lines
    tiers = [line.split()[0] for line in lines if " begins" in line]
    assert tiers == ["kernel", "node", "e2e", "faults", "attacks", "unit", "lint"]


@pytest.mark.parametrize("outcomes", ["", "skipped a\n", "passed a\nruns b\n"])
def test_a_tier_that_ran_nothing_or_broke_has_failed(checkout: Path, outcomes: str) -> None:
    write_program(checkout / ".venv/bin/pytest", PYTEST.replace("grep -q ^runs", "false"))
    status, lines = run_to_end(checkout, {"unit": outcomes}, "unit")
    where = " in b" if "runs" in outcomes else ""
    expected = f"FAILED  unit: ended with status 0{where}, see above"
    assert (status, lines[-1].endswith(" 1 failed")) == (1, True)
    assert expected in lines


def test_where_preparation_fails_nothing_is_run(checkout: Path) -> None:
    (checkout / "broken").write_text("3")
    (checkout / "processes").touch()
    status, lines = run_to_end(checkout, {})
    assert status == 1
    assert not [line for line in lines if "begins" in line]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_leaves_nothing(checkout: Path, number: signal.Signals) -> None:
    with start(checkout, HANGING) as process:
        assert process.stdout
        while process.stdout.readline() != "kernel   /kernel says this\n":
            assert process.poll() is None
        process.send_signal(number)
        output = process.stdout.read()
        assert process.wait() == 130
    wait_until(lambda: not list_processes(checkout))
    assert "interrupted in l: 1 passed" in output
    assert "not begun: " in output
    assert output.endswith(" passed, 0 failed, interrupted\n")
