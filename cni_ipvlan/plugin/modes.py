"""One mode and flag for all ipvlan interfaces of a master.

The mode belongs to the master. A new interface in another mode changes the mode of
all others, without an error or an event (ipvlan_link_new() and
ipvlan_set_port_mode() in drivers/net/ipvlan/ipvlan_main.c), and those in containers
can't be seen from the host. Their owners can hide them and forge others, but they can change the
mode only with CAP_NET_ADMIN in the user namespace of the master's namespace. So the mode in use is
that of the first of these that exists:

1. the record of an interface that a call is about to create;
2. a recorded interface, which is asked for by its name in its container. Since the
   container's owner can forge what is seen there, it counts if it agrees with root's record,
   or if the kernel confirms that its parent is this master;
3. none, if the kernel reports that the master carries no ipvlan in any namespace. It is asked
   before a mode is refused, or a record is believed;
4. an interface on the host;
5. root's note of the mode, if nothing was found when namespaces were searched;
6. an interface found in any namespace, if the kernel confirms its parent. Root may have made
   it by hand instead of a recorded one, so it comes before what is only recorded. The search
   takes no lock, and its outcome is noted, so that a hidden interface makes one ADD wait;
7. root's note: whatever is hidden has the mode that the last ADD has set.

The note is written with the first record in a mode. When the last record goes, it stays as long as
the kernel reports that the master carries ipvlan, as an interface may only be hidden.

If the mode of a master that carries ipvlan is unknown, the call must be made again later, or root
declares the mode with an interface on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
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
from cni_ipvlan.plugin import links, on_demand
from cni_ipvlan.plugin.codes import MODE_CONFLICT
from cni_ipvlan.plugin.master import Master, shorten_list
from cni_ipvlan.plugin.node import Call
from cni_ipvlan.start.namedtuple import NamedTuple
from cni_ipvlan.state.attachment import Record
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry

# How many records, and links of containers, are read at most while the master's lock is held.
_MOST_RECORDS = 64
_MOST_CONTAINERS = 4
_MOST_NAMES = 3  # of interfaces, in a message
_DECLARING_LINK = "ipvlan-mode"  # the interface with which root declares a mode
_SEARCH_SECONDS = 5.0
# How long the kernel takes to remove interfaces of a deleted namespace.
_TEARDOWN_SECONDS = 2.0
_POLL_SECONDS = 0.05


class ModeInUse(NamedTuple):
    """A link or record with the mode and flag that a master is used in, and its description.

    ``earlier_mode`` is the mode and flag in which the interface was attached, if another program
    has changed them.
    """

    source: Link | Record
    description: str
    is_recorded: bool = False
    earlier_mode: str = ""


_UNKNOWN = Link(0, "")  # the source of a mode that is not known


def reserve_mode(
    tx: Transaction, registry: Registry, master: Master, record: Record, check: Callable[[], None]
) -> None:
    """Record an attachment on its master, if nothing there uses another mode.

    ``check`` is called while waiting, and may raise to end the wait. Raises CniError
    104 if the master is used in another mode, 11 if it is used in an unknown one.
    """
    found: ModeInUse | None = None
    while True:
        with registry.master_lock(master.key, check):
            conflict = _find_conflict(tx, registry, master, record, found)
            if conflict is None:
                registry.write(record)
                return
        if conflict.source is not _UNKNOWN:
            raise _conflict_error(registry, master, record, conflict)
        if found:
            raise _unknown_mode_error(master, record, found.description)
        found = _search(tx, registry, master, record)


def check_mode(tx: Transaction, registry: Registry, master: Master, conf: NetConf) -> None:
    """Raise CniError 104 if it is known that the master is used in another mode; for STATUS.

    It neither searches, as an ADD does where nothing is known, nor changes anything.
    """
    if not master.link.ifindex:
        return  # an ADD makes it
    record = Record(conf.name, "", "", "", (0, 0), conf.mode, conf.flag)
    conflict = _find_conflict(tx, registry.read_only, master, record, None)
    if conflict is not None and conflict.source is not _UNKNOWN:
        raise _conflict_error(registry, master, record, conflict)


def remove_stale_note(call: Call, key: tuple[int, int], *, is_ending: bool) -> None:
    """Remove the note of a master's mode, unless the kernel reports that it carries ipvlan.

    ``key`` is the master's. If a namespace ``is_ending``, its interfaces are waited for.
    If the master can't be locked or asked about, the note stays for the next ADD or GC.
    """
    deadline = time.monotonic() + (_TEARDOWN_SECONDS if is_ending else 0.0)
    with suppress(BusyError, CommandError):
        while True:
            with call.registry.master_lock(key, call.node.wait_check("a master")):
                if any(call.registry.records(key)):
                    return
                if not _is_in_use(call.tx, key):
                    call.registry.drop_note(key)
                    return
            if time.monotonic() >= deadline:
                return
            time.sleep(_POLL_SECONDS)


def _is_in_use(tx: Transaction, key: tuple[int, int]) -> bool:
    """Whether the kernel reports ipvlan on a master of the host; in a container, modes are free."""
    from _socket import if_indextoname  # importing socket takes longer than all of modes

    inode, index = key
    if inode != namespace.own_identity()[1]:
        return False
    try:
        name = if_indextoname(index)
    except OSError:  # the master is gone, and with it all that it carried
        return False
    if is_free(tx, Master(Link(index, name))) is not False:
        return False
    # If it is a macvlan, that was about the interface below.
    query = Command(commands.link_show(name), accept=commands.ABSENT)
    kinds = {each.kind for each in queries.links(tx.run(query).stdout)}
    return not kinds <= {*queries.MACVLAN_KINDS}


def _find_conflict(
    tx: Transaction, registry: Registry, master: Master, record: Record, found: ModeInUse | None
) -> ModeInUse | None:
    """Return what conflicts with an attachment's mode; its source may be _UNKNOWN.

    ``found`` is what a search has returned, None before it. The numbers are those of the rule at
    the head of this file. Since the master's lock is held, the time taken here must not grow with
    the node, nor with what is in containers.
    """
    adding = _find_adding(registry, master, record)  # 1
    current = adding or _find_recorded(tx, registry, master, record)  # 2
    if current is not None and record.has_mode_of(current.source):
        return None
    is_unused = is_free(tx, master)
    if is_unused:  # 3
        registry.mark_note(master.key, is_searched=False)
        current = adding
    elif current is None:
        host_link = next(iter(master.slaves), None)
        if host_link:
            current = ModeInUse(host_link, _describe_host_link(registry, host_link))  # 4
        elif found is not None and found.source is not _UNKNOWN:
            current = found  # 6
        if current is None and is_unused is False:
            current = _read_record(registry, master.key, is_searched=bool(found))  # 5 and 7
        if current is None and not (is_unused is None and found):
            return ModeInUse(_UNKNOWN, "")
    return None if current is None or record.has_mode_of(current.source) else current


def _read_record(
    registry: Registry, key: tuple[int, int], *, is_searched: bool
) -> ModeInUse | None:
    """Return the mode of root's note, which is first used after a search."""
    record = registry.note(key, is_searched=not is_searched)
    if record:
        registry.mark_note(key, is_searched=True)
    elif is_searched:  # until December 2, 2026, only removed records were noted
        record = next(registry.records(key), None)
    return ModeInUse(record, record.describe(), is_recorded=True) if record else None


