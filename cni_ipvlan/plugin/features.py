"""Which module does what an option asks for on the host: the one place that knows.

Few attachments have such options. A module is imported only for one, or for a record of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.state.attachment import AttachmentId, Record

if TYPE_CHECKING:
    from cni_ipvlan.plugin.shared import Feature


class _Entry(NamedTuple):
    """A feature: its option, and whether it is configured, or a record is about it.

    What is ``below`` the container's link is released after that link, the rest before the IPAM
    plugin may give the addresses to others.
    """

    load: Callable[[], Feature]
    option: str
    is_wanted: Callable[[NetConf], bool]
    is_recorded: Callable[[Record], bool]
    below: bool


def _load_vlan() -> Feature:
    from cni_ipvlan.plugin.vlan import Vlan

    return Vlan()


def _load_host_access() -> Feature:
    from cni_ipvlan.plugin.host_access import HostAccess

    return HostAccess()


_FEATURES = (
    _Entry(
        _load_vlan,
        "vlan",
        lambda conf: conf.vlan > 0,
        lambda record: record.vlan > 0,
        below=True,
    ),
    _Entry(
        _load_host_access,
        "hostAccess",
        lambda conf: conf.host_access,
        lambda record: bool(record.host_routes),
        below=False,
    ),
)


def configured(conf: NetConf) -> list[Feature]:
    """Return the features of a network."""
    return [each.load() for each in _FEATURES if each.is_wanted(conf)]


def release(
    call: Call,
    attachment: AttachmentId,
    records: Sequence[Record],
    *,
    below: bool,
    by_option: bool = False,
) -> None:
    """Remove what an attachment has on the host, or what is below its link.

    The script of a dry run makes no records: what it has made is found ``by_option``, too.
    """
    for each in _FEATURES:
        if each.below != below:
            continue
        own = [record for record in records if each.is_recorded(record)]
        try:
            if own or (by_option and call.request.config.get(each.option)):
                each.load().release(call, attachment, own)
        except OSError as error:  # as in readable()
            call.warn(f"cannot remove what {each.option} has on the host: {error}")


def release_others(call: Call, valid: Collection[AttachmentId]) -> None:
    """Do that for a network's attachments that are not valid, and keep calls off them meanwhile."""
    network = call.request.network
    found = call.registry.all_records()
    others = {each.attachment for each in found if each.network == network}
    for attachment in others.difference(valid):
        with call.registry.idle(attachment.key) as is_idle:
            if is_idle:
                release(call, attachment, call.registry.records_of(attachment), below=False)


def readable(read: Callable[..., list[Record]], *about: object) -> list[Record]:
    """Return the records that are read about something: none if they can't be read."""
    try:
        return read(*about)
    except OSError:  # an unusable /run must not keep a pod from being deleted
        return []
