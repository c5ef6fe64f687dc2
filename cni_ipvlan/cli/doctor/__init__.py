"""Check for everything that could keep an attachment from working, without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_ipvlan.cli.doctor import configurations, containers, networks, node, plugins
from cni_ipvlan.cli.doctor.tools import SearchPath, Tools
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, reported
from cni_ipvlan.iproute.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.plugin.node import Node

__all__ = ["OK", "PROBLEM", "WARNING", "Finding", "SearchPath", "examine"]


def examine(
    on: Node, path: SearchPath, network: NetworkConfig | None, netns: str | None, ifname: str
) -> Iterator[Finding]:
    """Yield each finding as soon as it is made: about the node, then about networks.

    These are the given ``network``, or else all that the node is configured for. ``netns`` and
    ``ifname`` say which interface of which container it is about. Raises
    InterruptedBySignalError.
    """
    tools = Tools(on.runner, Transaction(on.runner), on.registry, path, {}, ifname=ifname)
    for finding in _all(tools, network, netns):
        on.runner.interrupts.check()
        yield finding


def _all(tools: Tools, network: NetworkConfig | None, netns: str | None) -> Iterator[Finding]:
    yield from node.examine(tools.runner)
    yield from reported("plugins", plugins.examine(tools))
    if netns is not None:
        found = containers.find(netns)
        if isinstance(found, Finding):
            yield found
        else:
            tools = tools._replace(container=found)
            name = network.name if network else ""
            yield from reported("namespace", containers.examine(tools, found, name))
    yield from reported("configuration", _networks(tools, network))


def _networks(tools: Tools, given: NetworkConfig | None) -> Iterator[Finding]:
    here = configurations.on_node(given)
    yield from configurations.unreadable(here, given)
    for network, faults in configurations.with_problems(here.networks, given):
        for finding in networks.examine(tools, network, faults):
            yield finding._replace(network=network.label)
