"""GC: remove what killed calls left of attachments that are no longer valid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, OF_OLDER_PLUGINS, CniError, Failures
from cni_ipvlan.cni.request import Request, identifier_fault, interface_name_fault
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.iproute.commands import OPTIONAL, Command
from cni_ipvlan.plugin import features, host_local, inventory, ipam, links, modes
from cni_ipvlan.plugin.codes import NOT_PERMITTED
from cni_ipvlan.plugin.host_local import Lease
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import Any
from cni_ipvlan.state.attachment import AttachmentId

_LIST_KEY = "cni.dev/valid-attachments"
# SPEC.md of CNI 1.1.0 called it so at first, and some runtimes send only this
# (github.com/containernetworking/cni/issues/1101).
_OLD_LIST_KEY = "cni.dev/attachments"
_BATCH_SIZE = 16  # how many locks are held, and calls of the IPAM plugin run, at a time
_SEARCH_SECONDS = 15.0  # for a thousand namespaces; CRI-O gives GC thirty
_MOST_EMPTY = 1000  # files in the arguments of a command
_LOCK_SECONDS = 5.0  # the network's author chooses the directory, and may have a FIFO there


def gc(node: Node, request: Request) -> None:
    """Remove what belongs to no valid attachment; raises CniError if any of it fails."""
    names = _valid_attachments(request)
    request = _add_list(request, names)
    valid = {AttachmentId(request.network, *each) for each in names}
    failures = Failures()
    steps: tuple[Callable[[Call], None], ...] = (
        lambda call: _release_routes(call, valid),
        _release_by_plugin,
        lambda call: _release_gone(call, valid, failures),
        _remove_unused,
    )
    for step in steps:
        with failures.noted(), node.call(request) as call:
            step(call)
    failures.raise_any()


def _release_routes(call: Call, valid: Collection[AttachmentId]) -> None:
    """Remove the host's routes to attachments that are not valid, under each one's lock."""
    network = call.request.network
    attachments = {
        each.attachment for each in call.registry.all_records() if each.network == network
    }
    for attachment in attachments.difference(valid):
        with call.registry.try_attachment_lock(attachment.key) as is_locked:
            if is_locked:
                records = call.registry.records_of(attachment)
                features.release(call, attachment, records, makes_master=False)


def _release_by_plugin(call: Call) -> None:
    """Let the IPAM plugin release addresses; it is no failure if it is too old to know GC."""
    try:
        ipam.start(call, ipam.find_releasing_plugin(call), "GC")()
    except CniError as error:
        if error.code not in OF_OLDER_PLUGINS:  # its leases are released by DEL
            raise


def _remove_unused(call: Call) -> None:
    """Remove what killed calls have left without an owner: VLANs, notes, half-written records."""
    no_attachment = AttachmentId(call.request.network, "", "")
    features.release(call, no_attachment, (), makes_master=True, include_unrecorded=True)
    for master in call.registry.masters_with_note():
        modes.remove_stale_note(call, master, is_ending=False)
    call.registry.remove_leftovers()


def _release_gone(call: Call, valid: Collection[AttachmentId], failures: Failures) -> None:
    """Release the addresses of attachments whose interfaces are gone, by the IPAM plugin's DEL.

    Whatever an IPAM plugin does at GC (host-local and dhcp do nothing), its DEL releases addresses,
    and may be repeated. Root's records name the attachments. The leases of host-local also name
    those whose records were lost when the node was restarted. A record is removed when the
    addresses have been released.
    """
    plugin = ipam.find_releasing_plugin(call)
    recorded = dict.fromkeys(record.attachment for record in call.registry.all_records())
    attachments = [each for each in recorded if each.network == call.request.network]
    attachments = [each for each in attachments if each not in valid]
    found = namespace.find_containers(_SEARCH_SECONDS).values() if attachments else ()
    paths = {each.identity: each.path for each in found}
    if plugin == "host-local":
        attachments += _find_unrecorded(call, {*valid, *recorded})
    for first in range(0, len(attachments), _BATCH_SIZE):
        with ExitStack() as locks:
            releases = []
            call.node.runner.interrupts.check()
            for attachment in attachments[first : first + _BATCH_SIZE]:
                if not locks.enter_context(call.registry.try_attachment_lock(attachment.key)):
                    continue
                # If the namespace of one can't be read, the others are released all the same.
                with failures.noted(), call.node.call(call.request) as attachment_call:
                    if _is_gone(attachment_call, attachment, paths):
                        releases.append((attachment, _start_release(call, attachment, plugin)))
            for attachment, wait in releases:
                with failures.noted(), call.node.call(call.request) as attachment_call:
                    wait()
                    records = call.registry.records_of(attachment)
                    call.registry.remove_all(attachment)
                    masters = (each.master for each in records)
                    for master in call.registry.masters_with_note(masters):
                        modes.remove_stale_note(attachment_call, master, is_ending=True)
                    features.release(attachment_call, attachment, records, makes_master=True)


def _find_unrecorded(call: Call, known: Collection[AttachmentId]) -> list[AttachmentId]:
    """Return the attachments that have a lease of host-local, but no record and no interface.

    Leases that name no container are removed.
    """
    request, container_ids = call.request, {each.container_id for each in known}

    def may_be_lost(lease: Lease) -> bool:
        container_id, ifname = lease.container_id, lease.ifname
        # The network's author chooses the directory, so these may be names that no call can have.
        fault = identifier_fault(container_id) or (ifname and interface_name_fault(ifname))
        if container_id and fault:
            return False
        is_known = AttachmentId(request.network, container_id, ifname) in known
        # Old leases have no interface's name.
        return not is_known and (ifname != "" or container_id not in container_ids)

    store = netconf.lease_directory(request.config)
    leases = list(filter(may_be_lost, host_local.leases(store)))
    if not leases:
        return []
    unsearched: list[str] = []
    deadline = time.monotonic() + _SEARCH_SECONDS
    # The network may have been one of another plugin, whose containers still exist.
    attachments = inventory.search(
        call.tx, call.registry, (None,), report=unsearched.append, deadline=deadline
    )
    used_addresses = {ip.partition("/")[0] for each in attachments for ip in each.addresses}
    if unsearched or time.monotonic() >= deadline:
        call.warn("leases without a record are kept, as not every namespace could be searched")
        return []
    lost_leases = [lease for lease in leases if lease.address not in used_addresses]
    _remove_empty_leases(call, [each for each in lost_leases if not each.container_id])
    names = ((each.container_id, each.ifname) for each in lost_leases if each.container_id)
    return [AttachmentId(request.network, *each) for each in dict.fromkeys(names)]


def _remove_empty_leases(call: Call, leases: Sequence[Lease]) -> None:
    """Remove empty leases: host-local was killed, or the power failed, before they were written.

    host-local holds the lock of its store while it writes. Its DEL does not find empty leases.
    """
    if leases:
        files = [os.path.abspath(each.file) for each in leases[:_MOST_EMPTY]]
        lock = os.path.join(os.path.dirname(files[0]), "lock")
        script = 'for file; do [ -s "$file" ] || rm -f "$file"; done'
        argv = ("flock", "--nonblock", lock, "sh", "-c", script, "sh", *files)
        purpose = f"remove leases that name no container, {len(files)} in all"
        call.tx.run(Command(argv, purpose, accept=OPTIONAL), seconds=_LOCK_SECONDS)


def _is_gone(call: Call, attachment: AttachmentId, paths: Mapping[tuple[int, int], str]) -> bool:
    """Whether an attachment has no interface any more; the caller holds its lock.

    What a killed ADD has left is removed. Records are read again, since an ADD may have ended.
    ``paths`` lead to the containers that were found, in case that a record's does not any more.
    """
    links.delete_temporary(call.tx, attachment)
    for each in call.registry.records_of(attachment):
        path = each.netns if each.has_container else paths.get(each.netns_identity, "")
        if not path and each.is_hidden:
            text = f"cannot tell whether the container at {each.netns} exists: it may not be opened"
            next_step = "try: give this process CAP_SYS_PTRACE and the PID namespace of the ADD"
            raise CniError(NOT_PERMITTED, text, next_step)
        record = each._replace(netns=path or each.netns)
        if not record.is_complete and (found := links.find_link(call.tx, call.registry, record)):
            netns, link = found
            links.delete(call.tx, [link], netns)
        if links.link_exists(call.tx, call.registry, record):
            call.warn(f"not removed, since its container still exists: {record.describe()}")
            return False
    return True


def _start_release(call: Call, attachment: AttachmentId, plugin: str) -> Callable[[], None]:
    """Start the IPAM plugin's DEL of an attachment; return a function that waits for its end."""
    variables = {
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_IFNAME": attachment.ifname or "eth0",  # host-local finds old leases, too
        "CNI_NETNS": "",
    }
    # A plugin may know DEL, but not the version that brought GC.
    request = ipam.use_common_version(call.request)
    request = request._replace(environment={**request.environment, **variables})
    return ipam.start(call._replace(request=request), plugin, "DEL")


