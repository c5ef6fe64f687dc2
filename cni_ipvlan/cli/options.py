"""Options shared by several commands, and their shell completion."""

from __future__ import annotations

import os
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from cni_ipvlan.cli import configs
from cni_ipvlan.cni.request import identifier_fault, interface_name_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.iproute.namespace import Namespace

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
    """A group of commands that suggests the nearest name for an unknown command."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command that the first argument names; raises UsageError."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from cni_ipvlan.suggest import nearest_first

            names, is_near = nearest_first(args[0], self.list_commands(ctx))
            guess = f"did you mean {names[0]}?" if is_near else f"there are {', '.join(names)}"
            ctx.fail(f"there is no command {args[0]!r}; {guess}")
        return super().resolve_command(ctx, args)


class Netns(_Kind):
    """A network namespace given as a path, a name or a process ID, converted to its path.

    One that ``may_be_gone`` can still be given by its former name.
    """

    name = "netns"

    def __init__(self, *, may_be_gone: bool) -> None:
        self._may_be_gone = may_be_gone

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return the path; raises BadParameter."""
        netns = str(value)
        if "/" in netns:
            return os.path.abspath(netns)
        named = os.path.join(_NAMED_NAMESPACES, netns)
        if netns and os.path.exists(named):
            return named
        if not (netns.isascii() and netns.isdecimal() and os.path.isdir(f"/proc/{netns}")):
            if netns and self._may_be_gone:
                return named
            why = f"{netns!r} is not a path, a name under {_NAMED_NAMESPACES}, or a process ID"
            self.fail(why, param, ctx)
        return f"/proc/{netns}/ns/net"

    def shell_complete(self, _ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer named namespaces, or files once there is a slash."""
        if "/" in incomplete:
            return [CompletionItem(incomplete, type="file")]
        names = os.listdir(_NAMED_NAMESPACES) if os.path.isdir(_NAMED_NAMESPACES) else []
        return _items(names, incomplete)


def wrong(why: str, *option: str) -> click.BadParameter:
    """Return an error about the value of an option, given by all its names."""
    return click.BadParameter(why, param_hint=" / ".join(f"'{name}'" for name in option))


def chosen(config: str, network: str | None) -> NetworkConfig:
    """Return the network that --config and --network select; raises BadParameter."""
    try:
        return configs.choose(config, network)
    except configs.NoSuchNetworkError as error:
        raise wrong(str(error), "--network") from None
    except configs.ConfigError as error:
        raise wrong(str(error), "-c", "--config") from None


def namespace_at(netns: str) -> Namespace:
    """Return the namespace at a path that --netns has given; raises BadParameter."""
    from cni_ipvlan.iproute import namespace

    try:
        return namespace.find(netns)
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise wrong(f"{netns}: {why}", "--netns") from None


class _Identifier(_Kind):
    """A name that a rule allows: ``fault`` returns what is wrong with one, if anything."""

    def __init__(self, what: str, fault: Callable[[str], str | None]) -> None:
        self.name = what
        self._fault = fault

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return it; raises BadParameter."""
        fault = self._fault(value)
        if fault:
            self.fail(f"{value!r} is no {self.name}: {fault}", param, ctx)
        return str(value)


IFNAME = _Identifier("interface's name", interface_name_fault)
CONTAINER_ID = _Identifier("container's ID", identifier_fault)


class Arguments(_Kind):
    """CNI_ARGS: pairs of a key and a value, with semicolons."""

    name = "arguments"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return them; raises BadParameter."""
        for pair in value.split(";") if value else ():
            if not pair.partition("=")[0] or "=" not in pair:
                self.fail(f"{pair!r} is not KEY=VALUE", param, ctx)
        return str(value)


class Address(_Kind):
    """An IPv4 or IPv6 address."""

    name = "address"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """Return it in canonical form; raises BadParameter."""
        from cni_ipvlan.iproute.packets import address_in

        return address_in(value) or self.fail(f"{value!r} is not an IP address", param, ctx)


class Network(_Kind):
    """The name of a network in the file given with --config."""

    name = "network"

    def shell_complete(self, ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
        """Offer the networks in the file."""
        source = ctx.params.get("config")
        if not source or source == "-":
            return []
        try:
            networks = configs.load(source, configs.read_source(source))
        except configs.ConfigError:
            return []
        return _items((each.label for each in networks), incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that complete a word; the shell shows them, so they must be printable."""
    found = (name for name in names if name.startswith(incomplete) and name.isprintable())
    return [CompletionItem(name) for name in sorted(found)]


FILE = click.Path()  # for completion only; errors are reported when it is read


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


def netns_option(*, required: bool, may_be_gone: bool = False) -> Callable[[Any], Any]:
    """Return the option that names a container's namespace."""
    return click.option(
        "--netns",
        type=Netns(may_be_gone=may_be_gone),
        metavar="NETNS",
        required=required,
        help="The container's network namespace: a path, a name under /run/netns, or a PID.",
    )


network_option = click.option(
    "--network",
    type=Network(),
    metavar="NAME",
    help="The network to use, if the file has several.",
)
cni_path_option = click.option(
    "--cni-path",
    metavar="DIRS",
    help="Directories of the IPAM plugins, with colons [default: $CNI_PATH or the usual ones].",
)
verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print each command before it runs, then its time, on standard error.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, also for an error."
)


def is_json_wanted(words: Sequence[str]) -> bool:
    """Whether a command line has --json, even if the rest of it can't be parsed."""
    return "--json" in takewhile(lambda word: word != "--", words)
