"""Find out what keeps a container from talking, from inside it and from its master."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding, reported
from cni_ipvlan.iproute import commands, packets, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import inventory
from cni_ipvlan.plugin.master import Master, is_down

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Address, Link
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.plugin.node import Node

RESULTS = "/var/lib/cni/results"  # where libcni keeps them: NETWORK-CONTAINER-IFNAME
_UNASKED = "not asked"  # the subject of what could not be asked, say without ping(8)
_SEARCH_SECONDS = 2.0
_MOST_SERVERS = 3  # as many as resolv.conf(5) takes


class NoInterfaceError(Exception):
    """No interface to probe; the message is a sentence."""


class Subject(NamedTuple):
    """The interface that is probed, its place and its addresses, without usable link-local ones."""

    node: Node
    place: Namespace
    link: Link
    addresses: Sequence[Address]


def find(node: Node, place: Namespace, ifname: str | None) -> Subject:
    """Return an interface of a container, by default its only ipvlan interface.

    Raises NoInterfaceError, IprouteError.
    """
    output = node.begin().run(Command(commands.address_show_all(), inside=place)).stdout
    there = queries.links_with_addresses(output)
    names = ", ".join(link.name for link, _ in there)
    wanted = [
        (link, addresses)
        for link, addresses in there
        if (link.name == ifname if ifname else link.is_ipvlan)
    ]
    if not wanted:
        what = f"interface {ifname!r}" if ifname else "ipvlan interface"
        raise NoInterfaceError(f"there is no {what} in {place.path}; it has {names}")
    if len(wanted) > 1:
        several = ", ".join(link.name for link, _ in wanted)
        raise NoInterfaceError(f"choose one with --ifname: {several}")
    link, addresses = wanted[0]
    usual = [each for each in addresses if each.is_duplicate or not _is_link_local(each)]
    return Subject(node, place, link, usual)


def probe(subject: Subject, to: str | None, result: Any) -> Iterator[Finding]:
    """Yield findings in the order of their causes: link, address, master, gateway, path, DNS.

    ``to`` is an address to reach; ``result`` is the document of the ADD, if it is known.
    """
    yield _link(subject)
    yield from _addresses(subject)
    master = _master_of(subject)
    yield from _master(subject, master)
    steps = [_conflicts(subject, master), _gateways(subject)]
    if to:
        steps.append(_reach(subject, to, "reach"))
    steps.append(_servers(subject, result))
    for step in steps:
        for each in reported(_UNASKED, step):
            yield each._replace(state=WARNING) if each.subject == _UNASKED else each


def verdict(findings: Sequence[Finding]) -> Finding:
    """Return the finding that explains most: the first problem, else the first warning."""
    for state in (PROBLEM, WARNING):
        found = next((each for each in findings if each.state == state), None)
        if found:
            return found
    return Finding(OK, "", "everything answers")


def _link(subject: Subject) -> Finding:
    link = subject.link
    mode = f", mode {link.mode} {link.flag}" if link.is_ipvlan else f", a {link.kind or 'device'}"
    text = f"{link.name} is {'up' if link.is_up else 'down'}, MTU {link.mtu}{mode}"
    if not link.is_up:
        up = Command(commands.link_set_up(link.name), inside=subject.place)
        return Finding(PROBLEM, "link", text, f"bring it up: {_shell(up)}")
    if not link.has_carrier:
        advice = (
            "an ipvlan interface has its master's carrier: check the master, its cable, its switch"
        )
        return Finding(PROBLEM, "link", f"{text}, without carrier", advice)
    if not link.is_ipvlan:
        return Finding(WARNING, "link", text, "choose an ipvlan interface with --ifname")
    return Finding(OK, "link", text)


def _addresses(subject: Subject) -> Iterator[Finding]:
    if not subject.addresses:
        text = f"{subject.link.name} has no address"
        yield Finding(PROBLEM, "address", text, "ADD gives it one: ipvlan check compares")
    for each in subject.addresses:
        if each.is_duplicate:
            text = f"another host on the network has {each.address}, too (IPv6 duplicate detection)"
            yield Finding(PROBLEM, "address", text, "give one of them another address")
        elif each.is_tentative:
            text = f"{each.address} can't be used yet: IPv6 duplicate detection has not ended"
            yield Finding(WARNING, "address", text, "wait; it needs the master's carrier")
        else:
            yield Finding(OK, "address", each.address)


def _master_of(subject: Subject) -> Master | None:
    """Return the master, on the host or in the container itself."""
    for home in (None, subject.place):
        output = subject.node.begin().run(Command(commands.link_show_all(), inside=home)).stdout
        for link in queries.links(output):
            master = Master(link, home)
            if master.carries(subject.link, subject.place):
                return master
    return None


def _master(subject: Subject, master: Master | None) -> Iterator[Finding]:
    if master is None:
        if subject.link.is_ipvlan:
            text = f"the master of {subject.link.name} is not in this namespace"
            yield Finding(WARNING, "master", text, "run this where it is: on the host")
        return
    link = master.link
    text = f"{link.name} is {'up' if link.is_up else 'down'}, MTU {link.mtu}, {link.mac}"
    if not link.is_up:
        yield Finding(PROBLEM, "master", text, is_down(master))
    elif not link.has_carrier:
        advice = "check its cable, or its switch port"
        yield Finding(PROBLEM, "master", f"{text}, without carrier", advice)
    elif subject.link.mtu > link.mtu:
        advice = (
            f"packets beyond {link.mtu} bytes are lost: set the option mtu, or the master's MTU"
        )
        yield Finding(PROBLEM, "master", f"{text}; {subject.link.name} has more", advice)
    else:
        yield Finding(OK, "master", text)
    yield _beside(subject, master)


def _beside(subject: Subject, master: Master) -> Finding:
    """Return what else the master carries, and whether one of these has the same address."""
    deadline = time.monotonic() + _SEARCH_SECONDS
    found = inventory.take(subject.node.begin(), subject.node.registry, deadline=deadline)
    others = [each for each in inventory.on_master(found, master) if not _is(each, subject)]
    own = {ip_interface(each.address).ip for each in subject.addresses}
    for each in others:
        same = [address for address in each.addresses if ip_interface(address).ip in own]
        if same:
            text = f"{same[0]} is also an address of {each.describe()}"
            return Finding(PROBLEM, "beside", text, "no two networks may hand out the same range")
    names = inventory.summary(others) if others else "nothing else"
    return Finding(OK, "beside", f"{master.link.name} carries {names}")


def _is(attachment: inventory.Attachment, subject: Subject) -> bool:
    place = attachment.place
    return (
        place is not None
        and place.identity == subject.place.identity
        and attachment.link.ifindex == subject.link.ifindex
    )


def _conflicts(subject: Subject, master: Master | None) -> Iterator[Finding]:
    """Ask from the master whether another host has an IPv4 address; it takes a second."""
    asked = [_plain(each) for each in subject.addresses if ":" not in each.address]
    if master is None or not master.link.is_up or not asked:
        return
    questions = [
        Command(
            commands.arping_duplicate(each, master.link.name), inside=master.home, any_status=True
        )
        for each in asked
    ]
    for address, done in zip(asked, _run(subject, questions), strict=True):
        if done.status == commands.DUPLICATE_ANSWERED:
            mac = queries.answering_mac(done.stdout)
            text = f"another host on the network has {address}, too: {mac}"
            advice = (
                "give one of them another address; the option checkIPv4Conflict refuses such an ADD"
            )
            yield Finding(PROBLEM, "conflict", text, advice)
        elif done.status:
            why = done.stderr.decode("utf-8", "replace").strip()
            yield Finding(
                WARNING, "conflict", f"cannot ask whether another host has {address}: {why}"
            )
        else:
            yield Finding(OK, "conflict", f"no other host answers for {address}")


def _gateways(subject: Subject) -> Iterator[Finding]:
    query = Command(commands.route_show(subject.link.name), inside=subject.place)
    routes = queries.routes(subject.node.begin().run(query).stdout)
    gateways = dict.fromkeys(each.gateway for each in routes if each.gateway)
    if not any(each.dst in ("0.0.0.0/0", "::/0") for each in routes):
        text = (
            f"{subject.link.name} has no default route, so only these can be reached through it: "
        )
        there = [each.dst for each in routes if not each.dst.startswith(("fe80:", "ff00:"))]
        yield Finding(OK, "route", text + (", ".join(dict.fromkeys(there)) or "nothing"))
    for gateway in gateways:
        yield from _reach(subject, gateway, "gateway")


def _reach(subject: Subject, address: str, what: str) -> Iterator[Finding]:
    """Yield whether an address is reached, and packets of which size get through."""
    asked = packets.way_to(address, subject.place)
    way = packets.way(_run(subject, [asked])[0])
    if way is None:
        text = f"the container has no route to {address}"
        yield Finding(PROBLEM, what, text, "add it to the routes of ipam, or a default route")
        return
    if way.device != subject.link.name:
        text = f"packets to {address} leave through {way.device}, not through {subject.link.name}"
        yield Finding(WARNING, what, text, "the container's other interface has the better route")
    done = _run(subject, [packets.ping(address, subject.place, way.device)])[0]
    hop = way.gateway or address
    if done.status == 0:
        via = f" through {way.gateway}" if way.gateway else ""
        yield Finding(OK, what, f"{address} answers{via}")
        yield from _path(subject, address, way)
        return
    seen = packets.neighbour(
        _run(subject, [packets.neighbour_of(hop, way.device, subject.place)])[0]
    )
    yield _silence(subject, address, hop, seen, what)


def _silence(
    subject: Subject, address: str, hop: str, seen: packets.Neighbour, what: str
) -> Finding:
    """Return why an address does not answer: nobody resolves it, or it is silent beyond that."""
    if _is_of_host(subject, hop):
        text = f"{hop} is this host, which can't talk with its own containers through ipvlan"
        advice = f"ipvlan trace {subject.place.path} host says what to do"
        return Finding(PROBLEM, what, text, advice)
    if subject.link.mode in ("l3", "l3s"):
        text = f"{address} does not answer"
        advice = (
            f"in mode {subject.link.mode} nobody is asked by ARP: the network must have a route to "
            f"{', '.join(map(_plain, subject.addresses)) or 'the container'} through this host"
        )
        return Finding(PROBLEM, what, text, advice)
    if not seen.mac:
        text = f"nobody answers for {hop} on the network of the master"
        advice = "check the address, the cable, the switch's VLAN, and which MACs its port allows"
        return Finding(PROBLEM, what, text, advice)
    if hop == address:
        text = f"{address} has answered ARP or ND ({seen.mac}), but does not answer ping"
        return Finding(WARNING, what, text, "it may drop ping; its firewall may drop the container")
    text = f"{address} does not answer; its gateway {hop} ({seen.mac}) is there"
    advice = "look at the gateway: its route back to the container, its firewall, its NAT"
    return Finding(PROBLEM, what, text, advice)


def _is_of_host(subject: Subject, address: str) -> bool:
    output = subject.node.begin().run(Command(commands.address_show_all())).stdout
    return any(
        _plain(each) == address
        for _, addresses in queries.links_with_addresses(output)
        for each in addresses
    )


def _path(subject: Subject, address: str, way: packets.Way) -> Iterator[Finding]:
    """Yield whether a packet of the interface's whole MTU gets through."""
    mtu = subject.link.mtu
    done = _run(subject, [packets.large_ping(address, mtu, subject.place, way.device)])[0]
    if done.status == 0:
        yield Finding(OK, "path", f"packets of {mtu} bytes reach {address}")
        return
    known = packets.path_mtu(done) or way.mtu
    if known and known < mtu:
        text = f"the path to {address} takes packets of at most {known} bytes; the MTU is {mtu}"
        yield Finding(WARNING, "path", text, f"set the option mtu to {known}, or mtu of a route")
    else:
        text = f"packets of {mtu} bytes don't reach {address}, and no router says why"
        advice = (
            "a smaller MTU on the way, whose messages a firewall drops: try a smaller option mtu"
        )
        yield Finding(PROBLEM, "path", text, advice)


