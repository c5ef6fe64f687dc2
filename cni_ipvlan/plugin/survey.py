"""What ADD looks at before it changes anything: the namespace, the master, the name."""

from __future__ import annotations

from shlex import join

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.cni.errors import (
    INTERFACE_NAME_TAKEN,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    MASTER_BUSY,
    NO_MASTER,
    CniError,
)
from cni_ipvlan.iproute import causes, commands, namespace, queries
from cni_ipvlan.iproute.runner import CommandError

if TYPE_CHECKING:
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction

_NAMED = 20  # interfaces of many
LEAST_MTU = 68  # IPv4's, and min_mtu of an ipvlan link
# Kinds whose ports have their packets taken away before an ipvlan could see them.
_EXCLUSIVE_MASTERS = {
    "bridge": "a bridge",
    "bond": "a bond",
    "team": "a team",
    "openvswitch": "an Open vSwitch",
}


class Master(NamedTuple):
    """The master, where it lives (``home``, None for the plugin's own namespace), and what of
    ipvlan stands on it there.
    """

    link: Link
    home: Namespace | None
    home_inode: int
    slaves: tuple[Link, ...] = ()

    @property
    def key(self) -> tuple[int, int]:
        """What identifies it on this node: namespace inode, interface index."""
        return self.home_inode, self.link.ifindex


def container_namespace(request: Request) -> Namespace:
    """Return the namespace CNI_NETNS leads to; raises CniError 4 when it can't be a container's."""
    try:
        found = namespace.find(request.netns)
    except FileNotFoundError:
        raise _bad_netns(
            request,
            "there is no such file",
            "the container may have ended already; ip netns and lsns -t net show what there is",
        ) from None
    except PermissionError as error:
        raise _bad_netns(request, _reason(error), "run as root") from None
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        raise _bad_netns(
            request,
            _reason(error),
            "give the path of a network namespace: /run/netns/NAME, or /proc/PID/ns/net",
        ) from None
    if found.identity == namespace.own() and not request.may_share_netns:
        raise _bad_netns(
            request,
            "that is the namespace the plugin itself runs in",
            "none is needed: a container on the host's network needs no interface "
            "(CNI_NETNS_OVERRIDE=1 gives it one all the same)",
        )
    return found


def _bad_netns(request: Request, why: str, advice: str) -> CniError:
    return CniError(INVALID_ENVIRONMENT, f"CNI_NETNS is {request.netns!r}; {why}", f"try: {advice}")


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def find_master(tx: Transaction, conf: NetConf, container: Namespace | None) -> Master:
    """Return the master, seen to be fit for ipvlan and for the MTU that is asked for.

    Raises CniError naming what is wrong with it.
    """
    home = container if conf.link_in_container else None
    name = master_name(tx, conf, home)
    elsewhere = None if home else container
    link, macvlans, ipvlans = _look_at(tx, name, home, elsewhere)
    _check_fitness(link, home, [other.name for other in macvlans if other.parent == link.name])
    _check_mtu(conf, link)
    inode = home.identity[1] if home else namespace.own()[1]
    slaves = tuple(slave for slave in ipvlans if slave.parent == link.name)
    return Master(link, home, inode, slaves)


def _look_at(
    tx: Transaction, name: str, home: Namespace | None, elsewhere: Namespace | None
) -> tuple[Link, list[Link], list[Link]]:
    """Return the link of that name, and the macvlan and ipvlan links of its namespace."""
    kinds = ("macvlan", "macvtap", "ipvlan")
    asked = (*map(commands.link_show_kind, kinds), commands.link_show(name))
    try:
        outputs = tx.read_all(asked, inside=home)
    except CommandError as error:
        if causes.is_absent(error.answer.encode()):
            master_link(tx, name, home, elsewhere)
        raise
    macvlans, macvtaps, ipvlans, found = map(queries.links, outputs)
    link = found[0] if found else master_link(tx, name, home, elsewhere)
    return link, macvlans + macvtaps, ipvlans


def master_name(tx: Transaction, conf: NetConf, home: Namespace | None) -> str:
    """Return the master's name: as configured, else prevResult's, else the default route's."""
    if conf.master:
        return conf.master
    if conf.prev_result is not None:
        interfaces = conf.prev_result.interfaces
        if len(interfaces) == 1 and interfaces[0].name:
            return interfaces[0].name
        raise CniError(
            NO_MASTER,
            "no master is configured, and prevResult has no single named interface to take for it",
            "try: set the option master",
        )
    for family in (4, 6):
        routes = tx.read(commands.route_show_default(family), inside=home)
        candidates = sorted(queries.default_interfaces(routes), key=lambda each: each[0])
        if candidates:
            return candidates[0][1]
    where = "container" if home else "host"
    raise _refusal(
        home,
        NO_MASTER,
        f"no master is configured, and the {where} has no default route to take it from",
        ["try: set the option master"],
        [f"interfaces there: {_shortened(_names(tx, home))}"],
    )


