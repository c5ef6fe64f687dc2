"""One mode and flag for all ipvlan interfaces of a master.

The mode belongs to the master. A new interface in another one changes all those
that are there, without an error or an event (ipvlan_link_new() and
ipvlan_set_port_mode() in drivers/net/ipvlan/ipvlan_main.c), and those in
containers can't be seen from the host. So they are looked for: on the host, then
among the containers we remember, then, only when the kernel shows that there is
somebody else, in every namespace.
"""

from __future__ import annotations

from cni_ipvlan.cni.errors import MODE_CONFLICT, CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.netconf import NetConf
    from cni_ipvlan.registry import Registry, Witness
    from cni_ipvlan.survey import Master

# The group 224.0.0.1, which every interface joins that is up, as an Ethernet address.
_ALL_HOSTS = b"01005e000001"


class Slave(NamedTuple):
    """An ipvlan interface of a master, and words for where it is."""

    mode: str
    flag: str
    where: str


def check(tx: Transaction, registry: Registry, conf: NetConf, master: Master) -> None:
    """Raise CniError when something on the master runs in another mode or flag.

    One interface that is found tells the mode of them all.
    """
    slave = next(_slaves(tx, registry, conf, master), None)
    if slave is None or (slave.mode, slave.flag) == (conf.mode, conf.flag):
        return
    from cni_ipvlan import census

    running = list(census.on_master(census.take(tx, registry), master))
    many = f"{len(running)} interfaces run" if len(running) > 1 else "an interface runs"
    raise CniError(
        MODE_CONFLICT,
        f"the master {master.link.name!r} is used in mode {slave.mode} {slave.flag}; "
        f"this network wants {conf.mode} {conf.flag}",
        f"found: {many} in that mode: {census.summary(running) or slave.where}\n"
        "all ipvlan interfaces of a master share one mode and flag\n"
        f"try: use mode {slave.mode} and flag {slave.flag} here, or another master",
    )


def _slaves(tx: Transaction, registry: Registry, conf: NetConf, master: Master) -> Iterator[Slave]:
    yield from _visible(master.slaves, master)
    yield from _remembered(tx, registry, conf, master)
    if master.home is None and _has_hidden_slaves(master):
        yield from _hidden(tx, master)


def _visible(links: Iterable[Link], master: Master) -> Iterator[Slave]:
    for link in links:
        if link.parent == master.link.name:
            yield Slave(link.mode, link.flag, f"interface {link.name}")


def _remembered(
    tx: Transaction, registry: Registry, conf: NetConf, master: Master
) -> Iterator[Slave]:
    """Look at those remembered in another mode; of those in the same, that they live is enough."""
    others = []
    for witness in registry.witnesses(master.key):
        if (witness.mode, witness.flag) == (conf.mode, conf.flag):
            if _lives(witness):
                yield Slave(witness.mode, witness.flag, witness.container_id)
        else:
            others.append(witness)
    if others:
        # Its interface may be on its way into the container this moment.
        yield from _visible(_ipvlan_links(tx, master.home), master)
    for witness in others:
        where = (
            f"container {witness.container_id}, interface {witness.ifname}, "
            f"namespace {witness.netns}"
        )
        link = _link_of(tx, master, witness)
        if link is not None:
            yield Slave(link.mode, link.flag, where)
        elif registry.is_live(witness.key):
            # A call that has been told so, and is about to create its interface.
            yield Slave(witness.mode, witness.flag, f"{where}, about to be attached")
        else:
            registry.forget_file(witness.file)


def _lives(witness: Witness) -> bool:
    return namespace.leads_to(witness.netns, witness.netns_identity)


def _link_of(tx: Transaction, master: Master, witness: Witness) -> Link | None:
    """The container may be gone, or its interface made anew on another master."""
    if not _lives(witness):
        return None
    home = namespace.find(witness.netns)
    output = tx.read(commands.link_show(witness.ifname), inside=home, absent_ok=True)
    links = [link for link in queries.links(output) if _is_on(link, master)]
    return links[0] if links else None


def _has_hidden_slaves(master: Master) -> bool:
    """Whether an interface somewhere else stands on the master.

    It joins the all-hosts group when it comes up, and the master joins with it,
    once more for each: /proc/net/dev_mcast counts. (So do VLAN interfaces: then
    the search is in vain, no more.)
    """
    own = 1 if master.link.is_up else 0
    with open("/proc/self/net/dev_mcast", "rb") as file:
        return _members_of_all_hosts(file.read(), master.link.ifindex) > own


def _members_of_all_hosts(table: bytes, ifindex: int) -> int:
    # In bytes: a name may hold what only Unicode takes for white space.
    for line in table.splitlines():
        index, _name, users, _global_users, address = line.split()
        if int(index) == ifindex and address == _ALL_HOSTS:
            return int(users)
    return 0


def _hidden(tx: Transaction, master: Master) -> Iterator[Slave]:
    for place in namespace.others():
        for link in _ipvlan_links(tx, place):
            if _is_on(link, master) and link.mac == master.link.mac:
                yield Slave(
                    link.mode, link.flag, f"interface {link.name} in the namespace {place.path}"
                )


def _ipvlan_links(tx: Transaction, place: Namespace | None) -> list[Link]:
    return queries.links(tx.read(commands.link_show_kind("ipvlan"), inside=place, absent_ok=True))


def _is_on(link: Link, master: Master) -> bool:
    if link.kind != "ipvlan":
        return False
    return link.parent_index == master.link.ifindex or link.parent == master.link.name
