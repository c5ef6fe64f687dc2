#!/usr/bin/env python3
"""Generate the man page and the completions for bash, zsh and fish from the command line.

Usage: packaging/manual.py DIR, a directory like /usr/share. It needs click and sh.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COMPLETIONS = {
    BashComplete: "bash-completion/completions/ipvlan",
    ZshComplete: "zsh/site-functions/_ipvlan",
    FishComplete: "fish/vendor_completions.d/ipvlan.fish",
}
MAN_PAGE = "man/man8/ipvlan.8"

# These sections of the man page are not in the command line's help.
SECTIONS = {
    "ENVIRONMENT": {
        "CNI_PATH": "directories of IPAM plugins, unless --cni-path is given",
        "CNI_IPVLAN_LOG": "the absolute path of a log file",
        "CNI_IPVLAN_CAPTURE": "the absolute path of a directory for a runtime's captured calls",
        "NO_COLOR": "if set to anything, no colours are printed",
    },
    "FILES": {
        "/etc/cni/net.d": "the network configurations of most container runtimes",
        "/etc/cni-ipvlan/ipam-types": "the IPAM plugins that root permits, if it exists",
        "/run/cni-ipvlan": "locks, and records of this node's attachments",
        "/var/log/cni-ipvlan": "what the options logFile and captureDir name",
    },
    "EXIT STATUS": {
        "0": "success",
        "1": "failure, such as a problem that validate or doctor found; or output can't be written",
        "2": "the command line or a configuration is wrong",
        "130": "interrupted from the keyboard while it read its input",
    },
}


def write_files(share: Path) -> None:
    """Write the man page and the completions of this checkout's command line below ``share``."""
    from cni_ipvlan import __version__
    from cni_ipvlan.cli.program import ipvlan

    texts = {MAN_PAGE: render_man_page(ipvlan, __version__)}
    for kind, file in COMPLETIONS.items():
        completion = kind(ipvlan, {}, "ipvlan", "_IPVLAN_COMPLETE")
        # completion.source() would ask the bash of this machine for its version.
        texts[file] = completion.source_template % completion.source_vars()
    for file, text in texts.items():
        path = share / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def render_man_page(program: click.Group, version: str) -> str:
    """Return the manual in roff(7)."""
    context = click.Context(program, info_name="ipvlan", **program.context_settings)
    lines = [f'.TH IPVLAN 8 "" "cni-ipvlan {version}"', ".SH NAME"]
    lines += [r"ipvlan \- attach containers to a host interface through ipvlan"]
    lines += [".SH SYNOPSIS", *_render_usage(program, context)]
    lines += [".SH DESCRIPTION", *_render_text(program.help or "")]
    lines += [".SH OPTIONS", *_render_options(program, context), ".SH COMMANDS"]
    for name in sorted(program.commands):
        lines += _render_command(program.commands[name], context)
    for title, items in SECTIONS.items():
        lines += [f".SH {title}", *_render_list(items.items())]
    lines += [".SH SEE ALSO", ".BR ip\\-link (8),", ".BR ip\\-netns (8)", ""]
    return "\n".join(lines)


def _render_command(command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    yield from (f".SS {command.name}", *_render_text(command.help or ""), ".PP")
    yield from _render_usage(command, context)
    yield from _render_options(command, context)
    if command.epilog:
        yield from (".PP", *_render_text(command.epilog))


def _render_usage(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".B {_escape(context.command_path)}"
    yield from map(_escape, command.collect_usage_pieces(context))


def _render_options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = filter(None, (each.get_help_record(context) for each in command.get_params(context)))
    return _render_list((names, text) for names, text in records if names.startswith("-"))


def _render_list(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in items:
        option = re.sub(r"(?<!\S)(?:\\-)+[\w\\-]+", r"\\fB\g<0>\\fR", _escape(term))
        yield from (".TP", option, _escape(re.sub(r"\s+", " ", text)))


def _render_text(text: str) -> Iterator[str]:
    r"""Render paragraphs; one that starts with click's \b keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        lines = paragraph.split("\n")
        if number:
            yield ".PP"
        if lines[0] == "\b":
            yield from (".RS 4", ".nf", *map(_escape, lines[1:]), ".fi", ".RE")
        else:
            yield from map(_escape, lines)


def _escape(text: str) -> str:
    """Return text that roff prints unchanged: plain quotes and hyphens, no requests."""
    for character, escape in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq")):
        text = text.replace(character, escape)
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))
