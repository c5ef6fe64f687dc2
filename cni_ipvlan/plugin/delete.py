"""DEL: detach a container. The second step is tried even if the first fails.

Only when both have succeeded, the records are removed: by them GC can do what is left.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from cni_ipvlan.cni.errors import Failures
from cni_ipvlan.cni.request import Request
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import Command, link_delete
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.plugin import features, ipam, links, on_demand
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.state.attachment import Record

_SEARCH_SECONDS = 1.0
_Outcome = tuple[list[Record], list[Record]]  # all records; those of other containers than this one
# The errors of opening a path that is not a namespace's.
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO)


def delete(node: Node, request: Request) -> None:
    """Release a container's addresses and remove its link; always try both."""
    with node.lock_attachment(request, strict=False):
        if not request.may_share_netns and _leads_to_no_container(request.netns):
            # Newer IPAM plugins would open it. They refuse our own namespace, and hang at a pipe.
            environment = {**request.environment, "CNI_NETNS": ""}
            request = request._replace(netns="", environment=environment)
        failures, link_failures = Failures(), Failures()
        outcome: _Outcome = ([], [])
        with failures.noted(), node.call(request) as call:
            try:
                wait_for_release = _release_addresses(call)
            finally:
                # A signal that ends the first step must not prevent the second.
                with (
                    link_failures.noted(),
                    node.runner.interrupts.deferred(),
                    node.call(request) as link_call,
                ):
                    outcome = _remove_links(link_call)
            wait_for_release()
        with failures.noted():
            link_failures.raise_any()
        failures.raise_any()
        with node.call(request) as call:
            _remove_records(call, *outcome)


def _leads_to_no_container(path: str) -> bool:
    """Whether a path leads to our own namespace, or to no network namespace.

    Then it is not a container's, or not any more: in /proc, another process may have its number.
    """
    try:
        return namespace.find(path).identity == namespace.own_identity()
    except namespace.NotANamespaceError:
        return True
    except (OSError, ValueError):  # nobody can open it
        return False


def detach(call: Call) -> None:
    """Do what DEL does, within a transaction."""
    _release_addresses(call)()
    _remove_records(call, *_remove_links(call))


def _release_addresses(call: Call) -> Callable[[], None]:
    """Let the IPAM plugin release the addresses; return a function that waits for its end."""
    records = _read_records(call.registry.records_of, call.attachment)
    features.release(call, call.attachment, records, makes_master=False, include_unrecorded=True)
    plugin = ipam.find_releasing_plugin(call)
    wait = ipam.start(call, plugin, "DEL")
    if not ipam.needs_link(plugin):
        return wait
    wait()
    return lambda: None


def _remove_links(call: Call) -> _Outcome:
    """Remove the links; return the records about them."""
    tx, registry, attachment = call.tx, call.registry, call.attachment
    links.delete_temporary(tx, attachment)
    container = _find_container(call.request)
    identity = container.identity if container else None
    records = _read_records(registry.records_of, attachment)
    temporary = links.temporary_name(attachment.key)
    if container is not None:
        names = (attachment.ifname, temporary)
        deleted_links = _remove_from_container(call, records, container, names)
        if not deleted_links and any(record.netns_identity == identity for record in records):
            for each in on_demand.inventory.search_label(tx, registry, attachment):
                call.warn(
                    f"not removed, since it was moved out of its container: {each.describe()}"
                )
    other_records = [each for each in records if each.netns_identity != identity]
    for record in other_records:
        # It may have the inode of one that is gone, so a name alone is not enough.
        if netns := links.container_of_record(record):
            name = attachment.ifname if record.is_complete else temporary
            _remove_from_container(call, records, netns, () if record.ifindex else (name,))
        # Without its path, which a process may outlive, neither is an index.
        elif netns := namespace.find_containers(_SEARCH_SECONDS).get(record.netns_identity):
            _remove_from_container(call, [], netns, ())
    return records, other_records


def _remove_records(call: Call, records: list[Record], other_records: list[Record]) -> None:
    """Remove the records, and then a VLAN to which none is left.

    This is not done if the IPAM plugin has failed, as GC releases the addresses by the records.
    """
    registry, attachment = call.registry, call.attachment
    is_ending = not all(each.has_container for each in records)
    try:
        if not any(links.link_exists(call.tx, registry, each) for each in other_records):
            registry.remove_all(attachment)
        for master in registry.masters_with_note(each.master for each in records):
            from cni_ipvlan.plugin import modes

            modes.remove_stale_note(call, master, is_ending=is_ending)
    except OSError as error:
        call.warn(f"cannot remove the record of the attachment: {error}")
    features.release(call, attachment, records, makes_master=True, include_unrecorded=True)


def _remove_from_container(
    call: Call, records: list[Record], netns: Namespace, names: tuple[str, ...]
) -> list[Link]:
    """Remove an attachment's link from a container; return the links that were removed.

    A link is removed if root has recorded it as the attachment's, whatever name and label its owner
    has given it since. A link with the attachment's label is removed, too, unless root has recorded
    it as another attachment's.
    """
    tx, registry, attachment = call.tx, call.registry, call.attachment

    def is_recorded(link: Link) -> bool:
        return any(links.is_recorded(registry, record, link, netns) for record in records)

    def is_of_another(link: Link) -> bool:
        found = _read_records(registry.records_of_interface, netns.identity, link.ifindex)
        return any(each.attachment != attachment and each.is_about(link, netns) for each in found)

    with call.node.runner.holding(netns):
        name = next(iter(names), attachment.ifname)
        answer = links.query_links(tx, netns, name, then=Command(link_delete(name)))
        labelled_links, other_links = links.partition(attachment, answer, names)
        own_links = [link for link in other_links if is_recorded(link)]
        own_links += [
            link for link in labelled_links if is_recorded(link) or not is_of_another(link)
        ]
        deleted_links = links.delete(tx, own_links, netns)
    for link in other_links:
        if link.name == attachment.ifname and link not in own_links:
            owners = _read_records(links.records_of_link, registry, link, netns)
            owner = next((each.describe() for each in owners), repr(link.alias))
            call.warn(f"{link.name} is kept, since it belongs to another attachment: {owner}")
    return deleted_links


def _read_records(read: Callable[..., list[Record]], *arguments: object) -> list[Record]:
    """Return the records that ``read`` returns, or none if they can't be read."""
    try:
        return read(*arguments)
    except OSError:  # an unusable /run must not keep a pod from being deleted
        return []


def _find_container(request: Request) -> Namespace | None:
    """Return the container's namespace, or None if it is gone or never was a container's.

    Raises OSError if that can't be known, as without /proc.
    """
    namespace.own_identity()
    try:
        return namespace.find(request.netns)
    except (ValueError, namespace.NotANamespaceError):
        return None
    except OSError as error:
        if error.errno in _LEADS_NOWHERE:
            return None
        raise
