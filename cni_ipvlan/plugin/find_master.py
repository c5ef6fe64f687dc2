"""Find the master: as configured, else prevResult's interface, else the default route's.

The option ``master`` may have several names and patterns; the first that fits counts. A name fits
the interface that has it, as its name or as an altname. A pattern fits the first interface, in the
order of their indices (that of ``ip link``), which can be the master of the network: what is made
on top of others, as VLANs and bridges, has a higher index than these.
"""

from __future__ import annotations

from collections.abc import Sequence

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config.netconf import NetConf, is_pattern
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import NO_MASTER
from cni_ipvlan.plugin.master import Master, check_master, look, refusal, shortened

_NAMED = 5  # of those that a pattern fits, but can't be the master
_VLANS = 4095  # which is no ID any more


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
    raise refusal(netns, NO_MASTER, f"cannot find the master {name!r}", details, there)


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
        routes = queries.routes(tx.run(Command(default, netns=netns)).stdout)
        if through := [each for each in routes if each.device]:
            return min(through, key=lambda each: each.priority).device
    where = "container" if netns else "host"
    raise refusal(
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
    raise refusal(
        netns,
        NO_MASTER,
        "cannot find a master: no interface that can be one fits "
        + " or ".join(map(repr, conf.masters)),
        [_looked_in(netns), "try: correct the option master"],
        [f"found there: {shortened([link.name for link in there])}", *unfit[:_NAMED]],
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
