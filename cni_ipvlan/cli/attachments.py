"""Find the attachments of a container, by labels and root's records.

A container's owner can forge a label, and so name another container. Therefore the command
line acts on a label only if root's record puts that attachment into the same container.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

_IPAM_WITH_OWNERS = ("", "static", "host-local")  # the owners of their addresses can be found
_MOST_LISTED = 10
_SHORTEST_ID = 4  # characters of the start of a container's ID
_Owners = dict[str, AttachmentId | None] | None


def matches_id(container_id: str, word: str) -> bool:
    """Whether a word is a container's ID, or its first characters."""
    return container_id == word or (len(word) >= _SHORTEST_ID and container_id.startswith(word))


def matches_container(container_id: str, pod: str, word: str) -> bool:
    """Whether a word names a container, or its pod, with or without the pod's namespace."""
    return matches_id(container_id, word) or word in {pod, pod.partition("/")[2]} - {""}


def drop_link_local(addresses: Iterable[str]) -> list[str]:
    """Return addresses except link-local ones of IPv6, which the kernel makes by itself."""
    return [each for each in addresses if not (":" in each and ip_interface(each).is_link_local)]


def find_record(node: Node, word: str, netns: str | None, **fields: str | None) -> Record:
    """Return root's record of an attachment, by its container's ID, the start of that, or its pod.

    Raises UsageError unless exactly one is in that namespace, which may be gone, and has these
    fields. What is empty or None may have any value.
    """
    advice = "give its container ID with --container-id"
    if word:
        advice = "what is not recorded needs -c and --netns"
    try:
        # A read-only registry would be empty for those who may not read it.
        in_container = _read_container(node, netns) if netns else None
        records, owners = in_container or ([*Registry().all_records()], None)
    except PermissionError:
        text = "only root may read which attachments are recorded; use sudo"
        raise click.UsageError(f"{text}; {advice}") from None
    if word:
        records = [each for each in records if matches_container(each.container_id, each.pod, word)]
        records = _select(records, container_id=word) or records
    matches = _select(records, **fields)
    found = [each for each in matches if each.attachment in (owners or {}).values()] or matches
    if len({each.attachment for each in found}) == 1:  # a killed ADD elsewhere has a record, too
        return max(found, key=lambda each: each.has_container)
    names = {"container": word, "namespace": netns, **fields}
    what = ", ".join(f"{name} {value!r}" for name, value in names.items() if value)
    text = f"{'more than one' if found else 'no'} attachment with {what} is recorded"
    raise click.UsageError(f"{text}{_list_records(found or records)}; {advice}")


def _select(records: Iterable[Record], **fields: str | None) -> list[Record]:
    """Return the records with these fields; if one is None, it may have any value."""
    values = {field: value for field, value in fields.items() if value is not None}
    return [each for each in records if values.items() <= each._asdict().items()]


def find_config(record: Record) -> dict[str, Any] | None:
    """Return the configuration of an attachment that libcni has cached, or None."""
    for file, entry in configs.read_cache("-".join(record.attachment)):
        for network in configs.read(f"{file}.json", entry["config"]).networks:
            if network.name == record.network:
                return network.config
    return None


def describe_leases(record: Record) -> str:
    """Return a sentence about the addresses that stay leased if no IPAM plugin is asked."""
    store = netconf.lease_directory({"name": record.network})
    files = [each.file for each in host_local.leases(store) if is_leased_to(each, record)]
    remaining = ", ".join(files) or "not known"
    options = ("--netns", record.netns, "--container-id", record.container_id)
    command = ("ipvlan", "del", "-c", "FILE", *options, "--ifname", record.ifname)
    next_step = f"to release it, name the network's file: {commands.in_shell(command)}"
    why = "no IPAM plugin is asked, as libcni has kept no configuration"
    return f"{why}; what may stay leased: {remaining}; {next_step}"


def list_existing(node: Node, network: str) -> tuple[dict[str, str], ...]:
    """Return a network's attachments whose interface or container exists, in the form of GC.

    Raises CniError if not all namespaces can be read: GC would release what is in the others. Those
    that any user can make don't count, unless root has recorded an attachment there.
    """
    unseen = ["what only root may see"] if machine.missing_capabilities(machine.TO_SEE_ALL) else []
    # A dry run's transaction would take what it may not read to be empty.
    tx = Transaction(node.runner)
    records = list(node.registry.all_records())
    unseen += [each.describe() for each in records if each.is_hidden]
    owners = list(_find_owners(tx, node.registry, records, unseen.append))
    if unseen:
        raise CniError(
            TRY_AGAIN_LATER,
            f"cannot tell which attachments exist: not seen: {'; '.join(unseen)}",
            "nothing was changed\ntry: run it as root, in the host's namespaces",
        )
    owners += [
        record.attachment
        for record in records
        if record.has_container or node.registry.is_live(record.attachment.key)
    ]
    present = sorted({each for each in owners if each and each.network == network})
    return tuple({"containerID": each.container_id, "ifname": each.ifname} for each in present)