def _valid_attachments(request: Request) -> list[tuple[str, str]]:
    """Return container ID and interface of each valid attachment; raises CniError 7.

    A caller of libcni's GCNetworkList that gives no arguments means that none is valid: libcni
    deletes all that it has cached, and leaves the key out. Go writes an empty list as null.
    """
    key = _LIST_KEY if _LIST_KEY in request.config else _OLD_LIST_KEY
    entries: Any = request.config.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise CniError(
            INVALID_CONFIGURATION, f"{key} is {quote(entries)}; it must be a list, or null"
        )
    for entry in entries:
        names = entry if isinstance(entry, dict) else {}
        if not all(isinstance(names.get(each), str) for each in ("containerID", "ifname")):
            raise CniError(
                INVALID_CONFIGURATION,
                f"{key} has {quote(entry)}; containerID and ifname are needed",
            )
    return [(entry["containerID"], entry["ifname"]) for entry in entries]


def _add_list(request: Request, names: Iterable[tuple[str, str]]) -> Request:
    """Return a request that gives the IPAM plugin the list under the key that plugins know.

    Without it, a plugin may fail, or release all addresses although the list is there under the
    other key. The rest of the request remains as the runtime wrote it.
    """
    if _LIST_KEY in request.config:
        return request
    entries = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in names]
    member = f'{{"{_LIST_KEY}": {json.dumps(entries)}, '.encode("ascii")
    return request._replace(stdin=request.stdin.replace(b"{", member, 1))  # before the name
