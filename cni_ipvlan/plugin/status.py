"""STATUS: whether an ADD could succeed now."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial

from cni_ipvlan.cni import delegate
from cni_ipvlan.cni.errors import LIMITED_CONNECTIVITY, NOT_AVAILABLE, CniError
from cni_ipvlan.cni.request import Request, is_known
from cni_ipvlan.cni.result import Address, Result
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf, Path
from cni_ipvlan.iproute import commands
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import CommandError, Runner
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import features, host_local, ipam, modes
from cni_ipvlan.plugin.addressing import check_not_host_address, host_networks, make_addressing
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import Master, check_master, describe_down
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.start.namedtuple import Any
from cni_ipvlan.state.registry import DIRECTORY


def status(node: Node, request: Request) -> None:
    """Raise CniError 50 if an ADD could not succeed now.

    It is 51 if the master is down, so that running containers have no network either, or if
    the IPAM plugin reports that.
    """
    conf = node.configuration(request)
    try:
        with node.call(request) as call:
            check_kernel(node.runner)
            check_programs(node.runner, conf, likely_addresses(request.config))
            check_records()
            _check_master(call, conf)
            if conf.ipam_type:
                _check_ipam(request.config, conf.ipam_type, request.path)
                # A person may have a configuration of a version that does not have the verb.
                if is_known("STATUS", request.version):
                    ipam.start(call, conf.ipam_type, "STATUS")()
    except CniError as error:
        if error.code != LIMITED_CONNECTIVITY:
            error.code = NOT_AVAILABLE
        raise


def check_kernel(runner: Runner) -> None:
    """Raise CommandError unless the kernel has ipvlan, or can load it."""
    probe = Command(commands.link_add_without_master())
    answer = runner.run(probe)
    if b"Invalid argument" not in answer.stderr:
        raise CommandError(probe._replace(purpose="create ipvlan interfaces with ip"), answer)


def check_programs(runner: Runner, conf: NetConf, addresses: Sequence[Address]) -> None:
    """Raise ProgramNotFoundError unless the programs that options need are there.

    ``addresses`` are some that a container may get, none if that is not known.
    """
    may_have_ipv4 = not addresses or any(not each.is_ipv6 for each in addresses)
    if conf.check_ipv4_conflict and may_have_ipv4:
        runner.find("arping")


def _check_ipam(config: Mapping[str, Any], name: str, path: tuple[str, ...]) -> None:
    delegate.find(name, path)
    if name == "host-local":
        check_writable(netconf.lease_directory(config))
        host_local.check_capacity(config)
    elif name == "dhcp":
        from cni_ipvlan.plugin import dhcp

        dhcp.check_daemon(config)


def _check_master(call: Call, conf: NetConf) -> None:
    tx, config = call.tx, call.request.config
    if conf.link_in_container or not (conf.master or conf.masters or conf.ipam_type):
        return  # the container has the master, or prevResult names it: neither is known here
    master = find_master(tx, conf, None)
    if conf.vlan:
        _check_is_up(master)
    master = expected_master(tx, conf, master)
    check_master(master, conf)
    _check_is_up(master)
    modes.check_mode(tx, call.registry, master, conf)
    for _, check in option_checks(tx, conf, master, likely_addresses(config)):
        check()


def expected_master(tx: Transaction, conf: NetConf, master: Master) -> Master:
    """Return the master that an ADD would have; its link has the index 0 if the ADD makes it."""
    for feature in features.load_features(conf).values():
        master = feature.expected_master(tx, master, conf)
    return master


def option_checks(
    tx: Transaction, conf: NetConf, master: Master, addresses: Sequence[Address]
) -> Iterator[tuple[Path, Callable[[], object]]]:
    """Yield functions that raise CniError if an ADD would refuse an option on this master.

    Each comes with the option's path. ``addresses`` are those that a container may get.
    """
    if addresses:
        yield ("ipam",), partial(make_addressing, conf, master, Result(addresses=tuple(addresses)))
    if conf.ipam_type in ipam.STATIC_PLUGINS:  # other plugins have more to choose from
        networks = host_networks(tx, master, addresses)  # once: there may be thousands
        for number, each in enumerate(addresses):
            yield ("ipam", "addresses", number), partial(check_not_host_address, each, networks)
    for option, feature in features.load_features(conf).items():
        yield (option,), partial(feature.check_ready, tx, master, conf, addresses)


def _check_is_up(master: Master) -> None:
    if not master.link.is_up:
        raise CniError(LIMITED_CONNECTIVITY, describe_down(master))


def likely_addresses(config: Mapping[str, Any]) -> list[Address]:
    """Return addresses that a container may get, as far as the configuration says that."""
    plugin, addresses = netconf.ipam_type(config), netconf.value_at(config, "ipam", "addresses")
    if plugin == "host-local":
        addresses = [str(each) for each in host_local.lowest_addresses(config["ipam"])]
    elif plugin == "static" and isinstance(addresses, list):
        addresses = [each.get("address") for each in addresses if isinstance(each, dict)]
    else:
        return []
    return [Address(each) for each in addresses if isinstance(each, str)]


def check_records() -> None:
    """Raise CniError unless an ADD can write its records, without writing any."""
    with suppress(FileNotFoundError):
        status = os.lstat(DIRECTORY)
        if not stat.S_ISDIR(status.st_mode) or (status.st_uid and not os.geteuid()):
            raise CniError(
                NOT_AVAILABLE,
                f"{DIRECTORY} is not a directory, or belongs to another user",
                f"try: remove it: mv {DIRECTORY} {DIRECTORY}.old",
            )
    check_writable(DIRECTORY)


def check_writable(directory: str) -> None:
    """Raise CniError if root certainly can't write into a directory, or can't make it."""
    ancestor = os.path.abspath(directory)
    while not os.path.lexists(ancestor):
        ancestor = os.path.dirname(ancestor)
    stats, is_root = os.statvfs(ancestor), os.geteuid() == 0
    if stats.f_flag & os.ST_RDONLY or (is_root and not os.access(ancestor, os.W_OK | os.X_OK)):
        raise CniError(
            NOT_AVAILABLE,
            f"{ancestor} can't be written to",
            f"try: make it writable: findmnt -T {ancestor} shows how it is mounted",
        )
    if (stats.f_blocks and not stats.f_bfree) or (stats.f_files and not stats.f_ffree):
        raise CniError(
            NOT_AVAILABLE, f"{ancestor} is full", f"try: make room: df {ancestor}; du -x {ancestor}"
        )
