"""Find and delete an attachment's ipvlan links, including those left by killed calls.

``netns`` is a network namespace, or None for the plugin's own. Links of another kind, or
with the label of another attachment, are never touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command, Undo
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin.codes import INTERFACE_NAME_TAKEN
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.state.attachment import KEY_CHARACTERS, AttachmentId, Record, parse_label
from cni_ipvlan.state.registry import Registry

READ_SECONDS = 1.0  # while others wait
_PREFIX = "iv"  # together with a key it has 15 bytes, the most that a name may have


def temporary_name(key: str) -> str:
    """Return the name that an attachment's link has until it is in the container."""
    return _PREFIX + key


def key_in_name(name: str) -> str:
    """Return the key in a temporary name; empty if it is none."""
    is_temporary = name.startswith(_PREFIX) and len(name) == len(_PREFIX) + KEY_CHARACTERS
    return name.removeprefix(_PREFIX) if is_temporary else ""


def partition(
    attachment: AttachmentId, answer: Completed, names: Sequence[str]
) -> tuple[list[Link], list[Link]]:
    """Return the links in an answer to ``list_command``: an attachment's own, and the others.

    Its own have its label, or no label and one of the names. In a dry run that may not list the
    links, one is assumed, with the first of these names.
    """
    if answer.is_assumed:
        return [Link(0, next(iter(names), attachment.ifname))], []
    links = queries.links(answer.stdout)
    own_links = [link for link in links if _belongs_to(link, attachment, names)]
    return own_links, [link for link in links if link not in own_links]


def delete(tx: Transaction, links: Iterable[Link], netns: Namespace | None) -> list[Link]:
    """Delete links in a namespace; return those that were still there, in a dry run all."""
    deleted_links = []
    for link in links:
        argv = commands.link_delete(link.name)
        command = Command(argv, f"remove the interface {link.name}", netns, accept=commands.ABSENT)
        if not tx.run(command).status:
            deleted_links.append(link)
    return deleted_links


def delete_temporary(tx: Transaction, attachment: AttachmentId) -> None:
    """Delete a link that a killed call left on the host."""
    name = temporary_name(attachment.key)
    if namespace.own_has_link(name):
        delete(tx, partition(attachment, tx.run(list_command(None)), (name,))[0], None)


def removal_undo(tx: Transaction, name: str, netns: Namespace | None) -> Undo:
    """Return an undo that deletes a link with a temporary name, if it exists."""
    command = Command(commands.link_delete(name), netns=netns)
    return Undo(command, only_if=lambda: name in _list_names(tx, netns))


def move_undo(
    tx: Transaction, attachment: AttachmentId, netns: Namespace, master_netns: Namespace | None
) -> Undo:
    """Return an undo that deletes a link that was moved from ``master_netns`` and named.

    If the name was taken, the kernel has not renamed the link, even if it has moved it. Then the
    link of that name is another one, even if it has the same label.
    """
    temporary = temporary_name(attachment.key)

    def is_moved() -> bool:
        if temporary in _list_names(tx, master_netns):
            return False
        links = list_links(tx, netns)
        own_names = [each.name for each in links if _belongs_to(each, attachment, ())]
        return attachment.ifname in own_names and temporary not in (each.name for each in links)

    return Undo(Command(commands.link_delete(attachment.ifname), netns=netns), only_if=is_moved)


def records_of_link(registry: Registry, link: Link, container: Namespace) -> list[Record]:
    """Return the records about a link of a container: those of the attachment in its label."""
    attachment = parse_label(link.alias)
    records = registry.records_of(attachment) if attachment else ()
    return [record for record in records if record.netns_identity == container.identity]


def is_recorded(registry: Registry, record: Record, link: Link, netns: Namespace) -> bool:
    """Whether root has recorded a container's link as an attachment's, whatever its label is now.

    It is not if its label names another attachment of which root has recorded the same, since the
    namespace may have the inode of one that is gone.
    """
    if not record.is_about(link, netns):
        return False
    records = records_of_link(registry, link, netns)
    others = (each for each in records if each.attachment != record.attachment)
    return not any(each.is_about(link, netns) for each in others)


