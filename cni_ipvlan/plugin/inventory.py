"""Find links of a kind in all namespaces of this node, and those that a master carries."""

from __future__ import annotations

import math
import time

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.state.registry import Registry

_NAMED = 3  # of many


class Attachment(NamedTuple):
    """A link and its place, None for the caller's own namespace.

    ``container_id`` is empty if none is recorded; addresses have prefix lengths.
    """

    link: Link
    place: Namespace | None
    container_id: str
    addresses: tuple[str, ...]

    def describe(self) -> str:
        """Return a phrase that names the interface and its place."""
        where = f"in {self.place.path}" if self.place else "on the host"
        container = f" (container {self.container_id})" if self.container_id else ""
        return f"{self.link.name} {where}{container}"


def take(
    tx: Transaction,
    registry: Registry,
    kind: str = "ipvlan",
    unseen: Callable[[str], None] = lambda _where: None,
    deadline: float = math.inf,
    others: Iterable[Namespace] | None = None,
) -> Iterator[Attachment]:
    """Yield all links of a kind: first of the caller's own namespace, then of recorded ones.

    ``others`` are the namespaces to search, by default all. ``unseen`` is called with
    each that can't be searched, and why. The search stops at ``deadline``, a time of
    the monotonic clock.
    """
    containers = {
        (hint.ifname, hint.netns_identity): hint.container_id for hint in registry.all_hints()
    }
    remembered = {identity for _, identity in containers}
    if others is None:
        others = namespace.others()
    for place in (None, *sorted(others, key=lambda place: place.identity not in remembered)):
        if time.monotonic() >= deadline:
            return
        try:
            output = tx.see(Command(commands.address_show_kind(kind), inside=place))
        except CommandError as error:
            unseen(f"{place.path if place else 'the host'}: {error.answer}")
            continue
        for link, addresses in queries.links_with_addresses(output):
            known = containers.get((link.name, place.identity), "") if place else ""
            yield Attachment(link, place, known, tuple(each.address for each in addresses))


def on_master(attachments: Iterator[Attachment], master: Master) -> Iterator[Attachment]:
    """Yield those that a master carries."""
    for each in attachments:
        if master.carries(each.link, each.place):
            yield each


def summary(attachments: Sequence[Attachment]) -> str:
    """Return a phrase that names the first of them, and how many more there are."""
    named = ", ".join(each.describe() for each in attachments[:_NAMED])
    more = len(attachments) - _NAMED
    return f"{named} and {more} more" if more > 0 else named
