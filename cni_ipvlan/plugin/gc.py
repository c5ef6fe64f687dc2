"""GC: remove what killed calls left of attachments that are no longer valid."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, OF_OLDER_PLUGINS, CniError, Failures
from cni_ipvlan.cni.request import Request, identifier_fault, interface_name_fault
from cni_ipvlan.cni.strict_json import quote
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.commands import OPTIONAL, Command
from cni_ipvlan.plugin import features, host_local, inventory, ipam, links, modes
from cni_ipvlan.plugin.host_local import Lease
from cni_ipvlan.plugin.node import Call, Node
from cni_ipvlan.start import json
from cni_ipvlan.start.namedtuple import Any
from cni_ipvlan.state.attachment import AttachmentId, network_key

_VALID = "cni.dev/valid-attachments"
# SPEC.md of CNI 1.1.0 called it so at first, and some runtimes send only this
# (github.com/containernetworking/cni/issues/1101).
_VALID_AT_FIRST = "cni.dev/attachments"
_AT_ONCE = 16  # calls of the IPAM plugin, and locks
_SEARCH_SECONDS = 15.0  # for a thousand namespaces; CRI-O gives GC thirty
_MOST_NAMELESS = 1000  # files in the arguments of a command
_LOCK_SECONDS = 5.0  # the network's author chooses the directory, and may have a FIFO there


def gc(node: Node, request: Request) -> None:
    """Remove what belongs to no valid attachment; raises CniError if any of it fails."""
    listed = _valid_attachments(request)
    request = _with_list(request, listed)
    valid = {AttachmentId(request.network, *each) for each in listed}
    failures = Failures()
    steps: tuple[Callable[[Call], None], ...] = (
        lambda call: _release_routes(call, valid),
        _release,
        lambda call: _remove_links(call, {each.key for each in valid}),
        lambda call: _release_gone(call, valid, failures),
        _release_unused,
    )
    for step in steps:
        with failures.noted(), node.call(request) as call:
            step(call)
    failures.raise_any()


def _release_routes(call: Call, valid: Collection[AttachmentId]) -> None:
    """Remove the host's routes to attachments that are not valid; calls are kept off them."""
    network = call.request.network
    others = {each.attachment for each in call.registry.all_records() if each.network == network}
    for attachment in others.difference(valid):
        with call.registry.idle(attachment.key) as is_idle:
            if is_idle:
                records = call.registry.records_of(attachment)
                features.release(call, attachment, records, below=False)


def _release(call: Call) -> None:
    """Let the IPAM plugin release; one that is older than GC is no failure of this plugin."""
    try:
        ipam.ask(call, ipam.to_release(call), "GC")()
    except CniError as error:
        if error.code not in OF_OLDER_PLUGINS:  # its leases are released by DEL
            raise


def _release_unused(call: Call) -> None:
    """Remove what killed calls have left that is nobody's: a VLAN, notes, half-written records."""
    nobody = AttachmentId(call.request.network, "", "")
    features.release(call, nobody, (), below=True, by_option=True)
    for master in call.registry.noted():
        modes.settle(call, master, is_ending=False)
    call.registry.remove_leftovers()


def _remove_links(call: Call, valid_keys: set[str]) -> None:
    """Remove links that were never moved into a container."""
    network = call.request.network
    owners = {record.attachment.key: record.network for record in call.registry.all_records()}
    for link in links.listed(call.tx, None):
        key = links.key_of(link.name)
        is_networks = key.startswith(network_key(network)) and owners.get(key, network) == network
        if key in valid_keys or not is_networks:
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
    recorded = dict.fromkeys(record.attachment for record in call.registry.all_records())
    wanted = [each for each in recorded if each.network == call.request.network]
    if name == "host-local":
        wanted += _unrecorded(call, {*valid, *recorded})
    wanted = [each for each in wanted if each not in valid]
    for first in range(0, len(wanted), _AT_ONCE):
        with ExitStack() as locks:
            releasing = []
            call.node.runner.interrupts.check()
            for attachment in wanted[first : first + _AT_ONCE]:
                if not locks.enter_context(call.registry.idle(attachment.key)):
                    continue
                # One whose namespace can't be read must not keep the others.
                with failures.noted(), call.node.call(call.request) as own:
                    if _is_gone(own, attachment):
                        releasing.append((attachment, _released(call, attachment, name)))
            for attachment, wait in releasing:
                with failures.noted(), call.node.call(call.request) as own:
                    wait()
                    records = call.registry.records_of(attachment)
                    for master in call.registry.remove_all(attachment, records):
                        modes.settle(own, master, is_ending=True)
                    features.release(own, attachment, records, below=True)


def _unrecorded(call: Call, known: Collection[AttachmentId]) -> list[AttachmentId]:
    """Return the attachments that have a lease of host-local, but no record and no interface.

    Leases that name nobody are removed.
    """
    request, containers = call.request, {each.container_id for each in known}

    def may_be_lost(lease: Lease) -> bool:
        container_id, ifname = lease.container_id, lease.ifname
        # A call must have been able to have the names; the network's author chooses the directory.
        wrong = identifier_fault(container_id) or (ifname and interface_name_fault(ifname))
        if container_id and wrong:
            return False
        is_known = AttachmentId(request.network, container_id, ifname) in known
        return not is_known and (ifname != "" or container_id not in containers)  # an old one

    store = netconf.lease_directory(request.config)
    leases = list(filter(may_be_lost, host_local.leases(store)))
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
    named = (each for each in lost if each.container_id)
    names = (AttachmentId(request.network, each.container_id, each.ifname) for each in named)
    return list(dict.fromkeys(names))


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
        call.tx.run(Command(argv, purpose, accept=OPTIONAL), seconds=_LOCK_SECONDS)


def _is_gone(call: Call, attachment: AttachmentId) -> bool:
    """Whether the interface of an attachment, which no call is working on, is nowhere.

    What a killed ADD has left is removed. Records are read again, since an ADD may have ended.
    """
    for record in call.registry.records_of(attachment):
        found = None if record.is_complete else links.find(call.tx, record)
        if found is not None:
            links.delete(call.tx, found[1:], found[0])
        if links.is_there(call.tx, record):
            call.warn(f"not removed, since its container still exists: {record.describe()}")
            return False
    return True


def _released(call: Call, attachment: AttachmentId, name: str) -> Callable[[], None]:
    """Start the IPAM plugin's DEL of an attachment; return what waits for its end."""
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