def check_name_is_free(call: Call, netns: Namespace, output: bytes) -> None:
    """Raise CniError if a container has an interface of that name, or with that label.

    ``output`` shows all its interfaces. (Asked for a name that is free, the kernel runs
    modprobe, dev_load() in net/core/dev_ioctl.c.)
    """
    attachment, ifname = call.attachment, call.request.ifname
    for link in queries.links(output):
        is_renamed = attachment.has_label(link.alias) and link.name != ifname
        if ifname not in (link.name, *link.alternative_names) and not is_renamed:
            continue
        kind = link.kind or "physical or built-in"
        kind += f", which is called {link.name!r} now" if is_renamed else ""
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {ifname!r}, of kind {kind}",
            "try: choose another CNI_IFNAME, or delete that interface",
            "\n".join(
                f"found: it is {record.describe()}"
                for record in records_of_link(call.registry, link, netns)
                if record.attachment != attachment
            ),
            "CNI_IFNAME",
        )


def find_link(
    tx: Transaction, registry: Registry, record: Record, *, at_once: bool = False
) -> tuple[Namespace, Link] | None:
    """Return the link that a record is about and its container; None if it is not there (any more).

    In a dry run without permission, the record is believed. While others wait, ``at_once`` limits
    the time: the link is asked for by its name only, since the container's owner may have made
    thousands of links. A renamed one is not found then.
    """
    netns = container_of_record(record)
    if netns is None:
        return None
    # The kernel sets the name and the label of a half-made one in the same request.
    name = record.ifname if record.is_complete else temporary_name(record.attachment.key)
    try:
        if at_once:
            answer = tx.run(list_command(netns, record.ifname), seconds=READ_SECONDS)
        else:
            answer = query_links(tx, netns, name)
    except CommandError:  # the container has just ended, or its kernel is slow to answer
        if at_once:
            return None
        raise
    if answer.is_assumed:
        return netns, Link(0, record.ifname, "ipvlan", mode=record.mode, flag=record.flag)
    # The namespace may have the inode of one that is gone, so the name alone is not enough.
    names = () if record.ifindex else (name,)
    for link in queries.links(answer.stdout):
        is_own = _belongs_to(link, record.attachment, names)
        if link.kind == "ipvlan" and (is_own or is_recorded(registry, record, link, netns)):
            return netns, link
    return None


def link_exists(tx: Transaction, registry: Registry, record: Record) -> bool:
    """Whether the link that a record is about is in its container, or still on the host."""
    name = temporary_name(record.attachment.key)
    is_on_host = namespace.own_has_link(name) and name in _list_names(tx, None)
    return is_on_host or find_link(tx, registry, record) is not None


def query_links(
    tx: Transaction, netns: Namespace, name: str, then: Command | None = None
) -> Completed:
    """Query a container's ipvlan links; a change like ``then`` may follow.

    If there are too many, as the container's owner has made thousands, query the one with the name.
    """
    try:
        return tx.finish(tx.start(list_command(netns), then=then))
    except CommandError as error:
        if not error.completed.killed_because:
            raise
    return tx.run(list_command(netns, name))


def list_command(netns: Namespace | None, name: str | None = None) -> Command:
    """Return the query for the ipvlan links in a namespace, or for the one with a name."""
    return Command(commands.link_show(name, "ipvlan"), netns=netns, accept=commands.ABSENT)


def list_links(tx: Transaction, netns: Namespace | None) -> list[Link]:
    """Return the ipvlan links in a namespace; none in a dry run that may not list them."""
    return queries.links(tx.run(list_command(netns)).stdout)


def container_of_record(record: Record) -> Namespace | None:
    """Return the container of a record, if its path still leads there."""
    try:
        netns = namespace.find(record.netns)
    except (OSError, ValueError, namespace.NotANamespaceError):
        return None
    return netns if netns.identity == record.netns_identity else None


def _belongs_to(link: Link, attachment: AttachmentId, names: Collection[str]) -> bool:
    if parse_label(link.alias) is None:
        return link.name in names
    return attachment.has_label(link.alias)


def _list_names(tx: Transaction, netns: Namespace | None) -> list[str]:
    return [link.name for link in list_links(tx, netns)]
