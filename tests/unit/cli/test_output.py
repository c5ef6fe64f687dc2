"""Where output goes: a terminal, a pipe, a shell that completes, a place that can't be written."""

import json
import os
import subprocess
import sysconfig
from itertools import product
from pathlib import Path
from typing import Any

import click
import installing
import pytest
from doubles import write_program
from sampling import sample

from cni_ipvlan.cli import options, output, program
from cni_ipvlan.cli.output import OK, Finding, Narrator
from cni_ipvlan.cli.show import command
from cni_ipvlan.iproute.commands import Command, Undo
from cni_ipvlan.iproute.running import Completed

ENVIRONMENT = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "TERM": "xterm"}
CLOSED = "ipvlan: cannot read -: standard input is closed\n"
FULL = "ipvlan: cannot write to standard output: No space left on device\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    conf = {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
    (tmp_path / "good.conf").write_text(json.dumps(conf))
    (tmp_path / "bad.conf").write_text(json.dumps({**conf, "mode": "l9"}))
    write_program(tmp_path / "static", "#!/bin/sh\n")
    return tmp_path


def run(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return installing.run("bash", "-c", script, env=ENVIRONMENT, cwd=directory)


# These need no kernel with ipvlan; the others are in tests/e2e/test_command_line.py.
LINES = [
    *("--help", "--version", "validate bad.conf", "validate good.conf"),
    *("validate good.conf --json", "show --json"),
    *("doctor -c good.conf --cni-path .", "doctor --json --cni-path ."),
    *(f"{command} --help" for command in sorted(program.ipvlan.commands)),
    "del -c good.conf --netns /gone --container-id c --cni-path . --dry-run",
    "gc -c good.conf --keep-none --cni-path . --dry-run",
    "gc -c good.conf --keep-none --cni-path . --dry-run --json",
    *("nonsense --json", "status --json", "status -c good.conf --cni-path /nowhere --json"),
]
OF_THE_MACHINE = ("not seen: ", "warning")
# The reader of the pipe is gone before anything is written.
FAILURES = {
    "a full disk": ("ipvlan {} >/dev/full", [FULL.rstrip()]),
    "a closed pipe": ("exec 3> >(:); wait $!; ipvlan {} >&3", []),
}


@pytest.mark.parametrize(("line", "failure"), sample(product(LINES, FAILURES), 12))
def test_output_that_cannot_be_written(line: str, failure: str, files: Path) -> None:
    script, expected = FAILURES[failure]
    result = run(script.format(line), files)
    lines = [each for each in result.stderr.splitlines() if not each.startswith(OF_THE_MACHINE)]
    assert (lines, result.returncode) == (expected, 1)


def test_other_streams_that_cannot_be_used(files: Path) -> None:
    for script, stderr, status in (
        ("_IPVLAN_COMPLETE=bash_source ipvlan >/dev/full", FULL, 1),
        ("ipvlan validate --schema >/dev/full", FULL, 1),  # more than a buffer takes
        ("ipvlan nonsense 2>/dev/full", "", 2),
        ("ipvlan validate /gone 2>&-", "", 1),
        ("ipvlan validate - <&-", "", 1),  # which it reports on stdout
        ("CNI_COMMAND=ADD ipvlan --dry-run <&-", CLOSED, 2),
        ("ipvlan --help >&-", "", 0),
        ("ipvlan add --help | true; exit ${PIPESTATUS[1]}", "", 0),
    ):
        done = run(script, files)
        assert (done.stderr, done.returncode) == (stderr, status)


HOSTILE = "e\x1b[8mv\x9b1\u202ei\x7f\rl\n\udcff"
QUOTED = r"e\x1b[8mv\x9b1\u202ei\x7f\rl | \udcff"


def test_what_strangers_named_has_no_escape_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo(HOSTILE, f"two {HOSTILE}")
    output.echo_err(HOSTILE)
    output.print_error(HOSTILE)
    output.print_finding(Finding(OK, HOSTILE, HOSTILE, HOSTILE))
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [QUOTED, f"two {QUOTED}"]
    assert err.splitlines() == [QUOTED, f"ipvlan: {QUOTED}"]
    assert all(line.isprintable() for line in out.splitlines())
    output.echo_json({HOSTILE: [HOSTILE, "ü"]})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed) == {HOSTILE: [HOSTILE, "ü"]}
    offered = options._complete(["web2", "web\x1b[8m", "db", "web"], "w")
    assert [each.value for each in offered] == ["web", "web2"]


