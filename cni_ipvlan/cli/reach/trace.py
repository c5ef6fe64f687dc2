"""Say whether and why one end reaches another on this node, and then try it."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from shlex import join
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli.attachments import is_called
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, packets, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import inventory
from cni_ipvlan.plugin.master import Master

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.plugin.node import Node


class UnknownEndError(Exception):
    """An end that is not on this node, or not one; the message is a sentence."""


class End(NamedTuple):
    """One end: the host (``place`` None), a container, or an address elsewhere.

    ``attachment`` and ``master`` are None for the host and for an address elsewhere, which has
    no place at all.
    """

    name: str
    addresses: tuple[str, ...]
    place: Namespace | None = None
    attachment: Attachment | None = None
    master: Master | None = None
    is_here: bool = True

    @property
    def is_host(self) -> bool:
        """Whether it is the host itself."""
        return self.is_here and self.attachment is None


class Map:
    """What is on this node: the host's interfaces, and all attachments."""

    def __init__(self, node: Node) -> None:
        tx = node.begin()
        host = queries.links_with_addresses(tx.run(Command(commands.address_show_all())).stdout)
        self.host: dict[str, tuple[Link, list[str]]] = {
            link.name: (link, [each.address for each in addresses]) for link, addresses in host
        }
        self.attachments = list(inventory.take(tx, node.registry))

    def end(self, name: str, netns: Namespace | None, near: End | None = None) -> End:
        """Return what a word names: ``host``, an address, a container; raises UnknownEndError.

        Of several interfaces, the one is taken whose master is that of ``near``.
        """
        if name == "host":
            return End("the host", tuple(self._host_addresses()))
        address = packets.address_in(name)
        if address:
            return self._at(address)
        found = [each for each in self.attachments if _is_called(each, name, netns)]
        if not found:
            raise UnknownEndError(
                f"{name!r} is not host, an address, a namespace with an ipvlan interface, or "
                "the ID of a container with one; ipvlan show lists them"
            )
        ends = [self._attached(each) for each in found]
        same = [each for each in ends if near and near.master and each.master]
        return next((each for each in same if _have_same_master(each, near)), ends[0])

    def holders(self, address: str) -> list[str]:
        """Return who on this node has an address."""
        found = [each.describe() for each in self.attachments if _has(each.addresses, address)]
        found += [
            f"{name} of the host"
            for name, (link, addresses) in self.host.items()
            if _has(addresses, address) and not link.is_ipvlan
        ]
        return found

    def _at(self, address: str) -> End:
        for each in self.attachments:
            if each.place and _has(each.addresses, address):
                return self._attached(each)._replace(addresses=(address,))
        if _has(self._host_addresses(), address):
            return End("the host", (address,))
        return End(address, (address,), is_here=False)

    def _attached(self, attachment: Attachment) -> End:
        link, place = attachment.link, attachment.place
        masters = (Master(each) for each, _ in self.host.values())
        master = next((each for each in masters if each.carries(link, place)), None)
        return End(attachment.describe(), _usable(attachment.addresses), place, attachment, master)

    def _host_addresses(self) -> list[str]:
        return [
            each
            for link, addresses in self.host.values()
            if link.name != "lo"
            for each in _usable(addresses)
        ]


def trace(node: Node, known: Map, one: End, other: End) -> Iterator[Finding]:
    """Yield what speaks for and against packets from ``one`` to ``other``, and what was tried."""
    if not one.is_here:
        text = f"{one.name} is not on this node, so nothing can be sent from there"
        yield Finding(PROBLEM, "from", text, "run this on its node, or swap the two")
        return
    pairs = _pairs(one, other)
    if not pairs:
        text = f"{one.name} and {other.name} have no addresses of one family"
        yield Finding(PROBLEM, "address", text, "ipvlan show lists addresses")
        return
    for source, target in pairs:
        tried = _tried(node, one, target)
        for each in _rules(node, known, one, other, source, target):
            is_refuted = each.state == PROBLEM and tried.state == OK
            yield each._replace(state=WARNING) if is_refuted else each
        yield tried


def _pairs(one: End, other: End) -> list[tuple[str, str]]:
    """Return for each family an address of both, without prefix lengths."""
    pairs = []
    for version in (4, 6):
        ours, theirs = (
            next((each for each in end.addresses if ip_interface(each).version == version), None)
            for end in (one, other)
        )
        if theirs and (ours or one.is_host):
            pairs.append((_plain(ours or ""), _plain(theirs)))
    return pairs


def _rules(
    node: Node, known: Map, one: End, other: End, source: str, target: str
) -> Iterator[Finding]:
    for address in dict.fromkeys((source, target)):
        holders = known.holders(address) if address else []
        if len(holders) > 1:
            text = f"{address} is there {len(holders)} times: {', '.join(holders)}"
            yield Finding(PROBLEM, "address", text, "no two networks may hand out the same range")
    if one.attachment and other.attachment:
        yield _between(one, other, one.attachment.link)
        yield from _overlap(one, other)
    elif one.is_host or other.is_host:
        yield from _host_and_own(node, known, one, other)
    yield from _ways(node, one, other, source, target)


