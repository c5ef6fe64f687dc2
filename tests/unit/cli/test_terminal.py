"""The installed command on a terminal, in a pipe, and in the shells that complete it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

IPVLAN = str(Path(sysconfig.get_path("scripts"), "ipvlan"))
ESCAPE = "\x1b["
ENVIRONMENT = {"PATH": f"{Path(IPVLAN).parent}:{os.environ['PATH']}", "TERM": "xterm"}

NETWORKS = [
    {"kind": "NetworkAttachmentDefinition", "metadata": {"name": name}, "spec": {"config": "{}"}}
    for name in ("blue", "black", "red")
]


@pytest.fixture
def bad(tmp_path: Path) -> str:
    file = tmp_path / "bad.conf"
    file.write_text('{"name": "net", "type": "ipvlan", "mode": "l9"}')
    return str(file)


def on_terminal(*argv: str, **environment: str) -> str:
    """Run a command on a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        argv, stdin=theirs, stdout=theirs, stderr=theirs, env={**ENVIRONMENT, **environment}
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how a terminal ends
        pass
    finally:
        os.close(ours)
        command.wait()
    return shown.decode()


def test_a_terminal_has_colours(bad: str) -> None:
    assert ESCAPE in on_terminal(IPVLAN, "validate", bad)
    assert ESCAPE in on_terminal(IPVLAN, "add", "-c", bad)


def test_a_terminal_that_wants_none_has_no_colours(bad: str) -> None:
    shown = on_terminal(IPVLAN, "validate", bad, NO_COLOR="1")
    assert "$.mode" in shown
    assert ESCAPE not in shown


def test_a_pipe_has_no_colours(bad: str) -> None:
    for arguments in (["validate", bad], ["add", "-c", bad], ["doctor", "--cni-path", "/nowhere"]):
        done = subprocess.run(
            [IPVLAN, *arguments], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.stdout + done.stderr
        assert ESCAPE not in done.stdout + done.stderr


def test_a_reader_that_leaves_is_no_reason_for_a_traceback() -> None:
    done = subprocess.run(
        ["sh", "-c", "ipvlan add --help | true; ipvlan doctor --json | head -c 1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")


def test_a_directory_that_is_gone_is_no_reason_for_a_traceback(tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/d && cd {tmp_path}/d && rmdir ../d && ipvlan add -c x --netns a/b"
    done = subprocess.run(
        ["sh", "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "\nipvlan: Invalid value for '-c' / '--config': cannot read x: No such" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ipvlan va", ["validate"]),
        ("ipvlan d", ["del", "doctor"]),
        ("ipvlan add --ne", ["--netns", "--network"]),
        ("ipvlan add --js", ["--json"]),
        ("ipvlan add -c NETWORKS --network bl", ["black", "blue"]),
    ],
)
def test_bash_completes(typed: str, offered: list[str], tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text(json.dumps({"kind": "List", "items": NETWORKS}))
    words = typed.replace("NETWORKS", str(tmp_path / "networks.json")).split(" ")
    script = """\
        source <(_IPVLAN_COMPLETE=bash_source ipvlan)
        complete -p ipvlan >/dev/null || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ipvlan_completion ipvlan "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\\n' "${COMPREPLY[@]}" | sort
    """
    assert _said(["bash", "-c", script, "bash", *words]) == offered


def test_zsh_completes() -> None:
    script = """\
        autoload -Uz compinit && compinit -D -u
        eval "$(_IPVLAN_COMPLETE=zsh_source ipvlan)"
        print -r -- ${_comps[ipvlan]}
    """
    assert _said(_found("zsh", "-f", "-c", script)) == ["_ipvlan_completion"]


def test_fish_completes() -> None:
    script = "_IPVLAN_COMPLETE=fish_source ipvlan | source; complete -C 'ipvlan va'"
    assert _said(_found("fish", "--no-config", "-c", script))[0].startswith("validate")


def _found(shell: str, *arguments: str) -> list[str]:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    return [shell, *arguments]


def _said(argv: list[str]) -> list[str]:
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.splitlines()
