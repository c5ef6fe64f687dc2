"""DEL: detach a container. The second step is tried even if the first fails."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.explain import Failures
from cni_ipvlan.plugin.ipam import Ipam
from cni_ipvlan.plugin.node import id_of

if TYPE_CHECKING:
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node


def delete(node: Node, request: Request) -> None:
    """Release a container's addresses and remove its link; always try both."""
    with node.attachment(request, strict=False):
        failures = Failures()
        with failures.noted(), node.transaction() as tx:
            name = netconf.ipam_type(request.config)
            if name:
                Ipam(name, request, node.warn).call(tx, "DEL")
        # A signal that ended the first step must not prevent the second.
        with failures.noted(), node.runner.interrupts.held(), node.transaction() as tx:
            _remove_links(node, tx, request)
        failures.raise_any()


def _remove_links(node: Node, tx: Transaction, request: Request) -> None:
    attachment = id_of(request)
    temporary = links.temporary_name(attachment.key)
    links.delete_temporary(tx, temporary)
    container = _container(request)
    if container is not None:
        with node.runner.holding(container):
            links.delete(tx, (request.ifname, temporary), container, expected=request.ifname)
    try:
        links.forget(tx, node.registry, attachment, cleared=container)
    except OSError as error:  # a read-only /run must not keep a pod from being deleted
        node.warn(f"cannot remove the record of the attachment: {error}")


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
