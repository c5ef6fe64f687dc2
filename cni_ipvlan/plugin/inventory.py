"""Find links of some kinds in all namespaces of this node, and those that a master carries."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.start.namedtuple import NamedTuple
from cni_ipvlan.state.attachment import AttachmentId, Record, described, named_by
from cni_ipvlan.state.registry import Registry

_SEARCH_SECONDS = 1.0


class Attachment(NamedTuple):
    """A link and its namespace, None for the caller's own namespace.

    ``owner`` is None if no attachment is known that it belongs to; addresses have prefix
    lengths; ``pod`` is the owner's, NAMESPACE/NAME, empty if it is not known.
    """

    link: Link
    netns: Namespace | None
    owner: AttachmentId | None
    addresses: tuple[str, ...]
    pod: str = ""

    def describe(self) -> str:
        """Return a phrase that names the interface and its namespace."""
        where = f"in {self.netns.path}" if self.netns else "on the host"
        container = f" ({described(self.owner.container_id, self.pod)})" if self.owner else ""
        return f"{self.link.name} {where}{container}"


def take(
    tx: Transaction,
    registry: Registry,
    kinds: Sequence[str | None] = queries.IPVLAN_KINDS,
    unseen: Callable[[str], None] = lambda _where: None,
    deadline: float = math.inf,
    others: Iterable[Namespace] | None = None,
    first: Container[tuple[int, int]] = (),
) -> Iterator[Attachment]:
    """Yield all links of these kinds (None: of any): of our own namespace, then of recorded ones.

    ``others`` are the namespaces to search, by default all; before the recorded ones come those
    whose identities are in ``first``. ``unseen`` is called with each that can't be searched, and
    why. The search stops at ``deadline``, a time of the monotonic clock, also in a namespace with
    thousands of links.
    """
    owners = Owners(registry.all_records())
    if others is None:
        others = namespace.find_others(deadline)

    def place(netns: Namespace) -> tuple[bool, bool]:
        return netns.identity not in first, netns.identity not in owners.places

    for netns in (None, *sorted(others, key=place)):
        left = deadline - time.monotonic()
        if left <= 0:
            return
        argvs = (commands.address_show(kind=kind) for kind in kinds)
        asked = (Command(argv, netns=netns) for argv in argvs)
        try:
            output = tx.run_batch(*asked, seconds=left).stdout
        except CommandError as error:
            unseen(f"{netns.path if netns else 'the host'}: {error.answer}")
            continue
        for line in output.splitlines():
            for link in queries.links(line):
                owner = owners.of(link, netns)
                has = tuple(each.address for each in link.addresses)
                yield Attachment(link, netns, owner, has, owners.pod_of(owner, netns))


class Owners:
    """Finds whose a link is: its label says that, else the records do."""

    def __init__(self, records: Iterable[Record]) -> None:
        records = list(records)
        self.places = {record.netns_identity for record in records}
        self._by_label = {record.attachment.label: record.attachment for record in records}
        self._by_place = {
            (record.ifname, record.netns_identity): record.attachment for record in records
        }
        self._pods = {(record.attachment, record.netns_identity): record.pod for record in records}

    def of(self, link: Link, netns: Namespace | None) -> AttachmentId | None:
        """Return the attachment that a link belongs to, if that is known."""
        named = named_by(link.alias)
        if named is not None:  # the record has the whole of names that are cut in the label
            return self._by_label.get(link.alias, named)
        return self._by_place.get((link.name, netns.identity)) if netns else None

    def pod_of(self, owner: AttachmentId | None, netns: Namespace | None) -> str:
        """Return an attachment's pod in its namespace, NAMESPACE/NAME; empty if it is not known.

        A label that names an attachment of another namespace may be forged.
        """
        return self._pods.get((owner, netns.identity), "") if owner and netns else ""


def labelled(tx: Transaction, registry: Registry, attachment: AttachmentId) -> Iterator[Attachment]:
    """Yield the links with an attachment's label, searched for a second."""
    for each in take(tx, registry, deadline=time.monotonic() + _SEARCH_SECONDS):
        if attachment.has_label(each.link.alias):
            yield each


def on_master(attachments: Iterator[Attachment], master: Master) -> Iterator[Attachment]:
    """Yield those that a master carries."""
    for each in attachments:
        if master.carries(each.link, each.netns):
            yield each
