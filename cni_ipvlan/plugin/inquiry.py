"""What a refusal leaves open, asked of the kernel: who has the address, who has the master.

Only a call that fails imports this. What can't be found out is left out: the
refusal is what counts.
"""

from __future__ import annotations

import math
import time
from ipaddress import ip_address, ip_interface

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import causes, commands, queries
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import (
    CommandError,
    InterruptedBySignalError,
    ProgramNotFoundError,
)
from cni_ipvlan.plugin import inventory

if TYPE_CHECKING:
    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.survey import Master
    from cni_ipvlan.state.registry import Registry

_RIVALS = ("macvlan", "macvtap")  # kinds that want a master for themselves, as ipvlan does
_SECONDS = 1.0
_UNANSWERED = (
    CommandError,
    InterruptedBySignalError,
    ProgramNotFoundError,
    UnreadableAnswerError,
    OSError,
    ValueError,
)
_MAIN_TABLE = "254"  # RT_TABLE_MAIN, <linux/rtnetlink.h>


def in_container(error: CommandError, tx: Transaction, container: Namespace) -> list[str]:
    """Return what the container itself shows about a refusal, a line each."""
    if _kind(error) != causes.ROUTE_REFUSED:
        return []
    try:
        return _route(error.argv, tx, container)
    except _UNANSWERED:
        return []


def elsewhere(
    error: CommandError, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    """Return who is in the way, a line each: nothing for a tenant to see.

    It takes a second at the most, and nothing may be held meanwhile.
    """
    try:
        if _kind(error) == causes.BUSY:
            return _rivals(tx, registry, master)
        if _kind(error) == causes.ADDRESS_IN_USE:
            return _holder_of_address(error.argv, tx, registry, master)
    except _UNANSWERED:
        pass
    return []


def rivals(
    tx: Transaction, registry: Registry, master: Master, deadline: float = math.inf
) -> list[inventory.Attachment]:
    """Return the links of other kinds that keep a master from serving ipvlan."""
    return [
        each
        for kind in _RIVALS
        for each in inventory.on_master(
            inventory.take(tx, registry, kind, deadline=deadline), master
        )
    ]


def _kind(error: CommandError) -> str:
    return causes.explain(error.argv, error.answer).kind


def _rivals(tx: Transaction, registry: Registry, master: Master) -> list[str]:
    found = rivals(tx, registry, master, time.monotonic() + _SECONDS)
    if not found:
        return []
    return [f"{master.link.name} already carries {found[0].link.kind}: {inventory.summary(found)}"]


def _holder_of_address(
    argv: Argv, tx: Transaction, registry: Registry, master: Master
) -> list[str]:
    address = ip_interface(argv[argv.index("add") + 1]).ip
    deadline = time.monotonic() + _SECONDS
    for each in inventory.on_master(inventory.take(tx, registry, deadline=deadline), master):
        if any(ip_interface(theirs).ip == address for theirs in each.addresses):
            return [f"{address} belongs to {each.describe()}"]
    if time.monotonic() >= deadline:
        return [f"who has {address} was not found in {_SECONDS:.0f} s; ipvlan show takes its time"]
    return []


def _route(argv: Argv, tx: Transaction, container: Namespace) -> list[str]:
    """Read the command as commands.route_add() writes it."""
    words = argv[argv.index("add") + 1 :]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    output = tx.read(commands.address_show(given["dev"]), inside=container)
    has = [each.address for each in queries.addresses(output)]
    found = _way_to_gateway(given.get("via", ""), given["dev"], has)
    output = tx.read(commands.route_show_all(), inside=container)
    return found + [
        f"the container has the route {_described(each)}"
        for each in queries.routes(output)
        if each.dst == words[0] and str(each.table) == given.get("table", _MAIN_TABLE)
    ]


def _way_to_gateway(gateway: str, name: str, addresses: list[str]) -> list[str]:
    if not gateway:
        return []
    wanted = ip_address(gateway)
    own = [
        each
        for each in map(ip_interface, addresses)
        if each.version == wanted.version and (wanted.is_link_local or not each.is_link_local)
    ]
    if not own:
        return [f"{name} has no IPv{wanted.version} address, so no way to the gateway {gateway}"]
    if any(wanted in each.network for each in own):
        return []
    subnets = ", ".join(f"{each} (subnet {each.network})" for each in own)
    return [f"the gateway {gateway} is in no subnet of {name}, which has {subnets}"]


def _described(route: queries.Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{route.dst}{via} dev {route.device} metric {route.priority}"
