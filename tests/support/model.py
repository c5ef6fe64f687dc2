"""What a careful runtime knows of its attachments, and what the kernel and host-local show.

A view is taken after each step. From one view to the next, a call may change only what belongs to
the attachments that it is about: everything else is somebody else's.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

from lab import NAMED, Space, leases, run
from pools import CONTAINER_IDS, IFNAMES, NETWORKS, ROOM, Key, Network

from cni_ipvlan.state.attachment import AttachmentId

HOST = "host"  # the name of the host's namespace
# In one go, since it is asked after every step.
_IN_EACH = ("ip", "-all", "netns", "exec")
_SLAVES = ("ip", "-N", "-j", "-d", "address", "show", "type", "ipvlan")
_OWNERS_OF_ROUTES = {
    AttachmentId(*each).number: Key(*each) for each in product(NETWORKS, CONTAINER_IDS, IFNAMES)
}
Where = tuple[int, int]  # the inode of a namespace, and an index there


class Slave(NamedTuple):
    """An ipvlan interface; ``place`` is its namespace's name."""

    place: str
    name: str
    master: str
    mode: tuple[str, str]
    is_up: bool
    addresses: tuple[str, ...]


class View(NamedTuple):
    """All ipvlan interfaces of attachments, or made by hand; and what the host has for them.

    That is who has which lease, by network and address, and which route, by address; and by name,
    what they share: the host's own interfaces, and VLANs.
    """

    slaves: dict[Where, Slave]
    leases: dict[tuple[str, str], Key]
    routes: dict[str, Key]
    shared: dict[str, Slave | None]

    def is_part_of(self, other: "View") -> bool:
        are_there = self.slaves.items() <= other.slaves.items() and self.claims <= other.claims
        return are_there and self.shared.items() <= other.shared.items()

    @property
    def claims(self) -> set[tuple[object, Key]]:
        return {*self.leases.items(), *self.routes.items()}

    def on(self, master: str) -> list[Slave]:
        return [slave for slave in self.slaves.values() if slave.master == master]

    def modes_on(self, master: str) -> set[tuple[str, str]]:
        links = (*self.slaves.values(), *self.shared.values())
        return {link.mode for link in links if link and link.master == master}

    def names_in(self, place: str) -> set[str]:
        return {slave.name for slave in self.slaves.values() if slave.place == place}

    def leased_by(self, key: Key) -> set[str]:
        return {address for (_, address), owner in self.leases.items() if owner == key}

    def routed_to(self, key: Key) -> set[str]:
        return {address for address, owner in self.routes.items() if owner == key}

    def leased_in(self, network: str) -> set[str]:
        return {address for name, address in self.leases if name == network}


def look(host: Space) -> View:
    """Return what there is."""
    masters = {link["ifindex"]: name for name, link in host.links().items()}
    slaves = {}
    shared: dict[str, Slave | None] = {name: None for name in masters.values() if "." in name}
    for part in run(*_IN_EACH, *_SLAVES).split("netns: ")[1:]:
        place, _, text = part.partition("\n")
        inode = (NAMED / place).stat().st_ino
        for link in filter(None, json.loads(text.strip() or "[]")):
            slave = _slave(place, link, masters)
            if slave.name.startswith("ipvhost"):
                shared[slave.name] = slave
            else:
                slaves[inode, link["ifindex"]] = slave
    given = [(path.parent.name, path) for path in leases()]
    owners = {(net, path.name): Key(net, *path.read_text().split()) for net, path in given}
    routes = [each for each in host.routes() if each["dev"] in shared]
    of_routes = {each["dst"]: _OWNERS_OF_ROUTES[each["metric"]] for each in routes}
    return View(slaves, owners, of_routes, shared)


def _slave(place: str, link: dict[str, Any], masters: Mapping[int, str]) -> Slave:
    data = link["linkinfo"]["info_data"]
    flag = next((flag for flag in ("private", "vepa") if data.get(flag)), "bridge")
    master = link["link"] if place == HOST else masters[link["link_index"]]
    addresses = ipv4(f"{info['local']}/{info['prefixlen']}" for info in link["addr_info"])
    about = (place, link["ifname"], master, (data["mode"], flag))
    return Slave(*about, "UP" in link["flags"], addresses)


def ipv4(addresses: Iterable[str]) -> tuple[str, ...]:
    """Leave out IPv6, where the kernel's own come and go by themselves."""
    return tuple(address for address in addresses if ":" not in address)


class Attachment(NamedTuple):
    """What is kept of an ADD that succeeded; ``slave`` is as it was right after it."""

    generation: int
    where: Where
    slave: Slave
    result: dict[str, Any]


