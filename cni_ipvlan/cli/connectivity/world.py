"""What is on this node: all namespaces that can be looked into, and which end a word names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address, ip_interface
from shlex import join
from typing import Any, NamedTuple

import click

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.attachments import is_named
from cni_ipvlan.iproute import commands, namespace, packets, queries
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Address, Link
from cni_ipvlan.iproute.runner import ProgramNotFoundError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin.inventory import Attachment, Owners
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.attachment import Record, described

_SEARCH_SECONDS = 5.0
_NAMED = 10  # of many
_AT_A_TIME = 16  # namespaces that are asked side by side
_MISSING = Completed(127, b"", b"", 0.0, was_run=False)  # as of a shell


class Side(NamedTuple):
    """A network namespace, and its interfaces by name."""

    netns: Namespace | None
    ports: dict[str, Port]

    def __str__(self) -> str:
        return self.netns.path if self.netns else "the host"

    def shell(self, *argv: str) -> str:
        """Return a command as it is typed on the host."""
        return join(commands.in_namespace(self.netns, argv))


class Port(NamedTuple):
    """An interface in its namespace."""

    side: Side
    link: Link
    addresses: Sequence[Address]

    def __str__(self) -> str:
        return f"{self.link.name} {'in' if self.side.netns else 'of'} {self.side}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is the loopback, to which others may send by another interface."""
        return self.link.name == "lo"

    @property
    def usual(self) -> tuple[str, ...]:
        """Its addresses, but for link-local ones and those that another host has."""
        kept = (each.address for each in self.addresses if not each.is_duplicate)
        return tuple(each for each in kept if not ip_interface(each).is_link_local)

    def plain(self, like: str = "") -> list[str]:
        """Return its usual addresses without prefix lengths, of the family of one if given."""
        return of_family(like, self.usual) if like else [_plain(each) for each in self.usual]


class End(NamedTuple):
    """One end; ``side`` is None for an address elsewhere, ``port`` for one and for the host.

    ``is_exact`` is whether a word has named the address.
    """

    name: str
    addresses: tuple[str, ...]
    side: Side | None = None
    port: Port | None = None
    is_exact: bool = False