def _between(one: End, other: End, link: Link) -> Finding:
    if not _have_same_master(one, other):
        names = [each.master.link.name if each.master else "another" for each in (one, other)]
        text = f"they have different masters, {names[0]} and {names[1]}"
        advice = "the networks of these masters must be one, or a router must connect them"
        return Finding(WARNING, "masters", text, advice)
    on = f"both are on {one.master.link.name if one.master else ''}, mode {link.mode}"
    if link.flag == "private":
        advice = "use flag bridge for the networks of that master, if they shall reach each other"
        return Finding(PROBLEM, "flag", f"{on}; flag private keeps them apart", advice)
    if link.flag == "vepa":
        text = f"{on}; flag vepa sends their packets to the switch, which must send them back"
        advice = "turn on reflective relay (hairpin) at the switch's port, or use flag bridge"
        return Finding(WARNING, "flag", text, advice)
    return Finding(OK, "flag", f"{on}; flag bridge lets them reach each other")


def _overlap(one: End, other: End) -> Iterator[Finding]:
    """Yield subnets that both have on different masters: each looks for the other on its own."""
    if _have_same_master(one, other):
        return
    for ours in map(ip_interface, one.addresses):
        for theirs in map(ip_interface, other.addresses):
            if ours.version == theirs.version and ours.network.overlaps(theirs.network):
                text = f"their subnets overlap: {ours} and {theirs}, on different masters"
                advice = "each takes the other for a neighbour: use different ranges, or one master"
                yield Finding(WARNING, "ranges", text, advice)


def _host_and_own(node: Node, known: Map, one: End, other: End) -> Iterator[Finding]:
    container, host = (other, one) if one.is_host else (one, other)
    if container.attachment is None or container.master is None:
        return
    text = "the kernel lets no packets pass between a host and its own ipvlan interfaces"
    link, master = container.attachment.link, container.master.link
    beside = _beside(node, known, container)
    if beside:
        yield Finding(OK, "host", f"the host has {beside} on {master.name}, beside the container's")
        return
    if link.flag != "bridge":
        advice = f"with flag {link.flag}, an interface of the host beside it would not help either"
        yield Finding(PROBLEM, "host", text, f"use flag bridge; {advice}")
        return
    lines = [
        "set hostAccess in the network, for new containers; for this one:",
        *map(join, remedy(link, master, container, host.addresses)),
    ]
    yield Finding(PROBLEM, "host", text, "\n".join(lines))


def _beside(node: Node, known: Map, container: End) -> str:
    """Return the ipvlan interface of the host by which it sends to a container, if there is one."""
    way = packets.way(_run(node, packets.way_to(_plain(container.addresses[0]), None)))
    link, _ = known.host.get(way.device if way else "", (None, []))
    if link is None or container.master is None or not link.is_ipvlan:
        return ""
    return link.name if link.parent == container.master.link.name else ""


def remedy(link: Link, master: Link, container: End, host: Sequence[str]) -> Iterator[Argv]:
    """Yield the commands that give the host an ipvlan interface, and routes by it.

    They do what hostAccess does, under another name: it would take away what it has not made.
    """
    name = f"ipvl{master.ifindex}"
    yield commands.link_add_ipvlan(master.name, name, link.mode, link.flag, 0)
    yield commands.link_set_up(name)
    yield commands.link_set_arp_off(name)
    for address in map(_plain, container.addresses):
        source = next((_plain(each) for each in host if _family(each) == _family(address)), "")
        words = ("src", source) if source else ()
        yield ("ip", "route", "replace", address, "dev", name, *words)
        if link.mode == "l2" and source:
            back = commands.neighbour_replace(source, master.mac, link.name)
            yield commands.in_namespace(container.place, back)


def _ways(node: Node, one: End, other: End, source: str, target: str) -> Iterator[Finding]:
    """Yield how packets leave, and how the answers would."""
    directions = [("way", one, target)]
    if other.is_here and source:
        directions.append(("way back", other, source))
    for what, end, address in directions:
        way = packets.way(_run(node, packets.way_to(address, end.place)))
        if way is None:
            text = f"{end.name} has no route to {address}"
            advice = "add it to the routes of ipam, or a default route"
            yield Finding(PROBLEM, what, text, advice)
            continue
        through = f" through {way.gateway}" if way.gateway else ""
        yield Finding(OK, what, f"{end.name} sends to {address} by {way.device}{through}")
    mode = one.attachment.link.mode if one.attachment else ""
    if mode in ("l3", "l3s") and not other.is_here:
        text = f"in mode {mode} nobody answers ARP for {source}"
        advice = f"the network must have a route to {source} through this host"
        yield Finding(WARNING, "way back", text, advice)


def _tried(node: Node, one: End, target: str) -> Finding:
    done = _run(node, packets.ping(target, one.place))
    if done.status == 0:
        return Finding(OK, "tried", f"{target} answers {one.name}")
    advice = f"ipvlan probe --netns {one.place.path} --to {target}" if one.place else ""
    return Finding(PROBLEM, "tried", f"{target} does not answer {one.name}", advice)


def _run(node: Node, query: Command) -> Completed:
    return packets.run_all(node.runner, [query])[0]


def _is_called(attachment: Attachment, name: str, netns: Namespace | None) -> bool:
    if attachment.place is None:
        return False
    if netns is not None and attachment.place.identity == netns.identity:
        return True
    return attachment.owner is not None and is_called(attachment.owner.container_id, name)


def _have_same_master(one: End, other: End | None) -> bool:
    masters = [end.master.key if end and end.master else None for end in (one, other)]
    return masters[0] is not None and masters[0] == masters[1]


def _usable(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in addresses if not ip_interface(each).is_link_local)


def _has(addresses: Sequence[str] | Iterable[str], address: str) -> bool:
    wanted = ip_address(address)
    return any(ip_interface(each).ip == wanted for each in addresses)


def _family(address: str) -> int:
    return ip_interface(address).version


def _plain(address: str) -> str:
    return address.partition("/")[0]