class Ledger:
    """What was added and not deleted, what calls that died may have left, whose each slave is.

    ``unsure`` are the attachments whose call died. ``places`` has the namespaces that the calls
    for an attachment were given since it was deleted. A slave made by hand has the owner None.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.living: dict[Key, Attachment] = {}
        self.unsure: set[Key] = set()
        self.places: dict[Key, set[str]] = {}
        self.moved: set[Where] = set()
        self.present: set[str] = set()
        self._owners: dict[Where, Key | None] = {}
        self._generations: Counter[str] = Counter()

    # What there is.

    def owner(self, where: Where) -> Key | None:
        return self._owners[where]

    def owned(self, key: Key | None) -> dict[Where, Slave]:
        slaves = self.view.slaves.items()
        return {where: slave for where, slave in slaves if self._owners[where] == key}

    def is_gone(self, key: Key) -> bool:
        """Whether the namespace is gone that a living attachment was made in."""
        attachment = self.living[key]
        place = attachment.slave.place
        return place not in self.present or self._generations[place] != attachment.generation

    def is_as_added(self, key: Key) -> bool:
        attachment = self.living[key]
        is_there = self.owned(key).get(attachment.where) == attachment.slave
        return is_there and not self.is_gone(key)

    # What to expect of an ADD.

    def obstacles(self, network: Network, key: Key, place: str) -> list[str]:
        view = self.view
        carried = view.on(network.master)
        static = network.static_address(key)
        reasons = {
            "no such namespace": place not in self.present,
            "it lives": key in self.living and (self.owned(key) or view.leased_by(key)),
            "its name is taken": key.ifname in view.names_in(place),
            "another mode": view.modes_on(network.master) - {network.mode},
            "no address left": network.has_pool and len(view.leased_in(network.name)) >= ROOM,
            "its address is taken": any(static in slave.addresses for slave in carried),
        }
        return [reason for reason, is_so in reasons.items() if is_so]

    def is_doubtful(self, network: Network, key: Key, place: str) -> bool:
        """Whether an ADD may be refused for what a careful runtime would not do, or can't know."""
        known = {*self.living, *self.unsure}
        is_elsewhere = any(
            each.container_id == key.container_id and self.places[each] - {place} for each in known
        )
        leased = self.view.leased_in(network.name)
        has_stale = any(
            network.has_pool and network.holds(address) and address.partition("/")[0] not in leased
            for slave in self.view.on(network.master)
            for address in slave.addresses
        )
        return bool(key in known or self.owned(key) or is_elsewhere or has_stale)

    # What has happened.

    def called(self, view: View, is_about: Callable[[Key], bool]) -> None:
        """A call has ended that may have changed only what belongs to some attachments."""
        before, self.view = self.view, view
        for where, slave in before.slaves.items():
            now, owner = view.slaves.get(where), self._owners[where]
            if now is not None:
                assert now.mode == slave.mode, f"the mode was changed: {slave}, now {now}"
            if owner is None or not is_about(owner):
                assert now == slave, f"{slave} of {owner} became {now}"
        for what, owner in before.claims ^ view.claims:
            assert is_about(owner), f"{owner} got or lost {what}"
        self._drop_owners()

    def made(self, owner: Key | None) -> list[Where]:
        """What is new belongs to an attachment, or to nobody; return it."""
        new = [where for where in self.view.slaves if where not in self._owners]
        self._owners.update(dict.fromkeys(new, owner))
        return new

    def begun(self, key: Key, place: str) -> None:
        self.places.setdefault(key, set()).add(place)

    def added(self, key: Key, where: Where, result: dict[str, Any]) -> None:
        slave = self.view.slaves[where]
        generation = self._generations[slave.place]
        self.living[key] = Attachment(generation, where, slave, result)

    def deleted(self, key: Key) -> None:
        self.living.pop(key, None)
        self.unsure.discard(key)
        self.places.pop(key, None)

    def changed_by_hand(self, view: View) -> None:
        self.view = view
        self._drop_owners()

    def moved_by_hand(self, old: Where, view: View) -> None:
        owner = self._owners[old]
        self.changed_by_hand(view)
        self.moved.update(self.made(owner))

    def began(self, place: str) -> None:
        self.present.add(place)
        self._generations[place] += 1

    def ended(self, place: str, view: View) -> None:
        self.present.discard(place)
        self.changed_by_hand(view)

    def _drop_owners(self) -> None:
        for where in self._owners.keys() - self.view.slaves.keys():
            del self._owners[where]
            self.moved.discard(where)
