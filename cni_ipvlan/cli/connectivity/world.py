"""What is on this node: all namespaces that can be looked into, and which end a word names."""

from __future__ import annotations

import os
import time
from ipaddress import ip_address, ip_interface
from shlex import join
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.attachments import is_called
from cni_ipvlan.iproute import commands, namespace, packets, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import ProgramNotFoundError
from cni_ipvlan.plugin.inventory import Attachment, Owners
from cni_ipvlan.plugin.master import Master

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Address, Link
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import ModeHint

_SEARCH_SECONDS = 5.0
_AT_A_TIME = 16  # namespaces that are asked side by side
_KEPT_APART = (*queries.IPVLAN_KINDS, "macvlan", "macvtap")  # from the host on their master
_LONGEST_CHAIN = 4  # an interface, its master, the master's below it, ...


class UnknownEndError(Exception):
    """A word that names no end, or an interface that is not there; the message is a sentence."""


class Side(NamedTuple):
    """A network namespace and its interfaces by name; ``raw`` is what ip prints of them."""

    place: Namespace | None
    links: dict[str, tuple[Link, list[Address]]]
    raw: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return self.place.path if self.place else "the host"

    def shell(self, argv: Argv) -> str:
        """Return a command as it is typed on the host."""
        return join(commands.in_namespace(self.place, argv))


class Port(NamedTuple):
    """An interface in its place."""

    side: Side
    link: Link
    addresses: Sequence[Address] = ()

    def __str__(self) -> str:
        return f"{self.link.name} of the host" if not self.side.place else self.inside

    @property
    def inside(self) -> str:
        """Its name and place."""
        return f"{self.link.name} in {self.side}"

    @property
    def raw(self) -> dict[str, Any]:
        """What ip prints of it."""
        return self.side.raw[self.link.name]

    @property
    def plain(self) -> tuple[str, ...]:
        """Its usual addresses, without prefix lengths."""
        return tuple(each.partition("/")[0] for each in self.usual)

    @property
    def usual(self) -> tuple[str, ...]:
        """Its addresses, but for link-local ones and those that another host has."""
        return tuple(
            each.address
            for each in self.addresses
            if not ip_interface(each.address).is_link_local and not each.is_duplicate
        )

    def is_at(self, other: Port) -> bool:
        """Whether both are the same interface."""
        return self.side is other.side and self.link.ifindex == other.link.ifindex


class End(NamedTuple):
    """One end; ``side`` is None for an address elsewhere, ``port`` for one and for the host.

    ``addresses`` are without link-local ones; ``is_exact`` is whether a word has named one.
    """

    name: str
    addresses: tuple[str, ...]
    side: Side | None = None
    port: Port | None = None
    is_exact: bool = False


