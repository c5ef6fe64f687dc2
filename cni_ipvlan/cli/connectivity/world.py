"""What is on this node: all namespaces that can be looked into, and their interfaces."""

from __future__ import annotations

import os
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address, ip_interface
from typing import Any

import click

from cni_ipvlan.cli import configs, options
from cni_ipvlan.cli.attachments import drop_link_local, matches_container
from cni_ipvlan.config.netconf import DEFAULT_DATA_DIR
from cni_ipvlan.iproute import commands, machine, namespace, queries
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import ProgramNotFoundError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import host_local, inventory
from cni_ipvlan.plugin.addressing import parse_address
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.attachment import AttachmentId, Record

_SEARCH_SECONDS = 5.0
_ON_A_MASTER = (*queries.IPVLAN_KINDS, "macvlan", "macvtap", "vlan")  # whose frames it carries
_MOST_TAGS = 4  # more than two are a circle of what may look like masters
_MISSING = Completed(127, b"", b"", 0.0, was_run=False)  # as of a shell


@dataclass(eq=False)
class Side:
    """A network namespace, and its interfaces by name."""

    world: World
    netns: Namespace | None
    ports: dict[str, Port] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.netns.path if self.netns else "the host"

    @property
    def usual(self) -> list[str]:
        """The usual addresses of all its interfaces but the loopback."""
        return [each for port in self.ports.values() if not port.is_loopback for each in port.usual]

    def has(self, address: str) -> bool:
        """Whether one of its interfaces has an address, which may be empty."""
        return bool(address) and any(each.has(address) for each in self.ports.values())

    @cached_property
    def _names(self) -> dict[int, str]:
        listed = self.entries("ip", "-j", "netns", "list-id")
        return {each["nsid"]: each.get("name", "") for each in listed}

    def numbered(self, number: int | None) -> list[Side]:
        """Return what has the number that the kernel gives a namespace here; without, host and it.

        A number may stand for each of the namespaces that have no name.
        """
        if number is None:
            return [self.world.host, self]
        name, sides = self._names.get(number, ""), self.world.sides
        if not name:
            return [each for each in sides if not (each.netns and each.netns.name)]
        with suppress(OSError):  # it is gone
            wanted, own = namespace.identity_of(f"/run/netns/{name}"), namespace.own()
            return [s for s in sides if wanted == (s.netns.identity if s.netns else own)]
        return []

    def shell(self, *argv: str) -> str:
        """Return a command as it is typed on the host."""
        return commands.in_shell(commands.in_namespace(self.netns, argv))

    def answer(self, argv: Argv) -> Completed:
        """Run a command."""
        return self.world.ask((self, argv))[0]

    def lookup(self, address: str, **words: str) -> queries.RouteLookup:
        """Return how packets to an address leave, or with ``iif``, what becomes of those."""
        done = self.answer(commands.route_get(address, **words))
        return queries.route_lookup(b"" if done.status else done.stdout, done.stderr)

    def entries(self, *argv: str) -> list[dict[str, Any]]:
        """Return what ip prints as JSON, nothing if it fails."""
        done = self.answer(argv)
        found = [] if done.status else queries.entries(done.stdout)
        return [each for each in found if each]

    def sysctl(self, key: str) -> int:
        """Return a kernel parameter that is a number; 0 if there is none."""
        value = self.answer(commands.sysctl_read(key)).stdout.strip()
        return int(value) if value.isdigit() else 0

    def write(self, key: str, value: int) -> str:
        """Return the command that sets a kernel parameter, as it is typed on the host."""
        return self.shell("sh", "-c", f"echo {value} >/proc/sys/{key}")


