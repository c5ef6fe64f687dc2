"""vlan: the master is a VLAN of an interface, made with its first container if it is missing.

A VLAN is removed with the last of its attachments, if it was made here and nothing else uses it.
That is done under a lock of its own, as is making it, until the attachment has been recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import interface_name_fault
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import codes, modes
from cni_ipvlan.plugin.master import VLAN_LABEL, Master, check_master, is_down, key_of, look
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.plugin.shared import Feature, is_only, keep_bare
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import VLAN

_IDS = 4096


class Vlan(Feature):
    """The option vlan."""

    def expected(self, tx: Transaction, master: Master, conf: NetConf) -> Master:
        """STATUS: return the VLAN, or what it will be; raises CniError if it can't be made."""
        found = _find(tx, master, conf.vlan)
        if found is None:
            _check_can_be_made(tx, master, conf)
        return found or _to_be_made(master, _name(master, conf.vlan))

    def prepare(self, call: Call, master: Master, conf: NetConf, held: ExitStack) -> Master:
        """ADD: return the VLAN of an interface; make it if it is missing.

        It is locked until what is ``held`` is released, when the attachment has been recorded.
        """
        tx, name = call.tx, _name(master, conf.vlan)
        key = _key(master.link.ifindex, conf.vlan)
        held.enter_context(_locked(call, key))
        found = _find(tx, master, conf.vlan)
        if found is None:
            _check_can_be_made(tx, master, conf)
        unlabelled = name if found is None else ""
        tx.on_failure(lambda: _remove(call, key, call.attachment, unlabelled=unlabelled))
        if found is None:
            add = commands.link_add_vlan(master.link.name, name, conf.vlan)
            made = Command(add, f"create the VLAN {conf.vlan} of {master.link.name}")
            try:
                tx.run_batch(
                    made, Command(commands.link_set(name, "alias", VLAN_LABEL), "label it")
                )
            except CommandError as error:
                unlabelled = "" if error.command == made else name  # another has just made it
                raise
        elif found.link.alias != VLAN_LABEL or found.link.is_up or not master.link.is_up:
            return found
        else:  # the call that made it was killed before it was up
            name = found.link.name
        keep_bare(tx, name)
        tx.run(Command(commands.link_set(name, "up"), "bring it up"))
        return look(tx, name, None) or _to_be_made(master, name)

    def release(self, call: Call, attachment: AttachmentId, records: Sequence[Record]) -> None:
        """DEL, GC: remove the VLANs that were made here, by their indices or the ID, if unused."""
        on = call.registry.records
        known = {each.master[1] for each in records if is_only(on(each.master), attachment)}
        if records and not known:
            return
        listed = queries.links(call.tx.run(Command(commands.link_show())).stdout)
        indexes = {link.name: link.ifindex for link in listed}
        for link in listed:
            is_it = link.ifindex in known if known else link.vlan == call.request.config["vlan"]
            if is_it and link.vlan and link.alias == VLAN_LABEL:
                key = _key(indexes.get(link.parent, 0), link.vlan)
                _remove(call, key, attachment, link.ifindex)


def _find(tx: Transaction, below: Master, vlan: int) -> Master | None:
    """Return the VLAN of an interface, whatever its name is; None if there is none."""
    wanted = (below.link.name, vlan)
    listed = queries.links(tx.run(Command(commands.link_show(kind="vlan"))).stdout)
    found = next((each for each in listed if (each.parent, each.vlan) == wanted), None)
    return look(tx, found.name, None) if found else None


