"""scripts/test counts what its report says, and names what failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "lib" / "count-tests"


def counted(report: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(report)], check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_what_failed_or_broke_is_named_and_what_was_skipped_did_not_run(tmp_path: Path) -> None:
    cases = {
        "test_fine": "",
        "test_bad[x-&lt;1&gt;]": '<failure message="no">1 skipped</failure>',
        "test_broken": "<error>setup</error>",
        "test_left_out": "<skipped/>",
    }
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        + "".join(
            f'<testcase classname="tests.unit.test_x" name="{name}">{child}</testcase>'
            for name, child in cases.items()
        )
        + "</testsuite></testsuites>"
    )

    assert counted(report) == [
        "3 2 1",
        "tests/unit/test_x.py::test_bad[x-<1>]",
        "tests/unit/test_x.py::test_broken",
    ]


def test_a_run_that_left_no_report_or_half_of_one_has_no_tests(tmp_path: Path) -> None:
    half = tmp_path / "half.xml"
    half.write_text('<testsuites><testsuite><testcase name="test_fine"/>')

    assert counted(tmp_path / "missing.xml") == counted(half) == ["0 0 0"]
