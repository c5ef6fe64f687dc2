"""Which attachments a container has: its interfaces' labels and root's records say that.

A container's owner can forge a label, and so name another container. Therefore the command
line acts on a label only if root's record puts that attachment into the same container.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from cni_ipvlan.cli import leases
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.namespace import NotANamespaceError
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cni_ipvlan.cli.configs import NetworkConfig
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.state.attachment import ModeHint

# Of these IPAM plugins we can tell whether they hold something for a container.
_READABLE_IPAM = ("", "static", "host-local")
_SHORTEST_ID = 4  # characters of the start of a container's ID


def is_called(container_id: str, word: str) -> bool:
    """Whether a word is a container's ID, or its first characters."""
    return container_id == word or (len(word) >= _SHORTEST_ID and container_id.startswith(word))


def container_id_of(tx: Transaction, network: str, ifname: str, netns: str) -> str:
    """Return the ID of the container that has an interface; raises UsageError if unknown.

    ``netns`` may be the path of a namespace that is gone.
    """
    try:
        found = _known(tx, network, ifname, netns)
    except PermissionError:
        why = "only root may read the recorded attachments"
    else:
        if len(found) == 1:
            return found[0].container_id
        what = f"attachment {ifname!r} of the network {network!r} in {netns}"
        if not found:
            why = f"no {what} is known on this node"
        else:
            names = ", ".join(each.container_id for each in found)
            why = f"several containers had an {what}: {names}"
    raise click.UsageError(f"{why}; give its container ID with --container-id")


def nothing_known(tx: Transaction, network: NetworkConfig, given: Mapping[str, Any]) -> str:
    """Return a message if there is certainly nothing of the given attachment, else "".

    Then DEL would do nothing, or harm another attachment whose interface has no label.
    """
    attachment = AttachmentId(network.name, given["container_id"], given["ifname"])
    try:
        if _is_known(tx, network, attachment, given["netns"]):
            return ""
        others = _known(tx, attachment.network, attachment.ifname, given["netns"])
    except PermissionError:
        return ""
    guesses = " or ".join(repr(each.container_id) for each in others)
    return (
        f"there is nothing of the container {attachment.container_id!r} with the interface "
        f"{attachment.ifname!r} in the network {attachment.network!r}"
        + (f"; did you mean {guesses}?" if guesses else "")
    )


def _is_known(
    tx: Transaction, network: NetworkConfig, attachment: AttachmentId, netns: str
) -> bool:
    ipam = netconf.ipam_type(network.config)
    if (
        ipam not in _READABLE_IPAM
        or (ipam == "host-local" and leases.holds(network.config, attachment.container_id))
        or Registry().hints_of(attachment)
        or namespace.own_has_link(links.temporary_name(attachment.key))
    ):
        return True
    place = _place(netns)
    if place is None:
        return False
    owners = Owners(Registry().all_hints())
    present = links.listed(tx, place)
    names = (attachment.ifname, links.temporary_name(attachment.key))
    if present is None:
        return True
    owned = ((link, owners.of(link, place)) for link in present)
    return any(
        owner == attachment or (owner is None and link.name in names) for link, owner in owned
    )


def _known(tx: Transaction, network: str, ifname: str, netns: str) -> list[AttachmentId]:
    """Return the attachments of a network that have or had an interface; raises PermissionError."""
    hints = list(Registry().all_hints())
    place = _place(netns)
    if place is None:
        path = os.path.realpath(netns)
        there = [hint for hint in hints if os.path.realpath(hint.netns) == path]
        return _of(there, network, ifname)
    here = [hint for hint in hints if hint.netns_identity == place.identity]
    recorded = _of(here, network, ifname)
    owners = Owners(hints)
    labelled = {owners.of(link, place) for link in links.listed(tx, place) or ()}
    return [each for each in recorded if each in labelled] or recorded


def _of(hints: Iterable[ModeHint], network: str, ifname: str) -> list[AttachmentId]:
    attachments = (hint.attachment for hint in hints)
    return [each for each in attachments if (each.network, each.ifname) == (network, ifname)]


def _place(netns: str) -> Namespace | None:
    try:
        return namespace.find(netns)
    except PermissionError:
        raise
    except (OSError, ValueError, NotANamespaceError):
        return None
