"""Options that several commands have, and what a shell can complete for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cni_ipvlan.cli import configs

if TYPE_CHECKING:
    from collections.abc import Callable

    _Kind = click.ParamType[str]
else:
    _Kind = click.ParamType  # which takes no argument before click 8.4

_NAMED_NAMESPACES = "/run/netns"


class Example(click.Command):
    """A command whose help ends with an example."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


class Commands(click.Group):
    """Commands; one that does not exist is answered with the one that may be meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command that the first argument names; raises UsageError."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from cni_ipvlan.suggest import nearest_first

            names, is_near = nearest_first(args[0], self.list_commands(ctx))
            guess = f"did you mean {names[0]}?" if is_near else f"there are {', '.join(names)}"
            ctx.fail(f"there is no command {args[0]!r}; {guess}")
        return super().resolve_command(ctx, args)


class Netns(_Kind):
    """A network namespace, given as a path, a name or a process ID; its path comes out."""

    name = "netns"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the path; raises BadParameter."""
        netns = str(value)
        if "/" in netns:
            return os.path.abspath(netns)
        named = os.path.join(_NAMED_NAMESPACES, netns)
        if netns and os.path.exists(named):
            return named
        if not (netns.isascii() and netns.isdecimal() and os.path.isdir(f"/proc/{netns}")):
            why = f"{netns!r} is no path, no name under {_NAMED_NAMESPACES}, and no process ID"
            self.fail(why, param, ctx)
        return f"/proc/{netns}/ns/net"

    def shell_complete(self, _ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the namespaces that have names, and files."""
        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        names = os.listdir(_NAMED_NAMESPACES) if os.path.isdir(_NAMED_NAMESPACES) else []
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class Network(_Kind):
    """The name of a network in the configuration that --config gives."""

    name = "network"

    def shell_complete(self, ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the networks of the file."""
        source = ctx.params.get("config")
        if not source or source == "-":
            return []
        try:
            networks = configs.load(source, configs.read_source(source))
        except configs.ConfigError:
            return []
        labels = [each.label for each in networks if each.label.startswith(incomplete)]
        return [CompletionItem(label) for label in labels]


FILE = click.Path()  # for completion; who reads it says what is wrong with it


def config_option(*, required: bool) -> Callable[[Any], Any]:
    """Return the option that names the configuration."""
    return click.option(
        "-c",
        "--config",
        type=FILE,
        metavar="FILE",
        required=required,
        help="Configuration: .conf, .conflist, a Kubernetes manifest, or - for standard input.",
    )


def netns_option(*, required: bool) -> Callable[[Any], Any]:
    """Return the option that names a container's namespace."""
    return click.option(
        "--netns",
        type=Netns(),
        metavar="NETNS",
        required=required,
        help="The container's network namespace: a path, a name under /run/netns, or a PID.",
    )


def format_option(text: str, help_text: str) -> Callable[[Any], Any]:
    """Return the option that says how to print: ``text`` (by default) or json."""
    return click.option(
        "--format",
        "form",
        type=click.Choice([text, "json"]),
        default=text,
        show_default=True,
        help=help_text,
    )


network_option = click.option(
    "--network",
    type=Network(),
    metavar="NAME",
    help="Which network of the file, when it has several.",
)
cni_path_option = click.option(
    "--cni-path",
    metavar="DIRS",
    help="Where the IPAM plugins are, with colons: $CNI_PATH or the usual directories by default.",
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print each command as it runs, on standard error."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")
text_option = format_option("text", "How to print it.")
script_option = format_option("shell", "How to print a dry run: a script, or its steps as JSON.")
