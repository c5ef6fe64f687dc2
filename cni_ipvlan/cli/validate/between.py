"""Conflicts between networks on one master: another mode, and addresses that both give out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import static
from cni_ipvlan.cli.validate.problem import Problem
from cni_ipvlan.cli.validate.ranges import Range, sets
from cni_ipvlan.plugin.explain import lease_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.reading.part import Path


class _Gift(NamedTuple):
    """Addresses that a network gives out, and the path of what says so.

    Networks of the same ``pool`` don't give an address twice.
    """

    addresses: Range
    path: Path
    pool: str


class Masters:
    """The networks seen so far, by their masters; each new one is compared with these."""

    def __init__(self) -> None:
        self._first: dict[str, NetworkConfig] = {}
        self._gifts: dict[str, list[tuple[NetworkConfig, _Gift]]] = {}

    def other_mode(self, network: NetworkConfig) -> Iterator[Problem]:
        """Yield a conflict with the first network of the same master if its mode differs."""
        master = host_master(network)
        if master is None:
            return
        other = self._first.setdefault(master, network)
        if _mode(other.config) != _mode(network.config):
            name = f"the master {master}" if master else "the master, that of the default route,"
            yield Problem(
                ("mode",) if "mode" in network.config else (),
                f"{name} is used in mode {_mode(network.config)} here and in mode "
                f"{_mode(other.config)} by {_who(other)}; a master has one mode and flag",
            )

    def shared_addresses(self, network: NetworkConfig) -> Iterator[Problem]:
        """Yield the addresses that another network of the same master gives out, too.

        The network must be free of errors.
        """
        master = host_master(network)
        if master is None:
            return
        known = self._gifts.setdefault(master, [])
        gifts = list(_gifts(network))
        for own in gifts:
            rival = next((each for each in known if _collide(own, each[1])), None)
            if rival is not None:
                other, theirs = rival
                yield Problem(
                    own.path,
                    f"{own.addresses.span} overlaps with {theirs.addresses.span} of {_who(other)}, "
                    "on the same master; an address in use there is refused here",
                )
        known += [(network, gift) for gift in gifts]


def _collide(one: _Gift, other: _Gift) -> bool:
    return one.pool != other.pool and one.addresses.overlaps(other.addresses)


def host_master(network: NetworkConfig) -> str | None:
    """Return the master's name, empty for that of the default route; None if it isn't known."""
    master = network.config.get("master") or ""
    is_known = master or not (network.is_chained or network.config.get("prevResult"))
    in_container = network.config.get("linkInContainer")
    return master if isinstance(master, str) and is_known and not in_container else None


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
