"""What a careful runtime knows of its attachments, and what the kernel and host-local show.

A view of the kernel and of host-local is read after each step. A call may change only what belongs
to the attachments that it is about, from one view to the next.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

from lab import NETNS_DIRECTORY, NetNS, find_leases, run
from pools import CAPACITY, CONTAINER_IDS, IFNAMES, NETWORKS, Key, Network

from cni_ipvlan.state.attachment import AttachmentId

HOST = "host"  # the name of the host's namespace
# One command reads all namespaces, since this is done after every step.
_IN_EACH = ("ip", "-all", "netns", "exec")
_SLAVES = ("ip", "-N", "-j", "-d", "address", "show", "type", "ipvlan")
_OWNERS_OF_ROUTES = {
    AttachmentId(*each).number: Key(*each) for each in product(NETWORKS, CONTAINER_IDS, IFNAMES)
}
Where = tuple[int, int]  # the inode of a namespace, and an index there


class Slave(NamedTuple):
    """An ipvlan interface; ``namespace`` is the name of its namespace."""

    namespace: str
    name: str
    master: str
    mode: tuple[str, str]
    is_up: bool
    addresses: tuple[str, ...]


class View(NamedTuple):
    """All ipvlan interfaces in containers, and what the host has for them.

    ``leases`` are by network and address, ``routes`` by address. ``shared`` are interfaces of the
    host that attachments share, by name: slaves that hostAccess makes, and VLANs (None).
    """

    slaves: dict[Where, Slave]
    leases: dict[tuple[str, str], Key]
    routes: dict[str, Key]
    shared: dict[str, Slave | None]

    def is_part_of(self, other: "View") -> bool:
        is_part = self.slaves.items() <= other.slaves.items() and self.claims <= other.claims
        return is_part and self.shared.items() <= other.shared.items()

    @property
    def claims(self) -> set[tuple[object, Key]]:
        return {*self.leases.items(), *self.routes.items()}

    def slaves_on(self, master: str) -> list[Slave]:
        return [slave for slave in self.slaves.values() if slave.master == master]

    def modes_on(self, master: str) -> set[tuple[str, str]]:
        links = (*self.slaves.values(), *self.shared.values())
        return {link.mode for link in links if link and link.master == master}

    def names_in(self, namespace: str) -> set[str]:
        return {slave.name for slave in self.slaves.values() if slave.namespace == namespace}

    def leases_of(self, key: Key) -> set[str]:
        return {address for (_, address), owner in self.leases.items() if owner == key}

    def routes_of(self, key: Key) -> set[str]:
        return {address for address, owner in self.routes.items() if owner == key}

    def leases_in(self, network: str) -> set[str]:
        return {address for name, address in self.leases if name == network}


def read_view(host: NetNS) -> View:
    """Return a view of the kernel and of host-local."""
    masters = {link["ifindex"]: name for name, link in host.links().items()}
    slaves = {}
    shared: dict[str, Slave | None] = {name: None for name in masters.values() if "." in name}
    for part in run(*_IN_EACH, *_SLAVES).split("netns: ")[1:]:
        namespace, _, text = part.partition("\n")
        inode = (NETNS_DIRECTORY / namespace).stat().st_ino
        for link in filter(None, json.loads(text.strip() or "[]")):
            slave = _parse_slave(namespace, link, masters)
            if slave.name.startswith("ipvhost"):
                shared[slave.name] = slave
            else:
                slaves[inode, link["ifindex"]] = slave
    files = [(path.parent.name, path) for path in find_leases()]
    owners = {(net, path.name): Key(net, *path.read_text().split()) for net, path in files}
    routes = [each for each in host.routes() if each["dev"] in shared]
    of_routes = {each["dst"]: _OWNERS_OF_ROUTES[each["metric"]] for each in routes}
    return View(slaves, owners, of_routes, shared)


def _parse_slave(namespace: str, link: dict[str, Any], masters: Mapping[int, str]) -> Slave:
    data = link["linkinfo"]["info_data"]
    flag = next((flag for flag in ("private", "vepa") if data.get(flag)), "bridge")
    master = link["link"] if namespace == HOST else masters[link["link_index"]]
    addresses = (f"{info['local']}/{info['prefixlen']}" for info in link["addr_info"])
    ipv4 = tuple(each for each in addresses if ":" not in each)  # the kernel itself adds others
    identity = (namespace, link["ifname"], master, (data["mode"], flag))
    return Slave(*identity, "UP" in link["flags"], ipv4)


class Attachment(NamedTuple):
    """What the model keeps of an ADD that succeeded; ``slave`` is as it was right after it."""

    generation: int
    where: Where
    slave: Slave
    result: dict[str, Any]


class Model:
    """The attachments, those whose state a killed call leaves uncertain, and each slave's owner.

    ``namespaces`` has the namespaces that the calls about an attachment were given since it was
    deleted. ``existing`` are the names of existing namespaces. A slave made by hand has the owner
    None; ``moved`` are slaves that were moved by hand.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.attachments: dict[Key, Attachment] = {}
        self.uncertain: set[Key] = set()
        self.namespaces: dict[Key, set[str]] = {}
        self.moved: set[Where] = set()
        self.existing: set[str] = set()
        self._owners: dict[Where, Key | None] = {}
        self._generations: Counter[str] = Counter()

    # The state.

    def owner(self, where: Where) -> Key | None:
        return self._owners[where]

    def slaves_of(self, key: Key | None) -> dict[Where, Slave]:
        slaves = self.view.slaves.items()
        return {where: slave for where, slave in slaves if self._owners[where] == key}

    def is_gone(self, key: Key) -> bool:
        """Return whether the namespace that an attachment was made in no longer exists."""
        attachment = self.attachments[key]
        name = attachment.slave.namespace
        return name not in self.existing or self._generations[name] != attachment.generation

    def is_as_added(self, key: Key) -> bool:
        attachment = self.attachments[key]
        is_unchanged = self.slaves_of(key).get(attachment.where) == attachment.slave
        return is_unchanged and not self.is_gone(key)

    # Expectations of ADD.

    def find_obstacles(self, network: Network, key: Key, namespace: str) -> list[str]:
        view = self.view
        carried = view.slaves_on(network.master)
        static = network.static_address(key)
        reasons = {
            "no such namespace": namespace not in self.existing,
            "it lives": key in self.attachments and (self.slaves_of(key) or view.leases_of(key)),
            "its name is taken": key.ifname in view.names_in(namespace),
            "another mode": view.modes_on(network.master) - {network.mode},
            "no address left": network.has_pool and len(view.leases_in(network.name)) >= CAPACITY,
            "its address is taken": any(static in slave.addresses for slave in carried),
        }
        return [reason for reason, is_so in reasons.items() if is_so]

    def is_doubtful(self, network: Network, key: Key, namespace: str) -> bool:
        """Return whether ADD may fail for what a careful runtime would not do, or can't know."""
        keys = {*self.attachments, *self.uncertain}
        others = [each for each in keys if each.container_id == key.container_id]
        is_elsewhere = any(self.namespaces[each] - {namespace} for each in others)
        leases = self.view.leases_in(network.name)
        has_stale = any(
            network.has_pool
            and network.contains(address)
            and address.partition("/")[0] not in leases
            for slave in self.view.slaves_on(network.master)
            for address in slave.addresses
        )
        return bool(key in keys or self.slaves_of(key) or is_elsewhere or has_stale)

    # Events.

    def apply_call(self, view: View, is_about: Callable[[Key], bool]) -> None:
        """Take the view after a call, which may change only what belongs to some attachments."""
        before, self.view = self.view, view
        for where, slave in before.slaves.items():
            current, owner = view.slaves.get(where), self._owners[where]
            if current is not None:
                assert current.mode == slave.mode, f"the mode was changed: {slave}, now {current}"
            if owner is None or not is_about(owner):
                assert current == slave, f"{slave} of {owner} became {current}"
        for claim, owner in before.claims ^ view.claims:
            assert is_about(owner), f"{owner} got or lost {claim}"
        self._drop_owners()

    def assign_new(self, owner: Key | None) -> list[Where]:
        """Give new slaves to an attachment, or to nobody; return where they are."""
        wheres = [where for where in self.view.slaves if where not in self._owners]
        self._owners.update(dict.fromkeys(wheres, owner))
        return wheres

    def record_added(self, key: Key, where: Where, result: dict[str, Any]) -> None:
        slave = self.view.slaves[where]
        generation = self._generations[slave.namespace]
        self.attachments[key] = Attachment(generation, where, slave, result)

    def record_deleted(self, key: Key) -> None:
        self.attachments.pop(key, None)
        self.uncertain.discard(key)
        self.namespaces.pop(key, None)

    def apply_change(self, view: View) -> None:
        self.view = view
        self._drop_owners()

    def apply_move(self, old: Where, view: View) -> None:
        owner = self._owners[old]
        self.apply_change(view)
        self.moved.update(self.assign_new(owner))

    def record_namespace(self, namespace: str) -> None:
        self.existing.add(namespace)
        self._generations[namespace] += 1

    def apply_removal(self, namespace: str, view: View) -> None:
        self.existing.discard(namespace)
        self.apply_change(view)

    def _drop_owners(self) -> None:
        for where in self._owners.keys() - self.view.slaves.keys():
            del self._owners[where]
            self.moved.discard(where)