class World:
    """The host's and all other namespaces; ``unseen`` says what could not be looked into."""

    def __init__(self, node: Node) -> None:
        self.runner = node.runner
        self.unseen: dict[str, str] = {}  # sentences with what to try
        try:
            self.hints: list[ModeHint] = list(node.registry.all_hints())
        except PermissionError:
            self.hints = []
        self.owners = Owners(self.hints)
        places = sorted(
            namespace.others(), key=lambda each: each.identity not in self.owners.places
        )
        self.host = self._sides([None])[0]
        self.sides = [self.host]
        deadline = time.monotonic() + _SEARCH_SECONDS
        while places and time.monotonic() < deadline:
            self.sides += self._sides(places[:_AT_A_TIME])
            del places[:_AT_A_TIME]
        if os.geteuid():
            text = "only root can look into containers and ask from there"
            self.unseen[text] = "run the same command with sudo"
        elif places:
            self.unseen[f"{len(places)} namespaces were not searched, since it took too long"] = ""

    def ask(self, *questions: tuple[Side, Argv]) -> list[Completed | None]:
        """Run commands side by side; None for one whose program is missing."""
        there = [each for each in questions if self.has(each[1][0])]
        asked = [Command(argv, inside=side.place, any_status=True) for side, argv in there]
        answers = iter(packets.run_all(self.runner, asked))
        return [next(answers) if each in there else None for each in questions]

    def entries(self, side: Side, argv: Argv) -> list[dict[str, Any]]:
        """Return what ip prints as JSON, nothing if it fails."""
        done = self.ask1(side, argv)
        return packets.entries(done) if done and done.status == 0 else []

    def has(self, program: str) -> bool:
        """Whether a program is there."""
        try:
            self.runner.find(program)
        except ProgramNotFoundError:
            return False
        return True

    def ask1(self, side: Side, argv: Argv) -> Completed | None:
        """Run one command."""
        return self.ask((side, argv))[0]

    def read(self, side: Side, argv: Argv) -> bytes:
        """Return what a query prints, nothing if it fails."""
        done = self.ask1(side, argv)
        return done.stdout if done and done.status == 0 else b""

    def sysctl(self, side: Side, key: str) -> int:
        """Return a kernel parameter that is a number; 0 if there is none."""
        value = self.read(side, commands.sysctl_read(key)).strip()
        return int(value) if value.isdigit() else 0

    def ports(self) -> Iterator[Port]:
        """Yield all interfaces but loopbacks."""
        for side in self.sides:
            for link, addresses in side.links.values():
                if link.name != "lo":
                    yield Port(side, link, addresses)

    def holders(self, address: str, near: Port | None = None) -> list[Port]:
        """Return the interfaces that have an address; first those with the master of ``near``."""
        wanted = ip_address(address.partition("%")[0])
        found = [
            port
            for port in self.ports()
            if any(ip_interface(each.address).ip == wanted for each in port.addresses)
        ]
        if near is None:
            return found
        bottom = self.chain(near)[-1]
        others = [each for each in found if each.side is not near.side]
        return sorted(others, key=lambda port: not self.chain(port)[-1].is_at(bottom))

    def chain(self, port: Port) -> list[Port]:
        """Return an interface, its master, and so on, as far as they can be seen."""
        found = [port]
        while len(found) < _LONGEST_CHAIN:
            below = self._below(found[-1])
            if below is None:
                break
            found.append(below)
        return found

    def _below(self, port: Port) -> Port | None:
        if port.link.kind == "veth" or not (port.link.parent or port.link.parent_index):
            return None
        for home in (self.host, port.side):
            for link, addresses in home.links.values():
                if Master(link, home.place).carries(port.link, port.side.place):
                    return Port(home, link, addresses)
        return None

    def peer(self, port: Port) -> Port | None:
        """Return the other end of a veth, if it can be seen."""
        link = port.link
        for other in self.ports() if link.kind == "veth" else ():
            is_pair = (link.ifindex, link.parent_index) == (
                other.link.parent_index,
                other.link.ifindex,
            )
            if link.parent:
                is_pair = other.side is port.side and other.link.name == link.parent
            if is_pair and other.link.kind == "veth" and not other.is_at(port):
                return other
        return None

    def has_master(self, port: Port, master: Port) -> bool:
        """Whether an interface is on a master, of the kinds that the kernel keeps apart from it."""
        below = self.chain(port)[1:2]
        return bool(below) and port.link.kind in _KEPT_APART and below[0].is_at(master)

    def are_beside(self, one: Port, other: Port) -> bool:
        """Whether both are ipvlan interfaces of one master."""
        return one.link.is_ipvlan and any(
            self.has_master(other, master) for master in self.chain(one)[1:2]
        )

    def beside(self, master: Port) -> list[Port]:
        """Return the ipvlan interfaces that a host itself has on its master."""
        own = (each for each in self.ports() if each.side is master.side and each.link.is_ipvlan)
        return [each for each in own if self.has_master(each, master)]

    def are_connected(self, one: Port, other: Port) -> bool:
        """Whether two interfaces, or their other ends, are one, or ports of one bridge."""
        joints = []
        for end in (one, other):
            peer = self.peer(end)
            ports = [end, *([peer] if peer else [])]
            names = {(id(each.side), each.link.name) for each in ports}
            names |= {(id(each.side), each.raw["master"]) for each in ports if "master" in each.raw}
            joints.append(names)
        return bool(joints[0] & joints[1])

    def described(self, port: Port) -> str:
        """Return a phrase that names an interface, its place and its container."""
        owner = self.owners.of(port.link, port.side.place)
        pod = self.owners.pod_of(owner, port.side.place)
        return Attachment(port.link, port.side.place, owner, (), pod).describe()

    def _sides(self, places: Sequence[Namespace | None]) -> list[Side]:
        asked = [
            Command(commands.address_show_all(), inside=place, any_status=True) for place in places
        ]
        found = []
        for place, done in zip(places, packets.run_all(self.runner, asked), strict=True):
            if done.status:
                continue  # gone, or not permitted
            links = {pair[0].name: pair for pair in queries.links_with_addresses(done.stdout)}
            raw = {each["ifname"]: each for each in packets.entries(done)}
            found.append(Side(place, links, raw))
        return found

    # Ends

    def ends(self, word: str, place: Namespace | None) -> list[End]:
        """Return what a word names: the host, an address, the interfaces of a container.

        Raises UnknownEndError.
        """
        if word == "host" or (place and place.identity == namespace.own()):
            addresses = (
                each for port in self.ports() if not port.side.place for each in port.usual
            )
            return [End("the host", tuple(addresses), self.host)]
        address = packets.address_in(word)
        if address:
            return [self._at(address)]
        inside = [each for each in self.ports() if self._is_called(each, word, place)]
        ours = [each for each in inside if each.link.is_ipvlan] or [
            each for each in inside if each.addresses or each.link.kind in ("macvlan", "veth")
        ]
        if not ours:
            raise UnknownEndError(self._why_unknown(word, place, inside))
        return [self._end(each) for each in ours]

    def _end(self, port: Port, address: str = "") -> End:
        addresses = (address,) if address else port.usual
        return End(self.described(port), addresses, port.side, port, is_exact=bool(address))

    def _at(self, address: str) -> End:
        holders = self.holders(address)
        if not holders:
            return End(address, (address,))
        port = next((each for each in holders if each.link.is_ipvlan), holders[0])
        if port.side.place is None:
            return End("the host", (address,), self.host, is_exact=True)
        return self._end(port, address)

    def _is_called(self, port: Port, word: str, place: Namespace | None) -> bool:
        there = port.side.place
        if there is None:
            return False
        if place is not None:
            return there.identity == place.identity
        names = [
            (hint.container_id, hint.pod)
            for hint in self.hints
            if hint.netns_identity == there.identity and hint.ifname == port.link.name
        ]
        owner = self.owners.of(port.link, there)
        names += [(owner.container_id, "")] if owner else []
        return any(
            is_called(name, word) or (pod and word in (pod, pod.rpartition("/")[2]))
            for name, pod in names
        )

    def _why_unknown(self, word: str, place: Namespace | None, inside: Sequence[Port]) -> str:
        if os.geteuid():
            return f"only root can look into containers, such as {word!r}; use sudo"
        if place:
            others = ", ".join(each.link.name for each in inside)
            return f"there is no interface with an address in {place.path}" + (
                f"; it has {others}" if others else ""
            )
        gone = (
            hint
            for hint in self.hints
            if is_called(hint.container_id, word)
            or word in hint.pod.split("/")
            or (hint.netns in (word, f"/run/netns/{word}", f"/var/run/netns/{word}"))
        )
        for hint in gone:
            return (
                f"the container {hint.container_id} is gone, or its namespace is hidden: "
                f"{hint.netns} does not lead there; ipvlan show lists what is left of it"
            )
        return (
            f"{word!r} is not host, an address, a namespace, a container's ID, or a pod; "
            "ipvlan show lists them"
        )


def chosen(
    ends: Sequence[End], is_wanted: Callable[[End], bool], otherwise: End | None = None
) -> End:
    """Return the first end that is wanted, else another."""
    return next(filter(is_wanted, ends), otherwise or ends[0])
