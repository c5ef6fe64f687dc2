"""The man page and the completions that pip installs match the program."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest
from installing import CHECKOUT, run
from sampling import sample

from cni_ipvlan import __version__
from cni_ipvlan.cli.program import ipvlan

MAKE = CHECKOUT / "packaging/manual.py"
SHARE = Path(sysconfig.get_path("data"), "share")
MAN_PAGE = SHARE / "man/man8/ipvlan.8"
BASH = SHARE / "bash-completion/completions/ipvlan"
ZSH = SHARE / "zsh/site-functions/_ipvlan"
FISH = SHARE / "fish/vendor_completions.d/ipvlan.fish"
ENVIRONMENT = {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

CONTEXT = click.Context(ipvlan, info_name="ipvlan", **ipvlan.context_settings)
COMMANDS = sorted(ipvlan.commands)


def options_of(command: str) -> set[str]:
    """Return the options of a command, or of the whole for none."""
    entry = ipvlan.commands[command] if command else ipvlan
    context = click.Context(entry, parent=CONTEXT) if command else CONTEXT
    return {
        name
        for parameter in entry.get_params(context)
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def sections(heading: str, roff: str) -> dict[str, str]:
    parts = re.split(rf"^\.{heading} (.*)\n", roff, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tags(roff: str) -> set[str]:
    """Return the options that have a paragraph."""
    plain = re.sub(r"\\f.", "", roff.replace(r"\-", "-"))
    lines = re.findall(r"^\.TP\n(-.*)", plain, flags=re.MULTILINE)
    return {word for line in lines for word in re.findall(r"(?<!\S)--?[\w-]+", line)}


def test_pip_installs_all_that_is_made(tmp_path: Path) -> None:
    subprocess.run([sys.executable, MAKE, tmp_path], check=True)
    files = [SHARE / path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted([MAN_PAGE, BASH, ZSH, FISH])
    assert all(file.is_file() for file in files)
    assert ZSH.read_text().startswith("#compdef ipvlan\n")


def test_the_man_page_has_the_usual_sections_every_command_and_every_option() -> None:
    text = MAN_PAGE.read_text(encoding="utf-8")
    assert text.splitlines()[0] == f'.TH IPVLAN 8 "" "cni-ipvlan {__version__}"'
    page = sections("SH", text)
    assert list(page) == [
        *("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS"),
        *("ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"),
    ]
    assert tags(page["OPTIONS"]) == options_of("")
    commands = sections("SS", page["COMMANDS"])
    assert sorted(commands) == COMMANDS
    for command, section in commands.items():
        assert tags(section) == options_of(command)
        assert "\nExample:\n" in section


def test_the_man_page_is_sound_and_shows_text_as_it_is() -> None:
    require("man")
    wide = {**ENVIRONMENT, "MANWIDTH": "200", "TERM": "dumb"}
    done = run("man", "--warnings", "-l", MAN_PAGE, env=wide)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--args 'K=V;…'" in done.stdout
    assert "CNI_NETNS=/run/netns/c CNI_IFNAME=eth0 \\\n" in done.stdout


SCRIPTS = {
    "bash": """\
        source "$1"; shift
        complete -p ipvlan >/dev/null || exit
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _ipvlan_completion ipvlan
        printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # As compinit does it, with its two ways to offer something replaced.
    "zsh": """\
        fpath=(${1%/*} $fpath); shift
        _describe() { print -rl -- ${completions_with_descriptions%%:*} }
        compadd() { print -rl -- $completions }
        autoload -Uz _ipvlan
        words=("$@") CURRENT=$#
        _ipvlan
    """,
    "fish": 'source $argv[1]; complete -C "$argv[2..]"',
}
FILES = {"bash": BASH, "zsh": ZSH, "fish": FISH}
# Words for completion: each command, and the beginning of an option.
WORDS = [f"{command} -" for command in COMMANDS]


@pytest.mark.parametrize("argv_of", ["", "show -o w", *sample(WORDS, 2)])
@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_shell_offers_what_there_is(shell: str, argv_of: str, tmp_path: Path) -> None:
    require(shell)
    name = [] if shell == "fish" else [shell]  # what is $0 in the others
    words = [*name, str(FILES[shell]), *f"ipvlan {argv_of}".split(" ")]
    done = run(shell, "-c", SCRIPTS[shell], *words, env={**ENVIRONMENT, "HOME": str(tmp_path)})
    assert done.stderr == ""
    offered = {line.partition("\t")[0] for line in done.stdout.split("\n") if line}
    if argv_of.endswith(" w"):
        assert offered == {"wide"}
    else:
        assert offered == (options_of(argv_of.removesuffix(" -")) if argv_of else set(COMMANDS))


def require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
