"""Conflicts between networks on one master: another mode, and addresses that both give out."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import static
from cni_ipvlan.cli.validate.problem import Problem
from cni_ipvlan.cli.validate.ranges import Range, sets
from cni_ipvlan.config.netconf import is_pattern, masters_of
from cni_ipvlan.plugin.explain import lease_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.reading import Path


class _Gift(NamedTuple):
    """Addresses that a network gives out, and the path of what says so.

    Networks of the same ``pool`` don't give an address twice.
    """

    addresses: Range
    path: Path
    pool: str


_MOST_COMPARED = 1000

# The names and patterns of a network's master; none for that of the default route.
Entries = tuple[str, ...]


class Masters:
    """The networks seen so far, by their masters; each new one is compared with these.

    Whether a list or a pattern leads to the same master as another depends on the node.
    """

    def __init__(self) -> None:
        self._compared = 0
        self._first: dict[Entries, NetworkConfig] = {}
        self._gifts: dict[Entries, list[tuple[NetworkConfig, _Gift]]] = {}

    def other_mode(self, network: NetworkConfig) -> Iterator[Problem]:
        """Yield a conflict with the first network of the same master if its mode differs."""
        entries = host_masters(network)
        if entries is None:
            return
        self._first.setdefault(entries, network)
        for known in _with_likely(entries, self._first):
            other = self._first[known]
            if _mode(other.config) != _mode(network.config):
                name = f"the master {' or '.join(entries)}"
                name = name if entries else "the master, that of the default route,"
                used = "is" if known == entries else "may be"
                yield Problem(
                    ("mode",) if "mode" in network.config else (),
                    f"{name} {used} used in mode {_mode(network.config)} here and in mode "
                    f"{_mode(other.config)} by {_who(other)}; a master has one mode and flag",
                    is_warning=known != entries,
                )
                return

    def shared_addresses(self, network: NetworkConfig) -> Iterator[Problem]:
        """Yield the addresses that another network of the same master gives out, too.

        The network must be free of errors.
        """
        entries = host_masters(network)
        if entries is None:
            return
        self._gifts.setdefault(entries, [])
        gifts = list(_gifts(network))
        self._compared += len(gifts)
        if self._compared > _MOST_COMPARED:  # each is compared with every other
            text = f"more than {_MOST_COMPARED} ranges were read; these are compared with no other"
            yield Problem(("ipam",), text, is_warning=True)
            return
        for own in gifts:
            rivals = (
                (known, other, theirs)
                for known in _with_likely(entries, self._gifts)
                for other, theirs in self._gifts[known]
                if _collide(own, theirs)
            )
            for known, other, theirs in islice(rivals, 1):
                master = "the same master" if known == entries else "perhaps the same master"
                yield Problem(
                    own.path,
                    f"{own.addresses.span} overlaps with {theirs.addresses.span} of {_who(other)}, "
                    f"on {master}; an address in use there is refused here",
                    is_warning=known != entries,
                )
        self._gifts[entries] += [(network, gift) for gift in gifts]


def host_masters(network: NetworkConfig) -> Entries | None:
    """Return the names and patterns of the master on the host; None if it isn't known."""
    entries = masters_of(network.config)
    is_known = entries or not (network.is_chained or network.config.get("prevResult"))
    if not is_known or network.config.get("linkInContainer"):
        return None
    vlan = network.config.get("vlan")
    return tuple(f"{each}.{vlan}" for each in entries or ("default route",)) if vlan else entries


def _with_likely(entries: Entries, known: Iterable[Entries]) -> list[Entries]:
    """Return the same entries, and then those among ``known`` that have one in common."""
    likely = [each for each in known if each != entries and _may_share(each, entries)]
    return [entries, *likely]


def _may_share(one: Entries, other: Entries) -> bool:
    """Whether an interface may fit both. Of two patterns, one must fit the other's text."""
    return any(
        a == b or (is_pattern(b) and fnmatchcase(a, b)) or (is_pattern(a) and fnmatchcase(b, a))
        for a in one
        for b in other
    )


def _collide(one: _Gift, other: _Gift) -> bool:
    return one.pool != other.pool and one.addresses.overlaps(other.addresses)


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
