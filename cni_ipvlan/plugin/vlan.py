"""vlan: the master is a VLAN of an interface, made with its first container if it is missing.

The attachments of a VLAN are recorded before it is made, and it is removed with the last of
them, if it was made here and nothing else uses it. Both are done under a lock of its own.
"""

from __future__ import annotations

import time
from itertools import islice

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command, together
from cni_ipvlan.plugin import links, modes
from cni_ipvlan.plugin.codes import COMMAND_FAILED
from cni_ipvlan.plugin.master import Master, is_down, look

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import AttachmentId, ModeHint
    from cni_ipvlan.state.registry import Registry

_LABEL = "cni-ipvlan/vlan"
_IDS = 4096
# How long the kernel takes to remove interfaces of a deleted namespace.
_TEARDOWN_SECONDS = 2.0
_POLL_SECONDS = 0.05


def expected(tx: Transaction, below: Master, vlan: int) -> Master:
    """Return the VLAN of an interface, or what it will be when it is made."""
    return find(tx, below, vlan) or _to_be_made(below, f"{below.link.name}.{vlan}")


def find(tx: Transaction, below: Master, vlan: int) -> Master | None:
    """Return the VLAN of an interface, whatever its name is; None if there is none."""
    listed = queries.links(tx.see(Command(commands.link_show_kind("vlan"))))
    name = next(
        (each.name for each in listed if (each.parent, each.vlan) == (below.link.name, vlan)), ""
    )
    return look(tx, name, None) if name else None


def made(node: Node, tx: Transaction, below: Master, vlan: int, hint: ModeHint) -> Master:
    """Return the VLAN of an interface; make it if it is missing, and record who uses it."""
    key = below.link.ifindex * _IDS + vlan
    name = f"{below.link.name}.{vlan}"
    with _locked(node, key, name):
        found = find(tx, below, vlan)
        hint = hint._replace(host_link=found.link.name if found else name, host_key=key)
        node.registry.of_vlan.remember(_place(key), hint)
        shown = Command(commands.link_delete(name)) if found is None else None
        tx.on_unwind(lambda: _release(node, tx, hint), shown)
        if found is None:
            _make(tx, below, name, vlan)
        return found or look(tx, name, None) or _to_be_made(below, name)


def release(node: Node, tx: Transaction, attachment: AttachmentId) -> None:
    """Remove the VLAN of an attachment, if nothing else uses it."""
    for hint in node.registry.of_vlan.hints_of(attachment):
        _release(node, tx, hint)


def release_invalid(
    node: Node, tx: Transaction, network: str, valid: Iterable[AttachmentId]
) -> None:
    """Release the VLANs of a network's attachments that are not valid, and of nobody's."""
    for hint in list(node.registry.of_vlan.all_hints()):
        if hint.network != network or hint.attachment in valid:
            continue
        with node.registry.idle(hint.attachment.key) as is_idle:
            if is_idle:
                _release(node, tx, hint)
    _remove_unrecorded(node, tx)


def _remove_unrecorded(node: Node, tx: Transaction) -> None:
    """Remove the VLANs that are left after root has lost its records."""
    listed = queries.links(tx.see(Command(commands.link_show_kind("vlan"))))
    for link in (each for each in listed if each.alias == _LABEL):
        (below,) = queries.links(tx.see(Command(commands.link_show(link.parent))))
        key = below.ifindex * _IDS + link.vlan
        with _locked(node, key, link.name):
            if _is_only(node.registry.of_vlan, _place(key), None):
                _remove(node, tx, link.name, None)


def _release(node: Node, tx: Transaction, hint: ModeHint) -> None:
    registry, place = node.registry.of_vlan, _place(hint.host_key)
    if links.is_there(tx, hint):
        return  # it could not be undone, or was moved; the record is for the DEL that removes it
    with _locked(node, hint.host_key, hint.host_link):
        if _is_only(registry, place, hint.attachment):
            _remove(node, tx, hint.host_link, hint.attachment)
        registry.withdraw(hint)


def _is_only(registry: Registry, place: tuple[int, int], attachment: AttachmentId | None) -> bool:
    """Whether no other attachment is recorded there; reads two records at most."""
    return all(each.attachment == attachment for each in islice(registry.hints(place), 2))


def _to_be_made(below: Master, name: str) -> Master:
    return Master(
        below.link._replace(
            ifindex=0, name=name, kind="vlan", parent=below.link.name, alternative_names=()
        )
    )


def _make(tx: Transaction, below: Master, name: str, vlan: int) -> None:
    """Make a VLAN, of which the host gets no address by itself."""
    if not below.link.is_up:
        raise CniError(COMMAND_FAILED, f"cannot make the VLAN {vlan}: {is_down(below)}")
    add = Command(
        commands.link_add_vlan(below.link.name, name, vlan),
        f"create the VLAN {vlan} of {below.link.name}",
    )
    tx.do(together(add, Command(commands.link_set_alias(name, _LABEL), "label it")))
    for switch, value in ((commands.accept_ra, b"0\n"), (commands.addr_gen_mode, b"1\n")):
        argv = commands.sysctl_write(switch(name))
        purpose = "give the host no address there"
        tx.do(Command(argv, purpose, stdin=value, may_fail=True))  # if the kernel has no IPv6
    tx.do(Command(commands.link_set_up(name), "bring it up"))


def _remove(node: Node, tx: Transaction, name: str, attachment: AttachmentId | None) -> None:
    """Remove a VLAN that was made here, unless anything but the attachment uses it."""
    link = _ours(tx, name)
    if link is None:
        return
    place = namespace.own()[1], link.ifindex
    with node.registry.master_lock(place, node.while_locked(f"the master {name}")):
        if _is_only(node.registry, place, attachment) and _becomes_free(tx, link):
            argv = commands.link_delete(name)
            tx.do(Command(argv, f"remove the VLAN {name}", absent_ok=True))


def _ours(tx: Transaction, name: str) -> Link | None:
    """Return a VLAN that was made here and to which nobody has given an address since."""
    if not namespace.own_has_link(name):
        return None
    shown = tx.see(Command(commands.address_show(name), absent_ok=True))
    link = next(iter(queries.links(shown)), None)
    is_ours = link is not None and link.kind == "vlan" and link.alias == _LABEL
    return link if is_ours and not queries.local_addresses(shown) else None


def _becomes_free(tx: Transaction, link: Link) -> bool:
    """Whether the kernel reports no ipvlan on a link; those of deleted namespaces go away."""
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    while modes.is_free(tx, Master(link)) is False:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _locked(node: Node, key: int, name: str) -> AbstractContextManager[None]:
    return node.locked(node.registry.of_vlan, _place(key), f"the VLAN {name}")


def _place(key: int) -> tuple[int, int]:
    return namespace.own()[1], key