@dataclass(eq=False)
class Port:
    """An interface in its namespace; ``record`` is root's of the attachment that it belongs to."""

    side: Side
    link: Link
    owner: AttachmentId | None
    record: Record | None

    def __str__(self) -> str:
        return f"{self.link.name} {'in' if self.side.netns else 'of'} {self.side}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is the loopback, to which others may send by another interface."""
        return self.link.name == "lo"

    @property
    def is_l3(self) -> bool:
        """Whether it is an ipvlan interface in mode l3 or l3s, which has no neighbours."""
        return self.link.mode in ("l3", "l3s")

    @property
    def usual(self) -> list[str]:
        """Its addresses, but for IPv6's link-local ones and those that another host has."""
        return drop_link_local(
            each.address for each in self.link.addresses if not each.is_duplicate
        )

    @property
    def plain(self) -> list[str]:
        """Its usual addresses without prefix lengths."""
        return [_plain(each) for each in self.usual]

    def has(self, address: str) -> bool:
        """Whether it has an address by which others may ask for it."""
        wanted = ip_address(_plain(address))
        own = (_plain(each.address) for each in self.link.addresses)
        return not wanted.is_loopback and str(wanted) in own

    @property
    def described(self) -> str:
        """A phrase that names it, its namespace and its container."""
        pod = self.record.pod if self.record else ""
        return Attachment(self.link, self.side.netns, self.owner, (), pod).describe()

    def set_link(self, *words: str) -> str:
        """Return the command that sets something of it, as it is typed on the host."""
        return self.side.shell(*commands.link_set(self.link.name, *words))

    @cached_property
    def details(self) -> dict[str, Any]:
        """What is set for it as a link of its kind, and as a port."""
        (shown, *_) = self.side.entries(*commands.link_show(self.link.name)) or [{}]
        info = shown.get("linkinfo", {})
        return {**info.get("info_data", {}), **info.get("info_slave_data", {})}

    def set_port(self, *words: str) -> str:
        """Return the command that sets something of it as a port of a bridge."""
        return self.side.shell("bridge", "link", "set", "dev", self.link.name, *words)

    @cached_property
    def members(self) -> dict[int, list[str]] | None:
        """The VLANs that a bridge, or a port of one, is in, with flags of each, if it filters."""
        bridge = self.upper or self
        if bridge.link.kind != "bridge" or not bridge.details.get("vlan_filtering"):
            return None
        shown = self.side.entries("bridge", "-j", "vlan", "show", "dev", self.link.name)
        return {vlan["vlan"]: vlan.get("flags", []) for each in shown for vlan in each["vlans"]}

    @cached_property
    def _linked(self) -> Port | None:
        """The interface that the kernel names with it, if it can be seen."""
        link, side = self.link, self.side
        for there in side.numbered(link.parent_netns):
            mutual = "veth", 0 if there is side else link.ifindex
            for each in there.ports.values():
                is_end = link.kind != "veth" or (each.link.kind, each.link.parent_index) == mutual
                if is_end and Master(each.link, there.netns).carries(link, side.netns):
                    return each
        return None

    @property
    def below(self) -> Port | None:
        """The interface below it, if it can be seen."""
        return None if self.link.kind == "veth" else self._linked

    @property
    def peer(self) -> Port | None:
        """The other end of a veth, if it can be seen."""
        return self._linked if self.link.kind == "veth" else None

    @cached_property
    def chain(self) -> list[Port]:
        """It, its master, and so on, as far as they can be seen."""
        found = [self]
        # The owner of a container may have two tunnels lead through each other.
        while (below := found[-1].below) and below not in found:
            found.append(below)
        return found

    @property
    def upper(self) -> Port | None:
        """The interface that it is a port of."""
        return self.side.ports.get(self.link.master)

    @property
    def is_idle(self) -> bool:
        """Whether it is a port of a bond that neither sends nor receives by it."""
        active = self.upper.details.get("active_slave") if self.upper else None
        return active not in (None, self.link.name)

    @property
    def by(self) -> str:
        """Its name if it is in a VRF, where only what names it is sent; else empty."""
        return self.link.name if self.upper and self.upper.link.kind == "vrf" else ""

    @property
    def outwards(self) -> list[Port]:
        """It and those below it, the other end of the lowest, and the bridge of that."""
        peer = self.chain[-1].peer
        return [each for each in (*self.chain, peer, peer and peer.upper) if each]

    @property
    def vlans(self) -> str:
        """The VLANs that it is in, the innermost first."""
        found = [f"VLAN {each.link.vlan}" for each in self.chain if each.link.vlan]
        return " in ".join(found) or "no VLAN"

    def touching(self, tags: tuple[int, ...]) -> Iterator[tuple[Port, tuple[int, ...]]]:
        """Yield what frames with these VLAN tags get to from it, next to it, and with which."""
        here = self.side.ports.values()
        ports = (each for each in here if each.upper is self and not each.is_idle)
        near = [self.peer, None if self.is_idle else self.upper, *ports]
        # Of a bond's ports, those that work come first.
        for each in sorted(filter(None, near), key=lambda each: not each.link.has_carrier):
            if "vrf" not in (each.link.kind, self.link.kind):
                yield each, tags
            # A bridge that filters VLANs may give and take a tag.
            of = each.members if each.upper is self else self.members
            for vlan, flags in (of or {}).items():
                if each is self.upper and not tags and "PVID" in flags:
                    yield each, (vlan,)
                elif each.upper is self and tags[-1:] == (vlan,) and "Egress Untagged" in flags:
                    yield each, tags[:-1]
        if self.below and self.link.kind in _ON_A_MASTER:
            yield self.below, (*tags, self.link.vlan) if self.link.vlan else tags
        for each in self.side.world.above[self]:
            if not each.link.vlan:
                yield each, tags
            elif tags[-1:] == (each.link.vlan,):
                yield each, tags[:-1]

    @cached_property
    def joined(self) -> dict[Port, dict[Port, tuple[int, ...]]]:
        """What its frames reach without a router: the interfaces passed, with the tags there."""
        start: tuple[Port, tuple[int, ...]] = (self, ())
        ways = {start: dict([start])}
        waiting = deque([start])
        while waiting:
            reached = waiting.popleft()
            for step in reached[0].touching(reached[1]):
                if step not in ways and len(step[1]) <= _MOST_TAGS:
                    ways[step] = {**ways[reached], step[0]: step[1]}
                    waiting.append(step)
        return {port: way for (port, tags), way in ways.items() if not tags}

    def is_beside(self, other: Port) -> bool:
        """Whether both are ipvlan interfaces of one master."""
        both = self.link.is_ipvlan and other.link.is_ipvlan
        return both and self.below is not None and self.below is other.below


