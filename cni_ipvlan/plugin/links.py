"""Find and delete ipvlan links, including those left by killed calls.

A place is a network namespace, or None for the plugin's own. Links of another kind
are never touched.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.state.registry import KEY_CHARACTERS, network_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.state.registry import AttachmentId, ModeHint, Registry

_PREFIX = "iv"  # together with a key it has 15 bytes, the most that a name may have


def temporary_name(key: str) -> str:
    """Return the name that an attachment's link has until it is in the container."""
    return _PREFIX + key


def delete(
    tx: Transaction, names: Collection[str], place: Namespace | None, expected: str = ""
) -> None:
    """Delete the links of these names; ``expected`` if listing them is not permitted."""
    present = _names(tx, place)
    for name in (expected,) if present is None else present:
        if name in names:
            argv = commands.link_delete(name)
            tx.do(Command(argv, f"remove the interface {name}", place, absent_ok=True))


def delete_temporary(tx: Transaction, name: str) -> None:
    """Delete a link that a killed call left on the host."""
    if namespace.own_has_link(name):
        delete(tx, (name,), None)


def removal(tx: Transaction, name: str, place: Namespace | None) -> Command:
    """Return an undo that deletes a link, if it exists."""
    argv = commands.link_delete(name)
    return Command(argv, inside=place, only_if=lambda: name in (_names(tx, place) or ()))


def left_behind(tx: Transaction, network: str) -> Iterator[str]:
    """Yield the keys of a network's attachments whose link is (still) on the host."""
    prefix = _PREFIX + network_key(network)
    for name in _names(tx, None) or ():
        if name.startswith(prefix) and len(name) == len(_PREFIX) + KEY_CHARACTERS:
            yield name.removeprefix(_PREFIX)


def forget(
    tx: Transaction,
    registry: Registry,
    attachment: AttachmentId,
    cleared: Namespace | None = None,
) -> bool:
    """Remove the hint about an attachment unless its link still exists; return whether it did.

    The link is known not to be in the namespace ``cleared``.
    """
    hint = registry.recall(attachment)
    was_there = hint and cleared and hint.netns_identity == cleared.identity
    if hint is not None and not was_there and _is_there(tx, hint):
        return False
    registry.forget(attachment)
    return True


def _is_there(tx: Transaction, hint: ModeHint) -> bool:
    """Whether an attachment's link is in its container, or still on the host."""
    if namespace.own_has_link(temporary_name(hint.attachment.key)):
        return True
    if not namespace.leads_to(hint.netns, hint.netns_identity):
        return False
    return hint.ifname in (_names(tx, namespace.find(hint.netns)) or ())


def _names(tx: Transaction, place: Namespace | None) -> list[str] | None:
    """Return the names of the ipvlan links there; None if not permitted (in a dry run)."""
    query = Command(commands.link_show_kind("ipvlan"), inside=place, absent_ok=True)
    output = tx.see(query)
    return None if output is None else [link.name for link in queries.links(output)]
