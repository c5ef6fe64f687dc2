"""Find every problem in network configurations, with its location.

Some are conflicts with another configuration or with this machine: an address or a mode that
another network of the master, or the host, has already.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any

from cni_ipvlan import log_file
from cni_ipvlan.cli import reading
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.reading import ConfigError
from cni_ipvlan.cli.validate.ipam import MOST_COMPARED, IpamConfig, check_form, check_ipam
from cni_ipvlan.cni import LATEST_VERSION, VERSION_WHEN_ABSENT
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.result import parse as parse_result
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import Path, Problem
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.host_local import Range
from cni_ipvlan.plugin.master import LEAST_MTU, Master
from cni_ipvlan.plugin.status import expected_master, likely_addresses, option_checks

# The names and patterns of a network's master; none for the interface of the default route.
MasterNames = tuple[str, ...]
_Group = list[tuple[NetworkConfig, list[Range]]]  # networks of one master, with their addresses
_Groups = defaultdict[MasterNames, _Group]
_MOST_GIVEN = 2**24  # addresses of a range, in order, which no node gives out


def check_all(
    networks: Sequence[NetworkConfig], tx: Transaction | None = None
) -> Iterator[tuple[NetworkConfig, ConfigError]]:
    """Yield the problems of each configuration, and the conflicts between them.

    With a transaction, for queries, conflicts with this machine are found, too.
    """
    groups: _Groups = defaultdict(list)
    for network in networks:
        problems = check_config(network)
        if not any(problem.path[-1:] in (("mode",), ("flag",)) for problem in problems):
            # An unknown key is ignored, so it does not change the addresses.
            keys = netconf.find_suspicious_keys(network.config)
            paths = [network.path_in_document((key,)) for key, _ in keys]
            is_sound = all(problem.is_warning or problem.path in paths for problem in problems)
            problems += _locate(network, _find_conflicts(network, groups, tx, is_sound=is_sound))
        yield from ((network, problem) for problem in problems)


def check_config(network: NetworkConfig) -> list[ConfigError]:
    """Return the problems of one configuration."""
    config = network.config
    problems = netconf.find_problems(config)
    paths = {problem.path for problem in problems}
    problems += (problem for problem in check_form(config) if problem.path not in paths)
    problems += _check_options(config, is_chained=bool(network.before))
    if ("ipam",) not in {path[:1] for path in paths}:
        problems += check_ipam(config)
    errors = [
        _error(network, (*path, key), reading.DUPLICATE)
        for path in sorted(network.root.duplicates, key=len)
        # The object is in the network, or around it.
        if all(step == other for step, other in zip(network.path, path, strict=False))
        for key in network.root.duplicates[path]
    ]
    errors += _locate(network, problems)
    suffix, is_listed = os.path.splitext(network.source)[1], network.path[:1] == ("plugins",)
    if suffix == (".conf" if is_listed else ".conflist"):
        text = "runtimes take a list, and nothing else, from a file called *.conflist"
        errors.append(_error(network, (), text, is_warning=True))
    if "ipvlan" in network.before:
        text = "a list may have ipvlan once: a runtime gives both interfaces one name"
        errors.append(_error(network, (*network.path, "type"), text))
    return errors


def _error(
    network: NetworkConfig, path: Path, text: str, *, is_warning: bool = False
) -> ConfigError:
    """Return what is wrong at a path in the document that has the network."""
    root = network.root
    return ConfigError(text, network.source, root.find_line(path), root.number, path, is_warning)


def _locate(network: NetworkConfig, problems: Iterable[Problem]) -> Iterator[ConfigError]:
    for each in problems:
        path = network.path_in_document(each.path)
        yield _error(network, path, each.text, is_warning=each.is_warning)


def _check_options(config: dict[str, Any], *, is_chained: bool) -> Iterator[Problem]:
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
            yield from _check_log_option(option, name)
    if netconf.value_at(config, "capabilities", "mac"):
        text = "capabilities.mac lets pods ask for a MAC address, which ADD refuses"
        yield Problem(("capabilities", "mac"), f"{text}: {netconf.MAC_RULE}")
    if isinstance(config.get("prevResult"), dict):
        try:
            parse_result(config["prevResult"], str(config.get("cniVersion") or LATEST_VERSION))
        except CniError as error:
            yield Problem(("prevResult",), error.msg)


def _check_log_option(option: str, name: str) -> Iterator[Problem]:
    if fault := log_file.fault(name):
        yield Problem((option,), f"{option} is {name!r}; {fault}")
    elif option == "captureDir" and not os.path.isdir(os.path.join(log_file.DIRECTORY, name)):
        text = f"{option} is {name!r}; in {log_file.DIRECTORY}, that directory must exist"
        yield Problem((option,), text, is_warning=True)


def _find_conflicts(
    network: NetworkConfig, groups: _Groups, tx: Transaction | None, *, is_sound: bool
) -> Iterator[Problem]:
    """Yield the conflicts of a network whose mode is valid; of addresses, if it is sound.

    It is compared with the networks before it that have the same master names, and joins that
    group. Whether other names lead to the same master depends on the node.
    """
    names = _host_master_names(network)
    if names is None:
        return
    group = groups[names]
    first = group[0][0] if group else network
    if _mode(first) != _mode(network):
        name = f"master {' or '.join(names)}" if names else "default route's master"
        text = f"the {name} is used in mode {_mode(network)} here and in mode {_mode(first)} by "
        text += f"{_describe(first)}; a master has one mode and flag"
        yield Problem(("mode",) if "mode" in network.config else (), text)
    ipam = IpamConfig(network.config if is_sound else {})
    if is_sound and tx:
        try:
            yield from _check_machine(network, ipam, tx)
        except InterruptedBySignalError:
            raise
        except IprouteError:
            pass  # ip is missing, or may not be used
    group.append((network, ipam.pools))
    if sum(len(pools) for each in groups.values() for _, pools in each) <= MOST_COMPARED:
        yield from _find_overlaps(network, ipam, group[:-1])
    elif ipam.pools:
        text = f"more than {MOST_COMPARED} ranges were read; these are compared with no other"
        yield Problem(("ipam",), text, is_warning=True)


def _check_machine(network: NetworkConfig, ipam: IpamConfig, tx: Transaction) -> Iterator[Problem]:
    """Yield the problems that ADD would find here; without the master, this may not be the node."""
    conf = netconf.parse(network.config, network.version)
    try:
        master = find_master(tx, conf, None)
    except CniError:
        return
    try:
        master = expected_master(tx, conf, master)
    except CniError as error:
        yield _machine_problem(("vlan",), error)
        return
    for path, text, advice in find_host_addresses(ipam, master):
        yield Problem(path, f"{text}; {advice}")
    for path, check in option_checks(tx, conf, master, likely_addresses(network.config)):
        try:
            check()
        except CniError as error:
            yield _machine_problem(path, error)


def _machine_problem(path: Path, error: CniError) -> Problem:
    return Problem(path, f"on this machine, {error.msg}", is_warning=path[0] != "ipam")


def _find_overlaps(network: NetworkConfig, ipam: IpamConfig, others: _Group) -> Iterator[Problem]:
    """Yield the overlaps with another network of the master, unless both share their leases."""
    rivals = [each for each in others if each[0].store != network.store]
    for own in ipam.pools:
        overlaps = (
            (rival, each) for rival, pools in rivals for each in filter(own.overlaps, pools)
        )
        if overlap := next(overlaps, None):
            rival, pool = overlap
            text = f"{own} overlaps with {pool} of {_describe(rival)}, on the same master"
            yield Problem(own.path, f"{text}; an address in use there is refused here")


def find_host_addresses(ipam: IpamConfig, master: Master) -> Iterator[tuple[Path, str, str]]:
    """Yield the ranges of a sound configuration with an address that the host has on a master.

    Each is the path of the range, a sentence, and advice.
    """
    for address in map(ip_address, master.addresses):
        for pool in () if ipam.is_static else ipam.pools:
            # host-local does not get as far as to one that a router's advertisement made.
            is_near = int(address) - int(pool.first) < _MOST_GIVEN
            if pool.contains(address) and address != pool.gateway and is_near:
                text = f"the range of {pool.subnet} contains {address}, which is the host's own on "
                text += f"{master.link.name}; a container may get it"
                advice = "set rangeStart and rangeEnd so that the host's address is not between"
                yield pool.path, text, advice


def _host_master_names(network: NetworkConfig) -> MasterNames | None:
    """Return the names and patterns of the master on the host; None if the master is unknown."""
    names = netconf.masters_of(network.config)
    is_known = names or not (network.before or network.config.get("prevResult"))
    if not is_known or network.config.get("linkInContainer"):
        return None
    vid = network.config.get("vlan")
    return tuple(f"{name}.{vid}" for name in names or ("default route",)) if vid else names


def _describe(network: NetworkConfig) -> str:
    return f"{network.label} in {network.source}"


def _mode(network: NetworkConfig) -> str:
    return " ".join(netconf.mode_of(network.config))
