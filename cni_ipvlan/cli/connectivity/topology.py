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
# Kinds of interfaces whose frames their parent carries.
_CHILD_KINDS = (*queries.IPVLAN_KINDS, *queries.MACVLAN_KINDS, "vlan")
_MOST_TAGS = 4  # more than two are a circle of what may look like masters
_NOT_RUN = Completed(127, b"", b"", 0.0, was_run=False)  # 127 as a shell has it


@dataclass(eq=False)
class Side:
    """A network namespace, and its interfaces by name."""

    topology: Topology
    netns: Namespace | None
    ports: dict[str, Port] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.netns.path if self.netns else "the host"

    @property
    def addresses(self) -> list[str]:
        """The addresses of all its interfaces but the loopback."""
        ports = (each for each in self.ports.values() if not each.is_loopback)
        return [address for port in ports for address in port.addresses]

    def has_address(self, address: str) -> bool:
        """Whether one of its interfaces has an address, which may be empty."""
        return bool(address) and any(each.has_address(address) for each in self.ports.values())

    @cached_property
    def _namespace_names(self) -> dict[int, str]:
        entries = self.entries("ip", "-j", "netns", "list-id")
        return {each["nsid"]: each.get("name", "") for each in entries}

    def find_sides(self, number: int | None) -> list[Side]:
        """Return the sides that may have a number that the kernel gives a namespace here.

        A number may stand for each of the namespaces that have no name. Without a number, they are
        the host and this side.
        """
        if number is None:
            return [self.topology.host, self]
        name, sides = self._namespace_names.get(number, ""), self.topology.sides
        if not name:
            return [each for each in sides if not (each.netns and each.netns.name)]
        with suppress(OSError):  # it is gone
            identity = namespace.identity_of(f"/run/netns/{name}")
            own = namespace.own_identity()
            return [e for e in sides if (e.netns.identity if e.netns else own) == identity]
        return []

    def command(self, *argv: str) -> str:
        """Return a command as it is typed on the host."""
        return commands.in_shell(commands.in_namespace(self.netns, argv))

    def run(self, argv: Argv) -> Completed:
        """Run a command."""
        return self.topology.ask((self, argv))[0]

    def get_route(self, address: str, **words: str) -> queries.RouteLookup:
        """Return how packets to an address leave, or with ``iif``, what becomes of those."""
        completed = self.run(commands.route_get(address, **words))
        return queries.route_lookup(b"" if completed.status else completed.stdout, completed.stderr)

    def entries(self, *argv: str) -> list[dict[str, Any]]:
        """Return what ip prints as JSON, nothing if it fails."""
        completed = self.run(argv)
        entries = [] if completed.status else queries.entries(completed.stdout)
        return [each for each in entries if each]

    def read_sysctl(self, key: str) -> int:
        """Return a kernel parameter that is a number; 0 if there is none."""
        value = self.run(commands.sysctl_read(key)).stdout.strip()
        return int(value) if value.isdigit() else 0

    def sysctl_command(self, key: str, value: int) -> str:
        """Return the command that sets a kernel parameter, as it is typed on the host."""
        return self.command("sh", "-c", f"echo {value} >/proc/sys/{key}")


