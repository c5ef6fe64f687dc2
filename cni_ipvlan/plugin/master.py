"""The master: the interface that carries an attachment's packets. Which one, and whether it can.

It is the configured one, else prevResult's interface, else the default route's. The option
``master`` may have several names and patterns; the first that fits counts. A name fits the
interface that has it, as its name or as an altname. A pattern fits the first interface, in the
order of their indices (that of ``ip link``), which can be the master of the network: what is made
on top of others, as VLANs and bridges, has a higher index than these.
"""

from __future__ import annotations

from collections.abc import Sequence

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError
from cni_ipvlan.config.netconf import NetConf, is_pattern
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import MASTER_BUSY, NO_MASTER
from cni_ipvlan.start.namedtuple import NamedTuple

_NAMED = 20  # interfaces of many
_NAMED_UNFIT = 5  # of those that a pattern fits, but can't be the master
_VLANS = 4095  # which is no ID any more
LEAST_MTU = 68  # IPv4's, and min_mtu of an ipvlan link
# Kinds that take their ports' packets before an ipvlan could see them.
_EXCLUSIVE_MASTERS = {
    "bridge": "a bridge",
    "bond": "a bond",
    "team": "a team",
    "openvswitch": "an Open vSwitch",
}


class Master(NamedTuple):
    """A master, its namespace ``netns`` (None for the plugin's own), the links it carries there.

    ``addresses`` are its own, as ip writes them and without prefix lengths; ``subnets`` those of
    the global ones, each as an address in it with a prefix length. ``local`` are the IPv4
    addresses, broadcasts and subnets of the host on any interface, if the master is on the host.
    """

    link: Link
    netns: Namespace | None = None
    carried: tuple[Link, ...] = ()
    addresses: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    local: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What identifies it on this node, ``Record.master``."""
        return key_of(self.link.ifindex, self.netns)

    @property
    def slaves(self) -> list[Link]:
        """Its ipvlan and ipvtap links in its own namespace."""
        return [link for link in self.carried if link.is_ipvlan]

    def carries(self, link: Link, netns: Namespace | None) -> bool:
        """Whether a link in ``netns`` has this master.

        In the master's own namespace, the kernel reports the master's name. Elsewhere
        it reports only an index, which is not unique across namespaces; an ipvlan or ipvtap
        link also has its master's MAC address. Both can be forged: this proves nothing.
        """
        own = self.netns and self.netns.identity
        if (netns and netns.identity) == own:
            return link.parent == self.link.name
        if link.kind == "ipvtap":  # the kernel does not report its parent's namespace
            return link.mac == self.link.mac
        if link.parent or link.parent_index != self.link.ifindex:
            return False
        return not link.is_ipvlan or link.mac == self.link.mac

    def slave_link(self, name: str, conf: NetConf) -> Link:
        """Return a Link with the expected MTU and MAC address of a new ipvlan link."""
        return self.link._replace(name=name, mtu=conf.mtu or self.link.mtu)


def find_master(tx: Transaction, conf: NetConf, container: Namespace | None) -> Master:
    """Return the master for a configuration; raises CniError if there is none."""
    netns = container if conf.link_in_container else None
    name = conf.master or _name(tx, conf, netns)
    found = look(tx, name, netns)
    if found is not None:
        return found
    from cni_ipvlan.suggest import nearest_first

    names, near = nearest_first(name, [link.name for link in _links(tx, netns)])
    details = [_looked_in(netns)]
    if container and not netns and name in (link.name for link in _links(tx, container)):
        details.append(
            "the container has an interface of that name; the option linkInContainer would use it"
        )
    details.append("try: correct the option master")
    there = [f"found there{', nearest name first' if near else ''}: {shortened(names)}"]
    below, _, vlan = name.rpartition(".")
    if netns is None and below in names and vlan.isdecimal() and 0 < int(vlan) < _VLANS:
        there.append(f"did you mean {below!r} with vlan {int(vlan)}, which makes that one?")
    elif near:
        there.append(f"did you mean {names[0]!r}?")
    raise _refusal(netns, NO_MASTER, f"cannot find the master {name!r}", details, there)


def matching(there: Sequence[Link], conf: NetConf) -> list[Link]:
    """Return the links that a name or a pattern of the option master fits."""
    return [link for entry in conf.masters for link in _fitting(entry, there)]


def _name(tx: Transaction, conf: NetConf, netns: Namespace | None) -> str:
    """Return the name of a master that no single name is configured for."""
    if conf.masters:
        return _choose(tx, conf, netns).name
    if conf.prev_result is not None:
        interfaces = conf.prev_result.interfaces
        if len(interfaces) == 1 and interfaces[0].name:
            return interfaces[0].name
        raise CniError(
            NO_MASTER,
            "no master is configured, and prevResult has no single named interface to use",
            "try: set the option master",
        )
    for family in ("-4", "-6"):
        default = commands.route_show("default", family=family)
        routes = tx.run(Command(default, netns=netns)).stdout
        candidates = sorted(queries.default_interfaces(routes), key=lambda each: each[0])
        if candidates:
            return candidates[0][1]
    where = "container" if netns else "host"
    raise _refusal(
        netns,
        NO_MASTER,
        f"no master is configured, and the {where} has no default route to find it by",
        ["try: set the option master"],
        [f"interfaces there: {shortened([link.name for link in _links(tx, netns)])}"],
    )


def _links(tx: Transaction, netns: Namespace | None) -> list[Link]:
    return queries.links(tx.run(Command(commands.link_show(), netns=netns)).stdout)


def _looked_in(netns: Namespace | None) -> str:
    where = f"the container's namespace {netns.path}" if netns else "the host's namespace"
    return f"looked in: {where}"


def _choose(tx: Transaction, conf: NetConf, netns: Namespace | None) -> Link:
    """Return the link in ``netns`` to use as the master; raises CniError if none fits."""
    there = _links(tx, netns)
    carried: dict[str, list[Link]] = {}  # by the name of the link below
    for link in there:
        carried.setdefault(link.parent, []).append(link)
    unfit: list[str] = []
    for entry in conf.masters:
        for link in _fitting(entry, there):
            if entry in _names_of(link):
                return link
            why = f"it is of kind {link.kind}"
            if not link.is_ipvlan:
                try:
                    check_master(Master(link, netns, tuple(carried.get(link.name, ()))), conf)
                except CniError as error:
                    why = error.msg
                else:
                    return link
            unfit.append(f"{link.name!r} fits {entry!r}, but {why}")
    raise _refusal(
        netns,
        NO_MASTER,
        "cannot find a master: no interface that can be one fits "
        + " or ".join(map(repr, conf.masters)),
        [_looked_in(netns), "try: correct the option master"],
        [f"found there: {shortened([link.name for link in there])}", *unfit[:_NAMED_UNFIT]],
    )


def _fitting(entry: str, there: Sequence[Link]) -> list[Link]:
    """Return the one with that very name, since names may have any character, or else matches."""
    named = [link for link in there if entry in _names_of(link)]
    if named or not is_pattern(entry):
        return named
    from fnmatch import fnmatchcase  # which takes as long to import as the rest of this

    found = [link for link in there if any(fnmatchcase(name, entry) for name in _names_of(link))]
    return sorted(found, key=lambda link: link.ifindex)


def _names_of(link: Link) -> tuple[str, ...]:
    return link.name, *link.alternative_names


def key_of(index: int, netns: Namespace | None = None) -> tuple[int, int]:
    """Return what identifies an interface on this node: its namespace's inode, and its index."""
    return (netns.identity if netns else namespace.own())[1], index


