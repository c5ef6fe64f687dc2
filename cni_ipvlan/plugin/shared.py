"""What hostAccess and vlan need for what attachments share on the host."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.commands import Command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.state.attachment import AttachmentId, ModeHint
    from cni_ipvlan.state.registry import Registry


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
