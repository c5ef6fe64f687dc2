"""Output that can't be written: a closed pipe, a full disk, a closed stream."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from cni_ipvlan.cli import options, output, program
from cni_ipvlan.cli.finding import OK, Finding

ENVIRONMENT = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
FULL = "ipvlan: cannot write to standard output: No space left on device\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    good = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "ipvlan",
        "master": "lo",
        "ipam": {"type": "static"},
    }
    (tmp_path / "good.conf").write_text(json.dumps(good))
    (tmp_path / "bad.conf").write_text(json.dumps({**good, "mode": "l9"}))
    ipam = tmp_path / "static"
    ipam.write_text("#!/bin/sh\n")
    ipam.chmod(0o755)
    return tmp_path


# These need no kernel with ipvlan; the others are in tests/e2e/test_command_line.py.
LINES = [
    *("--help", "--version", "validate bad.conf", "validate good.conf"),
    *("validate good.conf --json", "show", "show --json"),
    *("doctor -c good.conf --cni-path .", "doctor --json --cni-path ."),
    *(f"{command} --help" for command in sorted(program.ipvlan.commands)),
    "del -c good.conf --netns /gone --container-id c --cni-path . --dry-run",
    "gc -c good.conf --keep-none --cni-path . --dry-run",
    "gc -c good.conf --keep-none --cni-path . --dry-run --json",
    *("nonsense --json", "status --json", "status -c good.conf --cni-path /nowhere --json"),
]


def run(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        env=ENVIRONMENT,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def own_words(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if not line.startswith(("not seen: ", "warning"))]


@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_is_one_sentence(line: str, files: Path) -> None:
    done = run(f"ipvlan {line} >/dev/full", files)
    assert (own_words(done.stderr), done.returncode) == ([FULL.rstrip()], 1)


@pytest.mark.parametrize("line", LINES)
def test_a_closed_pipe_ends_it_quietly(line: str, files: Path) -> None:
    # The reader is gone before anything is written.
    done = run(f"exec 3> >(:); wait $!; ipvlan {line} >&3", files)
    assert (own_words(done.stderr), done.returncode) == ([], 1)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_goes_the_same_way(shell: str, files: Path) -> None:
    done = run(f"_IPVLAN_COMPLETE={shell}_source ipvlan >/dev/full", files)
    assert (done.stderr, done.returncode) == (FULL, 1)


@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
@pytest.mark.parametrize(("line", "status"), [("nonsense", 2), ("validate /gone", 1)])
def test_stderr_that_cannot_be_written_changes_no_status(
    line: str, status: int, stderr: str, files: Path
) -> None:
    assert run(f"ipvlan {line} 2>{stderr}", files).returncode == status


def test_both_streams_full(files: Path) -> None:
    assert run("ipvlan show >/dev/full 2>/dev/full", files).returncode == 1


def test_a_closed_stdout_gets_nothing(files: Path) -> None:
    done = run("ipvlan --help >&-", files)
    assert (done.stderr, done.returncode) == ("", 0)


EVIL = "e\x1b[8mv\x9b1\u202ei\x7f\rl\n\udcff"
SHOWN = r"e\x1b[8mv\x9b1\u202ei\x7f\rl | \udcff"


def test_what_strangers_named_is_printed_without_their_escape_sequences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.echo(EVIL, f"two {EVIL}")
    output.echo_err(EVIL)
    output.print_error(EVIL)
    output.finding(Finding(OK, EVIL, EVIL, EVIL))
    out, err = capsys.readouterr()
    assert out.splitlines()[:2] == [SHOWN, f"two {SHOWN}"]
    assert err.splitlines() == [SHOWN, f"ipvlan: {SHOWN}"]
    assert all(line.isprintable() for line in out.splitlines())


def test_only_our_own_colours_reach_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    output.echo(f"{output.styled(EVIL, fg='red')} \x1b[31m")
    assert capsys.readouterr().out == f"\x1b[31m{SHOWN}\x1b[0m \\x1b[31m\n"


def test_json_is_ascii_and_still_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    output.echo_json({EVIL: [EVIL, "ü"]})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed) == {EVIL: [EVIL, "ü"]}


def test_completion_offers_nothing_that_is_not_printable() -> None:
    offered = options._items(["web2", "web\x1b[8m", "db", "web"], "w")
    assert [each.value for each in offered] == ["web", "web2"]
