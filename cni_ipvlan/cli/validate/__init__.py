"""Find every problem in network configurations, with its location.

Some are between two of them, or with this machine: what a network gives out or uses that others
of its master, or the host, have already.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import Any

from cni_ipvlan import log_file
from cni_ipvlan.cli import reading
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.validate.ipam import MOST_COMPARED, IpamConfig, Pool, in_form, in_ipam
from cni_ipvlan.cni import LATEST_VERSION, VERSION_WHEN_ABSENT
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Problem
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import LEAST_MTU, Master
from cni_ipvlan.plugin.status import expected_master, likely_addresses, option_checks

# The names and patterns of a network's master; none for that of the default route.
Entries = tuple[str, ...]
Begin = Callable[[], Transaction]
_Known = list[tuple[NetworkConfig, list[Pool]]]  # each network with what it gives out
_Seen = defaultdict[Entries, _Known]  # by master


def in_all(
    networks: Sequence[NetworkConfig], begin: Begin | None = None
) -> Iterator[tuple[NetworkConfig, Problem]]:
    """Yield the problems of each configuration, and the conflicts between them.

    With ``begin``, which begins a transaction, those with this machine's own addresses, too.
    """
    seen: _Seen = defaultdict(list)
    for network in networks:
        found = in_config(network)
        if not any(problem.path[-1:] in (("mode",), ("flag",)) for problem in found):
            # What is unknown is ignored, and hides nothing.
            unknown = [network.place((key,)) for key, _ in netconf.suspicious_keys(network.config)]
            is_sound = all(problem.is_warning or problem.path in unknown for problem in found)
            found += _placed(network, _conflicts(network, seen, begin, is_sound=is_sound))
        for problem in found:
            yield network, problem


def in_config(network: NetworkConfig) -> list[Problem]:
    """Return the problems of one configuration."""
    config = network.config
    found = netconf.faults(config)
    known = {problem.path for problem in found}
    found += (problem for problem in in_form(config) if problem.path not in known)
    found += _in_options(config, is_chained=bool(network.before))
    if ("ipam",) not in {path[:1] for path in known}:
        found += in_ipam(config)
    repeated = [
        Problem((*path, key), reading.DUPLICATE)
        for path in sorted(network.root.repeated, key=len)
        # It is in the network, or the network in it.
        if all(own == other for own, other in zip(network.path, path, strict=False))
        for key in network.root.repeated[path]  # plugins differ in which they take
    ]
    return [*repeated, *_placed(network, found)]


def _placed(network: NetworkConfig, found: Iterable[Problem]) -> Iterator[Problem]:
    """Give problems the path in the document."""
    return (each._replace(path=network.place(each.path)) for each in found)


def _in_options(config: dict[str, Any], *, is_chained: bool) -> Iterator[Problem]:
    """Yield what the schema of the options can't express, except for ipam."""
    if config.get("cniVersion") in (None, ""):
        text = f"cniVersion is not given; that means {VERSION_WHEN_ABSENT}, which has no CHECK"
        yield Problem(("cniVersion",), text, is_warning=True)
    if not (is_chained or netconf.ipam_type(config) or config.get("prevResult")):
        yield Problem(("ipam",), "ipam must be given, with a type, unless the plugin is chained")
    mtu = netconf.mtu_of(config)
    if 0 < mtu < LEAST_MTU:
        yield Problem(("mtu",), f"mtu is {mtu}; it must be {LEAST_MTU} or more, or 0")
    for option in ("logFile", "captureDir"):
        if (name := config.get(option)) and isinstance(name, str):
            yield from _log_file(option, name)
    if netconf.value_at(config, "capabilities", "mac"):
        text = "capabilities.mac lets pods ask for a MAC address, which ADD refuses"
        yield Problem(("capabilities", "mac"), f"{text}: {netconf.MAC_RULE}")
    if isinstance(config.get("prevResult"), dict):
        try:
            parse_result(config["prevResult"], str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)