def _find_adding(registry: Registry, master: Master, new_record: Record) -> ModeInUse | None:
    """Return the mode of an attachment that another call is creating."""
    for record in registry.records(master.key, is_adding=True):
        if record.attachment != new_record.attachment and registry.is_live(record.attachment.key):
            return ModeInUse(record, record.describe())
    return None


def _find_recorded(
    tx: Transaction, registry: Registry, master: Master, new_record: Record
) -> ModeInUse | None:
    """Return the mode of a recorded attachment that still exists."""
    count = 0
    for record in islice(registry.records(master.key), _MOST_RECORDS):
        if record.attachment == new_record.attachment:
            continue
        if count < _MOST_CONTAINERS and record.has_container:
            count += 1
            container_link = links.find_link(tx, registry, record, at_once=True)
            if container_link is None:
                continue
            netns, link = container_link
            if record.has_mode_of(link):
                return ModeInUse(link, record.describe())
            if _is_proven(tx, master, link, netns):  # so the container's owner has not forged it
                earlier_mode = f"{record.mode} {record.flag}"
                return ModeInUse(link, record.describe(), earlier_mode=earlier_mode)
    return None


def is_free(tx: Transaction, master: Master) -> bool | None:
    """Whether the kernel reports no ipvlan on the master, or no master; None if it can't.

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
        if "Invalid argument" not in error.answer and not error.completed.is_absent:
            raise
    return True


def wait_until_free(tx: Transaction, master: Master) -> bool | None:
    """Return what ``is_free`` returns, after at most two seconds if ipvlan is being removed."""
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    while (is_unused := is_free(tx, master)) is False and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return is_unused


def _search(tx: Transaction, registry: Registry, master: Master, record: Record) -> ModeInUse:
    """Search for an interface of the master that this plugin can't read by its record.

    If none is found, the source is _UNKNOWN, and the description names some that may be one. If no
    note has the same mode, interfaces are waited for that the kernel may be removing.
    """
    deadline = time.monotonic() + _SEARCH_SECONDS
    namespaces = namespace.find_others(deadline)
    candidates = (each for each in namespaces if namespace.is_of_our_user(each.path))
    suspects = []
    for each in on_demand.inventory.search(tx, registry, deadline=deadline, namespaces=candidates):
        if _is_proven(tx, master, each.link, each.netns):
            return ModeInUse(each.link, each.describe())
        if master.carries(each.link, each.netns):
            kind_and_mode = f"{each.link.kind} in mode {each.link.mode} {each.link.flag}"
            suspects.append(f"perhaps one of them: {each.describe()}, {kind_and_mode}")
    note = registry.note(master.key)
    if note is None or not note.has_mode_of(record):
        wait_until_free(tx, master)
    return ModeInUse(_UNKNOWN, "\n".join(suspects[:_MOST_NAMES]))


def _unknown_mode_error(master: Master, record: Record, suspects: str) -> CniError:
    return CniError(
        TRY_AGAIN_LATER,
        f"the master {master.link.name!r} carries ipvlan interfaces, but they can't be "
        "found, so their mode is unknown",
        "they may be going away with a container that has just ended, or be in a namespace that a "
        f"search of {_SEARCH_SECONDS:g} s does not reach\n"
        f"try: if they stay, declare the mode as root: {_declaring_command(master, record)}\n"
        "that sets the mode of all interfaces on the master; delete it when ADD has succeeded",
        suspects,
    )


def _declaring_command(master: Master, record: Record) -> str:
    argv = commands.link_add_ipvlan(master.link.name, _DECLARING_LINK, record.mode, record.flag, 0)
    return commands.in_shell(Command(argv, netns=master.netns).full_argv)


def _is_proven(tx: Transaction, master: Master, link: Link, netns: Namespace | None) -> bool:
    """Whether a link certainly has this master.

    The kernel reports a parent's index and the number of the parent's namespace, and is asked there
    if that is our own namespace. A master in a container is its owner's, who can change modes
    anyway.
    """
    if not master.carries(link, netns):
        return False
    if netns is None or master.netns is not None:
        return True
    if link.parent_netns is None:
        return False
    query = commands.netns_of_number(link.parent_netns, namespace.own_process())
    try:
        answer = tx.run(Command(query, netns=netns), seconds=links.READ_SECONDS).stdout
    except (CommandError, ProgramNotFoundError):  # the number or namespace is gone, or not ours
        return False
    return any(each.get("name") == commands.NETNS_NAME for each in queries.entries(answer))


def _conflict_error(
    registry: Registry, master: Master, record: Record, current: ModeInUse
) -> CniError:
    """Return the error, with what root's records and the host show."""
    host_links = (_describe_host_link(registry, link) for link in master.slaves)
    others = (
        each.describe()
        for each in registry.records(master.key)
        if each.attachment != record.attachment
    )
    names = list(dict.fromkeys([*host_links, current.description, *others]))
    mode, flag = current.source.mode, current.source.flag
    subject = f"{len(names)} interfaces run" if len(names) > 1 else "an interface runs"
    error = CniError(
        MODE_CONFLICT,
        f"the master {master.link.name!r} is used in mode {mode} {flag}; "
        f"this network wants {record.mode} {record.flag}",
        "all ipvlan interfaces of a master share one mode and flag\n"
        f"try: use mode {mode} and flag {flag} here, or another master",
    )
    declaration = _declaring_command(master, record)
    if current.is_recorded:
        error.add_details("that is root's record: the interfaces in that mode can't be found")
        error.add_private(
            f"recorded: {current.description}\n"
            f"root declares another mode of all that are there with: {declaration}"
        )
    else:
        error.add_private(f"found: {subject} in that mode: {shorten_list(names, _MOST_NAMES)}")
    if current.earlier_mode:
        change = f"attached in mode {current.earlier_mode}; another program has changed it"
        error.add_details(f"found: they were {change}")
    if current.earlier_mode == f"{record.mode} {record.flag}":
        error.add_private(f"root changes it back with: {declaration}")
    return error


def _describe_host_link(registry: Registry, link: Link) -> str:
    key = links.key_in_name(link.name)
    if not key or registry.is_live(key):
        return f"{link.name} on the host"
    return f"{link.name} on the host, half made by a killed call: its DEL, or GC, removes it"
