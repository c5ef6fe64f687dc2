"""The program ipvlan for people, and those of its commands that a runtime has, too."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from cni_ipvlan import __version__
from cni_ipvlan.cli import calls, configs, output
from cni_ipvlan.cli.calls import Call, Manner
from cni_ipvlan.cli.inspection import doctor_command, show, validate
from cni_ipvlan.cli.options import (
    Example,
    cni_path_option,
    config_option,
    dry_run_option,
    json_option,
    network_option,
    script_option,
    verbose_option,
)
from cni_ipvlan.cni.versions import LATEST_VERSION

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def main() -> int:
    """Run the command line; return the exit status: 1 for a failure, 2 for bad usage."""
    try:
        status = ipvlan.main(prog_name="ipvlan", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        output.complain("ipvlan: aborted")
        return 1
    except configs.ConfigError as error:
        output.complain(f"ipvlan: {error}")
        return 2
    return status if isinstance(status, int) else 0


@click.group(invoke_without_command=True, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="ipvlan")
@click.option("--dry-run", is_flag=True, help="Replay the call in the CNI variables; only tell.")
@click.option("--format", "form", type=click.Choice(["shell", "json"]), default="shell")
@click.option("-v", "--verbose", is_flag=True, help="Print each command as it runs.")
@click.pass_context
def ipvlan(ctx: click.Context, dry_run: bool, form: str, verbose: bool) -> int | None:
    """Attach containers to a host interface through ipvlan.

    A container runtime executes this program without arguments. People use the
    commands below, or replay a runtime's call without changing anything:

    CNI_COMMAND=ADD CNI_CONTAINERID=… CNI_NETNS=… CNI_IFNAME=… CNI_PATH=… ipvlan --dry-run < conf
    """
    if ctx.invoked_subcommand:
        return None
    if not os.environ.get("CNI_COMMAND"):
        if dry_run:
            raise click.UsageError("to replay a runtime's call, set CNI_COMMAND and its variables")
        click.echo(ctx.get_help())
        return 0
    if not dry_run and not verbose:
        raise click.UsageError("a runtime's call is replayed with --dry-run or -v")
    if os.environ["CNI_COMMAND"] not in ("ADD", "DEL", "GC") and dry_run:
        raise click.UsageError(f"there is no dry run of {os.environ['CNI_COMMAND']!r}")
    call = Call(dict(os.environ), sys.stdin.buffer.read())
    return calls.make(call, Manner(dry_run, form == "json", verbose))


_prev_result = click.option(
    "--prev-result", metavar="FILE", help="The result of the previous plugin, or of ADD."
)
_ipam_result = click.option(
    "--ipam-result", metavar="FILE", help="In a dry run, the addresses IPAM would allocate."
)


def _attachment_options(command: Any) -> Any:
    for option in reversed(
        (
            config_option(required=True),
            click.option(
                "--netns", metavar="NETNS", required=True, help="A path, a name, or a process ID."
            ),
            click.option("--ifname", default="net1", show_default=True, help="In the container."),
            click.option("--container-id", metavar="ID", help="A fresh one by default."),
            cni_path_option,
            click.option("--args", "cni_args", metavar="'K=V;…'", help="CNI_ARGS."),
            network_option,
            _prev_result,
            verbose_option,
        )
    ):
        command = option(command)
    return command


@ipvlan.command(
    cls=Example,
    example="ipvlan add -c examples/ipvlan0.yaml --netns container1 --dry-run",
)
@_attachment_options
@dry_run_option
@_ipam_result
@script_option
def add(dry_run: bool, ipam_result: str | None, form: str, **given: Any) -> int:
    """Attach a container."""
    foreseen = calls.read_result(ipam_result, "--ipam-result")[1] if ipam_result else None
    container_id = given["container_id"] or calls.fresh_container_id()
    call = _attachment_call("ADD", container_id, given)
    return calls.make(call, Manner(dry_run, form == "json", given["verbose"], foreseen))


@ipvlan.command(
    "del", cls=Example, example="ipvlan del -c examples/ipvlan0.yaml --netns container1"
)
@_attachment_options
@dry_run_option
@script_option
def delete(dry_run: bool, form: str, **given: Any) -> int:
    """Detach a container."""
    call = _attachment_call("DEL", _known_id(given), given)
    return calls.make(call, Manner(dry_run, form == "json", given["verbose"]))


@ipvlan.command(
    cls=Example,
    example=(
        "ipvlan add -c net.conf --netns container1 --format json > result.json\n"
        "ipvlan check -c net.conf --netns container1 --prev-result result.json"
    ),
)
@_attachment_options
@json_option
def check(form: str, **given: Any) -> int:
    """Compare an attachment with what its ADD reported."""
    call = _attachment_call("CHECK", _known_id(given), given)
    status = calls.make(call, Manner(as_json=form == "json", verbose=given["verbose"]))
    if status == 0 and form == "text":
        output.say("the attachment is as ADD left it")
    return status


@ipvlan.command(cls=Example, example="ipvlan status -c /etc/cni/net.d/10-ipvlan.conf")
@config_option(required=True)
@cni_path_option
@network_option
@verbose_option
def status(config: str, cni_path: str | None, network: str | None, verbose: bool) -> int:
    """Tell whether an ADD could succeed now."""
    call = _network_call("STATUS", config, network, cni_path, {})
    outcome = calls.make(call, Manner(verbose=verbose))
    if outcome == 0:
        output.say("ready")
    return outcome


@ipvlan.command(
    cls=Example,
    example="ipvlan gc -c net.conf --keep 4bd23c/net1 --keep 90a1f3/net1 --dry-run",
)
@config_option(required=True)
@click.option(
    "--keep", multiple=True, metavar="ID/IFNAME", help="An attachment that is valid; repeat it."
)
@cni_path_option
@network_option
@dry_run_option
@script_option
@verbose_option
def gc(
    config: str,
    keep: tuple[str, ...],
    cni_path: str | None,
    network: str | None,
    dry_run: bool,
    form: str,
    verbose: bool,
) -> int:
    """Remove what belongs to no valid attachment of a network."""
    valid = []
    for each in keep:
        container_id, _, ifname = each.partition("/")
        if not container_id or not ifname:
            raise click.BadParameter(f"{each!r} is not ID/IFNAME", param_hint="--keep")
        valid.append({"containerID": container_id, "ifname": ifname})
    extra = {"cni.dev/valid-attachments": valid}
    call = _network_call("GC", config, network, cni_path, extra)
    return calls.make(call, Manner(dry_run, form == "json", verbose))


for _command in (validate, show, doctor_command):
    ipvlan.add_command(_command)


def _attachment_call(command: str, container_id: str, given: dict[str, Any]) -> Call:
    config = dict(configs.choose(given["config"], given["network"]).config)
    if given["prev_result"]:
        config["prevResult"] = calls.read_result(given["prev_result"], "--prev-result")[0]
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": calls.netns_path(given["netns"]),
        "CNI_IFNAME": given["ifname"],
        "CNI_PATH": calls.cni_path(given["cni_path"]),
    }
    if given["cni_args"]:
        environment["CNI_ARGS"] = given["cni_args"]
    return Call(environment, json.dumps(config).encode())


def _network_call(
    command: str, source: str, network: str | None, cni_path: str | None, extra: dict[str, Any]
) -> Call:
    config = {**configs.choose(source, network).config, **extra}
    if config.get("cniVersion") != LATEST_VERSION:
        # The verb came with that version, and a person asking means the network: so it is
        # asked in it, but an IPAM plugin that may not know the verb is left out.
        config["cniVersion"] = LATEST_VERSION
        config.pop("ipam", None)
    environment = {
        **os.environ,
        "CNI_COMMAND": command,
        "CNI_PATH": calls.cni_path(cni_path),
    }
    return Call(environment, json.dumps(config).encode())


def _known_id(given: dict[str, Any]) -> str:
    if given["container_id"]:
        return str(given["container_id"])
    return calls.known_container_id(given["ifname"], calls.netns_path(given["netns"]))