def master_link(
    tx: Transaction, name: str, home: Namespace | None, elsewhere: Namespace | None = None
) -> Link:
    """Return the link of that name in ``home``.

    Raises CniError when there is none, telling whether it is ``elsewhere``.
    """
    output = tx.read(commands.link_show(name), inside=home, absent_ok=True)
    found = queries.links(output)
    if found:
        return found[0]
    from cni_ipvlan.suggest import nearest_first

    names, near = nearest_first(name, _names(tx, home))
    where = f"the container's namespace {home.path}" if home else "the host's namespace"
    details = [f"looked in: {where}"]
    if elsewhere is not None and name in _names(tx, elsewhere):
        details.append(
            "the container has an interface of that name; the option linkInContainer is for that"
        )
    details.append("try: correct the option master")
    there = [f"found there{', nearest name first' if near else ''}: {_shortened(names)}"]
    if near:
        there.append(f"is {names[0]!r} meant?")
    raise _refusal(home, NO_MASTER, f"cannot find the master {name!r}", details, there)


def is_down(link: Link, home: Namespace | None) -> str:
    """Say that a master is down, and what to do."""
    up = commands.in_namespace(home, commands.link_set_up(link.name))
    return f"the master {link.name!r} is down, so no packet gets through; try: {join(up)}"


def _refusal(
    home: Namespace | None, code: int, msg: str, details: list[str], neighbours: list[str]
) -> CniError:
    """Word a refusal of a master; ``neighbours`` are the lines that name other interfaces.

    The host's are for root alone to see: a tenant may ask for any name. In
    ``home``, the container's namespace, they are the container's own.
    """
    if home is not None:
        return CniError(code, msg, "\n".join((*details, *neighbours)))
    return CniError(code, msg, "\n".join(details), "\n".join(neighbours))


def _names(tx: Transaction, place: Namespace | None) -> list[str]:
    return [link.name for link in queries.links(tx.read(commands.link_show_all(), inside=place))]


def _shortened(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_fitness(link: Link, home: Namespace | None, takers: list[str]) -> None:
    name = repr(link.name)
    if not link.is_ethernet:
        raise CniError(
            MASTER_BUSY, f"the master {name} is no Ethernet interface, which ipvlan needs"
        )
    if link.kind == "ipvlan":
        # The kernel then takes the interface below it (ipvlan_link_new() in
        # drivers/net/ipvlan/ipvlan_main.c), which nobody looked at here.
        raise _refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is an ipvlan interface itself",
            ["try: use the interface below it as the master"],
            [f"the interface below it is {link.parent!r}"] if link.parent else [],
        )
    if link.slave_kind in _EXCLUSIVE_MASTERS:
        raise _refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is a port of {_EXCLUSIVE_MASTERS[link.slave_kind]}",
            [f"try: use that as the master, or take {name} out of it"],
            [f"it is a port of {link.master!r}"],
        )
    if takers:
        raise _refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is taken by macvlan",
            [
                "an interface can serve macvlan or ipvlan, not both",
                "try: use another master, or remove the macvlan interfaces",
            ],
            [f"the macvlan interfaces are: {_shortened(takers)}"],
        )


def _check_mtu(conf: NetConf, link: Link) -> None:
    if conf.mtu and not LEAST_MTU <= conf.mtu <= link.mtu:
        raise CniError(
            INVALID_CONFIGURATION,
            f"mtu is {conf.mtu}; allowed on the master {link.name!r}: {LEAST_MTU} to {link.mtu}",
            "packets larger than the master's MTU would be lost without a word\n"
            "try: leave mtu out, which takes the master's",
        )


def check_name_is_free(tx: Transaction, ifname: str, container: Namespace) -> None:
    """Raise CniError when the container has an interface of that name."""
    output = tx.read(commands.link_show(ifname), inside=container, absent_ok=True)
    for link in queries.links(output):
        kind = link.kind or "physical or built-in"
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {ifname!r}, of kind {kind}",
            "try: choose another CNI_IFNAME, or delete that interface",
        )
