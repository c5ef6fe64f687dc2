"""What is wrong with attachments, and what is left of those whose interfaces are gone."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_interface
from typing import Any, NamedTuple

from cni_ipvlan.cli import configs
from cni_ipvlan.cli.attachments import Lease, in_directory
from cni_ipvlan.cli.doctor import configurations
from cni_ipvlan.cli.reach.probe import RESULTS
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import explain, links
from cni_ipvlan.plugin.inventory import Attachment
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.state.attachment import AttachmentId, ModeHint
from cni_ipvlan.state.registry import Registry

UNFINISHED = "unfinished"  # its ADD has neither ended nor is it running
NO_RECORD = "no record"  # it is labelled, but root has not recorded it where it is
NO_LEASE = "no lease"  # host-local, which gave out its address, no longer knows that
NO_INTERFACE = "no interface"
# libcni keeps the configuration of each attachment beside its result, for runtimes and Multus.
_KEPT = (RESULTS, "/var/lib/cni/multus/results")


class Known(NamedTuple):
    """What is known of attachments besides their interfaces.

    It is read after these, in this order: the keys of those on which a call is working, so that
    the others are at rest; leases by network, which are host-local's; records, which an ADD writes
    before it has a lease, and a DEL removes after that.
    """

    busy: set[str]
    leases: dict[str, list[Lease]]
    hints: list[ModeHint]

    def owner(self, each: Attachment) -> AttachmentId | None:
        """Return whose an interface is, if that is known, also if its ADD has not moved it yet."""
        key = links.key_of(each.link.name)
        unmoved = (hint.attachment for hint in self.hints if hint.attachment.key == key)
        return each.owner or next(unmoved, None)

    def leased(self, each: Attachment) -> list[str] | None:
        """Return which addresses are leased to an attachment; None if host-local has none to give.

        A container's label could name any network, so only a recorded attachment has leases.
        """
        owner = each.owner
        if owner is None or owner.network not in self.leases or not self._here(each):
            return None
        names, leases = _names(owner), self.leases[owner.network]
        return [lease.address for lease in leases if _whose(lease, owner.network) in names]

    def problems(self, each: Attachment) -> list[str]:
        """Return what is wrong with an interface: constants of this module."""
        if not _key(each) or _key(each) in self.busy:
            return []
        if links.key_of(each.link.name):
            owner = self.owner(each)
            is_done = any(hint.is_complete for hint in self.hints if hint.attachment == owner)
            is_there = each.place is not None or namespace.own_has_link(each.link.name)
            return [UNFINISHED] if is_there and not is_done else []
        here = self._here(each)
        if not here:
            return [NO_RECORD]
        if not any(hint.is_complete for hint in here):
            return [UNFINISHED]
        leased = self.leased(each)
        return [NO_LEASE] if leased is not None and not _own(each).issubset(leased) else []

    def _here(self, each: Attachment) -> list[ModeHint]:
        """Return the records that put an interface where it is."""
        place = each.owner, each.place.identity if each.place else None
        return [hint for hint in self.hints if (hint.attachment, hint.netns_identity) == place]


def known(registry: Registry, found: Sequence[Attachment]) -> Known:
    """Return what is known when these interfaces were found."""
    busy = {key for key in map(_key, found) if key and registry.is_live(key)}
    return Known(busy, _leases(), list(registry.all_hints()))


def leftovers(
    tx: Transaction,
    registry: Registry,
    known: Known,
    found: Sequence[Attachment],
    host: Iterable[Link],
    is_wanted: Callable[[tuple[int, int] | None, Collection[str], str, str], bool],
) -> Iterator[dict[str, Any]]:
    """Yield the records and leases of attachments that have none of these interfaces.

    Each is looked at again, since a call may have ended meanwhile.
    """
    masters = {Master(link).key: (link.name, *link.alternative_names) for link in host}
    owners, recorded = set(map(known.owner, found)), set[AttachmentId]()
    for hint in known.hints:
        attachment = hint.attachment
        recorded.update(_names(attachment))
        if attachment in owners or registry.is_live(attachment.key):
            continue
        if hint in registry.hints_of(attachment) and not links.is_there(tx, hint):
            on = (masters[key] for key in registry.masters_of(hint) if key in masters)
            names = next(on, ("",))
            if is_wanted(hint.netns_identity, names, hint.container_id, hint.pod):
                problem = NO_INTERFACE if hint.is_complete else UNFINISHED
                yield _leftover(problem, attachment, hint.netns, names[0], hint.pod)
    used = set[str]().union(*map(_own, found))
    labels = {each.link.alias for each in found}
    for network, leases in known.leases.items():
        for lease in leases:
            attachment = _whose(lease, network)
            if lease.address in used or attachment.label in labels or attachment in recorded:
                continue
            is_left = not registry.is_live(attachment.key) and os.path.exists(lease.file)
            if is_left and is_wanted(None, (), lease.container_id, ""):
                yield _leftover(NO_INTERFACE, attachment, lease=lease)


def _leftover(
    problem: str,
    attachment: AttachmentId,
    netns: str = "",
    master: str = "",
    pod: str = "",
    lease: Lease | None = None,
) -> dict[str, Any]:
    return {
        "kind": "lease" if lease else "record",
        "problem": problem,
        "interface": attachment.ifname or None,
        "netns": netns or None,
        "master": master or None,
        "containerID": attachment.container_id,
        "network": attachment.network,
        "pod": pod or None,
        "address": lease and lease.address,
        "file": lease and lease.file,
    }


def _key(each: Attachment) -> str:
    return links.key_of(each.link.name) or (each.owner.key if each.owner else "")


def _whose(lease: Lease, network: str) -> AttachmentId:
    return AttachmentId(network, lease.container_id, lease.ifname)


def _names(attachment: AttachmentId) -> tuple[AttachmentId, AttachmentId]:
    """Return what an attachment is called in leases; old ones have no interface's name."""
    return attachment, attachment._replace(ifname="")


