"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable


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


def config_option(*, required: bool) -> Callable[[Any], Any]:
    """Return the option that names the configuration."""
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        required=required,
        help="Configuration: .conf, .conflist, a Kubernetes manifest, or - for standard input.",
    )


network_option = click.option(
    "--network", metavar="NAME", help="Which network, when there are several."
)
cni_path_option = click.option(
    "--cni-path", metavar="DIRS", help="Where the IPAM plugins are: directories, with colons."
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print each command as it runs."
)
json_option = click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
script_option = click.option(
    "--format",
    "form",
    type=click.Choice(["shell", "json"]),
    default="shell",
    help="How to print: text (a script, for a dry run), or JSON.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")
