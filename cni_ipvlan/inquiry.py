"""What a refusal leaves open, asked of the kernel: who has the address, who has the master.

Only a call that fails imports this. What can't be found out is left out: the
refusal is what counts.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from cni_ipvlan import census
from cni_ipvlan.iproute import causes, commands, queries
from cni_ipvlan.iproute.queries import UnreadableAnswerError
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError
from cni_ipvlan.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.iproute.commands import Argv
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.registry import Registry
    from cni_ipvlan.survey import Master

_RIVALS = ("macvlan", "macvtap")  # kinds that want a master for themselves, as ipvlan does
_MAIN_TABLE = "254"  # RT_TABLE_MAIN, <linux/rtnetlink.h>


class Scene(NamedTuple):
    """Where a command was refused: the attachment's master, and its container."""

    tx: Transaction
    registry: Registry
    master: Master
    container: Namespace


def findings(error: CommandError, scene: Scene) -> list[str]:
    """Return what the kernel knows besides its answer, a line each.

    They may name other containers, which is nothing for a tenant to see.
    """
    inquire = _INQUIRIES.get(causes.explain(error.argv, error.answer).kind)
    if inquire is None:
        return []
    try:
        return inquire(error.argv, scene)
    except (CommandError, ProgramNotFoundError, UnreadableAnswerError, OSError, ValueError):
        return []


def rivals(tx: Transaction, registry: Registry, master: Master) -> list[census.Attachment]:
    """Return the links of other kinds that keep a master from serving ipvlan."""
    return [
        each
        for kind in _RIVALS
        for each in census.on_master(census.take(tx, registry, kind), master)
    ]


def _rivals(_argv: Argv, scene: Scene) -> list[str]:
    found = rivals(scene.tx, scene.registry, scene.master)
    if not found:
        return []
    return [f"on {scene.master.link.name} stands {found[0].link.kind}: {census.summary(found)}"]


def _holder_of_address(argv: Argv, scene: Scene) -> list[str]:
    address = ip_interface(argv[argv.index("add") + 1]).ip
    everybody = census.on_master(census.take(scene.tx, scene.registry), scene.master)
    for each in everybody:
        if any(ip_interface(theirs).ip == address for theirs in each.addresses):
            return [f"{address} belongs to {each.describe()}"]
    return []


def _route(argv: Argv, scene: Scene) -> list[str]:
    """Read the command as commands.route_add() writes it."""
    words = argv[argv.index("add") + 1 :]
    given = dict(zip(words[1::2], words[2::2], strict=True))
    output = scene.tx.read(commands.address_show(given["dev"]), inside=scene.container)
    has = [each.address for each in queries.addresses(output)]
    found = _way_to_gateway(given.get("via", ""), given["dev"], has)
    output = scene.tx.read(commands.route_show_all(), inside=scene.container)
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


_INQUIRIES: dict[str, Callable[[Argv, Scene], list[str]]] = {
    causes.BUSY: _rivals,
    causes.ADDRESS_IN_USE: _holder_of_address,
    causes.ROUTE_REFUSED: _route,
}
