"""GC: remove what killed calls left of attachments that are no longer valid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack

from cni_ipvlan.cni.errors import (
    INVALID_CONFIGURATION,
    OF_OLDER_PLUGINS,
    CniError,
    Failures,
)
from cni_ipvlan.cni.request import Request, identifier_fault, interface_name_fault
from cni_ipvlan.cni.strict_json import shown
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.commands import OPTIONAL, Command
from cni_ipvlan.plugin import features, host_local, inventory, ipam, links, modes
from cni_ipvlan.plugin.host_local import Lease
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import Any
from cni_ipvlan.state.attachment import AttachmentId

_VALID = "cni.dev/valid-attachments"
# SPEC.md of CNI 1.1.0 called it so at first, and some runtimes send only this
# (github.com/containernetworking/cni/issues/1101).
_VALID_AT_FIRST = "cni.dev/attachments"
_AT_ONCE = 16  # calls of the IPAM plugin, and locks
_SEARCH_SECONDS = 5.0
_MOST_NAMELESS = 1000  # files in the arguments of a command
_LOCK_SECONDS = 5.0  # the network's author chooses the directory, and may have a FIFO there


def gc(node: Node, request: Request) -> None:
    """Remove what belongs to no valid attachment; raises CniError if any of it fails."""
    listed = _valid_attachments(request)
    request = _with_list(request, listed)
    valid = {AttachmentId(request.network, *each) for each in listed}
    failures = Failures()
    with failures.noted(), node.transaction() as tx:
        features.release_others(Call(node, request, tx), valid)
    with failures.noted(), node.transaction() as tx:
        _release(Call(node, request, tx))
    with failures.noted(), node.transaction() as tx:
        _remove_links(Call(node, request, tx), {each.key for each in valid})
    with failures.noted(), node.transaction() as tx:
        call = Call(node, request, tx)
        _release_gone(call, valid, failures)
        nobody = AttachmentId(request.network, "", "")
        features.release_vlans(call, nobody, (), by_option=True)
        for master in node.registry.noted():
            modes.settle(call, master, is_ending=False)
        node.registry.remove_leftovers()
    failures.raise_any()


def _release(call: Call) -> None:
    """Let the IPAM plugin release; one that is older than GC is no failure of this plugin."""
    name = ipam.to_release(call)
    try:
        if name:
            ipam.ask(call, name, "GC")()
    except CniError as error:
        if error.code not in OF_OLDER_PLUGINS:  # its leases are released by DEL
            raise


def _remove_links(call: Call, valid_keys: set[str]) -> None:
    """Remove links that were never moved into a container."""
    network = call.request.network
    owners = {record.attachment.key: record.network for record in call.registry.all_records()}
    for link in links.left_behind(call.tx, network):
        key = links.key_of(link.name)
        if key in valid_keys or owners.get(key, network) != network:
            continue
        with call.registry.idle(key) as is_idle:
            if is_idle:
                links.delete(call.tx, (link,), None)


def _release_gone(call: Call, valid: Collection[AttachmentId], failures: Failures) -> None:
    """Release, by the IPAM plugin's DEL, what attachments had whose interfaces are gone.

    Whatever an IPAM plugin does at GC (host-local and dhcp do nothing), DEL releases, and may be
    repeated. Root's records name the attachments, and host-local's own store those that had one
    before the node was started again. The record goes when the addresses have been released.
    """
    name = ipam.to_release(call)
    node = call.node
    recorded = dict.fromkeys(record.attachment for record in call.registry.all_records())
    wanted = [each for each in recorded if each.network == call.request.network]
    if name == "host-local":
        wanted += _unrecorded(call, {*valid, *recorded})
    wanted = [each for each in wanted if each not in valid]
    for first in range(0, len(wanted), _AT_ONCE):
        with ExitStack() as locks:
            releasing = []
            node.runner.interrupts.check()
            for attachment in wanted[first : first + _AT_ONCE]:
                if not locks.enter_context(node.registry.idle(attachment.key)):
                    continue
                # One whose namespace can't be read must not keep the others.
                with failures.noted(), node.transaction() as own:
                    if _is_gone(call._replace(tx=own), attachment):
                        releasing.append((attachment, _released(call, attachment, name)))
            for attachment, wait in releasing:
                with failures.noted(), node.transaction() as own:
                    wait()
                    own_call, records = call._replace(tx=own), call.registry.records_of(attachment)
                    for master in links.remove_records(own, node.registry, attachment) or ():
                        modes.settle(own_call, master, is_ending=True)
                    features.release_vlans(own_call, attachment, records)


def _unrecorded(call: Call, known: Collection[AttachmentId]) -> list[AttachmentId]:
    """Return the attachments that have a lease of host-local, but no record and no interface.

    Leases that name nobody are removed.
    """
    request, containers = call.request, {each.container_id for each in known}
    leases = [
        lease
        for lease in host_local.leases(netconf.lease_directory(request.config))
        if AttachmentId(request.network, lease.container_id, lease.ifname) not in known
        and (not lease.container_id or _can_be_an_attachments(lease))
        and (lease.ifname or lease.container_id not in containers)  # an old one names no interface
    ]
    if not leases:
        return []
    unseen: list[str] = []
    deadline = time.monotonic() + _SEARCH_SECONDS
    found = [*inventory.take(call.tx, call.registry, unseen=unseen.append, deadline=deadline)]
    if unseen or time.monotonic() >= deadline:
        call.warn("leases without a record are kept, as not every namespace could be searched")
        return []
    used = {address.partition("/")[0] for each in found for address in each.addresses}
    lost = [lease for lease in leases if lease.address not in used]
    _remove_nameless(call, [each for each in lost if not each.container_id])
    network = request.network
    named = (each for each in lost if each.container_id)
    return list(
        dict.fromkeys(AttachmentId(network, each.container_id, each.ifname) for each in named)
    )


def _remove_nameless(call: Call, leases: Sequence[Lease]) -> None:
    """Remove empty leases: host-local was killed, or the power went, before it had written to them.

    It holds the lock of its store while it writes, and no DEL of it finds them.
    """
    if leases:
        files = [os.path.abspath(each.file) for each in leases[:_MOST_NAMELESS]]
        lock = os.path.join(os.path.dirname(files[0]), "lock")
        script = 'for file; do [ -s "$file" ] || rm -f "$file"; done'
        argv = ("flock", "--nonblock", lock, "sh", "-c", script, "sh", *files)
        purpose = f"remove leases that name no container, {len(files)} in all"
        call.tx.run(Command(argv, purpose, accept=OPTIONAL, limit=_LOCK_SECONDS))


def _can_be_an_attachments(lease: Lease) -> bool:
    """Whether a call could have had these names; the network's author chooses the directory."""
    wrong = identifier_fault(lease.container_id) or (
        lease.ifname and interface_name_fault(lease.ifname)
    )
    return not wrong


