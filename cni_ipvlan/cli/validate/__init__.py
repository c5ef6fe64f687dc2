"""Find every problem in network configurations, with its location."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_ipvlan.cli.validate import between, ipam, options
from cni_ipvlan.cli.validate.problem import Problem
from cni_ipvlan.config import netconf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.validate.of_host import Here


def in_all(
    networks: Sequence[NetworkConfig], here: Here | None = None
) -> Iterator[tuple[NetworkConfig, Problem]]:
    """Yield the problems of each configuration, and the conflicts between them.

    With ``here``, those with this machine's own addresses, too.
    """
    masters = between.Masters()
    for network in networks:
        found = in_config(network)
        if not any(problem.path[-1:] in (("mode",), ("flag",)) for problem in found):
            found += _placed(network, masters.other_mode(network))
        if all(problem.is_warning for problem in found):
            of_host = here.problems(network) if here else ()
            found += _placed(network, [*masters.shared_addresses(network), *of_host])
        for problem in found:
            yield network, problem


def in_config(network: NetworkConfig) -> list[Problem]:
    """Return the problems of one configuration."""
    config = network.config
    found = [Problem(*fault) for fault in netconf.faults(config)]
    broken = {problem.path[:1] for problem in found}
    found += options.in_options(config)
    if not network.is_chained:
        found += options.ipam_is_there(config)
    if ("ipam",) not in broken:
        found += ipam.in_ipam(config)
    return [*_repeated(network), *_placed(network, found)]


def _placed(network: NetworkConfig, found: Iterable[Problem]) -> Iterator[Problem]:
    """Give problems the path in the document."""
    return (each._replace(path=network.place(each.path)) for each in found)


def _repeated(network: NetworkConfig) -> Iterator[Problem]:
    """Yield the keys that are there more than once; plugins differ in which they take."""
    for path in sorted(network.root.repeated, key=len):
        if path[: len(network.root_path)] == network.root_path:
            for key in network.root.repeated[path]:
                text = f"{key} is there more than once; only the last counts"
                yield Problem((*path, key), text)