@pytest.mark.parametrize(("terminal", "no_colour"), [(1, ""), (2, ""), (1, "1"), (0, "")])
def test_only_our_own_colours_reach_a_terminal_that_wants_them(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    terminal: int,
    no_colour: str,
) -> None:
    monkeypatch.setattr(os, "isatty", terminal.__eq__)
    monkeypatch.setenv("NO_COLOR", no_colour)
    output.echo(f"{output.styled(HOSTILE, fg='red')} \x1b[31m")
    output.echo_err(f"{output.styled(HOSTILE, err=True, fg='red')} \x1b[31m")
    for number, printed in enumerate(capfd.readouterr(), 1):
        is_red = number == terminal and not no_colour
        assert printed == (f"\x1b[31m{QUOTED}\x1b[0m" if is_red else QUOTED) + " \\x1b[31m\n"


QUERY = Command(("ip", "-j", "link", "show"))


def complete(milliseconds: float, status: int = 0) -> Completed:
    return Completed(status, b"", b"", milliseconds / 1000)


Printed = pytest.CaptureFixture[str]


@pytest.fixture
def narrator() -> Narrator:
    return Narrator(click.echo, {})


def test_two_runs_of_equal_commands_are_not_confused(narrator: Narrator, capsys: Printed) -> None:
    equal = Command(*QUERY)
    for each in (QUERY, equal):
        narrator.command(each, None)
    narrator.command(equal, complete(1))
    narrator.command(QUERY, complete(2))
    assert capsys.readouterr().err.splitlines()[2:] == ["[2]   1.0 ms", "[1]   2.0 ms"]


def test_escape_sequences_are_quoted(narrator: Narrator, capsys: Printed) -> None:
    batch = Command(("ip", "-batch", "-"), "set \x1b[31m", stdin=b"link set dev \x1b[31m up\n")
    narrator.command(batch._replace(undo=(Undo(Command(("ip", "\x1b"))),)), None)
    assert "\x1b" not in capsys.readouterr().err
    narrator.wait("waiting for \x1b[31m")
    narrator.warn("odd")
    streams = capsys.readouterr()
    assert (streams.err, streams.out) == ("waiting for \\x1b[31m\n", "odd\n")


ROW: dict[str, Any] = {
    "interface": "net1",
    "kind": "ipvlan",
    "network": "net",
    "mtu": 1500,
    "gateways": [],
    "routes": [],
    "leases": None,
    "netns": "/var/run/netns/cni-8f9bd5d8-1d8f-4d2b-8c39-0c5a7c1f9a11",
    "hostAccess": False,
    "containerID": "0123456789abcdef" * 4,
    "pod": "default/web-0",
    "up": True,
    "addresses": ["10.1.0.2/24", "fd00::2/64", "fe80::1/64"],
    "problems": ["no lease"],
}
MASTER = {
    "master": "eth1000",
    "up": True,
    "mtu": 1500,
    "mode": "l2",
    "flag": "bridge",
    "attachments": [ROW],
}
DOCUMENT = {"masters": [MASTER], "leftovers": []}


def test_all_is_printed_where_there_is_no_terminal() -> None:
    _, line = command.render_table(DOCUMENT, is_wide=False)
    assert line == (
        "net1       default/web-0  cni-8f9bd5d8-1d8f-4d2b-8c39-0c5a7c1f9a11  "
        "10.1.0.2/24 fd00::2/64  l2 bridge  eth1000  no lease"
    )


@pytest.mark.parametrize("columns", [80, 100, 110])
def test_columns_fit_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda **_: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    head, line = command.render_table(DOCUMENT, is_wide=False)
    assert max(map(len, (head, line))) <= columns
    assert line.startswith("net1 ")
    assert line.endswith("  no lease")
    assert "…" in line
