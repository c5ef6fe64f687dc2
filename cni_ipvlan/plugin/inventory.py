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
from cni_ipvlan.state.attachment import AttachmentId, Record, describe_container, parse_label
from cni_ipvlan.state.registry import Registry

_SEARCH_SECONDS = 1.0


class Attachment(NamedTuple):
    """A link and its namespace, None for the caller's own namespace.

    ``owner`` is the attachment that it belongs to, None if that is not known. Addresses have prefix
    lengths. ``pod`` is the owner's, NAMESPACE/NAME, empty if it is not known.
    """

    link: Link
    netns: Namespace | None
    owner: AttachmentId | None
    addresses: tuple[str, ...]
    pod: str = ""

    def describe(self) -> str:
        """Return a phrase that names the interface and its namespace."""
        where = f"in {self.netns.path}" if self.netns else "on the host"
        text = f"{self.link.name} {where}"
        if self.owner:
            text += f" ({describe_container(self.owner.container_id, self.pod)})"
        return text


def search(
    tx: Transaction,
    registry: Registry,
    kinds: Sequence[str | None] = queries.IPVLAN_KINDS,
    report: Callable[[str], None] = lambda _text: None,
    deadline: float = math.inf,
    namespaces: Iterable[Namespace] | None = None,
    first: Container[tuple[int, int]] = (),
) -> Iterator[Attachment]:
    """Yield the links of these kinds (None means any) in the namespaces of this node.

    Our own namespace is searched first, then those whose identities are in ``first``, those of
    recorded containers, and the others. ``namespaces`` are those to search besides our own, by
    default all. ``report`` is called with the path of each that can't be searched, and the reason.
    The search stops at ``deadline``, a time of the monotonic clock, even in the middle of a
    namespace with thousands of links.
    """
    owners = Owners(registry.all_records())
    if namespaces is None:
        namespaces = namespace.find_others(deadline)

    def priority(netns: Namespace) -> tuple[bool, bool]:
        return netns.identity not in first, netns.identity not in owners.namespaces

    queue, repeated = [None, *sorted(namespaces, key=priority)], set[tuple[int, int]]()
    for netns in queue:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            return
        argvs = (commands.address_show(kind=kind) for kind in kinds)
        parts = (Command(argv, netns=netns) for argv in argvs)
        try:
            output = tx.run_batch(*parts, seconds=seconds).stdout
        except CommandError as error:
            is_gone = netns and not namespace.leads_to(netns.path, netns.identity)
            if netns and is_gone and netns.identity not in repeated:
                # The process has ended by which it was found; another one may have it open.
                repeated.add(netns.identity)
                others = namespace.find_others(deadline)
                queue += [each for each in others if each.identity == netns.identity]
            else:
                report(f"{netns.path if netns else 'the host'}: {error.answer}")
            continue
        for line in output.splitlines():
            for link in queries.links(line):
                if time.monotonic() >= deadline:
                    return
                owner = owners.owner_of(link, netns)
                addresses = tuple(each.address for each in link.addresses)
                yield Attachment(link, netns, owner, addresses, owners.pod_of(owner, netns))


class Owners:
    """Finds the attachment that a link belongs to, by its label, or else by the records."""

    def __init__(self, records: Iterable[Record]) -> None:
        records = list(records)
        self.namespaces = {record.netns_identity for record in records}
        self._by_label = {record.attachment.label: record.attachment for record in records}
        self._by_place = {(record.ifname, record.netns_identity): record for record in records}
        self._pods = {(record.attachment, record.netns_identity): record.pod for record in records}

    def owner_of(self, link: Link, netns: Namespace | None) -> AttachmentId | None:
        """Return the attachment that a link belongs to, if that is known."""
        attachment = parse_label(link.alias)
        if attachment is not None:  # long names are cut in the label, but not in the record
            return self._by_label.get(link.alias, attachment)
        if netns is None or (link.name, netns.identity) not in self._by_place:
            return None
        record = self._by_place[link.name, netns.identity]
        # The namespace may have the inode of one that is gone.
        is_owner = not record.ifindex or record.is_about(link, netns)
        return record.attachment if is_owner else None

    def pod_of(self, owner: AttachmentId | None, netns: Namespace | None) -> str:
        """Return an attachment's pod in its namespace, NAMESPACE/NAME; empty if it is not known.

        A label that names an attachment of another namespace may be forged.
        """
        return self._pods.get((owner, netns.identity), "") if owner and netns else ""


def search_label(
    tx: Transaction, registry: Registry, attachment: AttachmentId
) -> Iterator[Attachment]:
    """Return the links with an attachment's label that are found within a second."""
    found = search(tx, registry, deadline=time.monotonic() + _SEARCH_SECONDS)
    return (each for each in found if attachment.has_label(each.link.alias))


def select_of_master(attachments: Iterator[Attachment], master: Master) -> Iterator[Attachment]:
    """Return those whose links a master carries."""
    return (each for each in attachments if master.carries(each.link, each.netns))
