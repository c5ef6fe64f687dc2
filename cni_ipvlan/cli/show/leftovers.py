"""What is amiss with attachments, and what is left of those whose interfaces are gone."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli.show import networks_here
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.attachment import AttachmentId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from cni_ipvlan.cli.leases import Lease
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.state.attachment import ModeHint
    from cni_ipvlan.state.registry import Registry

UNFINISHED = "unfinished"  # its ADD has neither ended nor is it running
NO_RECORD = "no record"  # it is labelled, but root has not recorded it where it is
NO_LEASE = "no lease"  # host-local, which gave out its address, no longer knows that
NO_INTERFACE = "no interface"


class Leftover(NamedTuple):
    """A record or a lease of an attachment without an interface; ``problem`` says what is amiss.

    A record has a namespace and perhaps a ``master`` and a ``pod``, a lease has none of them.
    """

    problem: str
    attachment: AttachmentId
    netns: str = ""
    netns_identity: tuple[int, int] | None = None
    master: str = ""
    pod: str = ""
    lease: Lease | None = None


class Judge:
    """Compares interfaces with records and leases, without mistaking what a call does meanwhile.

    It is made before the interfaces are listed: what was there by then, is there still, and has
    no interface and no running call, is left over.
    """

    def __init__(self, registry: Registry, host: Collection[Link]) -> None:
        self._registry = registry
        self._hints = list(registry.all_hints())
        self._leases = networks_here.leased()
        self._now, self._hints_now = self._leases, self._hints
        self._masters = {
            hint: link.name for link in host for hint in registry.hints(Master(link).key)
        }

    def look_again(self) -> None:
        """Read the leases after the interfaces were listed, and then whose they may be."""
        self._now = networks_here.leased()
        self._hints_now = list(self._registry.all_hints())

    def record(self, each: Attachment) -> ModeHint | None:
        """Return the record of an interface where it is, also of one that is not finished."""
        key = links.key_of(each.link.name)
        unfinished = [hint for hint in self._hints if hint.attachment.key == key]
        return next(iter((*_here(self._hints, each), *unfinished)), None)

    def owner(self, each: Attachment) -> AttachmentId | None:
        """Return whose an interface is, if that is known."""
        record = self.record(each)
        return each.owner or (record.attachment if record else None)

    def leased(self, each: Attachment) -> list[str] | None:
        """Return which addresses are leased to an attachment; None if host-local has none to give.

        A container's label could name any network, so only a recorded attachment has leases.
        """
        owner = each.owner
        if owner is None or owner.network not in self._now or not _here(self._hints, each):
            return None
        return [lease.address for lease in self._now[owner.network] if _is_of(lease, owner)]

    def problems(self, each: Attachment) -> list[str]:
        """Return what is amiss with an interface: constants of this module."""
        owner = self.owner(each)
        key = links.key_of(each.link.name) or (owner.key if owner else "")
        if not key or self._registry.is_live(key):
            return []
        records = self._registry.hints_of(owner) if owner else []
        if links.key_of(each.link.name):
            is_over = any(hint.is_complete for hint in records) or not _is_there(each)
            return [] if is_over else [UNFINISHED]
        here = _here(records, each)
        if not here:
            return [NO_RECORD]
        if not any(hint.is_complete for hint in here):
            return [UNFINISHED]
        leased = self.leased(each)
        return [NO_LEASE] if leased is not None and set(_own(each)) - set(leased) else []

    def leftovers(self, found: Sequence[Attachment]) -> Iterator[Leftover]:
        """Yield the records and leases of attachments that have none of these interfaces."""
        owners = {self.owner(each) for each in found}
        labels = {each.link.alias for each in found}
        for hint in self._hints:
            problem = "" if hint.attachment in owners else self._problem(hint)
            if problem:
                master = self._masters.get(hint, "")
                place = (hint.netns, hint.netns_identity)
                yield Leftover(problem, hint.attachment, *place, master, hint.pod)
        used = {address for each in found for address in _own(each)}
        for network, leases in self._leases.items():
            for lease in leases:
                attachment = AttachmentId(network, lease.container_id, lease.ifname)
                has_interface = lease.address in used or attachment.label in labels
                if not has_interface and self._is_left(lease, attachment):
                    yield Leftover(NO_INTERFACE, attachment, lease=lease)

    def _problem(self, hint: ModeHint) -> str:
        if self._registry.is_live(hint.attachment.key):
            return ""
        now = [each for each in self._registry.hints_of(hint.attachment) if each == hint]
        return (NO_INTERFACE if hint.is_complete else UNFINISHED) if now else ""

    def _is_left(self, lease: Lease, attachment: AttachmentId) -> bool:
        if lease not in self._now.get(attachment.network, ()):
            return False
        if self._registry.is_live(attachment.key):
            return False
        return not any(
            hint.network == attachment.network and _is_of(lease, hint.attachment)
            for hint in self._hints_now
        )


def _here(hints: Sequence[ModeHint], each: Attachment) -> list[ModeHint]:
    """Return the hints that put an interface where it is."""
    identity = each.place.identity if each.place else None
    return [
        hint for hint in hints if hint.attachment == each.owner and hint.netns_identity == identity
    ]


def _is_of(lease: Lease, attachment: AttachmentId) -> bool:
    ifname = lease.ifname or attachment.ifname
    return (lease.container_id, ifname) == (attachment.container_id, attachment.ifname)


def _own(each: Attachment) -> list[str]:
    """Return the addresses that an interface was given, without prefix lengths."""
    found = map(ip_interface, each.addresses)
    return [str(address.ip) for address in found if not address.is_link_local]


def _is_there(each: Attachment) -> bool:
    return each.place is not None or namespace.own_has_link(each.link.name)
