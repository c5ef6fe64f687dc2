"""vlan: the master is a VLAN of an interface, made with its first container if it is missing.

A VLAN that was made so is removed with the last of its attachments, if nothing else uses it. It has
a lock, under which it is made and the attachment recorded, or it is removed.
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
from cni_ipvlan.plugin.master import (
    VLAN_LABEL,
    Master,
    check_master,
    describe_down,
    key_of,
    query_master,
)
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.plugin.shared import Feature, disable_autoconfiguration, is_only
from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import VLAN

_IDS = 4096


class Vlan(Feature):
    """The option vlan."""

    def expected_master(self, tx: Transaction, master: Master, conf: NetConf) -> Master:
        """STATUS: return the VLAN, or what it will be; raises CniError if it can't be made."""
        return _find_vlan(tx, master, conf) or _future_vlan(master, _vlan_name(master, conf.vlan))

    def prepare(self, call: Call, master: Master, conf: NetConf, locks: ExitStack) -> Master:
        """ADD: return the VLAN of an interface; make it if it is missing.

        It stays locked until ``locks`` are released, when the attachment has been recorded.
        """
        tx, name = call.tx, _vlan_name(master, conf.vlan)
        key = _lock_key(master.link.ifindex, conf.vlan)
        locks.enter_context(_lock(call, key))
        vlan = _find_vlan(tx, master, conf)
        unlabelled = name if vlan is None else ""
        tx.on_failure(lambda: _remove_vlan(call, key, unlabelled=unlabelled))
        if vlan is None:
            argv = commands.link_add_vlan(master.link.name, name, conf.vlan)
            creation = Command(argv, f"create the VLAN {conf.vlan} of {master.link.name}")
            try:
                tx.run_batch(
                    creation, Command(commands.link_set(name, "alias", VLAN_LABEL), "label it")
                )
            except CommandError as error:
                unlabelled = "" if error.command == creation else name  # another has just made it
                raise
        elif vlan.link.alias != VLAN_LABEL or vlan.link.is_up or not master.link.is_up:
            return vlan
        else:  # the call that made it was killed before it brought it up
            name = vlan.link.name
        disable_autoconfiguration(tx, name)
        tx.run(Command(commands.link_set(name, "up"), "bring it up"))
        return query_master(tx, name, None) or _future_vlan(master, name)

    def release(self, call: Call, attachment: AttachmentId, records: Sequence[Record]) -> None:
        """DEL, GC: remove the VLANs that were made here, by their indices or the ID, if unused."""
        masters, vlan = [each.master for each in records], call.request.config.get("vlan")
        unshared = [each[1] for each in masters if is_only(call.registry.records(each), attachment)]
        if records and not unshared:
            return
        links = queries.links(call.tx.run(Command(commands.link_show())).stdout)
        indexes = {link.name: link.ifindex for link in links}
        for link in links:
            is_own = link.ifindex in unshared if records else link.vlan == vlan
            if is_own and link.vlan and link.alias == VLAN_LABEL:
                key = _lock_key(indexes.get(link.parent, 0), link.vlan)
                _remove_vlan(call, key, link.ifindex, attachment)


def _find_vlan(tx: Transaction, parent: Master, conf: NetConf) -> Master | None:
    """Return the VLAN of an interface, whatever its name is; None if it is to be made."""
    parent_and_id = (parent.link.name, conf.vlan)
    vlans = queries.links(tx.run(Command(commands.link_show(kind="vlan"))).stdout)
    link = next((each for each in vlans if (each.parent, each.vlan) == parent_and_id), None)
    if link:
        return query_master(tx, link.name, None)
    _check_can_be_made(tx, parent, conf)
    return None


def _check_can_be_made(tx: Transaction, parent: Master, conf: NetConf) -> None:
    """Raise CniError unless an interface could be a master, is up, and its VLAN's name is free.

    A VLAN takes its packets before a bridge or bond of which the interface is a port. Only root may
    want that, and has to make the VLAN then.
    """
    root_argv = commands.link_add_vlan(parent.link.name, "NAME", conf.vlan)
    try:
        check_master(parent, conf)
    except CniError as error:
        error.msg = f"cannot make the VLAN {conf.vlan}: {error.msg}"
        if error.code == codes.MASTER_BUSY:
            command = commands.in_shell(root_argv)
            error.add_details(f"if it is meant so, let root make the VLAN: {command}")
        raise
    if not parent.link.is_up:
        reason = describe_down(parent)
        raise CniError(codes.COMMAND_FAILED, f"cannot make the VLAN {conf.vlan}: {reason}")
    name = _vlan_name(parent, conf.vlan)
    other = query_master(tx, name, None)
    if other is not None:
        link = other.link
        kind = f"the VLAN {link.vlan} of {link.parent}" if link.vlan else f"of kind {link.kind!r}"
        raise CniError(
            codes.INTERFACE_NAME_TAKEN,
            f"cannot make the VLAN {conf.vlan} of {parent.link.name!r}: "
            f"the host has another interface called {name!r}",
            "try: rename that one, or let root make the VLAN with another name: "
            + commands.in_shell(root_argv),
            f"found: it is {kind}",
        )


