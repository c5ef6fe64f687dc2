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
from cni_ipvlan.plugin.master import Master, check_master, master_error, query_master, shorten_list

_MOST_REASONS = 5  # of those that a pattern fits, but can't be the master
_VLAN_LIMIT = 4095  # the first number that is no ID


def find_master(tx: Transaction, conf: NetConf, container: Namespace | None) -> Master:
    """Return the master for a configuration; raises CniError if there is none."""
    netns = container if conf.link_in_container else None
    name = conf.master or _find_name(tx, conf, netns)
    master = query_master(tx, name, netns)
    if master is not None:
        return master
    from cni_ipvlan.suggest import nearest_first

    names, is_near = nearest_first(name, [link.name for link in _list_links(tx, netns)])
    details = [_describe_search(netns)]
    if container and not netns and name in (link.name for link in _list_links(tx, container)):
        details.append(
            "the container has an interface of that name; the option linkInContainer would use it"
        )
    details.append("try: correct the option master")
    neighbours = [f"found there{', nearest name first' if is_near else ''}: {shorten_list(names)}"]
    parent, _, vlan = name.rpartition(".")
    if netns is None and parent in names and vlan.isdecimal() and 0 < int(vlan) < _VLAN_LIMIT:
        neighbours.append(f"did you mean {parent!r} with vlan {int(vlan)}, which makes that one?")
    elif is_near:
        neighbours.append(f"did you mean {names[0]!r}?")
    raise master_error(netns, NO_MASTER, f"cannot find the master {name!r}", details, neighbours)


def matching_links(links: Sequence[Link], conf: NetConf) -> list[Link]:
    """Return the links that a name or a pattern of the option master fits."""
    entries = (*conf.masters, conf.master)
    return [link for entry in entries for link in _links_of_entry(entry, links)]


def _find_name(tx: Transaction, conf: NetConf, netns: Namespace | None) -> str:
    """Return the name of a master that no single name is configured for."""
    if conf.masters:
        return _choose_link(tx, conf, netns).name
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
        query = commands.route_show("default", family=family)
        routes = queries.routes(tx.run(Command(query, netns=netns)).stdout)
        if default_routes := [each for each in routes if each.device]:
            return min(default_routes, key=lambda each: each.priority).device
    where = "container" if netns else "host"
    raise master_error(
        netns,
        NO_MASTER,
        f"no master is configured, and the {where} has no default route to find it by",
        ["try: set the option master"],
        [f"interfaces there: {shorten_list([link.name for link in _list_links(tx, netns)])}"],
    )


def _list_links(tx: Transaction, netns: Namespace | None) -> list[Link]:
    return queries.links(tx.run(Command(commands.link_show(), netns=netns)).stdout)


def _describe_search(netns: Namespace | None) -> str:
    where = f"the container's namespace {netns.path}" if netns else "the host's namespace"
    return f"looked in: {where}"


def _choose_link(tx: Transaction, conf: NetConf, netns: Namespace | None) -> Link:
    """Return the link in ``netns`` to use as the master; raises CniError if none fits."""
    links = _list_links(tx, netns)
    carried_links: dict[str, list[Link]] = {}  # by the name of the link below
    for link in links:
        carried_links.setdefault(link.parent, []).append(link)
    reasons: list[str] = []
    for entry in conf.masters:
        for link in _links_of_entry(entry, links):
            if entry in _names_of(link):
                return link
            reason = f"it is of kind {link.kind}"
            if not link.is_ipvlan:
                try:
                    check_master(Master(link, netns, tuple(carried_links.get(link.name, ()))), conf)
                except CniError as error:
                    reason = error.msg
                else:
                    return link
            reasons.append(f"{link.name!r} fits {entry!r}, but {reason}")
    raise master_error(
        netns,
        NO_MASTER,
        "cannot find a master: no interface that can be one fits "
        + " or ".join(map(repr, conf.masters)),
        [_describe_search(netns), "try: correct the option master"],
        [f"found there: {shorten_list([link.name for link in links])}", *reasons[:_MOST_REASONS]],
    )


def _links_of_entry(entry: str, links: Sequence[Link]) -> list[Link]:
    """Return the link with exactly this name, as names may have any character, or the matches."""
    named = [link for link in links if entry in _names_of(link)]
    if named or not is_pattern(entry):
        return named
    from fnmatch import fnmatchcase  # importing it takes as long as the rest of finding a master

    matches = [link for link in links if any(fnmatchcase(name, entry) for name in _names_of(link))]
    return sorted(matches, key=lambda link: link.ifindex)


def _names_of(link: Link) -> tuple[str, ...]:
    return link.name, *link.alternative_names
