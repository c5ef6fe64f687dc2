"""Which attachments a container has, by labels and root's records.

A container's owner can forge a label, and so name another container. Therefore the command
line acts on a label only if root's record puts that attachment into the same container.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_interface
from typing import Any

import click

from cni_ipvlan.cli import configs
from cni_ipvlan.cni.errors import TRY_AGAIN_LATER, UNKNOWN_CONTAINER, CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import commands, machine, namespace, queries
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import host_local, inventory, links
from cni_ipvlan.plugin.node import Node
from cni_ipvlan.state.attachment import AttachmentId, Record, describe_container
from cni_ipvlan.state.registry import Registry

_READABLE_IPAM = ("", "static", "host-local")  # of whose addresses we know who has them
_FOR_ROOT = "only root may read the recorded attachments"
_MOST_LISTED = 10
_SHORTEST_ID = 4  # characters of the start of a container's ID
_Owners = dict[str, AttachmentId | None] | None


def is_called(container_id: str, word: str) -> bool:
    """Whether a word is a container's ID, or its first characters."""
    return container_id == word or (len(word) >= _SHORTEST_ID and container_id.startswith(word))


def is_named(container_id: str, pod: str, word: str) -> bool:
    """Whether a word names a container, or its pod, with or without the pod's namespace."""
    return is_called(container_id, word) or word in {pod, pod.partition("/")[2]} - {""}


def usual(addresses: Iterable[str]) -> list[str]:
    """Return an interface's addresses but for those that IPv6 makes by itself, link-local ones."""
    return [each for each in addresses if not (":" in each and ip_interface(each).is_link_local)]


def recorded(word: str, netns: str | None, **wanted: str | None) -> Record:
    """Return root's record of a container's attachment, by its ID, the ID's start, or its pod.

    Raises UsageError unless there is one in that namespace with the fields that are ``wanted``.
    What is None may be any.
    """
    try:
        # Not as in a dry run, which takes what it may not see to be empty.
        known = list(Registry().all_records())
    except PermissionError:
        raise click.UsageError(f"{_FOR_ROOT}; use sudo, or give -c and --netns") from None
    records = [each for each in known if is_named(each.container_id, each.pod, word)]
    records = _with(records, container_id=word) or records
    if not records:
        raise click.UsageError(
            f"no container or pod {word!r} is recorded; ipvlan show lists what is there; what is "
            "not recorded needs -c and --netns"
        )
    found = [
        each
        for each in _with(records, **wanted)
        if netns is None
        or namespace.leads_to(netns, each.netns_identity)
        or os.path.realpath(netns) == os.path.realpath(each.netns)
    ]
    if len(found) == 1:
        return found[0]
    problem = "has several attachments" if found else "has no such attachment"
    raise click.UsageError(f"{word!r} {problem}; choose of: {_listed(found or records)}")


def _with(records: Iterable[Record], **wanted: str | None) -> list[Record]:
    """Return the records with the fields that are wanted, unless these are None."""
    given = {field: value for field, value in wanted.items() if value is not None}
    return [each for each in records if given.items() <= each._asdict().items()]


def kept_config(record: Record) -> dict[str, Any] | None:
    """Return the configuration of an attachment as libcni has kept it, or None."""
    for file, each in configs.kept("-".join(record.attachment)):
        for found in configs.read(f"{file}.json", configs.config_in(each)).networks:
            if found.name == record.network:
                return found.config
    return None


def still_leased(node: Node, record: Record) -> str:
    """Return a sentence about the addresses that stay leased if no IPAM plugin is asked."""
    netns = links.container_of_record(record)
    query = commands.Command(
        commands.address_show(record.ifname), netns=netns, accept=commands.ABSENT
    )
    shown = queries.links(node.begin().run(query).stdout) if netns else []
    addresses = usual(each.address for link in shown for each in link.addresses)
    store = netconf.lease_directory({"name": record.network})
    files = [each.file for each in host_local.leases(store) if is_leased_to(each, record)]
    known = ", ".join((*addresses, *files)) or "not known"
    about = ("--netns", record.netns, "--container-id", record.container_id)
    command = ("ipvlan", "del", "-c", "FILE", *about, "--ifname", record.ifname)
    next_step = f"to release it, name the network's file: {commands.in_shell(command)}"
    why = "no IPAM plugin is asked, as libcni has kept no configuration"
    return f"{why}; what may stay leased: {known}; {next_step}"


def _listed(records: Sequence[Record]) -> str:
    return "; ".join(
        f"{each.ifname} of the network {each.network}, "
        f"{describe_container(each.container_id, each.pod)}, in {each.netns}"
        for each in sorted(records)[:_MOST_LISTED]
    )


