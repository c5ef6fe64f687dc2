"""Options shared by several commands, and their shell completion."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import click
from click.shell_completion import CompletionItem

from cni_ipvlan.cli import configs
from cni_ipvlan.cni import request
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin.addressing import is_unicast
from cni_ipvlan.state.registry import Registry
from cni_ipvlan.suggest import nearest_first

_NAMED_NAMESPACES = "/run/netns"
_Decorator = Callable[[Any], Any]
FILE = click.Path()  # for completion only; errors are reported when it is read
JSON = click.Option(
    ["-j", "--json", "as_json"], is_flag=True, help="Print one JSON document, also for an error."
)
# In a command line whose words have a NUL between them. Several short options are one word.
_JSON_OPTION = re.compile("\0(--json|--output[=\0]json|-o\0?json|-[vw]*j[jvw]*)\0")


def command(*examples: str) -> Callable[[Any], click.Command]:
    """Return a decorator for a command with --json, whose name is in the last example."""
    text = "\n  ".join(("\b\nExample:", *examples))
    return click.command(examples[-1].split()[1], click.Command, epilog=text, params=[JSON])


def option_error(why: str, *option: str) -> click.BadParameter:
    """Return an error about the value of an option, which may have several names."""
    return click.BadParameter(why, param_hint=" / ".join(f"'{name}'" for name in option))


def choose_network(source: str, network: str | None) -> configs.NetworkConfig:
    """Return the network that --config and --network select; raises BadParameter."""
    candidates, faults = configs.read(source)
    chosen = [
        each
        for each in candidates
        if network in (None, each.name, each.definition, each.definition.rpartition("/")[2])
    ]
    names = ", ".join(each.label for each in chosen or candidates)
    if faults and (network is None or not chosen):
        why = str(faults[0])
    elif not candidates:
        why = f"{source} has no configuration of type ipvlan"
    elif not chosen:
        why = f"{source} has no network {network!r}; it has: {names}"
    elif len(chosen) > 1:
        why = f"{source} has several networks: {names}; choose one with --network"
    else:
        return chosen[0]
    raise option_error(why, *(("--network", "-c") if network else ("-c", "--config")))


def find_namespace(netns: str) -> namespace.Namespace:
    """Return the namespace at a path given with --netns; raises BadParameter."""
    try:
        return namespace.find(netns)
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise option_error(f"{netns}: {why}", "--netns") from None


def resolve_netns(netns: str) -> str:
    """Return the path of a namespace given as a path, a name or a process ID; it may be gone."""
    named_path = os.path.join(_NAMED_NAMESPACES, netns)
    if "/" in netns:
        return os.path.abspath(netns)
    if not netns:
        raise click.BadParameter("'' is not a path, a name or a process ID")
    is_number = netns.isascii() and netns.isdecimal() and not os.path.exists(named_path)
    return f"/proc/{netns}/ns/net" if is_number and os.path.isdir(f"/proc/{netns}") else named_path


def resolve_existing_netns(netns: str) -> str:
    """Return the path, as ``resolve_netns`` does; raises BadParameter if nothing has that name."""
    path = resolve_netns(netns)
    if "/" in netns or path.startswith("/proc/") or os.path.exists(path):
        return path
    names, is_near = nearest_first(netns, configs.list_directory(_NAMED_NAMESPACES))
    why = f"{netns!r} is not a path, a name under {_NAMED_NAMESPACES}, or a process ID"
    raise click.BadParameter(f"{why}; did you mean {names[0]!r}?" if is_near else why)


def _name_type(noun: str, find_fault: Callable[[str], str | None]) -> Callable[[str], str]:
    def convert(name: str) -> str:
        if fault := find_fault(name):
            raise click.BadParameter(f"{name!r} is no {noun}: {fault}")
        return name

    return convert


interface_name = _name_type("interface's name", request.interface_name_fault)
container_id = _name_type("container's ID", request.identifier_fault)


def container_or_pod(name: str) -> str:
    """Return a container's ID, or the name of a pod, perhaps after its namespace."""
    return "/".join(map(container_id, name.split("/", 1)))


def arguments(pairs: str) -> str:
    """Return CNI_ARGS: pairs KEY=VALUE with semicolons between them."""
    for pair in pairs.split(";") if pairs else ():
        if not pair.partition("=")[0] or "=" not in pair:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
    return pairs


def address(text: str) -> str:
    """Return an IPv4 or IPv6 address, which another host may have, in canonical form."""
    with suppress(ValueError):
        ip = ip_address(text)
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if "%" not in text and is_unicast(ip) and not ip.is_loopback:
            return str(ip)
    raise click.BadParameter(f"{text!r} is not the IP address of another host")


def _list_namespaces(_ctx: Any, _param: Any, incomplete: str) -> list[CompletionItem]:
    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    return _complete(configs.list_directory(_NAMED_NAMESPACES), incomplete)


def complete_ends(ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
    """Offer the host, namespaces, and the containers and pods that are recorded."""
    names = {"host"}
    with suppress(OSError):
        for each in Registry(is_read_only=True).all_records():
            names |= {each.container_id, each.pod, each.pod.partition("/")[2]} - {""}
    namespaces = _list_namespaces(ctx, param, incomplete)
    return [*namespaces, *_complete(names - {each.value for each in namespaces}, incomplete)]


def _complete(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the printable names that complete a word: the shell shows them as they are."""
    matches = (name for name in names if name.startswith(incomplete) and name.isprintable())
    return [CompletionItem(name) for name in sorted(matches)]


def option(name: str, kind: Any, metavar: Any, about: str, **keywords: Any) -> _Decorator:
    """Return an option with a value."""
    return click.option(*name.split("/"), type=kind, metavar=metavar, help=about, **keywords)


def config_option(*, required: bool) -> _Decorator:
    """Return the option that names the configuration."""
    about = "Configuration: .conf, .conflist, a Kubernetes manifest, or - for standard input."
    return option("-c/--config", FILE, "FILE", about, required=required)


def netns_option(*, required: bool, may_be_gone: bool = False) -> _Decorator:
    """Return the option that names a container's namespace."""
    about = "The container's network namespace: a path, a name under /run/netns, or a PID."
    resolve = resolve_netns if may_be_gone else resolve_existing_netns
    keywords = {"required": required, "shell_complete": _list_namespaces}
    return option("--netns", resolve, "NETNS", about, **keywords)


network_option = option("--network", str, "NAME", "The network, if there are several.")
cni_path_option = option(
    "--cni-path", str, "DIRS", "Where IPAM plugins are [default: $CNI_PATH or the usual places]."
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Print on stderr each command, and then its time."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the commands; change nothing.")


def is_json_wanted(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, even if the rest of it can't be parsed."""
    before, _, _ = "\0".join(("", *words, "")).partition("\0--\0")
    return _JSON_OPTION.search(f"{before}\0") is not None