@dataclass(eq=False)
class Port:
    """An interface in its namespace, whether or not it is a port of a bridge.

    ``owner`` is the attachment that it belongs to, ``record`` root's record of that.
    """

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
    def addresses(self) -> list[str]:
        """Its addresses, without IPv6's link-local ones and those that another host has, too.

        They have prefix lengths; ``ips`` are the same without. Those with a lifetime come last.
        """
        addresses = sorted(self.link.addresses, key=lambda each: each.is_dynamic)
        return drop_link_local(each.address for each in addresses if not each.is_duplicate)

    @property
    def ips(self) -> list[str]:
        """Its addresses without prefix lengths."""
        return [_strip_prefix(each) for each in self.addresses]

    def has_address(self, address: str) -> bool:
        """Whether it has an address by which others may ask for it."""
        ip = ip_address(_strip_prefix(address))
        ips = (_strip_prefix(each.address) for each in self.link.addresses)
        return not ip.is_loopback and str(ip) in ips

    @property
    def description(self) -> str:
        """A phrase that names it, its namespace and its container."""
        pod = self.record.pod if self.record else ""
        return Attachment(self.link, self.side.netns, self.owner, (), pod).describe()

    def link_command(self, *words: str) -> str:
        """Return the command that changes its settings, as it is typed on the host."""
        return self.side.command(*commands.link_set(self.link.name, *words))

    @cached_property
    def details(self) -> dict[str, Any]:
        """Its settings as a link of its kind, and as a port of a bridge or bond."""
        (entry, *_) = self.side.entries(*commands.link_show(self.link.name)) or [{}]
        info = entry.get("linkinfo", {})
        return {**info.get("info_data", {}), **info.get("info_slave_data", {})}

    def bridge_command(self, *words: str) -> str:
        """Return the command that changes its settings as a port of a bridge."""
        return self.side.command("bridge", "link", "set", "dev", self.link.name, *words)

    @cached_property
    def bridge_vlans(self) -> dict[int, list[str]] | None:
        """The VLANs that a bridge, or a port of one, is in, with flags of each, if it filters."""
        bridge = self.upper or self
        if bridge.link.kind != "bridge" or not bridge.details.get("vlan_filtering"):
            return None
        entries = self.side.entries("bridge", "-j", "vlan", "show", "dev", self.link.name)
        return {vlan["vlan"]: vlan.get("flags", []) for each in entries for vlan in each["vlans"]}

    @cached_property
    def _peer_or_parent(self) -> Port | None:
        """The interface that the kernel says it is linked to, if that can be seen."""
        link, side = self.link, self.side
        for other_side in side.find_sides(link.parent_netns):
            ends = "veth", 0 if other_side is side else link.ifindex
            for each in other_side.ports.values():
                is_end = link.kind != "veth" or (each.link.kind, each.link.parent_index) == ends
                if is_end and Master(each.link, other_side.netns).carries(link, side.netns):
                    return each
        return None

    @property
    def parent(self) -> Port | None:
        """The interface below it, if it can be seen."""
        return None if self.link.kind == "veth" else self._peer_or_parent

    @property
    def peer(self) -> Port | None:
        """The other end of a veth, if it can be seen."""
        return self._peer_or_parent if self.link.kind == "veth" else None

    @cached_property
    def chain(self) -> list[Port]:
        """It, its parent, and so on, as far as they can be seen."""
        ports = [self]
        # The owner of a container may have two tunnels lead through each other.
        while (parent := ports[-1].parent) and parent not in ports:
            ports.append(parent)
        return ports

    @property
    def upper(self) -> Port | None:
        """The bridge, bond or VRF that it is a port of."""
        return self.side.ports.get(self.link.master)

    @property
    def is_idle(self) -> bool:
        """Whether it is a port of a bond that neither sends nor receives by it."""
        active = self.upper.details.get("active_slave") if self.upper else None
        return active not in (None, self.link.name)

    @property
    def bind_device(self) -> str:
        """Its name if it is in a VRF, where programs have to name it to send by it; else empty."""
        return self.link.name if self.upper and self.upper.link.kind == "vrf" else ""

    @property
    def uplinks(self) -> list[Port]:
        """Its chain, the other end of the last one if that is a veth, and the bridge of that.

        A bond is followed by its active port.
        """
        last = self.chain[-1]
        name = last.details.get("active_slave") if last.link.kind == "bond" else ""
        active = last.side.ports.get(name or "")
        peer = (active or last).peer
        return [each for each in (*self.chain, active, peer, peer and peer.upper) if each]

    @property
    def vlans(self) -> str:
        """The VLANs that it is in, the innermost first."""
        names = [f"VLAN {each.link.vlan}" for each in self.chain if each.link.vlan]
        return " in ".join(names) or "no VLAN"

    def forward_frame(self, tags: tuple[int, ...]) -> Iterator[tuple[Port, tuple[int, ...]]]:
        """Yield the interfaces that a frame with these VLAN tags gets to next, with its tags."""
        side_ports = self.side.ports.values()
        ports = (each for each in side_ports if each.upper is self and not each.is_idle)
        next_ports = [self.peer, None if self.is_idle else self.upper, *ports]
        # Of a bond's ports, those that work come first.
        for each in sorted(filter(None, next_ports), key=lambda each: not each.link.has_carrier):
            if "vrf" not in (each.link.kind, self.link.kind):
                yield each, tags
            # A bridge that filters VLANs may give and take a tag.
            bridge_vlans = each.bridge_vlans if each.upper is self else self.bridge_vlans
            for vlan, flags in (bridge_vlans or {}).items():
                if each is self.upper and not tags and "PVID" in flags:
                    yield each, (vlan,)
                elif each.upper is self and tags[-1:] == (vlan,) and "Egress Untagged" in flags:
                    yield each, tags[:-1]
        if self.parent and self.link.kind in _CHILD_KINDS:
            yield self.parent, (*tags, self.link.vlan) if self.link.vlan else tags
        for each in self.side.topology.children[self]:
            if not each.link.vlan:
                yield each, tags
            elif tags[-1:] == (each.link.vlan,):
                yield each, tags[:-1]

    @cached_property
    def segment(self) -> dict[Port, dict[Port, tuple[int, ...]]]:
        """The interfaces that its frames reach without a router, untagged.

        With each are the interfaces that they pass, and the tags there.
        """
        start: tuple[Port, tuple[int, ...]] = (self, ())
        paths = {start: dict([start])}
        queue = deque([start])
        while queue:
            state = queue.popleft()
            for next_state in state[0].forward_frame(state[1]):
                if next_state not in paths and len(next_state[1]) <= _MOST_TAGS:
                    paths[next_state] = {**paths[state], next_state[0]: next_state[1]}
                    queue.append(next_state)
        return {port: path for (port, tags), path in paths.items() if not tags}

    def shares_master(self, other: Port) -> bool:
        """Whether both are ipvlan interfaces of one master."""
        both = self.link.is_ipvlan and other.link.is_ipvlan
        return both and self.parent is not None and self.parent is other.parent