def _check_can_be_made(tx: Transaction, below: Master, conf: NetConf) -> None:
    """Raise CniError unless an interface could be a master, is up, and its VLAN's name is free.

    A VLAN takes its packets before a bridge or bond of which the interface is a port. Only
    root may mean that, who makes the VLAN then.
    """
    by_root = commands.link_add_vlan(below.link.name, "NAME", conf.vlan)
    try:
        check_master(below, conf)
    except CniError as error:
        error.msg = f"cannot make the VLAN {conf.vlan}: {error.msg}"
        if error.code == codes.MASTER_BUSY:
            how = commands.in_shell(by_root)
            error.add_details(f"if it is meant so, let root make the VLAN: {how}")
        raise
    if not below.link.is_up:
        raise CniError(codes.COMMAND_FAILED, f"cannot make the VLAN {conf.vlan}: {is_down(below)}")
    name = _name(below, conf.vlan)
    taken = look(tx, name, None)
    if taken is not None:
        link = taken.link
        what = f"the VLAN {link.vlan} of {link.parent}" if link.vlan else f"of kind {link.kind!r}"
        raise CniError(
            codes.INTERFACE_NAME_TAKEN,
            f"cannot make the VLAN {conf.vlan} of {below.link.name!r}: "
            f"the host has another interface called {name!r}",
            "try: rename that one, or let root make the VLAN with another name: "
            + commands.in_shell(by_root),
            f"found: it is {what}",
        )


def _to_be_made(below: Master, name: str) -> Master:
    link = below.link._replace(ifindex=0, name=name, kind="vlan", parent=below.link.name)
    return Master(link._replace(alternative_names=(), addresses=()), local=below.local)


def _remove(
    call: Call,
    key: tuple[int, int],
    attachment: AttachmentId,
    ifindex: int = 0,
    unlabelled: str = "",
) -> None:
    """Remove a VLAN that was made here, unless anything but the attachment uses it.

    ``ifindex`` is 0 if it may be any. ``unlabelled`` is the name of one that this call may have
    made without labelling it. What is on it goes with it, so it is looked for on the host, and
    the kernel is asked about ipvlan and macvlan in containers.
    """
    tx, registry = call.tx, call.registry
    with _locked(call, key):
        link = _found_again(tx, key, ifindex, unlabelled)
        if link is None:
            return
        master = key_of(link.ifindex)
        with registry.master_lock(master, call.node.while_locked(f"the master {link.name}")):
            is_unused = is_only(registry.records(master), attachment)
            # The first line makes an ipvlan, which goes with the VLAN; unless the kernel refuses
            # it, as with macvlan there. Then the second is not run.
            proof = Command(commands.link_add_ipvlan(link.name, commands.PROBE, "l2", "bridge", 0))
            deletion = Command(commands.link_delete(link.name), f"remove the VLAN {link.name}")
            try:
                if is_unused and modes.becomes_free(tx, Master(link)):
                    tx.run_batch(proof, deletion)
            except CommandError as error:
                if error.command != proof:
                    raise


def _found_again(
    tx: Transaction, key: tuple[int, int], ifindex: int, unlabelled: str
) -> Link | None:
    """Return a VLAN that was made here, unless it is another by now or the host uses it."""
    there = queries.links(tx.run(Command(commands.address_show())).stdout)
    indexes = {link.name: link.ifindex for link in there}
    for link in there:
        is_marked = link.alias == VLAN_LABEL or (link.name == unlabelled and not link.alias)
        is_it = link.vlan and _key(indexes.get(link.parent, 0), link.vlan) == key
        if is_marked and is_it and ifindex in (0, link.ifindex):
            is_used = link.master or link.addresses
            return None if is_used or any(each.parent == link.name for each in there) else link
    return None


def _name(below: Master, vlan: int) -> str:
    """Return what a VLAN that is made is called: by the interface, or its index if that is long."""
    name = f"{below.link.name}.{vlan}"
    return f"vlan{below.link.ifindex}.{vlan}" if interface_name_fault(name) else name


def _key(below: int, vlan: int) -> tuple[int, int]:
    """Return what a VLAN of the interface with that index is locked by."""
    return key_of(below * _IDS + vlan)


def _locked(call: Call, key: tuple[int, int]) -> AbstractContextManager[None]:
    waiting = call.node.while_locked(f"the VLAN {key[1] % _IDS}")
    return call.registry.master_lock(key, waiting, VLAN)
