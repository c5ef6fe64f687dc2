"""What an attachment has on the host: routes (hostAccess), and a share in a VLAN (vlan).

Few have any. Without a record, neither module is imported.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.plugin.shared import records

if TYPE_CHECKING:
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import AttachmentId


def take_routes_back(node: Node, tx: Transaction, attachment: AttachmentId) -> None:
    """Remove the host's routes, before IPAM gives the addresses to others."""
    if records(node.registry.of_host, attachment):
        from cni_ipvlan.plugin import host_access

        host_access.take_back(node, tx, attachment)


def release_vlan(node: Node, tx: Transaction, attachment: AttachmentId) -> None:
    """Remove the VLAN if it was the last one there; its link must be gone."""
    if records(node.registry.of_vlan, attachment):
        from cni_ipvlan.plugin import vlan

        vlan.release(node, tx, attachment)
