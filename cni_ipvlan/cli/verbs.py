"""The commands that mirror CNI's verbs: add, del, check, status, gc."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from cni_ipvlan.cli import attachments, calls, output
from cni_ipvlan.cli.calls import Call, CallOptions
from cni_ipvlan.cli.options import (
    CONTAINER_ID,
    FILE,
    IFNAME,
    Arguments,
    Example,
    chosen,
    cni_path_option,
    config_option,
    dry_run_option,
    json_option,
    netns_option,
    network_option,
    verbose_option,
    wrong,
)
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import UNKNOWN_CONTAINER, CniError
from cni_ipvlan.cni.request import introduced_in
from cni_ipvlan.cni.versions import SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.log import one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.cli.configs import NetworkConfig


def _attachment_options(*, may_be_gone: bool = False) -> Callable[[Any], Any]:
    """Return the options that name an attachment, whose namespace may be gone for del."""
    options = (
        config_option(required=True),
        netns_option(required=True, may_be_gone=may_be_gone),
        click.option(
            "--ifname",
            type=IFNAME,
            metavar="NAME",
            default="net1",
            show_default=True,
            help="The interface's name in the container.",
        ),
        click.option(
            "--container-id",
            type=CONTAINER_ID,
            metavar="ID",
            help="The container's ID [default: a new one for add, else the one found there].",
        ),
        cni_path_option,
        click.option(
            "--args",
            "cni_args",
            type=Arguments(),
            metavar="'K=V;…'",
            help="CNI_ARGS, for the IPAM plugin.",
        ),
        network_option,
        click.option(
            "--prev-result",
            type=FILE,
            metavar="FILE",
            help="The result of the previous plugin in a chain, or of the ADD.",
        ),
        verbose_option,
    )

    def add_all(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add_all


@click.command(
    cls=Example,
    example=(
        "ipvlan add -c examples/ipvlan0.yaml --netns container1 --dry-run\n"
        "ipvlan add -c examples/ipvlan0.yaml --netns container1 --ifname eth1 -v"
    ),
)
@_attachment_options()
@dry_run_option
@click.option(
    "--ipam-result",
    type=FILE,
    metavar="FILE",
    help="In a dry run, the result of the IPAM plugin, which is then not called.",
)
@json_option
def add(dry_run: bool, ipam_result: str | None, as_json: bool, **given: Any) -> None:
    """Attach a container.

    It prints the interface, its addresses and routes as text, or with --json the result as CNI
    defines it. A dry run prints the commands as a script, or with --json its steps.
    """
    result = calls.read_result(ipam_result, "--ipam-result")[1] if ipam_result else None
    if result and not dry_run:
        raise click.UsageError("--ipam-result can only be used with --dry-run")
    container_id = given["container_id"] or calls.fresh_container_id()
    network = _network(given)
    _check_chain(network, given)
    call = _attachment_call("ADD", network, container_id, given)
    calls.make(call, CallOptions(dry_run, as_json, given["verbose"], result))
    if not dry_run and not given["container_id"]:
        command = _detaching({**given, "container_id": container_id})
        output.echo_err(f"container ID {container_id}; to detach it: {command}")


def _detaching(given: dict[str, Any]) -> str:
    """Return the command that takes back an add."""
    options = {"-c": "config", "--network": "network", "--netns": "netns", "--ifname": "ifname"}
    options |= {"--container-id": "container_id", "--cni-path": "cni_path", "--args": "cni_args"}
    pairs = ((option, given[name]) for option, name in options.items() if given[name])
    return shlex.join(("ipvlan", "del", *(word for pair in pairs for word in pair)))


@click.command(
    "del",
    cls=Example,
    example=(
        "ipvlan del -c examples/ipvlan0.yaml --netns container1 --ifname eth1 --dry-run\n"
        "ipvlan del -c examples/ipvlan0.yaml --netns container1 --ifname eth1"
    ),
)
@_attachment_options(may_be_gone=True)
@dry_run_option
@json_option
def delete(dry_run: bool, as_json: bool, **given: Any) -> None:
    """Detach a container."""
    network = _network(given)
    if given["container_id"] and not dry_run:
        nothing = attachments.nothing_known(calls.read_only_node().begin(), network, given)
        if nothing:
            raise CniError(UNKNOWN_CONTAINER, nothing)
    call = _attachment_call("DEL", network, _known_id(network, given), given)
    calls.make(call, CallOptions(dry_run, as_json, given["verbose"]))


@click.command(
    cls=Example,
    example=(
        "ipvlan add -c examples/ipvlan0.yaml --netns container1 --json > result.json\n"
        "ipvlan check -c examples/ipvlan0.yaml --netns container1 --prev-result result.json"
    ),
)
@_attachment_options()
@dry_run_option
@json_option
def check(dry_run: bool, as_json: bool, **given: Any) -> None:
    """Compare an attachment with what its ADD reported."""
    network = _network(given)
    if not (given["prev_result"] or network.config.get("prevResult")):
        raise click.UsageError(
            "give the result of the ADD with --prev-result FILE; ipvlan add --json prints it"
        )
    call = _attachment_call("CHECK", network, _known_id(network, given), given)
    calls.make(call, CallOptions(dry_run, as_json, given["verbose"]))
    if not as_json and not dry_run:
        output.echo("the attachment is as ADD left it")


@click.command(cls=Example, example="ipvlan status -c examples/ipvlan0.yaml")
@config_option(required=True)
@cni_path_option
@network_option
@json_option
@verbose_option
def status(
    config: str, cni_path: str | None, network: str | None, as_json: bool, verbose: bool
) -> None:
    """Check whether an ADD could succeed now."""
    call = _network_call("STATUS", config, network, cni_path, {})
    calls.make(call, CallOptions(as_json=as_json, is_verbose=verbose))
    if not as_json:
        output.echo("ready")


@click.command(
    cls=Example,
    example="ipvlan gc -c examples/ipvlan0.yaml --keep 4bd23c/net1 90a1f3/net1 --dry-run",
)
@config_option(required=True)
@click.option(
    "--keep",
    multiple=True,
    metavar="ID/IFNAME",
    help="A valid attachment; more may follow. All others of the network are removed.",
)
@click.argument("more", nargs=-1, metavar="[ID/IFNAME]…")
@click.option("--keep-none", is_flag=True, help="No attachment of the network is valid.")
@cni_path_option
@network_option
@dry_run_option
@json_option
@verbose_option
def gc(
    config: str,
    keep: tuple[str, ...],
    more: tuple[str, ...],
    keep_none: bool,
    cni_path: str | None,
    network: str | None,
    dry_run: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Remove what is left of a network's attachments, except valid ones.

    An interface in a container that still exists is reported and kept: del removes it. The IPAM
    plugin releases addresses, if it knows GC.
    """
    if more and not keep:
        raise click.UsageError("valid attachments must follow --keep")
    if bool(keep) == keep_none:
        raise click.UsageError("give either --keep with the valid attachments, or --keep-none")
    valid = [_attachment(each) for each in (*keep, *more)]
    extra = {"cni.dev/valid-attachments": valid}
    call = _network_call("GC", config, network, cni_path, extra)
    calls.make(call, CallOptions(dry_run, as_json, verbose))


