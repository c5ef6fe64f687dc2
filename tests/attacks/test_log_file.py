"""A network's logFile must not have root write where its author could not, or what he likes."""

import json
import os
import re
from pathlib import Path

import pytest
from lab import LOGS
from runtime import Conf, network
from setup import Setup

NOBODY = 65534
EVIL = " /path/evil.so "  # what the loader finds in a line with any other words
# Escape sequences of terminals, and characters that some readers take for the end of a line.
INJECTION = "\nforged\r\x1b[2J\x1b]0;owned\x07\u2028forged\u2029forged\x85forged\x9b2Jforged\u202e"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \S")


# tests/unit/test_log.py has every spelling, what may be in its place, and long lines; no owners.
@pytest.mark.parametrize("foreign_path", [LOGS, LOGS / "log"])
def test_what_is_not_roots_is_not_written_to(setup: Setup, foreign_path: Path) -> None:
    if foreign_path != LOGS:
        foreign_path.touch()
    os.chown(foreign_path, NOBODY, NOBODY)
    answer = setup.runtime.add(setup.container, network(mode=EVIL, logFile="log"))
    assert not (LOGS / "log").exists() or (LOGS / "log").read_text() == ""
    # It fails because of its mode, not of its log; that is reported once, on stderr.
    assert answer.error()["msg"].startswith(f'mode is "{EVIL}"')
    assert answer.stderr.count("cannot log to 'log': ") == 1


VALUES: list[Conf] = [
    {"mode": INJECTION},
    {"master": INJECTION},
    {"ipam": {"type": f"x{INJECTION}"}},
    {"cniVersion": INJECTION},
    {f"mod{INJECTION}": 1, "Mode\x1b": 1},
    {"mode": "l3", "CNI_ARGS": f"A={INJECTION}"},
    {"CNI_CONTAINERID": f"one{INJECTION}"},
    {"CNI_NETNS": f"/run/netns/{INJECTION}"},
]


def test_no_value_adds_a_line_or_an_escape_sequence(setup: Setup) -> None:
    for values in VALUES:
        options: Conf = {key: values[key] for key in values if not key.startswith("CNI_")}
        variables = {key: values[key] for key in values.keys() - options.keys()}
        conf = network(logFile="log", logLevel="debug", **options)
        answer = setup.runtime.add(setup.container, conf, **variables)
        assert_printable((LOGS / "log").read_text(), answer.stderr)
        if answer.status == 0:
            setup.runtime.delete(setup.container, conf).succeeds()


def test_an_ipam_plugins_stderr_adds_no_line_and_no_escape_sequence(setup: Setup) -> None:
    printed = f"odd{INJECTION}"
    (setup.fake.directory / "words").write_text(printed)
    document = json.dumps({"cniVersion": "1.0.0", "code": 100, "msg": printed, "details": printed})
    (setup.fake.directory / "answer").write_text(document)
    ipam = setup.ipam(script="cat words >&2; cat answer; exit 1")
    log: Conf = {"logFile": "log", "logLevel": "debug"}

    error = setup.expect_error(100, ipam=ipam, CNI_ARGS=f"A={INJECTION}", **log)

    assert error["msg"] == printed
    text = (LOGS / "log").read_text()
    assert text.count("warning: odd | forged") == 1
    assert text.count("failed: odd | forged") == 1
    assert_printable(text, error["private"])


def assert_printable(log: str, stderr: str) -> None:
    """Assert that each line starts as the plugin wrote it, and has no escape sequences."""
    lines = log.removesuffix("\n").split("\n")
    assert all(LINE.match(line) for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    printed = stderr.rstrip("\n").split("\n")
    assert all(line.isprintable() and not line.startswith("forged") for line in printed), printed