def _future_vlan(parent: Master, name: str) -> Master:
    link = parent.link._replace(ifindex=0, name=name, kind="vlan", parent=parent.link.name)
    link = link._replace(alternative_names=(), addresses=())
    return Master(link, host_prefixes=parent.host_prefixes)


def _remove_vlan(
    call: Call,
    key: tuple[int, int],
    ifindex: int = 0,
    attachment: AttachmentId | None = None,
    unlabelled: str = "",
) -> None:
    """Remove a VLAN with our label, unless anything but the attachment, if any, uses it.

    ``ifindex`` is 0 if its index does not matter. ``unlabelled`` is the name of a VLAN that this
    call may have made without labelling it. The kernel would remove other links on the VLAN with
    it, so these are searched for on the host, and the kernel is asked about ipvlan and macvlan.
    """
    tx, registry = call.tx, call.registry
    with _lock(call, key):
        links = _find_own_vlan(tx, key, ifindex, unlabelled)
        if not links:
            return
        link, *probes = links
        master = key_of(link.ifindex)
        with registry.master_lock(master, call.node.wait_check(f"the master {link.name}")):
            is_unused = is_only(registry.records(master), attachment)
            for each in probes if is_unused else ():
                tx.run(Command(commands.link_delete(each.name), "remove what a killed call left"))
            # The first line makes an ipvlan link, which is removed with the VLAN. If the kernel
            # refuses that, since there is macvlan on the VLAN, the second line is not run.
            check = Command(commands.link_add_ipvlan(link.name, commands.PROBE, "l2", "bridge", 0))
            deletion = Command(commands.link_delete(link.name), f"remove the VLAN {link.name}")
            try:
                if is_unused and modes.wait_until_free(tx, Master(link)):
                    tx.run_batch(check, deletion)
                    registry.drop_note(master)  # where DEL has not understood the kernel's answer
            except CommandError as error:
                if error.command != check:
                    raise


def _find_own_vlan(
    tx: Transaction, key: tuple[int, int], ifindex: int, unlabelled: str
) -> list[Link]:
    """Return the VLAN with our label, unless it is another one by now or the host uses it.

    It is followed by the links with which killed calls wanted to find out whether it is in use.
    """
    links = queries.links(tx.run(Command(commands.address_show())).stdout)
    indexes = {link.name: link.ifindex for link in links}
    for link in links:
        is_ours = link.alias == VLAN_LABEL or (link.name == unlabelled and not link.alias)
        has_key = link.vlan and _lock_key(indexes.get(link.parent, 0), link.vlan) == key
        if is_ours and has_key and ifindex in (0, link.ifindex):
            children = [each for each in links if each.parent == link.name]
            is_used = link.master or link.addresses or not all(map(_is_probe, children))
            return [] if is_used else [link, *children]
    return []


def _is_probe(link: Link) -> bool:
    prefix = commands.PROBE.removesuffix("%d")
    is_named = link.name.startswith(prefix) and link.name.removeprefix(prefix).isdecimal()
    return is_named and link.kind == "ipvlan" and not (link.is_up or link.alias or link.addresses)


def _vlan_name(parent: Master, vlan: int) -> str:
    """Return the name of a new VLAN: with its parent's name, or with its index if that is long."""
    name = f"{parent.link.name}.{vlan}"
    return f"vlan{parent.link.ifindex}.{vlan}" if interface_name_fault(name) else name


def _lock_key(parent_index: int, vlan: int) -> tuple[int, int]:
    return key_of(parent_index * _IDS + vlan)


def _lock(call: Call, key: tuple[int, int]) -> AbstractContextManager[None]:
    check = call.node.wait_check(f"the VLAN {key[1] % _IDS}")
    return call.registry.master_lock(key, check, VLAN)
