"""The command doctor, and its checks of a network: configuration, IPAM, master and its users."""

from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import ip_address, ip_interface
from typing import Any

import click

from cni_ipvlan.cli import calls, configs, options, output, validate
from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.cli.doctor import node
from cni_ipvlan.cli.doctor.node import Tools
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, collect
from cni_ipvlan.cli.reading import ConfigError, json_path
from cni_ipvlan.cli.validate.ipam import IpamConfig
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, machine, namespace
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import explain, host_access, host_local, inventory, modes, status
from cni_ipvlan.plugin import master as masters
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.attachment import Record
from cni_ipvlan.state.registry import Registry


@options.command("ipvlan doctor -c examples/ipvlan0.yaml --netns container1 --ifname net1")
@options.config_option(required=False)
@options.network_option
@options.netns_option(required=False)
@options.option("--ifname", options.interface_name, "NAME", "A name to look up with --netns.")
@options.cni_path_option
def doctor_command(
    config: str | None,
    network: str | None,
    netns: str | None,
    ifname: str | None,
    cni_path: str | None,
    as_json: bool,
) -> int:
    """Check for what could keep an attachment from working.

    It looks at the node, and at the network given with -c, or else at all in /etc/cni/net.d.
    It runs no plugins but ipvlan and those that these networks name as IPAM.
    """
    if ifname and not netns:
        raise click.UsageError("--ifname needs --netns, the namespace to look it up in")
    selected = options.choose_network(config, network) if config else None
    runner, registry, *_ = calls.read_only_node()
    path, origin = calls.find_cni_path(cni_path)
    tools = Tools(runner, Transaction(runner), registry, path.split(":"), origin, {}, ifname or "")
    findings = []
    for finding in examine(tools, selected, netns):
        runner.interrupts.check()
        findings.append(finding)
        if not as_json:
            output.print_finding(finding)
    if as_json:
        output.echo_json({"findings": [finding._asdict() for finding in findings]})
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def examine(tools: Tools, selected: NetworkConfig | None, netns: str | None) -> Iterator[Finding]:
    """Yield the findings about the node, then about the selected network, or all of the node."""
    yield from node.examine(tools)
    try:
        container = options.find_namespace(netns) if netns else None
    except click.BadParameter as error:
        yield Finding(PROBLEM, "namespace", error.message)
    else:
        if container and container.identity == namespace.own_identity():
            text = f"{netns} is the host's namespace, not a container's"
            yield Finding(PROBLEM, "namespace", text)
        elif container:
            tools = tools._replace(container=container)
            network = selected.name if selected else ""
            yield from collect("namespace", node.examine_container(tools, container, network))
    yield from collect("configuration", _examine_networks(tools, selected))


def _examine_networks(tools: Tools, selected: NetworkConfig | None) -> Iterator[Finding]:
    all_networks, faults = configs.read_directory()
    for fault in faults:  # a selected network does not depend on these files
        yield Finding(PROBLEM if selected is None else WARNING, "configuration", str(fault))
    if selected is not None:
        # The selected network is, or may replace, one that has its name.
        others = (each for each in all_networks if each.name != selected.name)
        all_networks = [*others, selected]
    elif not (all_networks or faults):
        text = f"{configs.DIRECTORY} has no network of ipvlan; -c FILE names one"
        yield Finding(OK, "configuration", text)
    all_problems = list(validate.check_all(all_networks))
    for network in all_networks if selected is None else [selected]:
        problems = [problem for each, problem in all_problems if each is network]
        for finding in _examine_network(tools, network, problems):
            yield finding._replace(network=network.label)


