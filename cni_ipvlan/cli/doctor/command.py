"""The command doctor."""

from __future__ import annotations

import click

from cni_ipvlan.cli import calls, doctor, output
from cni_ipvlan.cli.options import (
    Example,
    chosen,
    cni_path_option,
    config_option,
    interface_name,
    json_option,
    netns_option,
    network_option,
)


@click.command(
    "doctor",
    cls=Example,
    example="ipvlan doctor -c examples/ipvlan0.yaml --netns container1 --ifname net1",
)
@config_option(required=False)
@network_option
@netns_option(required=False)
@click.option(
    "--ifname",
    type=interface_name,
    metavar="NAME",
    help="An interface's name, to be looked up with --netns.",
)
@cni_path_option
@json_option
def doctor_command(
    config: str | None,
    network: str | None,
    netns: str | None,
    ifname: str | None,
    cni_path: str | None,
    as_json: bool,
) -> int:
    """Check for what could keep an attachment from working.

    It looks at the node, and at the network given with -c, or else at all in /etc/cni/net.d.
    It runs no plugins but ipvlan and those that these networks name as IPAM.
    """
    if ifname and not netns:
        raise click.UsageError("--ifname needs --netns, the namespace to look it up in")
    chosen_network = chosen(config, network) if config else None
    directories = tuple(calls.cni_path(cni_path).split(":"))
    path = doctor.SearchPath(directories, calls.cni_path_is_set_by(cni_path))
    findings = []
    node = calls.read_only_node()
    for finding in doctor.examine(node, path, chosen_network, netns, ifname or ""):
        findings.append(finding)
        if not as_json:
            output.finding(finding)
    if as_json:
        output.echo_json({"findings": [finding._asdict() for finding in findings]})
    return 1 if any(finding.state == doctor.PROBLEM for finding in findings) else 0
