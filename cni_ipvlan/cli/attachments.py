"""Which attachments a container has, by labels and root's records.

A container's owner can forge a label, and so name another container. Therefore the command
line acts on a label only if root's record puts that attachment into the same container.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import click

from cni_ipvlan.cli.configs import NetworkConfig
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import host_local, links
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import DIRECTORY

_READABLE_IPAM = ("", "static", "host-local")  # of whose addresses we know who has them
_SHORTEST_ID = 4  # characters of the start of a container's ID
_Owners = dict[str, AttachmentId | None] | None


def is_called(container_id: str, word: str) -> bool:
    """Whether a word is a container's ID, or its first characters."""
    return container_id == word or (len(word) >= _SHORTEST_ID and container_id.startswith(word))


def container_id_of(node: Node, network: str, ifname: str, netns: str) -> str:
    """Return the ID of a container, also one whose namespace is gone; raises UsageError."""
    what = f"attachment {ifname!r} of the network {network!r} in {netns}"
    try:
        found = _matching(network, ifname, *_in_container(node, netns))
    except PermissionError:
        why = "only root may read the recorded attachments"
    else:
        if len(found) == 1:
            return found[0]
        why = f"several containers had an {what}: {', '.join(found)}"
        why = why if found else f"no {what} is known on this node"
    raise click.UsageError(f"{why}; give its container ID with --container-id")


def nothing_known(node: Node, network: NetworkConfig, values: Mapping[str, Any]) -> str:
    """Return a message if there is certainly nothing of the given attachment, else "".

    Then DEL would do nothing, or harm another attachment whose interface has no label.
    """
    attachment = AttachmentId(network.name, values["container_id"], values["ifname"])
    temporary, ipam = links.temporary_name(attachment.key), netconf.ipam_type(network.config)
    store = host_local.directory(network.config)
    try:
        records, owners = _in_container(node, values["netns"])
    except PermissionError:
        return ""
    if (
        owners is None
        or ipam not in _READABLE_IPAM
        or attachment.container_id in [each.container_id for each in host_local.leases(store)]
        or node.registry.records_of(attachment)
        or namespace.own_has_link(temporary)
        or attachment in owners.values()
        or None in {owners.get(name, attachment) for name in (attachment.ifname, temporary)}
    ):
        return ""
    matching = " or ".join(map(repr, _matching(network.name, attachment.ifname, records, owners)))
    return (
        f"there is nothing of the container {attachment.container_id!r} with the interface "
        f"{attachment.ifname!r} in the network {attachment.network!r}"
        + (f"; did you mean {matching}?" if matching else "")
    )


def _matching(network: str, ifname: str, records: Sequence[Record], owners: _Owners) -> list[str]:
    """Return the containers whose attachment has or had an interface."""
    wanted = (network, ifname)
    recorded = [each.attachment for each in records if (each.network, each.ifname) == wanted]
    labelled = [each for each in recorded if each in (owners or {}).values()]
    return [each.container_id for each in labelled or recorded]


def _in_container(node: Node, path: str) -> tuple[list[Record], _Owners]:
    """Return the records about a container, and whose each of its interfaces is, by name.

    The latter is None if it may not be looked at; raises PermissionError.
    """
    with suppress(FileNotFoundError):
        os.listdir(DIRECTORY)  # where a read-only registry has no records, this is not permitted
    records = list(node.registry.all_records())
    try:
        netns = namespace.find(path)
    except PermissionError:
        raise
    except (OSError, ValueError, namespace.NotANamespaceError):  # it is gone
        real = os.path.realpath(path)
        return [record for record in records if os.path.realpath(record.netns) == real], {}
    present, owners = links.listed(node.begin(), netns), Owners(records)
    here = [record for record in records if record.netns_identity == netns.identity]
    of_links = {link.name: owners.of(link, netns) for link in present or ()}
    return here, None if present is None else of_links