def _is_gone(call: Call, attachment: AttachmentId) -> bool:
    """Whether the interface of an attachment, which no call is working on, is nowhere.

    What a killed ADD has left is removed. Records are read again, since an ADD may have ended.
    """
    for record in call.registry.records_of(attachment):
        if not record.is_complete:
            links.delete_recorded(call.tx, record)
        if links.is_there(call.tx, record):
            call.warn(f"not removed, since its container still exists: {record.describe()}")
            return False
    return True


def _released(call: Call, attachment: AttachmentId, name: str) -> Callable[[], None]:
    """Start the IPAM plugin's DEL of an attachment; return what waits for its end."""
    if not name:
        return lambda: None
    variables = {
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_IFNAME": attachment.ifname or "eth0",  # of which host-local finds the old lease, too
        "CNI_NETNS": "",
    }
    # A plugin may know DEL, but not the version that brought GC.
    asked = ipam.in_known_version(call.request)
    asked = asked._replace(environment={**asked.environment, **variables})
    return ipam.ask(call._replace(request=asked), name, "DEL")


def _valid_attachments(request: Request) -> list[tuple[str, str]]:
    """Return container ID and interface of each valid attachment; raises CniError 7.

    A caller of libcni's GCNetworkList that gives no arguments means that none is valid: libcni
    deletes all that it has cached, and leaves the key out. Go writes an empty list as null.
    """
    key = _VALID if _VALID in request.config else _VALID_AT_FIRST
    entries: Any = request.config.get(key)
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{key} is {shown(entries)}; it must be a list, or null",
        )
    return [_valid_attachment(key, entry) for entry in entries]


def _valid_attachment(key: str, entry: Any) -> tuple[str, str]:
    container_id = entry.get("containerID") if isinstance(entry, dict) else None
    ifname = entry.get("ifname") if isinstance(entry, dict) else None
    if not isinstance(container_id, str) or not isinstance(ifname, str):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{key} has {shown(entry)}; containerID and ifname are needed",
        )
    return container_id, ifname


def _with_list(request: Request, listed: Iterable[tuple[str, str]]) -> Request:
    """Return a request that gives the IPAM plugin the list under the key that plugins know.

    A plugin that finds no such key may take it as a fault, or, for the list under the other key,
    release all addresses. The rest remains as the runtime wrote it.
    """
    if _VALID in request.config:
        return request
    entries = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in listed]
    added = f'{{"{_VALID}": {json.dumps(entries)}, '.encode("ascii")
    return request._replace(stdin=request.stdin.replace(b"{", added, 1))  # before the name