def _attachment(keep: str) -> dict[str, str]:
    container_id, _, ifname = keep.partition("/")
    if not container_id or not ifname:
        raise wrong(f"{keep!r} is not ID/IFNAME", "--keep")
    return {"containerID": container_id, "ifname": ifname}


def _network(given: dict[str, Any]) -> NetworkConfig:
    """Return the chosen network; say which plugins of its list are left out."""
    network = chosen(given["config"], given["network"])
    others = ", ".join((*network.before, *network.after))
    if others:
        text = f"of the list {network.name}, only ipvlan is called; left out: {others}"
        output.echo_err(one_line(text))
    return network


def _check_chain(network: NetworkConfig, given: dict[str, Any]) -> None:
    """Say that a chained plugin lacks the result before it; raises UsageError if it needs that."""
    if not network.before or given["prev_result"] or network.config.get("prevResult"):
        return
    before = network.before[-1]
    if not netconf.ipam_type(network.config):
        text = f"ipvlan comes after {before} in the list {network.name} and needs its result"
        raise click.UsageError(one_line(f"{text}: give that with --prev-result"))
    output.echo_err(one_line(f"ipvlan comes after {before}, whose result --prev-result can give"))


def _attachment_call(
    command: str, network: NetworkConfig, container_id: str, given: dict[str, Any]
) -> Call:
    config = dict(network.config)
    _raise_version(config, command)
    if given["prev_result"]:
        previous, parsed = calls.read_result(given["prev_result"], "--prev-result")
        if command == "CHECK":
            previous = results.render(parsed, str(config.get("cniVersion")))
        config["prevResult"] = previous
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": given["netns"],
        "CNI_IFNAME": given["ifname"],
        "CNI_PATH": calls.cni_path(given["cni_path"]),
    }
    if given["cni_args"]:
        environment["CNI_ARGS"] = given["cni_args"]
    return Call(environment, json.dumps(config).encode(), _names(given))


def _names(given: dict[str, Any]) -> dict[str, str]:
    """Return the options that a call's variables came from."""
    names = {"CNI_NETNS": "--netns", "CNI_IFNAME": "--ifname", "CNI_CONTAINERID": "--container-id"}
    names |= {"prevResult": "--prev-result"} if given["prev_result"] else {}
    return names | _name_of_path(given["cni_path"])


def _name_of_path(given: str | None) -> dict[str, str]:
    return {"CNI_PATH": calls.cni_path_is_set_by(given) or calls.USUAL}


def _network_call(
    command: str, source: str, network: str | None, cni_path: str | None, extra: dict[str, Any]
) -> Call:
    config = {**chosen(source, network).config, **extra}
    version, ipam = config.get("cniVersion"), netconf.ipam_type(config)
    if _raise_version(config, command) and ipam:
        config.pop("ipam")
        output.echo_err(
            f"skipping the IPAM plugin {ipam}, which may not know {command}: the "
            f"configuration's cniVersion is {version or 'not given'}"
            + ("; its leases stay" if command == "GC" else "")
        )
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_PATH": calls.cni_path(cni_path),
    }
    return Call(environment, json.dumps(config).encode(), _name_of_path(cni_path))


def _raise_version(config: dict[str, Any], command: str) -> bool:
    """Raise cniVersion to the one that introduced a verb; return whether that was necessary.

    People can then use every verb, even if a runtime could not with this configuration.
    """
    version = config.get("cniVersion") or VERSION_WHEN_ABSENT
    since = introduced_in(command)
    older = SUPPORTED_VERSIONS[: SUPPORTED_VERSIONS.index(since)]
    if version in older:
        config["cniVersion"] = since
    return version in older


def _known_id(network: NetworkConfig, given: dict[str, Any]) -> str:
    if given["container_id"]:
        return str(given["container_id"])
    tx = calls.read_only_node().begin()
    return attachments.container_id_of(tx, network.name, given["ifname"], given["netns"])
