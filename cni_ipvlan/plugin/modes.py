"""One mode and flag for all ipvlan interfaces of a master.

The mode belongs to the master. A new interface in another mode changes the mode of
all others, without an error or an event (ipvlan_link_new() and
ipvlan_set_port_mode() in drivers/net/ipvlan/ipvlan_main.c), and those in containers
can't be seen from the host. Their owners can hide them, and forge others, but change the mode
only with CAP_NET_ADMIN in the user namespace of the master's. So what decides, is the first of
these that there is:

1. the record of an interface that a call is about to create;
2. a recorded interface, which is asked for by its name in its container. Since the
   container's owner can forge what is seen there, it counts if it agrees with root's record,
   or if the kernel confirms that its parent is this master;
3. nothing, if the kernel reports that the master carries no ipvlan in any namespace: then
   what is recorded is removed. This is asked before anything is refused or believed;
4. an interface on the host;
5. root's note of the mode, if nothing was found when namespaces were searched;
6. an interface found in any namespace, if the kernel confirms its parent. Root may have made
   it by hand instead of a recorded one, so it comes before what is only recorded. The search
   takes no lock, and its outcome is noted, so that a hidden interface makes one ADD wait;
7. root's last record or note: whatever is hidden has the mode that the last ADD has set.

A note is what remains of the record of an attachment that is deleted, if its interface was not
seen to go. It is removed as soon as the kernel reports that the master carries no ipvlan.

If nothing is known of a master that carries one, the call must be made again later, or root
declares the mode with an interface on the host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

from cni_ipvlan.cni.errors import TRY_AGAIN_LATER, CniError
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.codes import MODE_CONFLICT
from cni_ipvlan.plugin.master import Master, shortened
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.state.attachment import Record
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry

if TYPE_CHECKING:
    from cni_ipvlan.plugin.inventory import Attachment

    # What a search has proven, and what else may be on the master.
    _Search = tuple["ModeInUse | None", list[Attachment]]

# What is read at most while the master's lock is held: records, and links of containers.
_MOST_RECORDS = 64
_MOST_READ = 4
_NAMED = 3  # of many
_DECLARED = "ipvlan-mode"  # the interface with which root declares a mode
_SEARCH_SECONDS = 5.0
# How long the kernel takes to remove interfaces of a deleted namespace.
_TEARDOWN_SECONDS = 2.0
_POLL_SECONDS = 0.05


class ModeInUse(NamedTuple):
    """A link or record with the mode and flag that a master is used in, and where that is.

    ``earlier`` are those in which an interface was attached, if another program has changed them.
    """

    of: Link | Record
    where: str
    is_recorded: bool = False
    earlier: str = ""


_UNKNOWN = ModeInUse(Link(0, ""), "an interface that was not found")


def reserve_mode(
    tx: Transaction, registry: Registry, master: Master, record: Record, check: Callable[[], None]
) -> None:
    """Record an attachment on its master, if nothing there uses another mode.

    ``check`` is called while waiting, and may raise to end the wait. Raises CniError
    104 if the master is used in another mode, 11 if it is used in an unknown one.
    """
    searched: _Search | None = None
    while True:
        with registry.master_lock(master.key, check):
            opposed = _conflicting(tx, registry, master, record, searched)
            if opposed is None:
                registry.write(record)
                return
        if opposed is not _UNKNOWN:
            raise _conflict(registry, master, record, opposed)
        if searched:
            raise _not_found(master, record, searched[1])
        searched = _search(tx, registry, master, record)


def check_known(tx: Transaction, registry: Registry, master: Master, conf: NetConf) -> None:
    """Raise CniError 104 if it is known that the master is used in another mode; for STATUS.

    It neither searches, as an ADD does where nothing is known, nor changes anything.
    """
    if not master.link.ifindex:
        return  # an ADD makes it
    record = Record(conf.name, "", "", "", (0, 0), conf.mode, conf.flag)
    opposed = _conflicting(tx, registry.read_only, master, record, None)
    if opposed not in (None, _UNKNOWN):
        raise _conflict(registry, master, record, opposed)


def settle(call: Call, key: tuple[int, int], *, is_ending: bool) -> None:
    """Remove the note of a master's mode, unless the kernel reports that it carries ipvlan.

    ``key`` is the master's. If a namespace ``is_ending``, its interfaces are waited for.
    If the master can't be locked or asked about, the note stays for the next ADD or GC.
    """
    deadline = time.monotonic() + (_TEARDOWN_SECONDS if is_ending else 0.0)
    with suppress(BusyError, CommandError):
        while True:
            with call.registry.master_lock(key, call.node.while_locked("a master")):
                if not _is_busy(call.tx, key):
                    call.registry.drop_note(key)
                    return
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_SECONDS)


def _is_busy(tx: Transaction, key: tuple[int, int]) -> bool:
    """Whether the kernel reports ipvlan on a master of the host; in a container, modes are free."""
    from socket import if_indextoname

    inode, index = key
    if inode != namespace.own_identity()[1]:
        return False
    try:
        name = if_indextoname(index)
    except OSError:  # the master is gone, and with it all that it carried
        return False
    query = Command(commands.link_show(name), accept=commands.ABSENT)
    return any(is_free(tx, Master(link)) is False for link in queries.links(tx.run(query).stdout))


def _conflicting(
    tx: Transaction, registry: Registry, master: Master, record: Record, searched: _Search | None
) -> ModeInUse | None:
    """Return what conflicts with an attachment's mode; _UNKNOWN if nothing is known.

    The numbers are those of the rule at the head of this file. Since the master's lock is held, the
    time taken here must not grow with the node, nor with what is in containers.
    """
    running = _recorded(tx, registry, master, record)  # 1 and 2
    if running is not None and record.has_mode_of(running.of):
        return None
    freedom = is_free(tx, master)
    if freedom:
        running = _remove_all(registry, master, record)  # 3
    elif running is None:
        on_host = next(iter(master.slaves), None)
        if on_host:
            running = ModeInUse(on_host, _on_host(registry, on_host))  # 4
        elif searched:
            running = searched[0]  # 6
        if running is None and freedom is False:
            running = _believed(registry, master.key, is_searched=bool(searched))  # 5 and 7
        if running is None and not (freedom is None and searched):
            return _UNKNOWN
    return None if running is None or record.has_mode_of(running.of) else running


def _believed(registry: Registry, key: tuple[int, int], *, is_searched: bool) -> ModeInUse | None:
    """Return the mode of root's note of a search, or after a search of root's last record."""
    record = registry.last(key) if is_searched else registry.note(key, is_searched=True)
    if record and is_searched:
        registry.keep_searched(key, record)
    return ModeInUse(record, record.describe(), is_recorded=True) if record else None


def _recorded(tx: Transaction, registry: Registry, master: Master, own: Record) -> ModeInUse | None:
    """Return the mode of a recorded attachment that is being created or still exists."""
    read = 0
    for record in islice(registry.records(master.key), _MOST_RECORDS):
        if record.attachment == own.attachment:
            continue
        if not record.is_complete and registry.is_live(record.attachment.key):
            return ModeInUse(record, record.describe())
        if read < _MOST_READ and record.has_container:
            read += 1
            found = links.find(tx, record, at_once=True)
            if found is None:
                continue
            netns, link = found
            if record.has_mode_of(link):
                return ModeInUse(link, record.describe())
            if _is_proven(tx, master, link, netns):  # it is not what its container shows only
                return ModeInUse(link, record.describe(), earlier=f"{record.mode} {record.flag}")
    return None


def _remove_all(registry: Registry, master: Master, own: Record) -> ModeInUse | None:
    """Forget what was on a free master; return the mode of an attachment being created."""
    registry.drop_note(master.key)
    coming = None
    for record in list(registry.records(master.key)):
        if record.attachment == own.attachment:
            continue  # it tells that addresses may still be allocated
        if registry.is_live(record.attachment.key):
            coming = ModeInUse(record, record.describe())
        else:
            registry.remove_all(record.attachment)
    return coming


def is_free(tx: Transaction, master: Master) -> bool | None:
    """Whether the kernel reports no ipvlan on the master; None if it can't report that.

    For a macvlan it would report on the interface below (macvlan_common_newlink()).
    """
    if master.link.kind in queries.MACVLAN_KINDS:
        return None
    try:
        tx.run(Command(commands.link_add_macvlan_refused(master.link.name), netns=master.netns))
    except CommandError as error:
        if "Device or resource busy" in error.answer:
            return False
        if "Unknown device type" in error.answer:
            return None
        if "Invalid argument" not in error.answer:
            raise
    return True


def becomes_free(tx: Transaction, master: Master) -> bool | None:
    """Return what ``is_free`` does, after a moment if ipvlan is only going away."""
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    while (freedom := is_free(tx, master)) is False and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return freedom


def _search(tx: Transaction, registry: Registry, master: Master, record: Record) -> _Search:
    """Search for an interface of the master that this plugin can't read by its record.

    If nothing is found, and nothing recorded agrees with the record, wait for what may only be
    going away.
    """
    from cni_ipvlan.plugin import inventory

    deadline = time.monotonic() + _SEARCH_SECONDS
    there = namespace.find_others(deadline)
    others = (each for each in there if namespace.is_of_our_user(each.path))
    suspects = []
    for each in inventory.take(tx, registry, deadline=deadline, others=others):
        if _is_proven(tx, master, each.link, each.netns):
            return ModeInUse(each.link, each.describe()), []
        if master.carries(each.link, each.netns):
            suspects.append(each)
    last = registry.last(master.key)
    if last is None or not last.has_mode_of(record):
        becomes_free(tx, master)
    return None, suspects


def _not_found(master: Master, record: Record, suspects: Sequence[Attachment]) -> CniError:
    error = CniError(
        TRY_AGAIN_LATER,
        f"the master {master.link.name!r} carries ipvlan interfaces, but they can't be "
        "found, so their mode is unknown",
        "they may be going away with a container that has just ended\n"
        f"try: if they stay, declare the mode as root: {_declaration(master, record)}\n"
        "that sets the mode of all interfaces on the master; delete it when ADD has succeeded",
    )
    for each in suspects[:_NAMED]:
        link = each.link
        error.add_private(
            f"perhaps one of them: {each.describe()}, {link.kind} in mode {link.mode} {link.flag}"
        )
    return error


def _declaration(master: Master, record: Record) -> str:
    """Return the command with which root declares the mode of a master."""
    argv = commands.link_add_ipvlan(master.link.name, _DECLARED, record.mode, record.flag, 0)
    return commands.in_shell(Command(argv, netns=master.netns).full_argv)


def _is_proven(tx: Transaction, master: Master, link: Link, netns: Namespace | None) -> bool:
    """Whether a link certainly has this master.

    The kernel reports a parent's index and the number of the parent's namespace. That
    number is compared with the one that the kernel gives our own namespace there. A
    master in a container is its owner's, who can change modes anyway.
    """
    if not master.carries(link, netns):
        return False
    if netns is None or master.netns is not None:
        return True
    try:
        output = tx.run(Command(commands.namespace_number(os.getpid()), netns=netns)).stdout
    except (CommandError, ProgramNotFoundError):  # it is gone, or may not be entered
        return False
    return link.parent_netns == queries.namespace_number(output, namespace.own_identity()[1])


def _conflict(registry: Registry, master: Master, record: Record, running: ModeInUse) -> CniError:
    """Return the error, with what root's records and the host show."""
    on_host = (_on_host(registry, link) for link in master.slaves)
    others = (
        each.describe()
        for each in registry.records(master.key)
        if each.attachment != record.attachment
    )
    named = list(dict.fromkeys([*on_host, running.where, *others]))
    mode, flag = running.of.mode, running.of.flag
    many = f"{len(named)} interfaces run" if len(named) > 1 else "an interface runs"
    error = CniError(
        MODE_CONFLICT,
        f"the master {master.link.name!r} is used in mode {mode} {flag}; "
        f"this network wants {record.mode} {record.flag}",
        "all ipvlan interfaces of a master share one mode and flag\n"
        f"try: use mode {mode} and flag {flag} here, or another master",
    )
    if running.is_recorded:
        error.add_details("that is root's record: the interfaces in that mode can't be found")
        error.add_private(
            f"recorded: {running.where}\n"
            f"root declares another mode of all that are there with: {_declaration(master, record)}"
        )
    else:
        error.add_private(f"found: {many} in that mode: {shortened(named, _NAMED)}")
    if running.earlier:
        was = f"they were attached in mode {running.earlier}; another program has changed it"
        error.add_details(f"found: {was}")
    if running.earlier == f"{record.mode} {record.flag}":
        error.add_private(f"root changes it back with: {_declaration(master, record)}")
    return error


def _on_host(registry: Registry, link: Link) -> str:
    key = links.key_of(link.name)
    if not key or registry.is_live(key):
        return f"{link.name} on the host"
    return f"{link.name} on the host, half made by a killed call: its DEL, or GC, removes it"