def look(tx: Transaction, name: str, netns: Namespace | None) -> Master | None:
    """Return the master of that name; None if there is none."""
    kinds = ("macvlan", "macvtap", *queries.IPVLAN_KINDS)
    # After a link show in the same batch, an address show would show no addresses:
    # ipaddr_list_link() in ip/ipaddress.c sets the family for all that follows.
    of_host = () if netns else (commands.route_show_local(),)
    of_kinds = (commands.link_show(kind=kind) for kind in kinds)
    asked = (commands.address_show(name), *of_host, *of_kinds)
    try:
        output = tx.run_batch(*(Command(argv, netns=netns) for argv in asked)).stdout
    except CommandError as error:
        if error.completed.is_absent:
            return None
        raise
    shown, *others = output.split(b"\n")
    found = queries.links(shown)
    if not found:
        return None
    local, listed = others[: len(of_host)], others[len(of_host) :]
    master = Master(
        found[0],
        netns,
        addresses=tuple(each.plain for each in found[0].addresses),
        subnets=tuple(each.subnet for each in found[0].addresses if each.subnet),
        local=tuple(each for output in local for each in queries.local_prefixes(output)),
    )
    there = (each for links in map(queries.links, listed) for each in links)
    return master._replace(carried=tuple(each for each in there if master.carries(each, netns)))


