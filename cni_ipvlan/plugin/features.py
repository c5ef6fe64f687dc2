"""Remove what options ask for on the host, which attachments may share: hostAccess and vlan.

Few attachments have such an option. Its module is imported only for one, or for a record of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cni_ipvlan.plugin.node import Call
from cni_ipvlan.state.attachment import AttachmentId, Record


def release_routes(
    call: Call, attachment: AttachmentId, records: Sequence[Record], *, by_option: bool = False
) -> None:
    """Remove what the host has by hostAccess; before the IPAM plugin gives the addresses to others.

    The script of a dry run makes no records: what it has made is found ``by_option``, too.
    """
    own = [record for record in records if record.host_routes]
    if own or (by_option and call.request.config.get("hostAccess")):
        from cni_ipvlan.plugin import host_access

        _try(call, "hostAccess", lambda: host_access.release(call, attachment, own))


def release_vlans(
    call: Call, attachment: AttachmentId, records: Sequence[Record], *, by_option: bool = False
) -> None:
    """Remove the VLANs that nobody uses any more, after the container's link; as above."""
    own = [record for record in records if record.vlan]
    if own or (by_option and call.request.config.get("vlan")):
        from cni_ipvlan.plugin import vlan

        _try(call, "vlan", lambda: vlan.release(call, attachment, own))


def _try(call: Call, option: str, release: Callable[[], None]) -> None:
    try:
        release()
    except OSError as error:  # an unusable /run must not keep a pod from being deleted
        call.warn(f"cannot remove what {option} has on the host: {error}")
