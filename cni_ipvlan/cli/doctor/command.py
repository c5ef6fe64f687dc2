"""The command doctor."""

import os
from collections.abc import Iterator

import click

from cni_ipvlan.cli import calls, configs, options, output, validate
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.doctor import networks, node, plugins
from cni_ipvlan.cli.doctor.node import Tools
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, reported
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
    given = options.chosen(config, network) if config else None
    runner, registry, *_ = calls.read_only_node()
    path, set_by = calls.cni_path(cni_path)
    tools = Tools(runner, Transaction(runner), registry, path.split(":"), set_by, {}, ifname or "")
    findings = []
    for finding in examine(tools, given, netns):
        runner.interrupts.check()
        findings.append(finding)
        if not as_json:
            output.finding(finding)
    if as_json:
        output.echo_json({"findings": [finding._asdict() for finding in findings]})
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def examine(tools: Tools, given: NetworkConfig | None, netns: str | None) -> Iterator[Finding]:
    """Yield findings as they are made: of the node, then of the ``given`` network or all of it."""
    yield from node.examine(tools.runner)
    yield from reported("plugins", plugins.examine(tools))
    if netns is not None:
        try:
            container = _container(netns)
        except click.BadParameter as error:
            yield Finding(PROBLEM, "namespace", error.message)
        else:
            tools = tools._replace(container=container)
            network = given.name if given else ""
            yield from reported("namespace", node.examine_container(tools, container, network))
    yield from reported("configuration", _networks(tools, given))


def _container(netns: str) -> namespace.Namespace:
    found = options.namespace_at(netns)
    if found.identity == namespace.own_identity():
        raise options.wrong(f"{netns} is the host's namespace, not a container's", "--netns")
    return found


def _networks(tools: Tools, given: NetworkConfig | None) -> Iterator[Finding]:
    here, faults = configs.on_node()
    for fault in faults:  # of files that don't concern a given network
        yield Finding(PROBLEM if given is None else WARNING, "configuration", str(fault))
    if given is not None:
        file = os.path.realpath(given.source)
        others = (each for each in here if os.path.realpath(each.source) != file)
        # It may be the next version of one with its name.
        here = [*(each for each in others if each.name != given.name), given]
    elif not (here or faults):
        text = f"{configs.DIRECTORY} has no network of ipvlan; -c FILE names one"
        yield Finding(OK, "configuration", text)
    found = list(validate.in_all(here))
    for network in here if given is None else [given]:
        problems = [problem for each, problem in found if each is network]
        for finding in networks.examine(tools, network, problems):
            yield finding._replace(network=network.label)