class Topology:
    """The host's and all other namespaces; ``omissions`` says what could not be looked into.

    Namespaces that ``words`` may name are looked into first, as there may be too many; those that
    they surely name are ``namespaces_by_word``. ``records`` are root's, by attachment and
    namespace.
    """

    def __init__(self, node: Node, *words: str) -> None:
        self._runner = node.runner
        self.records: dict[object, Record] = {
            (each.attachment, each.netns_identity): each for each in node.registry.all_records()
        }
        self.namespaces_by_word: dict[str, Namespace] = {}
        for word in words:
            with suppress(OSError, ValueError, namespace.NotANamespaceError, click.UsageError):
                self.namespaces_by_word[word] = namespace.find(options.resolve_netns(word))
        first = {each.identity for each in self.namespaces_by_word.values()}
        for each in self.records.values():
            if any(matches_container(each.container_id, each.pod, word) for word in words):
                first.add(each.netns_identity)
        self.host = Side(self, None)
        sides: dict[Namespace | None, Side] = {None: self.host}
        deadline = time.monotonic() + _SEARCH_SECONDS
        self.tx = Transaction(node.runner)
        self.missing_capabilities, self.omissions = machine.missing_capabilities(), list[str]()
        limits = (None,), self.omissions.append, deadline
        attachments = inventory.search(self.tx, node.registry, *limits, first=first)
        for link, netns, owner, *_ in attachments:
            side = sides.setdefault(netns, Side(self, netns))
            record = self.records.get((owner, netns and netns.identity))
            side.ports[link.name] = Port(side, link, owner, record)
        self.sides = [*sides.values()]
        if time.monotonic() > deadline:
            self.omissions.append("other namespaces, since it took too long")
        self.omission_text = f"not looked into: {'; '.join(self.omissions)}"

    def ask(self, *questions: tuple[Side, Argv]) -> list[Completed]:
        """Run commands side by side; one whose program is missing has not been run."""
        running = [
            self._runner.start(Command(argv, netns=side.netns, accept=commands.ANY))
            if self.has_program(argv[0])
            else None
            for side, argv in questions
        ]
        answers = [self._runner.finish(each) if each else _NOT_RUN for each in running]
        self._runner.interrupts.check()
        return answers

    def has_program(self, program: str) -> bool:
        """Whether a program is there."""
        with suppress(ProgramNotFoundError):
            self._runner.find(program)
            return True
        return False

    @cached_property
    def ports(self) -> list[Port]:
        """All interfaces but loopbacks."""
        return [port for side in self.sides for port in side.ports.values() if not port.is_loopback]

    @cached_property
    def children(self) -> dict[Port, list[Port]]:
        """The interfaces whose frames each carries."""
        children: dict[Port, list[Port]] = defaultdict(list)
        for each in self.ports:
            if each.parent and each.link.kind in _CHILD_KINDS:
                children[each.parent].append(each)
        return children

    def find_holders(self, address: str, near: Port | None = None) -> list[Port]:
        """Return the interfaces that have an address; those on the network of ``near`` come first.

        Loopbacks come last. The side of ``near``, which looks for the address, is left out.
        """
        sides = (side for side in self.sides if near is None or side is not near.side)
        ports = (port for side in sides for port in side.ports.values())
        holders = [each for each in ports if each.has_address(address)]
        segment, bottom = (near.segment, near.chain[-1]) if near else (holders, None)

        def distance(each: Port) -> tuple[bool, bool, bool]:
            return each.is_loopback, each not in segment, each.chain[-1] is not bottom

        return sorted(holders, key=distance)

    def find_lessee(self, address: str) -> str:
        """Return the container to which host-local has leased an address, or empty."""
        names = configs.list_directory(DEFAULT_DATA_DIR)
        stores = (os.path.join(DEFAULT_DATA_DIR, name) for name in names)
        # Only stores with a file of that name are read: others may have thousands of leases.
        matching_stores = (each for each in stores if os.path.lexists(os.path.join(each, address)))
        leases = (each for store in matching_stores for each in host_local.leases(store))
        return next((each.container_id for each in leases if each.address == address), "")


def of_family(example: str, addresses: Iterable[str]) -> list[str]:
    """Return the addresses of the family of another one, without prefix lengths."""
    return [_strip_prefix(each) for each in addresses if (":" in each) == (":" in example)]


def is_address(word: str) -> bool:
    """Whether a word is an IP address."""
    return "/" not in word and parse_address(word) is not None


def is_near(address: str, networks: Iterable[str]) -> bool:
    """Whether an address is in the subnet of one of the others, which have prefix lengths."""
    return any(ip_address(address) in ip_interface(each).network for each in networks)


def _strip_prefix(address: str) -> str:
    return address.partition("/")[0]