def existing(node: Node, network: str) -> tuple[dict[str, str], ...]:
    """Return a network's attachments whose interface or container is on this node, as GC has them.

    Raises CniError if not all of it can be seen: what is not seen would be released.
    """
    unseen = ["what only root may see"] if machine.missing_capabilities() else []
    # Not as in a dry run, which takes what it may not see to be empty.
    tx = Transaction(node.runner)
    found = [each.owner for each in inventory.search(tx, node.registry, report=unseen.append)]
    if unseen:
        raise CniError(
            TRY_AGAIN_LATER,
            f"cannot tell which attachments exist: not seen: {'; '.join(unseen)}",
            "nothing was changed\ntry: run it as root, in the host's namespaces",
        )
    found += [
        record.attachment
        for record in node.registry.all_records()
        if record.has_container or node.registry.is_live(record.attachment.key)
    ]
    here = sorted({each for each in found if each and each.network == network})
    return tuple({"containerID": each.container_id, "ifname": each.ifname} for each in here)


def container_id_of(node: Node, network: str, ifname: str, netns: str) -> str:
    """Return the ID of a container, also one whose namespace is gone; raises UsageError."""
    what = f"attachment {ifname!r} of the network {network!r} in {netns}"
    try:
        records, owners = _in_container(node, netns)
    except PermissionError:
        why = _FOR_ROOT
    else:
        found = _matching(network, ifname, records, owners)
        if len(found) == 1:
            return found[0]
        why = f"several containers had an {what}: {', '.join(found)}"
        why = why if found else f"no {what} is known on this node{_beside(records)}"
    raise click.UsageError(f"{why}; give its container ID with --container-id")


def check_known(node: Node, network: configs.NetworkConfig, values: Mapping[str, Any]) -> None:
    """Raise CniError if there is certainly nothing of the given attachment.

    Then DEL would do nothing, or harm another attachment whose interface has no label.
    """
    attachment = AttachmentId(network.name, values["container_id"], values["ifname"])
    temporary, ipam = links.temporary_name(attachment.key), netconf.ipam_type(network.config)
    store = netconf.lease_directory(network.config)
    try:
        records, owners = _in_container(node, values["netns"])
    except PermissionError:
        return
    if (
        owners is None
        or ipam not in _READABLE_IPAM
        or any(is_leased_to(each, attachment) for each in host_local.leases(store))
        or node.registry.records_of(attachment)
        or namespace.own_has_link(temporary)
        or attachment in owners.values()
        or None in {owners.get(name, attachment) for name in (attachment.ifname, temporary)}
    ):
        return
    matching = " or ".join(map(repr, _matching(network.name, attachment.ifname, records, owners)))
    others = _with(node.registry.all_records(), container_id=attachment.container_id)
    hint = f"; did you mean {matching}?" if matching else _beside(others)
    what = f"{attachment.container_id!r} with the interface {attachment.ifname!r}"
    text = f"there is nothing of the container {what} in the network {attachment.network!r}"
    raise CniError(UNKNOWN_CONTAINER, text + hint)


def is_leased_to(lease: host_local.Lease, attachment: Record | AttachmentId) -> bool:
    """Whether host-local's lease is an attachment's; old ones don't name the interface."""
    is_interface = lease.ifname in ("", attachment.ifname)
    return is_interface and lease.container_id == attachment.container_id


def _beside(records: Sequence[Record]) -> str:
    """Return what root has recorded, as the end of a text."""
    return f"; there is {_listed(records)}" if records else ""


def _matching(network: str, ifname: str, records: Sequence[Record], owners: _Owners) -> list[str]:
    """Return the containers whose attachment has or had an interface."""
    found = _with(records, network=network, ifname=ifname)
    labelled = [each for each in found if each.attachment in (owners or {}).values()]
    return [each.container_id for each in labelled or found]


def _in_container(node: Node, path: str) -> tuple[list[Record], _Owners]:
    """Return the records about a container, and whose each of its interfaces is, by name.

    The latter is None if it may not be looked at; raises PermissionError.
    """
    records = list(Registry().all_records())
    try:
        netns = namespace.find(path)
    except PermissionError:
        raise
    except (OSError, ValueError, namespace.NotANamespaceError):  # it is gone
        real = os.path.realpath(path)
        return [record for record in records if os.path.realpath(record.netns) == real], {}
    shown, owners = node.begin().run(links.list_command(netns)), inventory.Owners(records)
    here = [record for record in records if record.netns_identity == netns.identity]
    of_links = {link.name: owners.owner_of(link, netns) for link in queries.links(shown.stdout)}
    return here, None if shown.is_assumed else of_links