class World:
    """The host's and all other namespaces; ``unseen`` says what could not be looked into.

    Those that ``words`` name are looked into first, as there may be too many; those that they
    surely name are ``meant``. ``recorded`` are root's records, by attachment and namespace, and
    ``missing`` the capabilities that are needed.
    """

    def __init__(self, node: Node, *words: str) -> None:
        self._runner = node.runner
        self.recorded: dict[object, Record] = {
            (each.attachment, each.netns_identity): each for each in node.registry.all_records()
        }
        self.meant: dict[str, Namespace] = {}
        for word in words:
            with suppress(OSError, ValueError, namespace.NotANamespaceError, click.UsageError):
                self.meant[word] = namespace.find(options.resolve_netns(word))
        first = {each.identity for each in self.meant.values()}
        for each in self.recorded.values():
            if any(matches_container(each.container_id, each.pod, word) for word in words):
                first.add(each.netns_identity)
        self.host = Side(self, None)
        sides: dict[Namespace | None, Side] = {None: self.host}
        deadline = time.monotonic() + _SEARCH_SECONDS
        tx = Transaction(node.runner)
        self.missing, self.unseen = machine.missing_capabilities(), list[str]()
        wanted = (None,), self.unseen.append, deadline
        for link, netns, owner, *_ in inventory.search(tx, node.registry, *wanted, first=first):
            side = sides.setdefault(netns, Side(self, netns))
            record = self.recorded.get((owner, netns and netns.identity))
            side.ports[link.name] = Port(side, link, owner, record)
        self.sides = [*sides.values()]
        if time.monotonic() > deadline:
            self.unseen.append("other namespaces, since it took too long")

    @property
    def not_looked(self) -> str:
        """A phrase that says what could not be looked into."""
        return f"not looked into: {'; '.join(self.unseen)}"

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

    def has(self, program: str) -> bool:
        """Whether a program is there."""
        try:
            self._runner.find(program)
        except ProgramNotFoundError:
            return False
        return True

    @cached_property
    def ports(self) -> list[Port]:
        """All interfaces but loopbacks."""
        return [port for side in self.sides for port in side.ports.values() if not port.is_loopback]

    @cached_property
    def above(self) -> dict[Port, list[Port]]:
        """The interfaces whose frames each carries."""
        found: dict[Port, list[Port]] = defaultdict(list)
        for each in self.ports:
            if each.below and each.link.kind in _ON_A_MASTER:
                found[each.below].append(each)
        return found

    def holders(self, address: str, near: Port | None = None) -> list[Port]:
        """Return the interfaces that have an address, but for a side's own if it looks for it.

        Those on the network of ``near`` come first, loopbacks last.
        """
        others = (side for side in self.sides if near is None or side is not near.side)
        found = [port for side in others for port in side.ports.values() if port.has(address)]
        joined, bottom = (near.joined, near.chain[-1]) if near else (found, None)

        def distance(each: Port) -> tuple[bool, bool, bool]:
            return each.is_loopback, each not in joined, each.chain[-1] is not bottom

        return sorted(found, key=distance)

    def lessee(self, address: str) -> str:
        """Return the container to which host-local has leased an address, or empty."""
        names = configs.list_directory(DEFAULT_DATA_DIR)
        stores = (os.path.join(DEFAULT_DATA_DIR, name) for name in names)
        # Only those with a file of that name: there may be thousands in the others.
        having = (each for each in stores if os.path.lexists(os.path.join(each, address)))
        leases = (each for store in having for each in host_local.leases(store))
        return next((each.container_id for each in leases if each.address == address), "")


def of_family(like: str, addresses: Iterable[str]) -> list[str]:
    """Return the addresses of the family of another one, without prefix lengths."""
    return [_plain(each) for each in addresses if (":" in each) == (":" in like)]


def is_address(word: str) -> bool:
    """Whether a word is an IP address."""
    return "/" not in word and parse_address(word) is not None


def is_near(address: str, usual: Iterable[str]) -> bool:
    """Whether an address is in a subnet of those, which have prefix lengths."""
    return any(ip_address(address) in ip_interface(each).network for each in usual)


def _plain(address: str) -> str:
    return address.partition("/")[0]
