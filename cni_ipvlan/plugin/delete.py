"""DEL: detach a container. The second step is tried even if the first fails."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import Failures
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import staying
from cni_ipvlan.plugin import links, on_host
from cni_ipvlan.plugin.ipam import Ipam, needs_link, to_release
from cni_ipvlan.plugin.node import id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import AttachmentId, ModeHint


def delete(node: Node, request: Request) -> None:
    """Release a container's addresses and remove its link; always try both."""
    with node.attachment(request, strict=False):
        failures, later = Failures(), Failures()
        with failures.noted(), node.transaction() as tx:
            try:
                on_host.take_routes_back(node, tx, id_of(request))
                released = _release(node, tx, request)
            finally:
                # A signal that ends the first step must not prevent the second.
                with later.noted(), node.runner.interrupts.held(), node.transaction() as other:
                    _remove_links(node, other, request)
            released()
        with failures.noted():
            later.raise_any()
        failures.raise_any()


def detach(node: Node, tx: Transaction, request: Request) -> None:
    """Do what DEL does, within a transaction."""
    on_host.take_routes_back(node, tx, id_of(request))
    _release(node, tx, request)()
    _remove_links(node, tx, request)


def _release(node: Node, tx: Transaction, request: Request) -> Callable[[], None]:
    """Let the IPAM plugin release the addresses; return a function that waits for its end."""
    name = to_release(request, node.warn)
    if not name:
        return lambda: None
    waiting = Ipam(name, request, node.warn).call(tx, "DEL")
    if not needs_link(name):
        return waiting
    waiting()
    return lambda: None


def _remove_links(node: Node, tx: Transaction, request: Request) -> None:
    attachment = id_of(request)
    was_on_host = links.delete_temporary(tx, attachment)
    container = _container(request)
    identity = container.identity if container else None
    records = on_host.records(node.registry, attachment)
    deleted = []
    if container is not None:
        with node.runner.holding(container):
            deleted = _remove_from(node, tx, attachment, container)
        if not deleted and any(hint.netns_identity == identity for hint in records):
            _report_elsewhere(node, tx, attachment)
    removed = []
    for hint in records:
        is_here = hint.netns_identity == identity
        of_hint = deleted if is_here else links.delete_recorded(tx, hint)
        was_moving = was_on_host and not hint.is_complete
        if was_moving or links.includes_recorded(node.registry, hint, of_hint):
            removed.append(hint)
    is_ending = any(
        hint not in removed and not namespace.leads_to(hint.netns, hint.netns_identity)
        for hint in records
    )
    _forget(node, tx, attachment, container, removed, is_ending=is_ending)
    on_host.release_vlan(node, tx, attachment)


def _forget(
    node: Node,
    tx: Transaction,
    attachment: AttachmentId,
    container: Namespace | None,
    removed: Sequence[ModeHint],
    *,
    is_ending: bool,
) -> None:
    """Remove the records, but keep the mode of a master if its link was not seen to go."""
    try:
        masters = links.forget(tx, node.registry, attachment, container, removed)
        if masters:
            from cni_ipvlan.plugin import modes

            for master in masters:
                waiting = node.while_locked("a master")
                modes.settle(tx, node.registry, master, waiting, is_ending=is_ending)
    except OSError as error:
        node.warn(f"cannot remove the record of the attachment: {error}")


def _remove_from(
    node: Node, tx: Transaction, attachment: AttachmentId, container: Namespace
) -> list[Link]:
    """Remove the link from a container; return what was removed."""
    name = attachment.ifname
    names = (name, links.temporary_name(attachment.key))
    asked = tx.ask(staying(links.listing(container)))
    own, others = links.sort(attachment, tx.answer(asked), names, expected=name)
    deleted = links.delete(tx, own, container, asked)
    for link in others:
        if link.name == name:
            whose = _described(node, link, container)
            node.warn(f"{name} is kept, since it belongs to another attachment: {whose}")
    return deleted


def _described(node: Node, link: Link, container: Namespace) -> str:
    try:
        records = links.recorded(node.registry, link, container)
    except OSError:
        records = []
    return records[0].describe() if records else repr(link.alias)


def _report_elsewhere(node: Node, tx: Transaction, attachment: AttachmentId) -> None:
    """Warn about an interface that was moved out of its container."""
    from cni_ipvlan.plugin import inventory

    for each in inventory.labelled(tx, node.registry, attachment):
        node.warn(f"not removed, since it was moved out of its container: {each.describe()}")


def _container(request: Request) -> Namespace | None:
    """Return the container's namespace, or None if it is gone or never was a container's."""
    if not request.netns:
        return None
    try:
        found = namespace.find(request.netns)
    except (FileNotFoundError, NotADirectoryError, ValueError, namespace.NotANamespaceError):
        return None
    if found.identity == namespace.own() and not request.may_share_netns:
        return None
    return found