def _examine_network(
    tools: Tools, network: NetworkConfig, problems: Sequence[ConfigError]
) -> Iterator[Finding]:
    """Yield the findings about a network, whose configuration has these problems."""
    for each in problems:
        text = f"{network.source}: {json_path(each.path)}: {each.text}"
        yield Finding(WARNING if each.is_warning else PROBLEM, "configuration", text)
    if not problems:
        yield Finding(OK, "configuration", f"{network.source}: network {network.label}")
    try:
        conf = netconf.parse(network.config, network.version)
    except CniError:
        return  # it is among the problems
    # A conflict with another network is no fault of the ranges.
    is_sound = all(each.is_warning for each in validate.check_config(network))
    if conf.ipam_type:
        yield from collect("ipam", node.check_ipam(tools, conf.ipam_type, network.version))
    if conf.ipam_type == "host-local" and is_sound:
        yield from collect("ipam", _check_leases(network.config, tools.registry))
    elif conf.ipam_type == "dhcp":
        yield from collect("ipam", node.check_dhcp(tools, network.config))
    if conf.check_ipv4_conflict:
        addresses = status.likely_addresses(network.config)
        check = partial(status.check_programs, tools.runner, conf, addresses)
        success = Finding(OK, "programs", "checkIPv4Conflict has what it needs, arping")
        yield from collect("programs", node.run_check(check, success))
    yield from collect("master", _check_master(tools, network.config, conf, is_sound=is_sound))


def _check_leases(config: dict[str, Any], registry: Registry) -> Iterator[Finding]:
    store = netconf.lease_directory(config)
    status.check_writable(store)
    for each in host_local.usage(config):
        text = f"{each.leased} of {each.capacity} addresses of {each.ranges} are leased, in {store}"
        if each.leased < each.capacity:
            yield Finding(OK, "ipam", text)
        else:
            containers = (e.container_id for e in registry.all_records() if e.has_container)
            advice = "release those of containers that are gone: ipvlan gc -c FILE --keep-existing"
            if not {e.container_id for e in host_local.leases(store)}.difference(containers):
                advice = "enlarge the range: all its addresses are leased to containers that exist"
            yield Finding(PROBLEM, "ipam", text, advice)


def _check_master(
    tools: Tools, config: dict[str, Any], conf: NetConf, *, is_sound: bool
) -> Iterator[Finding]:
    if conf.link_in_container and tools.container is None:
        yield Finding(OK, "master", "it is in the container; name one with --netns to check it")
        return
    master = find_master(tools.tx, conf, tools.container)
    master = status.expected_master(tools.tx, conf, master)
    masters.check_master(master, conf)
    yield _link_finding(master, conf)
    addresses = status.likely_addresses(config) if is_sound else []
    refused = set()
    for (option, *_), check in status.option_checks(tools.tx, conf, master, addresses):
        subject = "addresses" if option == "ipam" else str(option)
        for finding in collect(subject, node.run_check(check)):
            refused.add(option)
            yield finding
    if is_sound and "ipam" not in refused:
        ipam = IpamConfig(config)
        yield from collect("addresses", _check_addresses(tools, conf, ipam, master))
    if conf.host_access and "hostAccess" not in refused:
        yield from collect("hostAccess", _check_host_access(tools, conf, master))
    if master.link.ifindex:
        yield from collect("conflicts", _check_conflicts(tools, conf, master))


def _link_finding(master: Master, conf: NetConf) -> Finding:
    link = master.link
    if not link.ifindex:
        return Finding(OK, "master", f"an ADD makes the VLAN {conf.vlan} of {link.parent}")
    if not link.is_up:
        return Finding(WARNING, "master", masters.describe_down(master))
    if not link.has_carrier:
        text = f"{link.name} has no carrier"
        return Finding(WARNING, "master", text, "check its cable or its switch port")
    return Finding(OK, "master", f"{link.name} is up, MTU {link.mtu}, {link.mac}")


