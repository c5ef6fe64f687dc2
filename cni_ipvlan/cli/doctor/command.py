"""The command doctor."""

from collections.abc import Iterator

import click

from cni_ipvlan.cli import calls, configs, options, output, validate
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.doctor import networks, node
from cni_ipvlan.cli.doctor.node import Tools
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.transaction import Transaction


@options.command("ipvlan doctor -c examples/ipvlan0.yaml --netns container1 --ifname net1")
@options.config_option(required=False)
@options.network_option
@options.netns_option(required=False)
@options.option("--ifname", options.interface_name, "NAME", "A name to look up with --netns.")
@options.cni_path_option
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
    selected = options.choose_network(config, network) if config else None
    runner, registry, *_ = calls.read_only_node()
    path, origin = calls.find_cni_path(cni_path)
    tools = Tools(runner, Transaction(runner), registry, path.split(":"), origin, {}, ifname or "")
    findings = []
    for finding in examine(tools, selected, netns):
        runner.interrupts.check()
        findings.append(finding)
        if not as_json:
            output.print_finding(finding)
    if as_json:
        output.echo_json({"findings": [finding._asdict() for finding in findings]})
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def examine(tools: Tools, selected: NetworkConfig | None, netns: str | None) -> Iterator[Finding]:
    """Yield the findings about the node, then about the selected network, or all of the node."""
    yield from node.examine(tools)
    if netns is not None:
        try:
            container = _find_container(netns)
        except click.BadParameter as error:
            yield Finding(PROBLEM, "namespace", error.message)
        else:
            tools = tools._replace(container=container)
            network = selected.name if selected else ""
            yield from collect("namespace", node.examine_container(tools, container, network))
    yield from collect("configuration", _examine_networks(tools, selected))


def _find_container(netns: str) -> namespace.Namespace:
    container = options.find_namespace(netns)
    if container.identity == namespace.own_identity():
        raise options.option_error(f"{netns} is the host's namespace, not a container's", "--netns")
    return container


def _examine_networks(tools: Tools, selected: NetworkConfig | None) -> Iterator[Finding]:
    all_networks, faults = configs.read_directory()
    for fault in faults:  # a selected network does not depend on these files
        yield Finding(PROBLEM if selected is None else WARNING, "configuration", str(fault))
    if selected is not None:
        # The selected network is, or may replace, one that has its name.
        others = (each for each in all_networks if each.name != selected.name)
        all_networks = [*others, selected]
    elif not (all_networks or faults):
        text = f"{configs.DIRECTORY} has no network of ipvlan; -c FILE names one"
        yield Finding(OK, "configuration", text)
    all_problems = list(validate.check_all(all_networks))
    for network in all_networks if selected is None else [selected]:
        problems = [problem for each, problem in all_problems if each is network]
        for finding in networks.examine(tools, network, problems):
            yield finding._replace(network=network.label)
