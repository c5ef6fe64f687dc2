"""Facts: what may be wrong with an end, and with interfaces on the path.

A fact's subject is its kind, which has a rank (verdict.py). PROBLEM means that it would explain
a silence; whether there is one is found out by asking.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from cni_ipvlan.cli.connectivity.topology import Port, of_family
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6


def report_duplicate(text: str) -> Finding:
    """Return that two interfaces have one address."""
    advice = "give one of them another address; no two networks or nodes may hand out one range"
    return Finding(PROBLEM, "duplicate", text, advice)


def check_unused(port: Port, address: str) -> Iterator[Finding]:
    """Yield that an interface does not use one of its IPv6 addresses, or not yet."""
    for each in port.link.addresses:
        if each.address.partition("/")[0] != address:
            continue
        if each.is_tentative and not each.is_duplicate:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(PROBLEM, "tentative", text, "wait; it needs the master's carrier")
        elif each.is_duplicate:
            text = f"{port} does not use {address}: another host has it, too (duplicate detection)"
            argvs = (("ip", "address", verb, each.address, "dev") for verb in ("delete", "add"))
            command = " && ".join(port.side.command(*argv, port.link.name) for argv in argvs)
            advice = "give one of them another address; if nobody else has it any more"
            yield Finding(PROBLEM, "duplicate", text, f"{advice}: {command}")


def _check_link(port: Port) -> Iterator[Finding]:
    link, master, record = port.link, port.parent, port.record
    kind = f"mode {link.mode} {link.flag}" if link.is_ipvlan else f"a {link.kind or 'device'}"
    yield Finding(OK, "link", f"{_describe_state(port)}, {kind}")
    if master:
        text = f"{_describe_state(master)}, {master.link.mac}"
        is_narrow = link.mtu > master.link.mtu
        advice = "larger packets are lost: set the option mtu" if is_narrow else ""
        yield Finding(WARNING if is_narrow else OK, "master", text, advice)
    elif link.is_ipvlan:
        text = f"the master of {port} is not in this namespace"
        yield Finding(WARNING, "master", text, "run this where it is: on the host")
    yield from check_states(port.uplinks)
    if record and record.is_complete and not record.has_mode_of(link):
        text = f"{port} was attached in mode {record.mode} {record.flag}, and shows {link.mode} "
        text += f"{link.flag} now: another program may have changed that of all on its master"
        command = port.link_command("type", link.kind, "mode", record.mode, record.flag)
        yield Finding(PROBLEM, "mode", text, f"if nothing needs that: {command}")


def _describe_state(port: Port) -> str:
    return f"{port} is {'up' if port.link.is_up else 'down'}, MTU {port.link.mtu}"


def _check_addresses(port: Port) -> Iterator[Finding]:
    if not port.addresses and not any(each.is_duplicate for each in port.link.addresses):
        text, advice = f"{port} has no address", "ADD gives it one: ipvlan check compares"
        if not port.owner:
            add = port.side.command("ip", "address", "add", "ADDRESS", "dev", port.link.name)
            advice = f"give it one: {add}"
        reason, command = explain_missing_ipv6(port)
        if reason:
            text, advice = f"{text}, and {reason}", f"{advice}; for IPv6, before that: {command}"
        yield Finding(PROBLEM, "address", text, advice)
    for each in port.link.addresses:
        if each.is_duplicate or each.address in port.addresses:
            unused = [*check_unused(port, each.address.partition("/")[0])]
            yield from unused or [Finding(OK, "address", f"{port} has {each.address}")]


def explain_missing_ipv6(port: Port) -> tuple[str, str]:
    """Return why an interface can have no IPv6 address, and the command that changes it."""
    key = commands.IPV6_OFF.format(port.link.name)
    if port.side.read_sysctl(key):
        return f"can have no IPv6 address ({key} is 1)", port.side.sysctl_command(key, 0)
    if port.link.mtu < LEAST_MTU_OF_IPV6:
        command = port.link_command("mtu", str(LEAST_MTU_OF_IPV6))
        return f"can have no IPv6 address (its MTU is {port.link.mtu})", command
    return "", ""


def _ask_for_duplicates(port: Port) -> Iterator[Finding]:
    """Yield which other interfaces and hosts have an address of this interface.

    Other hosts are asked from its master, for a second.
    """
    topology, asker = port.side.topology, find_asker(port)
    for address in port.ips:
        for other in topology.find_holders(address):
            # A host on the network answers for the addresses of its other interfaces, too.
            other_ports = (each for each in other.side.ports.values() if not each.link.is_ipvlan)
            is_near = any(each in port.segment for each in (other, *other_ports))
            if other is not port and not other.is_loopback and is_near:
                yield report_duplicate(f"{address} is also an address of {other.description}")
    addresses = of_family("0.0.0.0", port.addresses) if asker.link.is_up else []
    argvs = (commands.arping_duplicate(each, asker.link.name) for each in addresses)
    answers = topology.ask(*((asker.side, argv) for argv in argvs))
    own_macs = {each.link.mac for each in port.side.ports.values()}  # any may answer, by arp_ignore
    for address, completed in zip(addresses, answers, strict=True):
        mac = queries.answering_mac(completed.stdout).lower()
        if not completed.was_run:
            text = f"arping is missing, so other hosts were not asked for {address}"
            yield Finding(WARNING, "not looked", text, "install it: apt install iputils-arping")
        elif completed.status == commands.DUPLICATE_ANSWERED and mac not in own_macs:
            known = (str(each) for each in port.segment if each.link.mac == mac and not each.upper)
            text = f"another host on the network has {address}, too: {mac}"
            yield report_duplicate(", ".join((text, *islice(known, 1))))
        elif completed.status == 0:
            yield Finding(OK, "duplicate", f"no other host answers for {address}")


END_CHECKS = (_check_link, _check_addresses, _ask_for_duplicates)


def check_holders(sender: Port, next_hop: str, receiver: Port | None = None) -> Iterator[Finding]:
    """Yield that several on the network of ``sender`` have an address: any of them may answer.

    One of them may have answered, too, instead of a ``receiver`` elsewhere with that address.
    """
    holders = sender.side.topology.find_holders(next_hop, sender)
    candidates = (each for each in holders if each in sender.segment or each is receiver)
    near = (each for each in candidates if each.link.is_up)
    names = {each.side: each.description for each in near}
    if len(names) > 1:
        yield report_duplicate(f"{next_hop} is an address of {' and of '.join(names.values())}")


def find_asker(port: Port) -> Port:
    """Return the interface to ask from by ARP: for an ipvlan its master, as it loses answers."""
    return (port.parent if port.link.is_ipvlan else None) or port


def check_states(ports: Sequence[Port]) -> Iterator[Finding]:
    """Yield which interfaces are down or lack a carrier; they are in the order of packets."""
    down = [each for each in ports if not each.link.is_up]
    for each in sorted(ports, key=lambda each: len(each.chain)):  # a parent has to come up first
        bridge_ports = (port for port in each.side.ports.values() if port.upper is each)
        if each in down:
            up = each.link_command("up")
            yield Finding(PROBLEM, "down", f"{each} is down", f"bring it up: {up}")
        elif each.link.kind in ("bridge", "bond") and not any(bridge_ports):
            add = each.side.command("ip", "link", "set", "dev", "PORT", "master", each.link.name)
            yield Finding(PROBLEM, "down", f"{each} has no ports", f"give it one: {add}")
    without_carrier = [each for each in ports if not each.link.has_carrier]
    if without_carrier and not down:
        text = f"{without_carrier[-1]} is without carrier"
        yield Finding(PROBLEM, "carrier", text, "check its cable, or its switch port")
