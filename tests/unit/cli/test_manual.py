"""The man page and the completions that pip installs match the program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest

from cni_ipvlan import __version__
from cni_ipvlan.cli.program import ipvlan

MAKE = Path(__file__).parents[3] / "packaging" / "manual.py"
SHARE = Path(sysconfig.get_path("data"), "share")
MAN_PAGE = "man/man8/ipvlan.8"
BASH = "bash-completion/completions/ipvlan"
ZSH = "zsh/site-functions/_ipvlan"
FISH = "fish/vendor_completions.d/ipvlan.fish"
ENVIRONMENT = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

CONTEXT = click.Context(ipvlan, info_name="ipvlan", **ipvlan.context_settings)
COMMANDS = sorted(ipvlan.commands)


def options_of(command: str) -> set[str]:
    """Return the options of a command, or of the whole for none."""
    found = ipvlan.commands[command] if command else ipvlan
    context = click.Context(found, parent=CONTEXT) if command else CONTEXT
    return {
        name
        for parameter in found.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def sections(heading: str, roff: str) -> dict[str, str]:
    """Return the parts of a man page under each heading of a kind."""
    parts = re.split(rf"^\.{heading} (.*)\n", roff, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tags(roff: str) -> set[str]:
    """Return the options that have a paragraph."""
    plain = re.sub(r"\\f.", "", roff.replace(r"\-", "-"))
    lines = re.findall(r"^\.TP\n(-.*)", plain, flags=re.MULTILINE)
    return {word for line in lines for word in re.findall(r"(?<!\S)--?[\w-]+", line)}


PAGE = sections("SH", (SHARE / MAN_PAGE).read_text(encoding="utf-8"))
PAGES_COMMANDS = sections("SS", PAGE["COMMANDS"])


def test_pip_installs_all_that_is_made(tmp_path: Path) -> None:
    subprocess.run([sys.executable, MAKE, tmp_path], check=True)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(map(str, made)) == sorted([MAN_PAGE, BASH, ZSH, FISH])
    assert all((SHARE / file).is_file() for file in made)


def test_the_man_page_has_every_command_and_no_other() -> None:
    assert sorted(PAGES_COMMANDS) == COMMANDS
    assert tags(PAGE["OPTIONS"]) == options_of("")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_man_page_has_every_option_and_no_other(command: str) -> None:
    assert tags(PAGES_COMMANDS[command]) == options_of(command)
    assert "\nExample:\n" in PAGES_COMMANDS[command]


def test_the_man_page_has_the_usual_sections() -> None:
    assert list(PAGE) == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"),
        *("ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"),
    ]
    first = (SHARE / MAN_PAGE).read_text().splitlines()[0]
    assert first == f'.TH IPVLAN 8 "" "cni-ipvlan {__version__}"'


def test_the_man_page_is_sound_and_shows_text_as_it_is() -> None:
    found("man")
    done = subprocess.run(
        ["man", "--warnings", "-l", SHARE / MAN_PAGE],
        env={**ENVIRONMENT, "MANWIDTH": "200", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    for words in (
        "--args 'K=V;…'",
        "CNI_NETNS=/run/netns/c CNI_IFNAME=eth0 \\\n",
        "ipvlan validate examples/*.yaml\n",
    ):
        assert words in done.stdout


# Commands, and options behind one that has been typed.
TYPED = [("", set(COMMANDS)), *((f"{command} -", options_of(command)) for command in COMMANDS)]


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_bash_offers_what_there_is(typed: str, offered: set[str]) -> None:
    script = """\
        source "$1"; shift
        complete -p ipvlan >/dev/null || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ipvlan_completion ipvlan
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = f"ipvlan {typed}".split(" ")
    assert printed(["bash", "-c", script, "bash", str(SHARE / BASH), *words]) == offered


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_zsh_offers_what_there_is(typed: str, offered: set[str]) -> None:
    found("zsh")
    # As compinit does it, with its two ways to offer something replaced.
    script = """\
        fpath=($1 $fpath); shift
        _describe() { print -rl -- ${completions_with_descriptions%%:*} }
        compadd() { print -rl -- $completions }
        autoload -Uz _ipvlan
        words=("$@") CURRENT=$#
        _ipvlan
    """
    words = f"ipvlan {typed}".split(" ")
    place = str((SHARE / ZSH).parent)
    assert printed(["zsh", "-f", "-c", script, "zsh", place, *words]) == offered
    assert (SHARE / ZSH).read_text().startswith("#compdef ipvlan\n")


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_fish_offers_what_there_is(typed: str, offered: set[str]) -> None:
    found("fish")
    script = f"source {SHARE / FISH}; complete -C 'ipvlan {typed}'"
    assert printed(["fish", "--no-config", "-c", script]) == offered


def printed(argv: list[str]) -> set[str]:
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return {line.partition("\t")[0] for line in done.stdout.split("\n") if line}


def found(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--colour"]])
def test_bad_usage_is_one_sentence(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, MAKE, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
