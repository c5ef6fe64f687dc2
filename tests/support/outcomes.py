"""Says at once what becomes of each test: to scripts/test, and if it failed, on the terminal."""

from pathlib import Path

import pytest
import sampling

_MOST_REASON = 400  # characters


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, help="file in which to say what becomes of each test")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(config))


class Outcomes:
    def __init__(self, config: pytest.Config) -> None:
        self._file: Path | None = config.getoption("outcomes")
        self._plugins = config.pluginmanager

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write("runs", nodeid)

    @pytest.hookimpl(trylast=True)  # behind the terminal's own letter
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash else f"in {report.when}"
        reason = message.partition("\n")[0].replace("\t", " ")
        if report.failed:
            self._write(report.outcome, f"{report.nodeid}\t{reason[:_MOST_REASON]}")
        elif report.skipped or report.when == "call":
            self._write(report.outcome, report.nodeid)
        terminal = self._plugins.get_plugin("terminalreporter")
        if report.failed and terminal:
            line = f"FAILED {report.nodeid} (seed {sampling.seed()}): {reason}"
            terminal.write(f"\n{line}\n", red=True)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            reason = str(report.longrepr).strip().rpartition("\n")[2]
            self._write(report.outcome, f"{report.nodeid}\t{reason[:_MOST_REASON]}")

    def _write(self, outcome: str, test: str) -> None:
        if self._file:
            with self._file.open("a") as file:
                file.write(f"{outcome} {test}\n")