def _check_addresses(
    tools: Tools, conf: NetConf, ipam: IpamConfig, master: Master
) -> Iterator[Finding]:
    if master.netns is None:
        yield from _check_host_addresses(conf, ipam, master)
    own_addresses = dict.fromkeys(each.first for each in ipam.pools if ipam.is_static)
    ranges = [] if ipam.is_static else ipam.pools
    networks = {conf.name}  # one finding for each other network is enough
    if not own_addresses and not ranges:
        return
    why = "only root can see which addresses containers have"
    unseen = [why] if machine.missing_capabilities(machine.TO_SEE_ALL) else []
    attachments = inventory.search(tools.tx, tools.registry, report=unseen.append)
    for holder in inventory.select_of_master(attachments, master):
        netns, owner = holder.netns, holder.owner
        addresses = [ip_interface(each).ip for each in holder.addresses]
        conflicts = [each for each in addresses if any(pool.contains(each) for pool in ranges)]
        if owner is not None and owner.network not in networks and conflicts:
            networks.add(owner.network)
            text = f"{conflicts[0]} is in the range, and belongs to {holder.describe()}"
            advice = f"give the network {owner.network} and this one addresses of their own"
            yield Finding(WARNING, "addresses", text, advice)
        is_in_container = netns and tools.container and netns.identity == tools.container.identity
        if is_in_container and tools.ifname in (holder.link.name, ""):
            continue  # the person asks about this attachment
        for address in own_addresses.keys() & {*addresses}:
            is_expected = owner is not None and owner.network == conf.name
            state = WARNING if is_expected and tools.container is None else PROBLEM
            text = f"{address} belongs to {holder.describe()}, so an ADD of another container fails"
            yield Finding(state, "addresses", text, "give each container an address of its own")
            del own_addresses[address]
    if unseen:
        yield Finding(WARNING, "addresses", unseen[0], "run it as root, in the host's namespaces")
    elif own_addresses:
        text = f"no container on {master.link.name} has {', '.join(map(str, own_addresses))}"
        yield Finding(OK, "addresses", text)


def _check_host_addresses(conf: NetConf, ipam: IpamConfig, master: Master) -> Iterator[Finding]:
    for _, text, advice in validate.find_host_addresses(ipam, master):
        yield Finding(PROBLEM, "addresses", text, advice)
    hops = {hop for _, _, hop, _ in ipam.routes}
    hops |= {each.gateway for each in ipam.pools} if None in hops else set()
    conflicts = hops.intersection(map(ip_address, master.addresses))
    # Only in mode l2 are packets sent to a gateway.
    for hop in sorted(conflicts, key=str) if conf.mode == "l2" and not conf.host_access else ():
        text = f"the gateway {hop} is the host's own address on {master.link.name}"
        text += ", which its ipvlan containers can't reach"
        advice = "use the network's router as gateway, or set hostAccess"
        yield Finding(PROBLEM, "addresses", text, advice)


def _check_host_access(tools: Tools, conf: NetConf, master: Master) -> Iterator[Finding]:
    if conf.mode == "l2" and (why := host_access.describe_strict_filter(tools.tx, master)):
        yield Finding(PROBLEM, "hostAccess", why)
    keys = dict.fromkeys(map(commands.forwarding_key, conf.routes_via_host))
    for key in keys if conf.mode == "l2" else ():  # in the other modes, the host sends them itself
        query = Command(commands.sysctl_read(key), accept=commands.OPTIONAL)
        if tools.tx.run(query).stdout.strip() == b"0":
            text = f"the host does not forward what comes by routesViaHost ({key} is 0)"
            advice = f"unless it is all for the host itself: echo 1 >/proc/sys/{key}"
            yield Finding(WARNING, "hostAccess", text, advice)
    addresses = ", ".join(host_access.usable_addresses(master))
    yield Finding(OK, "hostAccess", f"containers reach the host as {addresses}")


def _check_conflicts(tools: Tools, conf: NetConf, master: Master) -> Iterator[Finding]:
    for rival in explain.find_macvlans(tools.tx, tools.registry, master):
        text = f"{master.link.name} already carries {rival.link.kind}: {rival.describe()}"
        yield Finding(PROBLEM, "conflicts", text, "use another master, or remove that interface")
    record = Record(conf.name, "", "", "", (0, 0), conf.mode, conf.flag)
    modes.reserve_mode(tools.tx, tools.registry, master, record, tools.runner.interrupts.check)
    text = f"nothing on {master.link.name} uses a mode other than {conf.mode} {conf.flag}"
    yield Finding(OK, "conflicts", text)
