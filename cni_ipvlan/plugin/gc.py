"""GC: remove what killed calls left of attachments that are no longer valid."""

from __future__ import annotations

from cni_ipvlan import _json
from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    UNKNOWN_CONTAINER,
    CniError,
    Failures,
    shortened,
)
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import features, links, modes
from cni_ipvlan.plugin.ipam import Ipam, to_release
from cni_ipvlan.state.attachment import AttachmentId

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import ModeHint

_VALID = "cni.dev/valid-attachments"
# SPEC.md of CNI 1.1.0 called it so at first, and some runtimes send only this
# (github.com/containernetworking/cni/issues/1101).
_VALID_AT_FIRST = "cni.dev/attachments"
# They ask for variables that GC does not have, don't know the verb, or its CNI version.
_ANSWERS_OF_OLDER_PLUGINS = (INCOMPATIBLE_VERSION, UNKNOWN_CONTAINER, INVALID_ENVIRONMENT)


def gc(node: Node, request: Request) -> None:
    """Remove what belongs to no valid attachment; raises CniError if any of it fails."""
    network = request.network
    listed = _valid_attachments(request)
    request = _with_list(request, listed)
    valid = {AttachmentId(network, *each) for each in listed}
    failures = Failures()
    with failures.noted(), node.transaction() as tx:
        features.release_others(node, tx, network, valid, below=False)
    with failures.noted(), node.transaction() as tx:
        _release(node, tx, request)
    with failures.noted(), node.transaction() as tx:
        _remove_links(node, tx, network, {each.key for each in valid})
    with failures.noted(), node.transaction() as tx:
        for hint in list(node.registry.all_hints()):
            if hint.attachment not in valid:
                _forget(node, tx, network, hint)
        features.release_others(node, tx, network, valid, below=True)
        for master in node.registry.noted():
            _settle(node, tx, master, is_ending=False)
        node.registry.remove_leftovers()
    failures.raise_any()


def _release(node: Node, tx: Transaction, request: Request) -> None:
    """Let the IPAM plugin release; one that is older than GC is no failure of this plugin."""
    name = to_release(request, node.warn)
    try:
        if name:
            Ipam(name, request, node.warn).call(tx, "GC")()
    except CniError as error:
        if error.code not in _ANSWERS_OF_OLDER_PLUGINS:
            raise
        node.warn(f"the IPAM plugin {name} knows no GC, so its leases stay: {error.msg}")


def _remove_links(node: Node, tx: Transaction, network: str, valid_keys: set[str]) -> None:
    """Remove links that were never moved into a container."""
    owners = {hint.attachment.key: hint.network for hint in node.registry.all_hints()}
    for link in links.left_behind(tx, network):
        key = links.key_of(link.name)
        if key in valid_keys or owners.get(key, network) != network:
            continue
        with node.registry.idle(key) as is_idle:
            if is_idle:
                links.delete(tx, (link,), None)


def _forget(node: Node, tx: Transaction, network: str, hint: ModeHint) -> None:
    """Remove an invalid hint; of another network only if its container is gone."""
    if hint.network != network and namespace.leads_to(hint.netns, hint.netns_identity):
        return
    with node.registry.idle(hint.attachment.key) as is_idle:
        if not is_idle:
            return
        # Read again, since its ADD may have ended meanwhile.
        for current in node.registry.hints_of(hint.attachment):
            if not current.is_complete:
                links.delete_recorded(tx, current)
        masters = links.forget(tx, node.registry, hint.attachment)
        for master in masters or ():
            _settle(node, tx, master, is_ending=True)
        if masters is None:
            node.warn(f"not removed, since its container still exists: {hint.describe()}")


def _settle(node: Node, tx: Transaction, master: tuple[int, int], *, is_ending: bool) -> None:
    waiting = node.while_locked("a master")
    modes.settle(tx, node.registry, master, waiting, is_ending=is_ending)


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
            f"{key} is {shortened(_json.dumps(entries))}; it must be a list, or null",
        )
    return [_valid_attachment(key, entry) for entry in entries]


def _valid_attachment(key: str, entry: Any) -> tuple[str, str]:
    container_id = entry.get("containerID") if isinstance(entry, dict) else None
    ifname = entry.get("ifname") if isinstance(entry, dict) else None
    if not isinstance(container_id, str) or not isinstance(ifname, str):
        raise CniError(
            INVALID_CONFIGURATION,
            f"{key} has {entry!r}; containerID and ifname are needed",
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
    added = f'{{"{_VALID}": {_json.dumps(entries)}, '.encode("ascii")
    return request._replace(stdin=request.stdin.replace(b"{", added, 1))  # before the name
