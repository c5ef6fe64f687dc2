"""What a network gives out or uses that others of its master, or the host, have already."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from itertools import islice

from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.reading import Path
from cni_ipvlan.cli.validate.ipam import MOST_COMPARED, IpamConfig, Pool
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf, Problem
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import features
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.status import likely_addresses

# The names and patterns of a network's master; none for that of the default route.
Entries = tuple[str, ...]
Begin = Callable[[], Transaction]
_Known = list[tuple[NetworkConfig, list[Pool]]]  # of a master, with what each network gives out


class Masters:
    """The networks seen so far, by their masters; each new one is compared with these.

    Whether a list or a pattern leads to the same master as another depends on the node. If
    ``begin`` is given, this machine's master is looked at, by a transaction it returns.
    """

    def __init__(self, begin: Begin | None) -> None:
        self._begin = begin
        self._known: dict[Entries, _Known] = {}
        self._compared = 0

    def conflicts(self, network: NetworkConfig, *, is_sound: bool) -> Iterator[Problem]:
        """Yield the conflicts of a network whose mode is valid; of addresses, if it is sound."""
        entries = _host_masters(network)
        if entries is None:
            return
        known = self._known.setdefault(entries, [])
        if known and _mode(known[0][0]) != _mode(network):
            name = f"master {' or '.join(entries)}" if entries else "default route's master"
            text = f"the {name} is used in mode {_mode(network)} here and in mode "
            text += f"{_mode(known[0][0])} by {_who(known[0][0])}; a master has one mode and flag"
            yield Problem(("mode",) if "mode" in network.config else (), text)
        ipam = IpamConfig(network.config if is_sound else {})
        if is_sound and self._begin:
            yield from _on_this_machine(network, ipam, self._begin)
        self._compared += len(ipam.pools)
        if ipam.pools and self._compared > MOST_COMPARED:
            text = f"more than {MOST_COMPARED} ranges were read; these are compared with no other"
            yield Problem(("ipam",), text, is_warning=True)
        else:
            yield from _overlaps(network, ipam, known)
        known.append((network, ipam.pools))


def _on_this_machine(network: NetworkConfig, ipam: IpamConfig, begin: Begin) -> Iterator[Problem]:
    """Yield what an ADD here would refuse; a machine without the master may not be the node."""
    conf, option = netconf.parse(network.config, network.version), ""
    addresses = likely_addresses(network.config.get("ipam"))
    try:
        master = find_master(begin(), conf, None)
        option = "vlan"
        master = _with_features(begin(), conf, master)
        for path, text, advice in with_host(ipam, master):
            yield Problem(path, f"{text}; {advice}")
        option = "hostAccess"
        for feature in features.configured(conf):
            feature.check_ready(begin(), master, conf, addresses)
    except InterruptedBySignalError:
        raise
    except CniError as error:
        if option:
            yield Problem((option,), f"on this machine, {error.msg}", is_warning=True)
    except IprouteError:
        return  # it has no ip, or no rights


def _overlaps(network: NetworkConfig, ipam: IpamConfig, known: _Known) -> Iterator[Problem]:
    """Yield what another network of the master gives out, too; not one with the same leases."""
    rivals = [each for each in known if _leases(each[0]) != _leases(network)]
    for own in ipam.pools:
        shared = ((other, each) for other, pools in rivals for each in filter(own.overlaps, pools))
        for other, theirs in islice(shared, 1):
            text = f"{own.span} overlaps with {theirs.span} of {_who(other)}, on the same master"
            yield Problem(own.path, f"{text}; an address in use there is refused here")


def expected_master(tx: Transaction, conf: NetConf, container: Namespace | None) -> Master:
    """Return what an ADD would have as master; raises CniError, IprouteError.

    Its link has the index 0 if the ADD would make it.
    """
    return _with_features(tx, conf, find_master(tx, conf, container))


def _with_features(tx: Transaction, conf: NetConf, master: Master) -> Master:
    for feature in features.configured(conf):
        master = feature.expected(tx, master, conf)
    return master


def with_host(ipam: IpamConfig, master: Master) -> Iterator[tuple[Path, str, str]]:
    """Yield the addresses of the host on a master that a network gives out, which ADD refuses.

    Each is the path of what says so, a sentence, and what to do. The configuration must be sound.
    """
    for own in map(ip_address, master.addresses):
        whose = f"{own}, which is the host's own on {master.link.name}"
        for each in ipam.pools:
            if ipam.is_static and own == each.first:
                text = f"the container would get {whose}, and take its packets"
                yield each.path, text, "give the container another address"
            elif not ipam.is_static and each.holds(own) and own != each.gateway:
                text = f"the range of {each.subnet} contains {whose}; a container may get it"
                advice = "set rangeStart and rangeEnd so that the host's address is not between"
                yield each.path, text, advice


def _host_masters(network: NetworkConfig) -> Entries | None:
    """Return the names and patterns of the master on the host; None if it isn't known."""
    entries = netconf.masters_of(network.config)
    is_known = entries or not (network.before or network.config.get("prevResult"))
    if not is_known or network.config.get("linkInContainer"):
        return None
    vid = network.config.get("vlan")
    return tuple(f"{each}.{vid}" for each in entries or ("default route",)) if vid else entries


def _who(network: NetworkConfig) -> str:
    return f"{network.label} in {network.source}"


def _mode(network: NetworkConfig) -> str:
    return f"{network.config.get('mode') or 'l2'} {network.config.get('flag') or 'bridge'}"


def _leases(network: NetworkConfig) -> str:
    is_static = netconf.ipam_type(network.config) == "static"
    return f"static {network.name}" if is_static else netconf.lease_directory(network.config)
