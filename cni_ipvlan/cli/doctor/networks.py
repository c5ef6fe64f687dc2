"""Check one network: its configuration, its IPAM plugin, its master and who uses that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli import attachments, validate
from cni_ipvlan.cli.doctor import addresses, dhcp, plugins
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, reported
from cni_ipvlan.cli.reading.part import json_path
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.versions import VERSION_WHEN_ABSENT
from cni_ipvlan.config import netconf
from cni_ipvlan.plugin import explain, host_access, modes, vlan
from cni_ipvlan.plugin import master as masters
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.state.attachment import ModeHint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.cli.doctor.tools import Tools
    from cni_ipvlan.cli.validate.problem import Problem
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.plugin.master import Master


def examine(tools: Tools, network: NetworkConfig, found: Sequence[Problem]) -> Iterator[Finding]:
    """Yield the findings about a network, whose configuration has the problems ``found``."""
    for each in found:
        text = f"{network.source}: {json_path(each.path)}: {each.text}"
        yield Finding(WARNING if each.is_warning else PROBLEM, "configuration", text)
    if not found:
        yield Finding(OK, "configuration", f"{network.source}: network {network.label}")
    version = str(network.config.get("cniVersion") or VERSION_WHEN_ABSENT)
    try:
        conf = netconf.parse(network.config, version)
    except CniError:
        return  # it is among the problems
    # A conflict with another network leaves the ranges as they are.
    is_sound = all(each.is_warning for each in validate.in_config(network))
    if conf.ipam_type:
        yield from reported("ipam", plugins.ipam(tools, conf.ipam_type, version))
    if conf.ipam_type == "host-local" and is_sound:
        yield from reported("ipam", _leases(network.config))
    elif conf.ipam_type == "dhcp":
        yield from reported("ipam", dhcp.examine(tools.runner, network.config))
    yield from reported("master", _master(tools, network.config, conf, is_sound=is_sound))


def _leases(config: dict[str, Any]) -> Iterator[Finding]:
    place = explain.lease_directory(config)
    for each in attachments.usage(config):
        text = f"{each.leased} of {each.room} addresses of {each.ranges} are leased, in {place}"
        if each.leased < each.room:
            yield Finding(OK, "ipam", text)
        else:
            advice = "delete leases of containers that are gone: each file has its container's ID"
            yield Finding(PROBLEM, "ipam", text, advice)


def _master(
    tools: Tools, config: dict[str, Any], conf: NetConf, *, is_sound: bool
) -> Iterator[Finding]:
    if conf.link_in_container and tools.container is None:
        text = "it is in the container; name one with --netns to check it"
        yield Finding(OK, "master", text)
        return
    master = find_master(tools.tx, conf, tools.container)
    if conf.vlan:
        found = vlan.find(tools.tx, master, conf.vlan)
        if found is None:
            vlan.check_can_be_made(tools.tx, master, conf)
            yield _link(master)
            text = f"an ADD makes the VLAN {conf.vlan} of {master.link.name}"
            yield Finding(OK, "master", text)
            return
        master = found
    masters.check_master(master, conf)
    yield _link(master)
    if is_sound:
        yield from reported("addresses", addresses.examine(tools, config, conf, master))
    if conf.host_access:
        yield from reported("hostAccess", _host_access(tools, conf, master))
    yield from reported("conflicts", _rivals(tools, master))
    yield from reported("conflicts", _mode(tools, conf, master))


def _link(master: Master) -> Finding:
    link = master.link
    if not link.is_up:
        return Finding(WARNING, "master", masters.is_down(master))
    if not link.has_carrier:
        text = f"{link.name} has no carrier"
        return Finding(WARNING, "master", text, "check its cable or its switch port")
    return Finding(OK, "master", f"{link.name} is up, MTU {link.mtu}, {link.mac}")


def _host_access(tools: Tools, conf: NetConf, master: Master) -> Iterator[Finding]:
    if conf.mode == "l2" and host_access.is_strict(tools.tx, master):
        yield Finding(PROBLEM, "hostAccess", host_access.strictness(master))
    own = host_access.usable(master)
    if own:
        text = f"containers reach the host as {', '.join(own)}"
        yield Finding(OK, "hostAccess", text)
    else:
        text = f"the host has no address on {master.link.name}"
        yield Finding(PROBLEM, "hostAccess", text, "give it one, or leave hostAccess out")


def _rivals(tools: Tools, master: Master) -> Iterator[Finding]:
    for rival in explain.rivals(tools.tx, tools.registry, master):
        text = f"{master.link.name} already carries {rival.link.kind}: {rival.describe()}"
        advice = "use another master, or remove that interface"
        yield Finding(PROBLEM, "conflicts", text, advice)


def _mode(tools: Tools, conf: NetConf, master: Master) -> Iterator[Finding]:
    hint = ModeHint(conf.name, "", "", "", (0, 0), conf.mode, conf.flag)
    modes.admit(tools.tx, tools.registry, master, hint, tools.runner.interrupts.check)
    text = f"nothing on {master.link.name} uses a mode other than {conf.mode} {conf.flag}"
    yield Finding(OK, "conflicts", text)
