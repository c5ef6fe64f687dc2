#!/usr/bin/env python3
"""Generate the man page and the completions for bash, zsh and fish from the command line.

Usage: packaging/manual.py DIR

They are written to the usual places below DIR, a directory like /usr/share. It needs click and sh.
backend.py does it for pip, scripts/build-deb and scripts/install-node for nodes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import click

CHECKOUT = Path(__file__).resolve().parents[1]
COMPLETIONS = {
    "bash": "bash-completion/completions/ipvlan",
    "zsh": "zsh/site-functions/_ipvlan",
    "fish": "fish/vendor_completions.d/ipvlan.fish",
}
MAN_PAGE = "man/man8/ipvlan.8"

# Parts of the man page that the command line does not have.
FILES = {
    "/etc/cni/net.d": "the network configurations of most container runtimes",
    "/run/cni-ipvlan": "locks, and records of this node's attachments",
    "/var/log/cni-ipvlan": (
        "log files and captured calls: network configurations name them with logFile and captureDir"
    ),
}
ENVIRONMENT = {
    "CNI_PATH": "directories of IPAM plugins, unless --cni-path is given",
    "CNI_IPVLAN_LOG": "the absolute path of a log file",
    "CNI_IPVLAN_CAPTURE": "the absolute path of a directory for a runtime's captured calls",
    "NO_COLOR": "if set to anything, no colours are printed",
}
EXIT_STATUS = {
    "0": "success",
    "1": (
        "failure, such as a problem that validate or doctor found, or output that cannot be "
        "written; a pipe closed by its reader is not reported"
    ),
    "2": "the command line or a configuration is wrong",
    "130": "interrupted from the keyboard while it read its input",
}


def main(arguments: Sequence[str]) -> int:
    """Write the files; return the exit status."""
    if list(arguments) in (["-h"], ["--help"]):
        print(__doc__, end="")
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("manual.py: give the one directory to put the files into", file=sys.stderr)
        return 2
    write(Path(arguments[0]))
    return 0


def write(share: Path) -> None:
    """Write the man page and the completions of this checkout's command line below ``share``."""
    sys.path.insert(0, str(CHECKOUT))
    from cni_ipvlan import __version__
    from cni_ipvlan.cli.program import ipvlan

    texts = {MAN_PAGE: man_page(ipvlan, __version__)}
    texts.update({file: completion(ipvlan, shell) for shell, file in COMPLETIONS.items()})
    for file, text in texts.items():
        path = share / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def completion(program: click.Group, shell: str) -> str:
    """Return the script that makes a shell ask the program what can be completed."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise ValueError(shell)
    made = kind(program, {}, "ipvlan", "_IPVLAN_COMPLETE")
    # Not made.source(), which for bash asks the bash of this machine for its version.
    return made.source_template % made.source_vars()


def man_page(program: click.Group, version: str) -> str:
    """Return the manual in roff(7)."""
    import click

    context = click.Context(program, info_name="ipvlan", **program.context_settings)
    lines = [
        f'.TH IPVLAN 8 "" "cni-ipvlan {version}"',
        *(".SH NAME", r"ipvlan \- attach containers to a host interface through ipvlan"),
        *(".SH SYNOPSIS", *_usage(program, context)),
        *(".SH DESCRIPTION", *_prose(program.help or "")),
        *(".SH OPTIONS", *_options(program, context)),
        ".SH COMMANDS",
    ]
    for name in program.list_commands(context):
        lines += _command(cast("click.Command", program.get_command(context, name)), context)
    for title, records in (
        *(("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXIT STATUS", EXIT_STATUS)),
    ):
        lines += [f".SH {title}", *_list(records.items())]
    lines += [".SH SEE ALSO", *(".BR ip\\-link (8),", ".BR ip\\-netns (8)")]
    return "\n".join(lines) + "\n"


def _command(command: click.Command, parent: click.Context) -> Iterator[str]:
    import click

    context = click.Context(command, info_name=command.name, parent=parent)
    yield f".SS {command.name}"
    yield from _prose(command.help or "")
    yield ".PP"
    yield from _usage(command, context)
    yield from _options(command, context)
    example = getattr(command, "example", "")
    if example:
        yield from (".PP", "Example:", *_verbatim(example.splitlines()))


def _usage(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".B {_escape(context.command_path)}"
    yield from map(_escape, command.collect_usage_pieces(context))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    records = (each.get_help_record(context) for each in command.get_params(context))
    return _list((names, text) for names, text in filter(None, records) if names.startswith("-"))


def _list(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, text in records:
        option = re.sub(r"(?<!\S)(?:\\-)+[\w\\-]+", r"\\fB\g<0>\\fR", _escape(term))
        yield from (".TP", option, _escape(re.sub(r"\s+", " ", text)))


def _prose(text: str) -> Iterator[str]:
    r"""Paragraphs; one that starts with click's \b keeps its lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        lines = paragraph.split("\n")
        if number:
            yield ".PP"
        yield from _verbatim(lines[1:]) if lines[0] == "\b" else map(_escape, lines)


def _verbatim(lines: Iterable[str]) -> Iterator[str]:
    yield from (".RS 4", ".nf", *map(_escape, lines), ".fi", ".RE")


def _escape(text: str) -> str:
    """Return text that roff prints as it is: plain quotes and hyphens, no requests."""
    for plain, escaped in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq")):
        text = text.replace(plain, escaped)
    text = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in text)
    return f"\\&{text}" if text.startswith(".") else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
