"""The master: the interface that carries an attachment's packets."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command, together
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.plugin.codes import NO_MASTER

if TYPE_CHECKING:
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction

_NAMED = 20  # interfaces of many


class Master(NamedTuple):
    """A master, its namespace ``home`` (None for the plugin's own), the links it carries there.

    ``addresses`` are its own, as ip writes them and without prefix lengths; ``subnets`` those of
    the global ones, each as an address in it with a prefix length. ``local`` are the IPv4 addresses
    and subnets that the host has on any interface, if the master is on the host.
    """

    link: Link
    home: Namespace | None = None
    carried: tuple[Link, ...] = ()
    addresses: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    local: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What identifies it on this node: namespace inode, interface index."""
        _device, inode = self.home.identity if self.home else namespace.own()
        return inode, self.link.ifindex

    @property
    def slaves(self) -> list[Link]:
        """Its ipvlan and ipvtap links in its own namespace."""
        return [link for link in self.carried if link.is_ipvlan]

    def carries(self, link: Link, place: Namespace | None) -> bool:
        """Whether a link in ``place`` has this master.

        In the master's own namespace, the kernel reports the master's name. Elsewhere
        it reports only an index, which is not unique across namespaces; an ipvlan or ipvtap
        link also has its master's MAC address. Both can be forged: this proves nothing.
        """
        at_home = (place.identity if place else None) == (self.home.identity if self.home else None)
        if at_home:
            return link.parent == self.link.name
        if link.kind == "ipvtap":  # the kernel does not report its parent's namespace
            return link.mac == self.link.mac
        if link.parent or link.parent_index != self.link.ifindex:
            return False
        return not link.is_ipvlan or link.mac == self.link.mac

    def slave_link(self, name: str, conf: NetConf) -> Link:
        """Return a Link with the expected MTU and MAC address of a new ipvlan link."""
        return self.link._replace(name=name, mtu=conf.mtu or self.link.mtu)


def find(tx: Transaction, conf: NetConf, container: Namespace | None) -> Master:
    """Return the master for a configuration; raises CniError if there is none."""
    home = container if conf.link_in_container else None
    name = _name(tx, conf, home)
    found = look(tx, name, home)
    if found is None:
        raise _not_found(tx, name, home, None if home else container)
    return found


def look(tx: Transaction, name: str, home: Namespace | None) -> Master | None:
    """Return the master of that name; None if there is none."""
    kinds = ("macvlan", "macvtap", *queries.IPVLAN_KINDS)
    # After a link show in the same batch, an address show would show no addresses:
    # ipaddr_list_link() in ip/ipaddress.c sets the family for all that follows.
    of_host = () if home else (commands.route_show_local(),)
    asked = (commands.address_show(name), *of_host, *map(commands.link_show_kind, kinds))
    try:
        output = tx.see(together(*(Command(argv, inside=home) for argv in asked)))
    except CommandError as error:
        from cni_ipvlan.iproute import causes

        if causes.is_absent(error.answer.encode()):
            return None
        raise
    shown, *others = (output or b"").split(b"\n")
    found = queries.links(shown)
    if not found:
        return None
    local, of_kinds = others[: len(of_host)], others[len(of_host) :]
    master = Master(
        found[0],
        home,
        addresses=tuple(queries.local_addresses(shown)),
        subnets=tuple(queries.global_subnets(shown)),
        local=tuple(each for output in local for each in queries.local_prefixes(output)),
    )
    carried = [
        each
        for links in map(queries.links, of_kinds)
        for each in links
        if master.carries(each, home)
    ]
    return master._replace(carried=tuple(carried))


def _name(tx: Transaction, conf: NetConf, home: Namespace | None) -> str:
    """Return the master's name: as configured, else prevResult's, else the default route's."""
    if conf.master:
        return conf.master
    if conf.masters:
        from cni_ipvlan.plugin.candidates import choose

        return choose(tx, conf, home).name
    if conf.prev_result is not None:
        interfaces = conf.prev_result.interfaces
        if len(interfaces) == 1 and interfaces[0].name:
            return interfaces[0].name
        raise CniError(
            NO_MASTER,
            "no master is configured, and prevResult has no single named interface to use",
            "try: set the option master",
        )
    for family in (4, 6):
        routes = tx.see(Command(commands.route_show_default(family), inside=home))
        candidates = sorted(queries.default_interfaces(routes), key=lambda each: each[0])
        if candidates:
            return candidates[0][1]
    where = "container" if home else "host"
    raise refusal(
        home,
        NO_MASTER,
        f"no master is configured, and the {where} has no default route to find it by",
        ["try: set the option master"],
        [f"interfaces there: {shortened(_names(tx, home))}"],
    )


def _not_found(
    tx: Transaction, name: str, home: Namespace | None, elsewhere: Namespace | None
) -> CniError:
    """Return the error that ``home`` has no such link, but perhaps ``elsewhere`` has."""
    from cni_ipvlan.suggest import nearest_first

    names, near = nearest_first(name, _names(tx, home))
    where = f"the container's namespace {home.path}" if home else "the host's namespace"
    details = [f"looked in: {where}"]
    if elsewhere is not None and name in _names(tx, elsewhere):
        details.append(
            "the container has an interface of that name; the option linkInContainer would use it"
        )
    details.append("try: correct the option master")
    there = [f"found there{', nearest name first' if near else ''}: {shortened(names)}"]
    if near:
        there.append(f"did you mean {names[0]!r}?")
    return refusal(home, NO_MASTER, f"cannot find the master {name!r}", details, there)


def is_down(master: Master) -> str:
    """Return a sentence that a master is down, and what to try."""
    from shlex import join

    up = Command(commands.link_set_up(master.link.name), inside=master.home).full_argv
    return f"the master {master.link.name!r} is down, so no packets get through; try: {join(up)}"


def refusal(
    home: Namespace | None, code: int, msg: str, details: list[str], neighbours: list[str]
) -> CniError:
    """Return an error about a master; ``neighbours`` are lines that name other interfaces.

    If the master is on the host, only root may see them, since a tenant may try any
    name. If it is in the container's namespace ``home``, they are the container's own.
    """
    if home is not None:
        return CniError(code, msg, "\n".join((*details, *neighbours)))
    return CniError(code, msg, "\n".join(details), "\n".join(neighbours))


def _names(tx: Transaction, place: Namespace | None) -> list[str]:
    query = Command(commands.link_show_all(), inside=place)
    return [link.name for link in queries.links(tx.see(query))]


def shortened(names: list[str]) -> str:
    """Return the first of the names, and the number of the others."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
