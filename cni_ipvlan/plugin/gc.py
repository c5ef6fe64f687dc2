"""GC: remove what killed calls left of attachments that are no longer valid."""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIGURATION,
    INVALID_ENVIRONMENT,
    UNKNOWN_CONTAINER,
    CniError,
    Failures,
)
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import host_access, links
from cni_ipvlan.plugin.ipam import Ipam
from cni_ipvlan.state.attachment import AttachmentId

if TYPE_CHECKING:
    from typing import Any

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import ModeHint

# They ask for variables that GC does not have, don't know the verb, or its CNI version.
_ANSWERS_OF_OLDER_PLUGINS = (INCOMPATIBLE_VERSION, UNKNOWN_CONTAINER, INVALID_ENVIRONMENT)


def gc(node: Node, request: Request) -> None:
    """Remove what belongs to no valid attachment; raises CniError if any of it fails."""
    network = request.network
    valid = {AttachmentId(network, *each) for each in _valid_attachments(request)}
    failures = Failures()
    with failures.noted(), node.transaction() as tx:
        host_access.take_back_invalid(node, tx, network, valid)
    with failures.noted(), node.transaction() as tx:
        _release(node, tx, request)
    with failures.noted(), node.transaction() as tx:
        _remove_links(node, tx, network, {each.key for each in valid})
    with failures.noted(), node.transaction() as tx:
        for hint in list(node.registry.all_hints()):
            if hint.attachment not in valid:
                _forget(node, tx, network, hint)
        node.registry.remove_leftovers()
    failures.raise_any()


def _release(node: Node, tx: Transaction, request: Request) -> None:
    """Let the IPAM plugin release; one that is older than GC is no failure of this plugin."""
    name = netconf.ipam_type(request.config)
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
        if not links.forget(tx, node.registry, hint.attachment):
            node.warn(f"not removed, since its container still exists: {hint.describe()}")


def _valid_attachments(request: Request) -> list[tuple[str, str]]:
    # Go writes an empty list as null, so libcni sends that if nothing is valid.
    entries: Any = request.config.get("cni.dev/valid-attachments", "")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise CniError(
            INVALID_CONFIGURATION,
            "GC needs cni.dev/valid-attachments, a list, in the configuration",
        )
    return [_valid_attachment(entry) for entry in entries]


def _valid_attachment(entry: Any) -> tuple[str, str]:
    container_id = entry.get("containerID") if isinstance(entry, dict) else None
    ifname = entry.get("ifname") if isinstance(entry, dict) else None
    if not isinstance(container_id, str) or not isinstance(ifname, str):
        raise CniError(
            INVALID_CONFIGURATION,
            f"cni.dev/valid-attachments has {entry!r}; containerID and ifname are needed",
        )
    return container_id, ifname
