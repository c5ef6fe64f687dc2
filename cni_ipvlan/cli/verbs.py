"""The commands that mirror CNI's verbs: add, del, check, status, gc."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from cni_ipvlan.cli import attachments, calls, options, output
from cni_ipvlan.cli.calls import Call, CallOptions
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.options import FILE, Example
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import UNKNOWN_CONTAINER, CniError
from cni_ipvlan.cni.request import introduced_in
from cni_ipvlan.cni.result import Result
from cni_ipvlan.cni.versions import SUPPORTED_VERSIONS, VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.log import one_line

_Values = dict[str, Any]  # options and their values, a configuration
_OF_DEL = {"-c": "config", "--network": "network", "--netns": "netns", "--ifname": "ifname"}
_OF_DEL |= {"--container-id": "container_id", "--cni-path": "cni_path", "--args": "cni_args"}


_ALWAYS = (
    *(options.network_option, options.cni_path_option),
    *(options.json_option, options.verbose_option),
)


def _with(*found: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the options as one decorator."""
    return lambda command: reduce(lambda made, option: option(made), reversed(found), command)


def _attachment_options(*, may_be_gone: bool = False) -> Callable[[Any], Any]:
    """Return the options that name an attachment, whose namespace may be gone for del."""
    return _with(
        options.config_option(required=True),
        options.netns_option(required=True, may_be_gone=may_be_gone),
        click.option(
            "--ifname",
            type=options.interface_name,
            metavar="NAME",
            default="net1",
            show_default=True,
            help="The interface's name in the container.",
        ),
        click.option(
            "--container-id",
            type=options.container_id,
            metavar="ID",
            help="The container's ID [default: a new one for add, else the one found there].",
        ),
        click.option(
            "--args",
            "cni_args",
            type=options.arguments,
            metavar="'K=V;…'",
            help="CNI_ARGS, for the IPAM plugin.",
        ),
        click.option(
            "--prev-result",
            type=FILE,
            metavar="FILE",
            help="The result of the previous plugin in a chain, or of the ADD.",
        ),
        options.dry_run_option,
        *_ALWAYS,
    )


@click.command(
    cls=Example,
    example="ipvlan add -c examples/ipvlan0.yaml --netns container1 --dry-run\n"
    "ipvlan add -c examples/ipvlan0.yaml --netns container1 --ifname eth1 -v",
)
@_attachment_options()
@click.option(
    "--ipam-result",
    type=FILE,
    metavar="FILE",
    help="In a dry run, the result of the IPAM plugin, which is then not called.",
)
def add(ipam_result: str | None, **given: Any) -> None:
    """Attach a container.

    It prints the interface, its addresses and routes as text, or with --json the result as CNI
    defines it. A dry run prints the commands as a script, or with --json its steps.
    """
    result = calls.read_result(ipam_result, "--ipam-result")[1] if ipam_result else None
    if result and not given["dry_run"]:
        raise click.UsageError("--ipam-result can only be used with --dry-run")
    network = _network(given)
    _check_chain(network, given)
    known = {**given, "container_id": given["container_id"] or secrets.token_hex(8)}
    _call_attachment("ADD", network, known, result)
    if not given["dry_run"] and not given["container_id"]:
        named = [(option, known[name]) for option, name in _OF_DEL.items() if known[name]]
        command = shlex.join(("ipvlan", "del", *(word for pair in named for word in pair)))
        output.echo_err(f"container ID {known['container_id']}; to detach it: {command}")


@click.command(
    "del",
    cls=Example,
    example="ipvlan del -c examples/ipvlan0.yaml --netns container1 --ifname eth1 --dry-run\n"
    "ipvlan del -c examples/ipvlan0.yaml --netns container1 --ifname eth1",
)
@_attachment_options(may_be_gone=True)
def delete(**given: Any) -> None:
    """Detach a container."""
    network = _network(given)
    if given["container_id"] and not given["dry_run"]:
        nothing = attachments.nothing_known(calls.read_only_node(), network, given)
        if nothing:
            raise CniError(UNKNOWN_CONTAINER, nothing)
    _call_attachment("DEL", network, given)


@click.command(
    cls=Example,
    example="ipvlan add -c examples/ipvlan0.yaml --netns container1 --json > result.json\n"
    "ipvlan check -c examples/ipvlan0.yaml --netns container1 --prev-result result.json",
)
@_attachment_options()
def check(**given: Any) -> None:
    """Compare an attachment with what its ADD reported."""
    network = _network(given)
    if not (given["prev_result"] or network.config.get("prevResult")):
        raise click.UsageError(
            "give the result of the ADD with --prev-result FILE; ipvlan add --json prints it"
        )
    _call_attachment("CHECK", network, given)
    if not given["as_json"] and not given["dry_run"]:
        output.echo("the attachment is as ADD left it")