class World:
    """The host's and all other namespaces; ``unseen`` says what could not be looked into."""

    def __init__(self, node: Node) -> None:
        self._runner = node.runner
        try:
            self._records: list[Record] = list(node.registry.all_records())
        except PermissionError:
            self._records = []
        self.owners = Owners(self._records)
        places = sorted(
            namespace.others(), key=lambda each: each.identity not in self.owners.places
        )
        self.host = self._sides([None])[0]
        self.sides = [self.host]
        deadline = time.monotonic() + _SEARCH_SECONDS
        while places and time.monotonic() < deadline:
            self.sides += self._sides(places[:_AT_A_TIME])
            del places[:_AT_A_TIME]
        self.unseen = f"{len(places)} namespaces, since it took too long" if places else ""

    def _sides(self, places: Sequence[Namespace | None]) -> list[Side]:
        sides = [Side(netns, {}) for netns in places]
        answers = self.ask(*((side, commands.address_show()) for side in sides))
        for side, done in zip(sides, answers, strict=True):
            if done.status == 0:  # else it is gone, or not permitted
                for link in queries.links(done.stdout):
                    side.ports[link.name] = Port(side, link, link.addresses)
        return [side for side in sides if side.ports]

    def ask(self, *questions: tuple[Side, Argv]) -> list[Completed]:
        """Run commands side by side; one whose program is missing has not been run."""
        running = [
            self._runner.start(Command(argv, netns=side.netns, accept=commands.ANY))
            if self.has(argv[0])
            else None
            for side, argv in questions
        ]
        answers = [self._runner.finish(each) if each else _MISSING for each in running]
        self._runner.interrupts.check()
        return answers

    def answer(self, side: Side, argv: Argv) -> Completed:
        """Run one command."""
        return self.ask((side, argv))[0]

    def entries(self, side: Side, *argv: str) -> list[dict[str, Any]]:
        """Return what ip prints as JSON, nothing if it fails."""
        done = self.answer(side, argv)
        return packets.entries(done) if done.status == 0 else []

    def has(self, program: str) -> bool:
        """Whether a program is there."""
        try:
            self._runner.find(program)
        except ProgramNotFoundError:
            return False
        return True

    def sysctl(self, side: Side, key: str) -> int:
        """Return a kernel parameter that is a number; 0 if there is none."""
        value = self.answer(side, commands.sysctl_read(key)).stdout.strip()
        return int(value) if value.isdigit() else 0

    @cached_property
    def ports(self) -> list[Port]:
        """All interfaces but loopbacks."""
        return [port for side in self.sides for port in side.ports.values() if not port.is_loopback]

    def holders(self, address: str, near: Port | None = None) -> list[Port]:
        """Return the interfaces that have an address, but for a side's own if it looks for it.

        Those with the master of ``near`` come first, loopbacks last.
        """
        wanted = ip_address(_plain(address))
        found = [
            port
            for side in self.sides
            for port in (() if wanted.is_loopback else side.ports.values())
            if any(ip_interface(each.address).ip == wanted for each in port.addresses)
            and (near is None or near.side is not side)
        ]
        bottom = self.chain(near)[-1] if near else None
        return sorted(found, key=lambda p: (p.is_loopback, self.chain(p)[-1] is not bottom))

    def master(self, port: Port) -> Port | None:
        """Return the interface below another, if it can be seen."""
        link = port.link
        if link.kind == "veth" or not (link.parent or link.parent_index):
            return None
        for side in (self.host, port.side):
            for each in side.ports.values():
                if Master(each.link, side.netns).carries(link, port.side.netns):
                    return each
        return None

    def chain(self, port: Port) -> list[Port]:
        """Return an interface, its master, and so on, as far as they can be seen."""
        below = self.master(port)
        return [port, *(self.chain(below) if below else ())]

    def peer(self, port: Port) -> Port | None:
        """Return the other end of a veth, if it can be seen."""
        link, indexes = port.link, (port.link.parent_index, port.link.ifindex)
        if link.kind != "veth" or link.parent:
            return port.side.ports.get(link.parent) if link.kind == "veth" else None
        others = (each for each in self.ports if each.side is not port.side)
        veths = (each for each in others if each.link.kind == "veth")
        return next(
            (each for each in veths if (each.link.ifindex, each.link.parent_index) == indexes), None
        )

    def are_beside(self, one: Port, other: Port) -> bool:
        """Whether both are ipvlan interfaces of one master."""
        master = self.master(one)
        both = one.link.is_ipvlan and other.link.is_ipvlan
        return both and master is not None and self.master(other) is master

    def are_connected(self, one: Port, other: Port) -> bool:
        """Whether two interfaces, or their other ends, are one, or ports of one bridge."""
        joints = []
        for end in (one, other):
            ports = [each for each in (end, self.peer(end)) if each]
            bridges = ((id(each.side), each.link.master) for each in ports if each.link.master)
            joints.append({*bridges, *((id(each.side), each.link.name) for each in ports)})
        return bool(joints[0] & joints[1])

    def connected(self, port: Port, side: Side) -> Port | None:
        """Return the interface of a side that is on the network of another."""
        bottom = self.chain(port)[-1]
        return next(
            (p for p in side.ports.values() if self.are_connected(bottom, self.chain(p)[-1])), None
        )

    def described(self, port: Port) -> str:
        """Return a phrase that names an interface, its namespace and its container."""
        owner = self.owners.of(port.link, port.side.netns)
        pod = self.owners.pod_of(owner, port.side.netns)
        return Attachment(port.link, port.side.netns, owner, (), pod).describe()

    def ends(self, word: str, netns: Namespace | None, ifname: str = "") -> list[End]:
        """Return what a word names: the host, an address, the interfaces of a container.

        By default these are its ipvlan interfaces, or else those with an address; raises UsageError
        if there are none.
        """
        if word == "host" or (netns and netns.identity == namespace.own()):
            own = (each for port in self.ports if port.side is self.host for each in port.usual)
            return [End("the host", tuple(own), self.host)]
        address = packets.address_in(word)
        if address:
            holders = self.holders(address)
            port = next((each for each in holders if each.link.is_ipvlan), (*holders, None)[0])
            if port is None:
                return [End(address, (address,))]
            if port.side is self.host:
                return [End("the host", (address,), self.host, is_exact=True)]
            on = None if port.is_loopback else port
            return [End(self.described(port), (address,), port.side, on, is_exact=True)]
        side = self._called(word, netns)
        inside = [each for each in self.ports if each.side is side]
        found = [each for each in inside if each.link.name == (ifname or each.link.name)]
        if not ifname:
            ours = [each for each in found if each.link.is_ipvlan]
            found = ours or [each for each in found if each.addresses]
        if not found:
            raise click.UsageError(self._why_unknown(word, netns, inside))
        return [End(self.described(each), each.usual, each.side, each) for each in found]

    def _called(self, word: str, netns: Namespace | None) -> Side | None:
        """Return the side that a word names; whole names and root's records come first.

        Raises UsageError if there are several.
        """
        if netns:
            return next((each for each in self.sides if _is_at(each.netns, netns.identity)), None)
        found = []
        for side, container_id, pod, is_recorded in self._containers():
            if is_named(container_id, pod, word):
                rank = is_recorded, word in (container_id, pod)
                found.append((rank, f"{described(container_id, pod)} in {side}", side))
        highest = max((rank for rank, *_ in found), default=None)
        best = {id(side): (text, side) for rank, text, side in found if rank == highest}
        if len(best) > 1:
            listed = "; ".join(sorted(text for text, _ in best.values())[:_NAMED])
            give = "give NAMESPACE/NAME, the whole ID or the namespace"
            raise click.UsageError(f"{word!r} is {len(best)} containers: {listed}; {give}")
        return next((side for _, side in best.values()), None)

    def _containers(self) -> Iterator[tuple[Side, str, str, bool]]:
        """Yield sides with a container's ID, its pod, and whether root or libcni recorded that."""
        recorded = {(each.attachment, each.netns_identity) for each in self._records}
        for port in self.ports:
            side, owner = port.side, self.owners.of(port.link, port.side.netns)
            if owner and side.netns:
                pod = self.owners.pod_of(owner, side.netns)
                yield side, owner.container_id, pod, (owner, side.netns.identity) in recorded
        sides = {each.netns.identity: each for each in self.sides if each.netns}
        for path, container_id, pod in configs.kept_containers():
            with suppress(OSError, ValueError, KeyError):  # it is gone
                yield sides[namespace.identity_of(path)], container_id, pod, True

    def record(self, port: Port) -> Record | None:
        """Return root's record of an interface, where it is."""
        owner, netns = self.owners.of(port.link, port.side.netns), port.side.netns
        at = (each for each in self._records if _is_at(netns, each.netns_identity))
        return next((each for each in at if each.attachment == owner), None)

    def _why_unknown(self, word: str, netns: Namespace | None, inside: Sequence[Port]) -> str:
        if os.geteuid():
            return f"only root can look into containers, such as {word!r}: use sudo"
        if inside:
            names = ", ".join(each.link.name for each in inside)
            return f"there is no such interface with an address in {inside[0].side}; it has {names}"
        for each in self._records:
            path = netns.path if netns else each.netns
            is_there = namespace.leads_to(path, each.netns_identity)
            names_of = (each.netns, os.path.basename(each.netns))
            is_meant = word in names_of or is_named(each.container_id, each.pod, word)
            if is_there and (netns or is_meant):
                text = f"{each.ifname} of the container {each.container_id} is gone from {path}"
                return f"{text}: its master was removed, or it was deleted; delete the attachment"
            if is_meant and not netns:
                text = f"the container {each.container_id} is gone, or its namespace is hidden"
                why = f"{path} does not lead there; ipvlan show lists what is left of it"
                return f"{text}: {why}"
        if netns:
            return f"there is no interface with an address in {netns.path}"
        return (
            f"{word!r} is not host, an address, a namespace, a container's ID, or a pod; "
            "ipvlan show lists them"
        )


def _is_at(netns: Namespace | None, identity: tuple[int, int]) -> bool:
    return netns is not None and netns.identity == identity


def of_family(like: str, addresses: Sequence[str]) -> list[str]:
    """Return the addresses of the family of another one, without prefix lengths."""
    return [_plain(each) for each in addresses if (":" in each) == (":" in like)]


def _plain(address: str) -> str:
    return address.partition("/")[0].partition("%")[0]
