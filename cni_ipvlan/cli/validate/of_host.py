"""Addresses that a network gives out although this machine has them on the master."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import ranges, static
from cni_ipvlan.cli.validate.between import host_masters
from cni_ipvlan.cli.validate.problem import Problem
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.versions import VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.plugin import vlan
from cni_ipvlan.plugin.find_master import find_master

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.reading import Path
    from cni_ipvlan.cli.validate.between import Entries
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.master import Master


class Clash(NamedTuple):
    """An address of the host that a network gives out: the path of what says so, what to do."""

    path: Path
    text: str
    advice: str


class Here:
    """The masters of this machine, each looked at once, by a transaction that ``begin`` returns."""

    def __init__(self, begin: Callable[[], Transaction]) -> None:
        self._begin = begin
        self._found: dict[Entries, Master | None] = {}

    def problems(self, network: NetworkConfig) -> Iterator[Problem]:
        """Yield the addresses of the host that a network without errors gives out.

        A machine that does not have the master, or no ip, has none: a configuration may be
        for another one.
        """
        entries = host_masters(network)
        if entries is None:
            return
        if entries not in self._found:
            self._found[entries] = self._look(network.config)
        master = self._found[entries]
        for path, text, advice in clashes(network.config, master) if master else ():
            yield Problem(path, f"{text}; {advice}")

    def _look(self, config: dict[str, Any]) -> Master | None:
        version = str(config.get("cniVersion") or VERSION_WHEN_ABSENT)
        try:
            conf, tx = netconf.parse(config, version), self._begin()
            found = find_master(tx, conf, None)
            return vlan.find(tx, found, conf.vlan) if conf.vlan else found
        except InterruptedBySignalError:
            raise
        except (CniError, IprouteError):
            return None


def clashes(config: dict[str, Any], master: Master) -> Iterator[Clash]:
    """Yield the addresses of the host on a master that a network gives out, which ADD refuses.

    The configuration must be sound. A gateway is never given out. Of other IPAM plugins than
    static and host-local, it does not say the addresses.
    """
    ipam = config.get("ipam") or {}
    for own in map(ip_address, master.addresses):
        whose = f"{own}, which is the host's own on {master.link.name}"
        if ipam.get("type") == "static":
            for index, given in enumerate(static.own_addresses(ipam.get("addresses") or [])):
                if given.ip == own:
                    text = f"the container would get {whose}, and take its packets"
                    path: Path = ("ipam", "addresses", index)
                    yield Clash(path, text, "give the container another address")
        elif ipam.get("type") == "host-local":
            for entry in (each for group in ranges.sets(ipam) for each in group):
                each = entry.range
                if each is not None and each.holds(own) and own != each.gateway:
                    text = f"the range of {each.subnet} contains {whose}; a container may get it"
                    advice = "set rangeStart and rangeEnd so that the host's address is not between"
                    yield Clash(entry.path, text, advice)
