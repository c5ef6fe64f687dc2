"""DEL: detach a container. The second step is tried even if the first fails."""

from __future__ import annotations

import errno
from collections.abc import Callable

from cni_ipvlan.cni.errors import Failures
from cni_ipvlan.cni.request import Request
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import Command, link_delete
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.plugin import features, ipam, links
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.state.attachment import Record

# Why a path can't be opened that is no namespace's.
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


def delete(node: Node, request: Request) -> None:
    """Release a container's addresses and remove its link; always try both."""
    with node.attachment(request, strict=False):
        if not request.may_share_netns and _leads_elsewhere(request.netns):
            # Newer IPAM plugins would open it, and refuse our own or wait for a pipe's writer.
            environment = {**request.environment, "CNI_NETNS": ""}
            request = request._replace(netns="", environment=environment)
        failures, later = Failures(), Failures()
        with failures.noted(), node.call(request) as call:
            try:
                released = _release(call)
            finally:
                # A signal that ends the first step must not prevent the second.
                with later.noted(), node.runner.interrupts.deferred(), node.call(request) as own:
                    _remove_links(own)
            released()
        with failures.noted():
            later.raise_any()
        failures.raise_any()


def _leads_elsewhere(path: str) -> bool:
    """Whether a path leads to our own namespace, or to no network namespace.

    It is no container's, or not any more: a process may have its number now.
    """
    try:
        return namespace.find(path).identity == namespace.own_identity()
    except namespace.NotANamespaceError:
        return True
    except (OSError, ValueError):  # nobody can open it
        return False


def detach(call: Call) -> None:
    """Do what DEL does, within a transaction."""
    _release(call)()
    _remove_links(call)


def _release(call: Call) -> Callable[[], None]:
    """Let the IPAM plugin release the addresses; return a function that waits for its end."""
    records = _readable(call.registry.records_of, call.attachment)
    features.release(call, call.attachment, records, below=False, by_option=True)
    name = ipam.to_release(call)
    waiting = ipam.ask(call, name, "DEL")
    if not ipam.needs_link(name):
        return waiting
    waiting()
    return lambda: None


def _remove_links(call: Call) -> None:
    tx, registry, attachment = call.tx, call.registry, call.attachment
    was_on_host = links.delete_temporary(tx, attachment)
    container = _container(call.request)
    identity = container.identity if container else None
    records = _readable(registry.records_of, attachment)
    temporary = links.temporary_name(attachment.key)
    deleted = []
    if container is not None:
        deleted = _remove_from(call, records, container, (attachment.ifname, temporary))
        if not deleted and any(record.netns_identity == identity for record in records):
            from cni_ipvlan.plugin import inventory

            for each in inventory.labelled(tx, registry, attachment):
                where = each.describe()
                call.warn(f"not removed, since it was moved out of its container: {where}")
    unseen = []
    for record in records:
        of_record = deleted
        if record.netns_identity != identity:
            netns = links.netns_of(record)
            name = attachment.ifname if record.is_complete else temporary
            of_record = _remove_from(call, records, netns, (name,)) if netns else []
        was_moving = was_on_host and not record.is_complete
        if not was_moving and not any(links.is_of_master(link, record) for link in of_record):
            unseen.append(record)
    is_ending = any(not each.has_container for each in unseen)
    elsewhere = (each for each in records if each.netns_identity != identity)
    try:
        is_left = any(links.is_there(tx, each) for each in elsewhere)
        # A master keeps its mode if its link was not seen to go.
        for master in () if is_left else registry.remove_all(attachment, unseen):
            from cni_ipvlan.plugin import modes

            modes.settle(call, master, is_ending=is_ending)
    except OSError as error:
        call.warn(f"cannot remove the record of the attachment: {error}")
    features.release(call, attachment, records, below=True, by_option=True)


def _remove_from(
    call: Call, records: list[Record], netns: Namespace, names: tuple[str, ...]
) -> list[Link]:
    """Remove the link from a container; return what was removed.

    It is the one that root has recorded, whatever its owner has named and labelled it since,
    unless its label names another attachment of which root has recorded the same: the namespace
    may have the inode of one that is gone. Or it is labelled so, and not recorded as another's.
    """
    tx, registry, attachment = call.tx, call.registry, call.attachment

    def is_recorded(link: Link) -> bool:
        return any(_is_about(record, link, netns) for record in records)

    def is_anothers(link: Link) -> bool:
        about = _readable(registry.records_about, netns.identity, link.ifindex)
        return any(_is_about(record, link, netns) for record in about)

    def labelled(link: Link) -> list[Record]:
        return _readable(links.recorded, registry, link, netns)

    with call.node.runner.holding(netns):
        shown = links.ask(tx, netns, names[0], then=Command(link_delete(names[0])))
        claimed, others = links.sort(attachment, shown, names)
        own = [
            link
            for link in others
            if is_recorded(link)
            and not any(_is_about(each, link, netns) for each in labelled(link))
        ]
        own += [link for link in claimed if is_recorded(link) or not is_anothers(link)]
        deleted = links.delete(tx, own, netns)
    for link in others:
        if link.name == attachment.ifname and link not in own:
            whose = next((each.describe() for each in labelled(link)), repr(link.alias))
            call.warn(f"{link.name} is kept, since it belongs to another attachment: {whose}")
    return deleted


def _is_about(record: Record, link: Link, netns: Namespace) -> bool:
    """Whether a record is about an interface: by its index, and its master's.

    That one is seen by its index from a container, by its name where it is itself.
    """
    about = record.netns_identity, record.ifindex
    if not record.ifindex or about != (netns.identity, link.ifindex):
        return False
    inode, index = record.master
    return bool(link.parent) if inode == netns.identity[1] else index == link.parent_index


def _readable(read: Callable[..., list[Record]], *about: object) -> list[Record]:
    """Return the records that are read about something: none if they can't be read."""
    try:
        return read(*about)
    except OSError:  # an unusable /run must not keep a pod from being deleted
        return []


def _container(request: Request) -> Namespace | None:
    """Return the container's namespace, or None if it is gone or never was a container's."""
    if not request.netns:
        return None
    try:
        return namespace.find(request.netns)
    except (ValueError, namespace.NotANamespaceError):
        return None
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return None
        raise
