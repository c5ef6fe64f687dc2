"""What an attachment has on the host: routes (hostAccess), and a share in a VLAN (vlan).

Few have any. Without a record, neither module is imported.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import AttachmentId, ModeHint
    from cni_ipvlan.state.registry import Registry


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


def place(key: int) -> tuple[int, int]:
    """Return where the attachments with that ``host_key`` are recorded."""
    return namespace.own()[1], key


def switches(name: str) -> Iterator[Command]:
    """Yield what keeps the host from addresses and routes that it would take by itself there."""
    for switch, value in ((commands.accept_ra, b"0\n"), (commands.addr_gen_mode, b"1\n")):
        argv = commands.sysctl_write(switch(name))
        # It is absent if the kernel has no IPv6.
        yield Command(argv, "give the host no address there", stdin=value, absent_ok=True)


def records(registry: Registry, attachment: AttachmentId) -> list[ModeHint]:
    """Return the records of an attachment: none if they can't be read."""
    try:
        return registry.hints_of(attachment)
    except OSError:  # an unusable /run must not keep a pod from being deleted
        return []