@click.command(cls=Example, example="ipvlan status -c examples/ipvlan0.yaml")
@_with(options.config_option(required=True), *_ALWAYS)
def status(**given: Any) -> None:
    """Check whether an ADD could succeed now."""
    _call_network("STATUS", {**given, "dry_run": False}, {})
    if not given["as_json"]:
        output.echo("ready")


def _attachment(text: str) -> dict[str, str]:
    container_id, _, ifname = text.partition("/")
    if not container_id or not ifname:
        raise click.BadParameter(f"{text!r} is not ID/IFNAME")
    return {"containerID": container_id, "ifname": ifname}


@click.command(
    cls=Example, example="ipvlan gc -c examples/ipvlan0.yaml 4bd23c/net1 90a1f3/net1 --dry-run"
)
@click.argument("valid", type=_attachment, nargs=-1, metavar="[ID/IFNAME]…")
@click.option("--keep-none", is_flag=True, help="No attachment of the network is valid.")
@_with(options.config_option(required=True), options.dry_run_option, *_ALWAYS)
def gc(valid: tuple[dict[str, str], ...], keep_none: bool, **given: Any) -> None:
    """Remove what is left of a network's attachments, except valid ones: ID/IFNAME.

    An interface in a container that still exists is reported and kept: del removes it. The IPAM
    plugin releases addresses, if it knows GC.
    """
    if bool(valid) == keep_none:
        raise click.UsageError("give either the valid attachments as ID/IFNAME, or --keep-none")
    _call_network("GC", given, {"cni.dev/valid-attachments": valid})


def _network(given: _Values) -> NetworkConfig:
    """Return the chosen network; say which plugins of its list are left out."""
    network = options.chosen(given["config"], given["network"])
    others = ", ".join((*network.before, *network.after))
    if others:
        text = f"of the list {network.name}, only ipvlan is called; left out: {others}"
        output.echo_err(one_line(text))
    return network


def _check_chain(network: NetworkConfig, given: _Values) -> None:
    """Say that a chained plugin lacks the result before it; raises UsageError if it needs that."""
    if not network.before or given["prev_result"] or network.config.get("prevResult"):
        return
    before = network.before[-1]
    if not netconf.ipam_type(network.config):
        text = f"ipvlan comes after {before} in the list {network.name} and needs its result"
        raise click.UsageError(one_line(f"{text}: give that with --prev-result"))
    output.echo_err(one_line(f"ipvlan comes after {before}, whose result --prev-result can give"))


def _call_attachment(
    command: str, network: NetworkConfig, given: _Values, ipam_result: Result | None = None
) -> None:
    """Make a call about an attachment; raises UsageError if its container's ID is not known."""
    config, netns, ifname = dict(network.config), given["netns"], given["ifname"]
    _raise_version(config, command)
    if given["prev_result"]:
        previous, parsed = calls.read_result(given["prev_result"], "--prev-result")
        if command == "CHECK":
            previous = results.render(parsed, str(config.get("cniVersion")))
        config["prevResult"] = previous
    container_id = given["container_id"] or attachments.container_id_of(
        calls.read_only_node(), network.name, ifname, netns
    )
    about = {"CNI_CONTAINERID": container_id, "CNI_NETNS": netns, "CNI_IFNAME": ifname}
    about |= {"CNI_ARGS": given["cni_args"]} if given["cni_args"] else {}
    _call(command, config, given, ipam_result, **about)


def _call_network(command: str, given: _Values, extra: _Values) -> None:
    config = {**options.chosen(given["config"], given["network"]).config, **extra}
    version, ipam = config.get("cniVersion"), netconf.ipam_type(config)
    if _raise_version(config, command) and ipam:
        config.pop("ipam")
        output.echo_err(
            f"skipping the IPAM plugin {ipam}, which may not know {command}: the "
            f"configuration's cniVersion is {version or 'not given'}"
            + ("; its leases stay" if command == "GC" else "")
        )
    _call(command, config, given)


def _call(
    command: str, config: _Values, given: _Values, ipam_result: Result | None = None, **about: str
) -> None:
    dirs = given["cni_path"]
    names = {"CNI_NETNS": "--netns", "CNI_IFNAME": "--ifname"}
    names["CNI_PATH"] = calls.cni_path_is_set_by(dirs) or calls.USUAL
    about |= {"CNI_COMMAND": command, "CNI_PATH": calls.cni_path(dirs)}
    call = Call({**os.environ, **about}, json.dumps(config).encode(), names)
    how = CallOptions(given["dry_run"], given["as_json"], given["verbose"], ipam_result)
    calls.make(call, how)


def _raise_version(config: _Values, command: str) -> bool:
    """Raise cniVersion to the one that introduced a verb; return whether that was necessary.

    People can then use every verb, even if a runtime could not with this configuration.
    """
    version = config.get("cniVersion") or VERSION_WHEN_ABSENT
    since = introduced_in(command)
    older = SUPPORTED_VERSIONS[: SUPPORTED_VERSIONS.index(since)]
    if version in older:
        config["cniVersion"] = since
    return version in older
