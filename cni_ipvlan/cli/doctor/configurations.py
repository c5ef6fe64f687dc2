"""Which networks to examine: the given one, or all that this node has; and their problems."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli import configs, validate
from cni_ipvlan.cli.output import PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.validate.problem import Problem

DIRECTORY = "/etc/cni/net.d"


class Node(NamedTuple):
    """The networks that this node is configured for, and what is wrong with other files there."""

    networks: list[NetworkConfig]
    unreadable: list[str]


def on_node(given: NetworkConfig | None) -> Node:
    """Return the networks of this node, without one that ``given`` replaces; raises OSError.

    That is one in the same file, or of the same name: ``given`` may be its next version.
    """
    found = Node([], [])
    for name in sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else ():
        file = os.path.join(DIRECTORY, name)
        if not name.endswith(configs.JSON_SUFFIXES):
            continue
        try:
            networks, faults = configs.read(file, configs.read_source(file))
        except configs.ConfigError as error:
            networks, faults = [], [error]
        found.networks.extend(
            each for each in networks if given is None or not _replaces(given, each)
        )
        found.unreadable.extend(map(str, faults))
    return found


def _replaces(given: NetworkConfig, network: NetworkConfig) -> bool:
    is_same_file = os.path.realpath(given.source) == os.path.realpath(network.source)
    return is_same_file or given.name == network.name


def unreadable(node: Node, given: NetworkConfig | None) -> list[Finding]:
    """Return the findings about files that can't be read; they don't concern a given network."""
    state = PROBLEM if given is None else WARNING
    return [Finding(state, "configuration", text) for text in node.unreadable]


def with_problems(
    others: Sequence[NetworkConfig], given: NetworkConfig | None
) -> list[tuple[NetworkConfig, list[Problem]]]:
    """Return the networks to examine, each with its problems and its conflicts with others."""
    networks = [*others, given] if given is not None else list(others)
    # By identity: two files may hold the same.
    found: dict[int, list[Problem]] = {id(network): [] for network in networks}
    for network, fault in validate.in_all(networks):
        found[id(network)].append(fault)
    return [(each, found[id(each)]) for each in (networks if given is None else [given])]