def _servers(subject: Subject, result: Any) -> Iterator[Finding]:
    """Yield whether the DNS servers of the result are reached."""
    dns = result.get("dns") if isinstance(result, dict) else None
    servers = dns.get("nameservers") if isinstance(dns, dict) else None
    named = [each for each in servers or () if isinstance(each, str)][:_MOST_SERVERS]
    if not named:
        text = "the result names no servers" if result else "the result of the ADD is not known"
        advice = "" if result else f"name it with --prev-result; runtimes keep it in {RESULTS}"
        yield Finding(OK, "dns", text, advice)
    for server in named:
        if not packets.address_in(server):
            text = f"{server!r} is not an address, so no resolver can ask it"
            yield Finding(PROBLEM, "dns", text, "correct dns of the network or of the IPAM plugin")
            continue
        for each in _reach(subject, server, "dns"):
            yield each if each.subject == "dns" else each._replace(subject="dns path")


def kept_result(subject: Subject) -> Any:
    """Return the result that libcni keeps of the ADD, or None if there is none."""
    owner = inventory.Owners(subject.node.registry.all_hints()).of(subject.link, subject.place)
    if owner is None:
        return None
    file = os.path.join(RESULTS, f"{owner.network}-{owner.container_id}-{owner.ifname}")
    with suppress(OSError, ValueError), open(file, encoding="utf-8") as kept:
        document = json.load(kept)
        return document.get("result") if isinstance(document, dict) else None
    return None


def _run(subject: Subject, asked: Sequence[Command]) -> list[Completed]:
    return packets.run_all(subject.node.runner, asked)


def _is_link_local(address: Address) -> bool:
    return ip_interface(address.address).is_link_local


def _plain(address: Address) -> str:
    return address.address.partition("/")[0]


def _shell(command: Command) -> str:
    from shlex import join

    return join(command.full_argv)
