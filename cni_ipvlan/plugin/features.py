"""The table of features, which are options for something on the host, and of their modules.

Few attachments have one. Its module is imported only if it is configured or recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.state.attachment import AttachmentId, Record

if TYPE_CHECKING:
    from cni_ipvlan.plugin.shared import Feature


class _Entry(NamedTuple):
    """A feature: its option, its value in a configuration and in a record, and what loads it.

    One that ``makes_master`` is released after the container's link, the others before the IPAM
    plugin may give the addresses to other containers.
    """

    option: str
    configured: Callable[[NetConf], object]
    recorded: Callable[[Record], object]
    load: Callable[[], Feature]
    makes_master: bool = False


def _vlan() -> Feature:
    from cni_ipvlan.plugin.vlan import Vlan

    return Vlan()


def _host_access() -> Feature:
    from cni_ipvlan.plugin.host_access import HostAccess

    return HostAccess()


_FEATURES = (
    _Entry("vlan", lambda conf: conf.vlan, lambda record: record.vlan, _vlan, makes_master=True),
    _Entry(
        "hostAccess",
        lambda conf: conf.host_access,
        lambda record: record.host_routes,
        _host_access,
    ),
)


def load_features(conf: NetConf) -> dict[str, Feature]:
    """Return the features of a network by their options."""
    return {each.option: each.load() for each in _FEATURES if each.configured(conf)}


def release(
    call: Call,
    attachment: AttachmentId,
    records: Sequence[Record],
    *,
    makes_master: bool,
    include_unrecorded: bool = False,
) -> None:
    """Remove what an attachment has on the host for features that make its master, or for others.

    With ``include_unrecorded``, the option is enough: a dry run's script makes no records.
    """
    for each in (each for each in _FEATURES if each.makes_master == makes_master):
        option_records = [record for record in records if each.recorded(record)]
        try:
            if option_records or (include_unrecorded and call.request.config.get(each.option)):
                each.load().release(call, attachment, option_records)
        except OSError as error:  # an unusable /run must not keep a pod from being deleted
            call.warn(f"cannot remove what {each.option} has on the host: {error}")
