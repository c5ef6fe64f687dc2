"""Find every problem in network configurations, with its location."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.validate import ipam, options
from cni_ipvlan.cli.validate.conflicts import Masters
from cni_ipvlan.cli.validate.options import Problem
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.transaction import Transaction


def in_all(
    networks: Sequence[NetworkConfig], begin: Callable[[], Transaction] | None = None
) -> Iterator[tuple[NetworkConfig, Problem]]:
    """Yield the problems of each configuration, and the conflicts between them.

    With ``begin``, which begins a transaction, those with this machine's own addresses, too.
    """
    masters = Masters(begin)
    for network in networks:
        found = in_config(network)
        if not any(problem.path[-1:] in (("mode",), ("flag",)) for problem in found):
            is_sound = all(problem.is_warning for problem in found)
            found += _placed(network, masters.conflicts(network, is_sound=is_sound))
        for problem in found:
            yield network, problem


def in_config(network: NetworkConfig) -> list[Problem]:
    """Return the problems of one configuration."""
    config = network.config
    found = [Problem(*fault) for fault in netconf.faults(config)]
    broken = {problem.path[:1] for problem in found}
    found += options.in_options(config, is_chained=network.is_chained)
    if ("ipam",) not in broken:
        found += ipam.in_ipam(config)
    repeated = [
        Problem((*path, key), f"{key} is there more than once; only the last counts")
        for path, part in network.root.walk(network.root_path)
        for key in part.repeated  # plugins differ in which they take
    ]
    return [*repeated, *_placed(network, found)]


def _placed(network: NetworkConfig, found: Iterable[Problem]) -> Iterator[Problem]:
    """Give problems the path in the document."""
    return (each._replace(path=network.place(each.path)) for each in found)