def _find_owners(
    tx: Transaction, registry: Registry, records: Iterable[Record], report: Callable[[str], None]
) -> Iterator[AttachmentId | None]:
    """Yield whose interfaces are found where they are recorded; those without a record, anywhere.

    Any user can make namespaces, with any labels, so one without a record must be of our own user.
    """
    places = {(each.attachment, each.netns_identity) for each in records}
    recorded, identities = {each for each, _ in places}, {each for _, each in places}
    namespaces = [
        each
        for each in namespace.find_containers().values()
        if each.identity in identities or namespace.is_of_our_user(each.path)
    ]
    for each in inventory.search(tx, registry, namespaces=namespaces, report=report):
        is_recorded_here = not each.netns or (each.owner, each.netns.identity) in places
        if is_recorded_here or each.owner not in recorded:
            yield each.owner


def check_whole_ids(node: Node, network: str, valid: Iterable[Mapping[str, str]]) -> None:
    """Raise UsageError if an ID is only the start of a recorded one: GC knows no short ones."""
    records = _select(node.registry.all_records(), network=network)
    recorded = {each.container_id for each in records}
    for word in {each["containerID"] for each in valid} - recorded:
        if longer := next((each for each in sorted(recorded) if matches_id(each, word)), ""):
            raise click.UsageError(f"{word!r} is no container's ID; did you mean {longer!r}?")


def check_exists(node: Node, network: configs.NetworkConfig, values: Mapping[str, Any]) -> None:
    """Raise CniError if certainly nothing is left of an attachment.

    DEL would then do nothing, or harm another attachment whose interface has no label.
    """
    attachment = AttachmentId(network.name, values["container_id"], values["ifname"])
    temporary, (ipam, directory) = links.temporary_name(attachment.key), network.store
    try:
        records, owners = _read_container(node, values["netns"])
    except PermissionError:
        return
    if (
        owners is None
        or ipam not in _IPAM_WITH_OWNERS
        or any(is_leased_to(each, attachment) for each in host_local.leases(directory))
        or node.registry.records_of(attachment)
        or namespace.own_has_link(temporary)
        or attachment in owners.values()
        or None in {owners.get(name, attachment) for name in (attachment.ifname, temporary)}
    ):
        return
    what = f"{attachment.container_id!r} with the interface {attachment.ifname!r}"
    text = f"there is nothing of the container {what} in the network {attachment.network!r}"
    raise CniError(UNKNOWN_CONTAINER, text + _list_records(records))


def is_leased_to(lease: host_local.Lease, attachment: Record | AttachmentId) -> bool:
    """Whether a lease of host-local is an attachment's; old leases don't name the interface."""
    is_interface = lease.ifname in ("", attachment.ifname)
    return is_interface and lease.container_id == attachment.container_id


def _list_records(records: Sequence[Record]) -> str:
    first = sorted(records)[:_MOST_LISTED]
    phrases = (f"{each.describe()} of the network {each.network}" for each in first)
    return f"; there is {'; '.join(phrases)}" if first else ""


def _read_container(node: Node, path: str) -> tuple[list[Record], _Owners]:
    """Return the records about a container, and the owners of its interfaces, by their names.

    The owners are None if the user may not list the interfaces; raises PermissionError.
    """
    records = list(Registry().all_records())
    try:
        netns = namespace.find(path)
    except PermissionError:
        raise
    except (OSError, ValueError, namespace.NotANamespaceError):  # it is gone
        real_path = os.path.realpath(path)
        return [record for record in records if os.path.realpath(record.netns) == real_path], {}
    output = node.begin().run(links.list_command(netns))
    local_records = [record for record in records if record.netns_identity == netns.identity]
    if output.is_assumed:
        return local_records, None
    owners, listed = inventory.Owners(records), queries.links(output.stdout)
    return local_records, {link.name: owners.owner_of(link, netns) for link in listed}