def check_master(master: Master, conf: NetConf) -> None:
    """Raise CniError if a master can't carry ipvlan, or not with the configured MTU."""
    link, what = master.link, ""
    details: list[str] = []
    neighbours: list[str] = []
    takers = [each.name for each in master.carried if each.kind in ("macvlan", "macvtap")]
    if not link.is_ethernet:
        what = "is not an Ethernet interface, which ipvlan needs"
        details = ["try: use an Ethernet interface; ip link shows which are link/ether"]
    elif link.kind == "ipvlan":
        # The kernel would use the interface below it (ipvlan_link_new() in
        # drivers/net/ipvlan/ipvlan_main.c), which is not checked here.
        what = "is itself an ipvlan interface"
        details = ["try: use the interface below it as the master"]
        neighbours = [f"the interface below it is {link.parent!r}"] if link.parent else []
    elif link.kind == "vrf":
        what = "is a VRF, which carries no ipvlan"
        details = ["try: use the interface that is its port"]
    elif link.slave_kind in _EXCLUSIVE_MASTERS:
        what = f"is a port of {_EXCLUSIVE_MASTERS[link.slave_kind]}"
        details = [f"try: use that as the master, or take {link.name!r} out of it"]
        neighbours = [f"it is a port of {link.master!r}"]
    elif takers:
        what = "is taken by macvlan"
        details = [
            "an interface can serve macvlan or ipvlan, not both",
            "try: use another master, or remove the macvlan interfaces",
        ]
        neighbours = [f"the macvlan interfaces are: {shortened(takers)}"]
    if what:
        msg = f"the master {link.name!r} {what}"
        raise _refusal(master.netns, MASTER_BUSY, msg, details, neighbours)
    if conf.mtu and not LEAST_MTU <= conf.mtu <= link.mtu:
        why = "an ipvlan interface can't have less"
        if conf.mtu > link.mtu:
            why = "packets larger than the master's MTU would be dropped silently"
        raise CniError(
            INVALID_CONFIGURATION,
            f"mtu is {conf.mtu}; allowed on the master {link.name!r}: {LEAST_MTU} to {link.mtu}",
            f"{why}\ntry: leave mtu out, which takes the master's",
        )


def is_down(master: Master) -> str:
    """Return a sentence that a master is down, and what to try."""
    up = Command(commands.link_set(master.link.name, "up"), netns=master.netns).full_argv
    how = commands.in_shell(up)
    return f"the master {master.link.name!r} is down, so no packets get through; try: {how}"


def _refusal(
    netns: Namespace | None, code: int, msg: str, details: list[str], neighbours: list[str]
) -> CniError:
    """Return an error about a master; ``neighbours`` are lines that name other interfaces.

    If the master is on the host, only root may see them, since a tenant may try any
    name. If it is in the container's namespace ``netns``, they are the container's own.
    """
    if netns is not None:
        return CniError(code, msg, "\n".join((*details, *neighbours)))
    return CniError(code, msg, "\n".join(details), "\n".join(neighbours))


def shortened(names: list[str], most: int = _NAMED) -> str:
    """Return the first of the names, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