def _log_file(option: str, name: str) -> Iterator[Problem]:
    if fault := log_file.fault(name):
        yield Problem((option,), f"{option} is {name!r}; {fault}")
    elif option == "captureDir" and not os.path.isdir(os.path.join(log_file.DIRECTORY, name)):
        text = f"{option} is {name!r}; in {log_file.DIRECTORY}, that directory must exist"
        yield Problem((option,), text, is_warning=True)


def _conflicts(
    network: NetworkConfig, seen: _Seen, begin: Begin | None, *, is_sound: bool
) -> Iterator[Problem]:
    """Yield the conflicts of a network whose mode is valid; of addresses, if it is sound.

    It is compared with the networks ``seen`` so far on its master. Whether a list or a pattern
    leads to the same master as another depends on the node.
    """
    entries = _host_masters(network)
    if entries is None:
        return
    known = seen[entries]
    if known and _mode(known[0][0]) != _mode(network):
        name = f"master {' or '.join(entries)}" if entries else "default route's master"
        text = f"the {name} is used in mode {_mode(network)} here and in mode "
        text += f"{_mode(known[0][0])} by {_who(known[0][0])}; a master has one mode and flag"
        yield Problem(("mode",) if "mode" in network.config else (), text)
    ipam = IpamConfig(network.config if is_sound else {})
    if is_sound and begin:
        try:
            yield from _on_this_machine(network, ipam, begin())
        except InterruptedBySignalError:
            raise
        except IprouteError:
            pass  # it has no ip, or no rights
    known.append((network, ipam.pools))
    if sum(len(pools) for group in seen.values() for _, pools in group) <= MOST_COMPARED:
        yield from _overlaps(network, ipam, known[:-1])
    elif ipam.pools:
        text = f"more than {MOST_COMPARED} ranges were read; these are compared with no other"
        yield Problem(("ipam",), text, is_warning=True)


def _on_this_machine(
    network: NetworkConfig, ipam: IpamConfig, tx: Transaction
) -> Iterator[Problem]:
    """Yield what an ADD here would refuse; a machine without the master may not be the node."""
    conf = netconf.parse(network.config, network.version)
    try:
        master = find_master(tx, conf, None)
    except CniError:
        return
    try:
        master = expected_master(tx, conf, master)
    except CniError as error:
        yield _here(("vlan",), error)
        return
    for path, text, advice in with_host(ipam, master):
        yield Problem(path, f"{text}; {advice}")
    for path, check in option_checks(
        tx, conf, master, likely_addresses(network.config.get("ipam"))
    ):
        try:
            check()
        except CniError as error:
            yield _here(path, error)


def _here(path: reading.Path, error: CniError) -> Problem:
    return Problem(path, f"on this machine, {error.msg}", is_warning=path[0] != "ipam")


def _overlaps(network: NetworkConfig, ipam: IpamConfig, known: _Known) -> Iterator[Problem]:
    """Yield what another network of the master gives out, too; not one with the same leases."""
    rivals = [each for each in known if _leases(each[0]) != _leases(network)]
    for own in ipam.pools:
        shared = ((other, each) for other, pools in rivals for each in filter(own.overlaps, pools))
        for other, theirs in islice(shared, 1):
            text = f"{own.span} overlaps with {theirs.span} of {_who(other)}, on the same master"
            yield Problem(own.path, f"{text}; an address in use there is refused here")


def with_host(ipam: IpamConfig, master: Master) -> Iterator[tuple[reading.Path, str, str]]:
    """Yield the ranges of a sound configuration with an address that the host has on a master.

    Each is the path of what says so, a sentence, and what to do.
    """
    for own in map(ip_address, master.addresses):
        for each in () if ipam.is_static else ipam.pools:
            if each.holds(own) and own != each.gateway:
                text = f"the range of {each.subnet} contains {own}, which is the host's own on "
                text += f"{master.link.name}; a container may get it"
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
    return " ".join(netconf.mode_of(network.config))


def _leases(network: NetworkConfig) -> str:
    is_static = netconf.ipam_type(network.config) == "static"
    return f"static {network.name}" if is_static else netconf.lease_directory(network.config)
