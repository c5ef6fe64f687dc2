"""vlan: the master is a VLAN of an interface, made with its first container if it is missing.

The attachments of a VLAN are recorded before it is made, and it is removed with the last of
them, if it was made here and nothing else uses it. Both are done under a lock of its own.
"""

from __future__ import annotations

from cni_ipvlan._namedtuple import TYPE_CHECKING
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command, together
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.plugin import links, modes, on_host
from cni_ipvlan.plugin.codes import COMMAND_FAILED
from cni_ipvlan.plugin.master import Master, is_down, look

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.node import Node
    from cni_ipvlan.state.attachment import AttachmentId, ModeHint

_LABEL = "cni-ipvlan/vlan"
_IDS = 4096


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
        # One that was not made here has no name in the record: it is not removed.
        is_ours = found is None or found.link.alias == _LABEL
        its_name = found.link.name if found else name
        hint = hint._replace(host_link=its_name if is_ours else "", host_key=key)
        node.registry.of_vlan.remember(on_host.place(key), hint)
        shown = Command(commands.link_delete(name)) if found is None else None
        tx.on_unwind(lambda: _release(node, tx, hint), shown)
        if found is None:
            _make(tx, below, name, vlan)
        return found or look(tx, name, None) or _to_be_made(below, name)


def release(node: Node, tx: Transaction, attachment: AttachmentId) -> None:
    """Remove the VLAN of an attachment, if nothing else uses it."""
    for hint in node.registry.of_vlan.hints_of(attachment):
        _release(node, tx, hint)


def remove_unrecorded(node: Node, tx: Transaction) -> None:
    """Remove the VLANs that are left after root has lost its records."""
    listed = queries.links(tx.see(Command(commands.link_show_kind("vlan"))))
    for link in (each for each in listed if each.alias == _LABEL and each.parent):
        (below,) = queries.links(tx.see(Command(commands.link_show(link.parent))))
        key = below.ifindex * _IDS + link.vlan
        with _locked(node, key, link.name):
            if node.registry.of_vlan.is_only(on_host.place(key), None):
                _remove(node, tx, link.name, None)


def _release(node: Node, tx: Transaction, hint: ModeHint) -> None:
    registry, place = node.registry.of_vlan, on_host.place(hint.host_key)
    if links.is_there(tx, hint):
        return  # it could not be undone, or was moved; the record is for the DEL that removes it
    with _locked(node, hint.host_key, hint.host_link):
        if registry.is_only(place, hint.attachment):
            _remove(node, tx, hint.host_link, hint.attachment)
        registry.withdraw(hint)


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
    for switch in on_host.switches(name):
        tx.do(switch)
    tx.do(Command(commands.link_set_up(name), "bring it up"))


def _remove(node: Node, tx: Transaction, name: str, attachment: AttachmentId | None) -> None:
    """Remove a VLAN that was made here, unless anything but the attachment uses it.

    What is on it goes with it, so it is looked for on the host, and the kernel is asked about
    ipvlan and macvlan in containers.
    """
    link = _ours(tx, name)
    if link is None:
        return
    place = on_host.place(link.ifindex)
    with node.registry.master_lock(place, node.while_locked(f"the master {name}")):
        if node.registry.is_only(place, attachment) and modes.becomes_free(tx, Master(link)):
            _delete(tx, name)


def _delete(tx: Transaction, name: str) -> None:
    """Delete a VLAN without ipvlan, unless the kernel refuses it an ipvlan, as with macvlan there.

    Then the first line of an ``ip -batch`` fails, and the second is not run. Else the interface
    that it makes is gone with the VLAN.
    """
    proof = Command(commands.link_add_ipvlan(name, "ipvlan-probe", "l2", "bridge", 0))
    try:
        tx.do(together(proof, Command(commands.link_delete(name), f"remove the VLAN {name}")))
    except CommandError as error:
        if error.argv != proof.argv:
            raise


def _ours(tx: Transaction, name: str) -> Link | None:
    """Return a VLAN that was made here, unless the host uses it by now.

    One that a killed call has just made has no label yet.
    """
    if not name or not namespace.own_has_link(name):
        return None
    there = queries.links_with_addresses(tx.see(Command(commands.address_show_all())))
    found = next(((link, has) for link, has in there if link.name == name), None)
    if found is None or any(link.parent == name for link, _ in there):
        return None
    link, addresses = found
    is_made_here = link.kind == "vlan" and link.alias in ("", _LABEL)
    return link if is_made_here and not link.master and not addresses else None


def _locked(node: Node, key: int, name: str) -> AbstractContextManager[None]:
    return node.locked(node.registry.of_vlan, on_host.place(key), f"the VLAN {name}")
