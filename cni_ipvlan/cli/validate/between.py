"""Conflicts between networks on one master: another mode, and addresses that both give out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import static
from cni_ipvlan.cli.validate.problem import Problem
from cni_ipvlan.cli.validate.ranges import Range, sets
from cni_ipvlan.plugin.explain import lease_directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.reading.part import Path


class _Gift(NamedTuple):
    """Addresses that a network gives out, and the path of what says so.

    Networks of the same ``pool`` don't give an address twice.
    """

    addresses: Range
    path: Path
    pool: str


def other_mode(network: NetworkConfig, others: Sequence[NetworkConfig]) -> Iterator[Problem]:
    """Yield a conflict with the first of the others that has the same master in another mode."""
    other = next(iter(_on_its_master(network, others)), None)
    if other is not None and _mode(other.config) != _mode(network.config):
        yield Problem(
            ("mode",) if "mode" in network.config else (),
            f"{_master_name(network)} is used in mode {_mode(network.config)} here and in mode "
            f"{_mode(other.config)} by {_who(other)}; a master has one mode and flag",
        )


def shared_addresses(network: NetworkConfig, others: Sequence[NetworkConfig]) -> Iterator[Problem]:
    """Yield the addresses that others on the same master give out, too.

    All these networks must be free of errors.
    """
    rivals = [(each, gift) for each in _on_its_master(network, others) for gift in _gifts(each)]
    for own in _gifts(network):
        for other, theirs in rivals:
            if own.pool != theirs.pool and own.addresses.overlaps(theirs.addresses):
                yield Problem(
                    own.path,
                    f"{own.addresses.span} overlaps with {theirs.addresses.span} of "
                    f"{_who(other)}, on the same master; an address in use there is refused here",
                )
                break


def _on_its_master(
    network: NetworkConfig, others: Sequence[NetworkConfig]
) -> Iterator[NetworkConfig]:
    master = _host_master(network)
    return (each for each in others if master is not None and _host_master(each) == master)


def _host_master(network: NetworkConfig) -> str | None:
    """Return the master's name, empty for that of the default route; None if it isn't known."""
    master = network.config.get("master") or ""
    is_known = master or not (network.is_chained or network.config.get("prevResult"))
    in_container = network.config.get("linkInContainer")
    return master if isinstance(master, str) and is_known and not in_container else None


def _master_name(network: NetworkConfig) -> str:
    master = _host_master(network)
    return f"the master {master}" if master else "the master, that of the default route,"


def _who(network: NetworkConfig) -> str:
    return f"{network.label} in {network.source}"


def _mode(config: dict[str, Any]) -> str:
    return f"{config.get('mode') or 'l2'} {config.get('flag') or 'bridge'}"


def _gifts(network: NetworkConfig) -> Iterator[_Gift]:
    config = network.config
    ipam = config.get("ipam") or {}
    if ipam.get("type") == "host-local":
        pool = lease_directory(config)
        for entry in (each for group in sets(ipam) for each in group):
            if entry.range is not None:
                yield _Gift(entry.range, entry.path, pool)
    elif ipam.get("type") == "static":
        for index, own in enumerate(static.own_addresses(ipam.get("addresses") or [])):
            alone = Range(str(own.network), own.ip, own.ip, own.ip)
            yield _Gift(alone, ("ipam", "addresses", index), f"static {network.name}")
