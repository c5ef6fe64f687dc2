"""The master: the interface that carries an attachment's packets."""

from __future__ import annotations

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, CniError
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import MASTER_BUSY
from cni_ipvlan.start.namedtuple import NamedTuple

_MOST_NAMES = 20  # of interfaces, in a message
VLAN_LABEL = "cni-ipvlan/vlan"  # the alias of a VLAN that the option vlan has made
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

    If the master is on the host, ``host_prefixes`` are the IPv4 addresses, broadcasts and subnets
    of the host on all interfaces.
    """

    link: Link
    netns: Namespace | None = None
    carried: tuple[Link, ...] = ()
    host_prefixes: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What identifies it on this node, as in ``Record.master``."""
        return key_of(self.link.ifindex, self.netns)

    @property
    def addresses(self) -> list[str]:
        """Its own addresses, as ip writes them and without prefix lengths."""
        return [each.ip for each in self.link.addresses]

    @property
    def labelled_vlan(self) -> int:
        """The ID of a VLAN that the option vlan has made for any network; 0 of other masters."""
        # In a container, its owner may have given it that label.
        is_labelled = self.netns is None and self.link.alias == VLAN_LABEL
        return self.link.vlan if is_labelled else 0

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
        if _identity(netns) == _identity(self.netns):
            return link.parent == self.link.name
        if link.kind == "ipvtap":  # the kernel does not report its parent's namespace
            return link.mac == self.link.mac
        if link.parent or link.parent_index != self.link.ifindex:
            return False
        return not link.is_ipvlan or link.mac == self.link.mac


def key_of(index: int, netns: Namespace | None = None) -> tuple[int, int]:
    """Return what identifies an interface on this node: its namespace's inode, and its index."""
    return _identity(netns)[1], index


def _identity(netns: Namespace | None) -> tuple[int, int]:
    """Return a namespace's identity; the container's may be our own, with CNI_NETNS_OVERRIDE."""
    return netns.identity if netns else namespace.own_identity()


def query_master(
    tx: Transaction, name: str, netns: Namespace | None, *, has_local: bool = True
) -> Master | None:
    """Return the master of that name; None if there is none."""
    kinds = (*queries.MACVLAN_KINDS, *queries.IPVLAN_KINDS)
    # After a link show in the same batch, an address show would show no addresses:
    # ipaddr_list_link() in ip/ipaddress.c sets the family for all that follows.
    host_query = (commands.route_show_local(),) if has_local and not netns else ()
    kind_queries = (commands.link_show(kind=kind) for kind in kinds)
    argvs = (commands.address_show(name), *host_query, *kind_queries)
    try:
        output = tx.run_batch(*(Command(argv, netns=netns) for argv in argvs)).stdout
    except CommandError as error:
        if not error.completed.is_absent:
            raise
        # The kernel makes the table local with the first IPv4 address. (ip -batch goes on without.)
        is_table = error.command.argv in host_query
        return query_master(tx, name, netns, has_local=False) if is_table else None
    link_output, *outputs = output.split(b"\n")
    links = queries.links(link_output)
    if not links:
        return None
    host_outputs, kind_outputs = outputs[: len(host_query)], outputs[len(host_query) :]
    prefixes = tuple(each for output in host_outputs for each in queries.local_prefixes(output))
    master = Master(links[0], netns, host_prefixes=prefixes)
    candidates = [each for output in kind_outputs for each in queries.links(output)]
    carried = tuple(each for each in candidates if master.carries(each, netns))
    return master._replace(carried=carried)


def check_master(master: Master, conf: NetConf) -> None:
    """Raise CniError if a master can't carry ipvlan, or not with the configured MTU."""
    link, fault = master.link, ""
    details: list[str] = []
    neighbours: list[str] = []
    macvlans = [each.name for each in master.carried if each.kind in queries.MACVLAN_KINDS]
    if not link.is_ethernet:
        fault = "is not an Ethernet interface, which ipvlan needs"
        details = ["try: use an Ethernet interface; ip link shows which are link/ether"]
    elif link.kind == "ipvlan":
        # The kernel would use the interface below it (ipvlan_link_new() in
        # drivers/net/ipvlan/ipvlan_main.c), which is not checked here.
        fault = "is itself an ipvlan interface"
        details = ["try: use the interface below it as the master"]
        neighbours = [f"the interface below it is {link.parent!r}"] if link.parent else []
    elif link.kind == "vrf":
        fault = "is a VRF, which carries no ipvlan"
        details = ["try: use the interface that is its port"]
    elif link.slave_kind in _EXCLUSIVE_MASTERS:
        fault = f"is a port of {_EXCLUSIVE_MASTERS[link.slave_kind]}"
        details = [f"try: use that as the master, or take {link.name!r} out of it"]
        neighbours = [f"it is a port of {link.master!r}"]
    elif macvlans:
        fault = "is taken by macvlan"
        details = [
            "an interface can serve macvlan or ipvlan, not both",
            "try: use another master, or remove the macvlan interfaces",
        ]
        neighbours = [f"the macvlan interfaces are: {shorten_list(macvlans)}"]
    if fault:
        msg = f"the master {link.name!r} {fault}"
        raise master_error(master.netns, MASTER_BUSY, msg, details, neighbours)
    if conf.mtu and not LEAST_MTU <= conf.mtu <= link.mtu:
        reason = "an ipvlan interface can't have less"
        if conf.mtu > link.mtu:
            reason = "packets larger than the master's MTU would be dropped silently"
        raise CniError(
            INVALID_CONFIGURATION,
            f"mtu is {conf.mtu}; allowed on the master {link.name!r}: {LEAST_MTU} to {link.mtu}",
            f"{reason}\ntry: leave mtu out, which takes the master's",
        )


def describe_down(master: Master) -> str:
    """Return a sentence that a master is down, and what to try."""
    argv = Command(commands.link_set(master.link.name, "up"), netns=master.netns).full_argv
    command = commands.in_shell(argv)
    return f"the master {master.link.name!r} is down, so no packets get through; try: {command}"


def master_error(
    netns: Namespace | None, code: int, msg: str, details: list[str], neighbours: list[str]
) -> CniError:
    """Return an error about a master; ``neighbours`` are lines that name other interfaces.

    If the master is on the host, only root may see them, since a tenant may try any
    name. If it is in the container's namespace ``netns``, they are the container's own.
    """
    if netns is not None:
        return CniError(code, msg, "\n".join((*details, *neighbours)))
    return CniError(code, msg, "\n".join(details), "\n".join(neighbours))


def shorten_list(names: list[str], most: int = _MOST_NAMES) -> str:
    """Return the first of the names, and the number of the others."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