def _own(each: Attachment) -> set[str]:
    """Return the addresses that an interface was given, without prefix lengths."""
    found = map(ip_interface, each.addresses)
    return {str(address.ip) for address in found if not address.is_link_local}


def _leases() -> dict[str, list[Lease]]:
    """Return host-local's leases by network, of those whose attachments may be ipvlan's.

    A network without an entry has its addresses from elsewhere, or is another plugin's.
    """
    networks: dict[str, list[dict[str, Any]]] = {}
    for file, text in _texts():
        with suppress(configs.ConfigError, ValueError, AttributeError, RecursionError):
            here = configs.load(file, text)
            networks.setdefault(str(json.loads(text).get("name")), [])
            for network in here:
                networks.setdefault(network.name, []).append(network.config)
    for name in _listed(explain.LEASES):  # of some, all that is left are leases
        networks.setdefault(name, [{"name": name, "ipam": {"type": "host-local"}}])
    found = {}
    for name, given in networks.items():
        of_host_local = [each for each in given if netconf.ipam_type(each) == "host-local"]
        places = sorted({explain.lease_directory(each) for each in of_host_local})
        if places:
            found[name] = [lease for place in places for lease in in_directory(place)]
    return found


def _texts() -> Iterator[tuple[str, str]]:
    """Yield the configurations of this node, and those that libcni keeps, each with its file."""
    for directory in (configurations.DIRECTORY, *_KEPT):
        for name in _listed(directory):
            file = os.path.join(directory, name)
            with suppress(configs.ConfigError, ValueError, KeyError, TypeError, RecursionError):
                if directory in _KEPT:
                    kept = json.loads(configs.read_source(file))
                    yield f"{file}.json", b64decode(kept["config"]).decode()
                elif name.endswith(configs.JSON_SUFFIXES):
                    yield file, configs.read_source(file)


def _listed(directory: str) -> list[str]:
    with suppress(OSError):
        return sorted(os.listdir(directory))
    return []
