"""What is checked before anything is changed: the container, the name, the master's fitness."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import (
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    CniError,
)
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin.codes import INTERFACE_NAME_TAKEN, MASTER_BUSY
from cni_ipvlan.plugin.master import refusal, shortened

if TYPE_CHECKING:
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.master import Master

LEAST_MTU = 68  # IPv4's, and min_mtu of an ipvlan link
# Kinds whose ports have their packets taken away before an ipvlan could see them.
_EXCLUSIVE_MASTERS = {
    "bridge": "a bridge",
    "bond": "a bond",
    "team": "a team",
    "openvswitch": "an Open vSwitch",
}


def container_namespace(request: Request) -> Namespace:
    """Return the namespace CNI_NETNS leads to; raises CniError 4 when it can't be a container's."""
    try:
        found = namespace.find(request.netns)
        is_own = found.identity == namespace.own()
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
    if is_own and not request.may_share_netns:
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


def check_name_is_free(tx: Transaction, ifname: str, container: Namespace) -> None:
    """Raise CniError when the container has an interface of that name."""
    query = Command(commands.link_show(ifname), inside=container, absent_ok=True)
    for link in queries.links(tx.see(query)):
        kind = link.kind or "physical or built-in"
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {ifname!r}, of kind {kind}",
            "try: choose another CNI_IFNAME, or delete that interface",
        )


def check_master(master: Master, conf: NetConf) -> None:
    """Raise CniError naming what makes a master unfit for ipvlan, or for the configured MTU."""
    _check_fitness(master)
    _check_mtu(conf, master.link)


def _check_fitness(master: Master) -> None:
    link, home = master.link, master.home
    name = repr(link.name)
    takers = [each.name for each in master.carried if each.kind in ("macvlan", "macvtap")]
    if not link.is_ethernet:
        raise CniError(
            MASTER_BUSY, f"the master {name} is no Ethernet interface, which ipvlan needs"
        )
    if link.kind == "ipvlan":
        # The kernel then takes the interface below it (ipvlan_link_new() in
        # drivers/net/ipvlan/ipvlan_main.c), which nobody looked at here.
        raise refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is an ipvlan interface itself",
            ["try: use the interface below it as the master"],
            [f"the interface below it is {link.parent!r}"] if link.parent else [],
        )
    if link.slave_kind in _EXCLUSIVE_MASTERS:
        raise refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is a port of {_EXCLUSIVE_MASTERS[link.slave_kind]}",
            [f"try: use that as the master, or take {name} out of it"],
            [f"it is a port of {link.master!r}"],
        )
    if takers:
        raise refusal(
            home,
            MASTER_BUSY,
            f"the master {name} is taken by macvlan",
            [
                "an interface can serve macvlan or ipvlan, not both",
                "try: use another master, or remove the macvlan interfaces",
            ],
            [f"the macvlan interfaces are: {shortened(takers)}"],
        )


def _check_mtu(conf: NetConf, link: Link) -> None:
    if conf.mtu and not LEAST_MTU <= conf.mtu <= link.mtu:
        raise CniError(
            INVALID_CONFIGURATION,
            f"mtu is {conf.mtu}; allowed on the master {link.name!r}: {LEAST_MTU} to {link.mtu}",
            "packets larger than the master's MTU would be dropped silently\n"
            "try: leave mtu out, which takes the master's",
        )
