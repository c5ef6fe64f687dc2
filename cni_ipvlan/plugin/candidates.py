"""The master among several: the first name or pattern of the option ``master`` that fits.

A name fits the interface that has it, as its name or as an altname. A pattern fits the first
interface, in the order of their indices (that of ``ip link``), which can be the master of the
network: what is made on top of others, as VLANs and bridges, has a higher index than these.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config.netconf import is_pattern
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import preflight
from cni_ipvlan.plugin.codes import NO_MASTER
from cni_ipvlan.plugin.master import Master, refusal, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction

_NAMED = 5  # of those that a pattern fits, but can't be the master


def choose(tx: Transaction, conf: NetConf, home: Namespace | None) -> Link:
    """Return the link in ``home`` to use as the master; raises CniError if none fits."""
    there = queries.links(tx.see(Command(commands.link_show_all(), inside=home)))
    carried: dict[str, list[Link]] = {}  # by the name of the link below
    for link in there:
        carried.setdefault(link.parent, []).append(link)
    unfit: list[str] = []
    for entry in conf.masters:
        for link in _fitting(entry, there):
            master = Master(link, home, tuple(carried.get(link.name, ())))
            why = "" if entry in _names(link) else _why_not(master, conf)
            if not why:
                return link
            unfit.append(f"{link.name!r} fits {entry!r}, but {why}")
    where = f"the container's namespace {home.path}" if home else "the host's namespace"
    raise refusal(
        home,
        NO_MASTER,
        f"cannot find a master: no interface that can be one fits {_listed(conf)}",
        [f"looked in: {where}", "try: correct the option master"],
        [f"found there: {shortened([link.name for link in there])}", *unfit[:_NAMED]],
    )


def meant(there: Sequence[Link], conf: NetConf) -> list[Link]:
    """Return the links that a name or a pattern of the option master fits."""
    return [link for entry in conf.masters for link in _fitting(entry, there)]


def _fitting(entry: str, there: Sequence[Link]) -> list[Link]:
    """Return the one with that very name, since names may have any character, or else matches."""
    named = [link for link in there if entry in _names(link)]
    if named or not is_pattern(entry):
        return named
    found = [link for link in there if any(fnmatchcase(name, entry) for name in _names(link))]
    return sorted(found, key=lambda link: link.ifindex)


def _names(link: Link) -> tuple[str, ...]:
    return link.name, *link.alternative_names


def _why_not(master: Master, conf: NetConf) -> str:
    """Return why an interface can't be the master of the network; empty if it can."""
    if master.link.is_ipvlan:
        return f"it is of kind {master.link.kind}"
    try:
        preflight.check_master(master, conf)
    except CniError as error:
        return error.msg
    return ""


def _listed(conf: NetConf) -> str:
    return " or ".join(map(repr, conf.masters))
