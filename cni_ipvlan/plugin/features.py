"""Which module does what an option asks for on the host: the one place that knows.

Few attachments have such options. A module is imported only for one, or for a record of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

if TYPE_CHECKING:
    from cni_ipvlan.plugin.shared import Feature


class _Entry(NamedTuple):
    """A feature: its option, whether it is configured, and where its records are.

    What is ``below`` the container's link is released after that link, the rest before the IPAM
    plugin may give the addresses to others.
    """

    load: Callable[[], Feature]
    option: str
    is_wanted: Callable[[NetConf], bool]
    registry: Callable[[Registry], Registry]
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
        lambda registry: registry.of_vlan,
        below=True,
    ),
    _Entry(
        _load_host_access,
        "hostAccess",
        lambda conf: conf.host_access,
        lambda registry: registry.of_host,
        below=False,
    ),
)


def configured(conf: NetConf) -> list[Feature]:
    """Return the features of a network."""
    return [each.load() for each in _FEATURES if each.is_wanted(conf)]


def release(call: Call, attachment: AttachmentId, *, below: bool, by_option: bool = False) -> None:
    """Remove what an attachment has on the host, or what is below its link.

    The script of a dry run makes no records: what it has made is found ``by_option``, too.
    """
    for each in _FEATURES:
        if each.below != below:
            continue
        try:
            if records(each.registry(call.registry), attachment):
                each.load().release(call, attachment)
            elif by_option and call.request.config.get(each.option):
                each.load().release_unrecorded(call, attachment)
        except OSError as error:  # as in records()
            call.warn(f"cannot remove what {each.option} has on the host: {error}")


def release_others(call: Call, valid: Collection[AttachmentId], *, below: bool) -> None:
    """Do that for a network's attachments that are not valid, and keep calls off them meanwhile.

    What was still in use when its last attachment was deleted is only found by the option.
    """
    network = call.request.network
    for each in _FEATURES:
        found = each.registry(call.registry).all_records() if each.below == below else ()
        for attachment in {record.attachment for record in found if record.network == network}:
            with call.registry.idle(attachment.key) as is_idle:
                if is_idle and attachment not in valid:
                    each.load().release(call, attachment)
        if below and each.below and call.request.config.get(each.option):
            each.load().release_unrecorded(call, AttachmentId(network, "", ""))


def records(registry: Registry, attachment: AttachmentId) -> list[Record]:
    """Return the records of an attachment: none if they can't be read."""
    try:
        return registry.records_of(attachment)
    except OSError:  # an unusable /run must not keep a pod from being deleted
        return []
