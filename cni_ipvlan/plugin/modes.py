"""One mode and flag for all ipvlan interfaces of a master.

The mode belongs to the master. A new interface in another mode changes the mode of
all others, without an error or an event (ipvlan_link_new() and
ipvlan_set_port_mode() in drivers/net/ipvlan/ipvlan_main.c), and those in containers
can't be seen from the host. So one of them is found, and its mode is read:

1. one that a call is about to create, which root's record tells;
2. a recorded one, which is read in its container. Since the container's owner can forge
   what is seen there, it counts if it agrees with root's record, or if the kernel
   confirms that its parent is this master;
3. none, if the kernel reports that the master carries no ipvlan in any namespace. This
   is asked before anything is refused;
4. one on the host;
5. one found in any namespace, if the kernel confirms its parent.

If the master carries one that is not found, the call must be made again later.
"""

from __future__ import annotations

import os
import time
from itertools import islice

from cni_ipvlan._namedtuple import TYPE_CHECKING, NamedTuple
from cni_ipvlan.cni.errors import TRY_AGAIN_LATER, CniError
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.runner import CommandError, ProgramNotFoundError
from cni_ipvlan.plugin import links
from cni_ipvlan.plugin.codes import MODE_CONFLICT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.state.attachment import ModeHint
    from cni_ipvlan.state.registry import Registry

# What is read at most while the master's lock is held: records, and links of containers.
_MOST_HINTS = 64
_MOST_READ = 4
_NAMED = 3  # of many
_SEARCH_SECONDS = 5.0
# How long the kernel takes to remove interfaces of a deleted namespace.
_TEARDOWN_SECONDS = 2.0
_POLL_SECONDS = 0.05


class Running(NamedTuple):
    """The mode and flag that a master is used in, and where they were seen."""

    mode: str
    flag: str
    where: str


_UNKNOWN = Running("", "", "an interface that was not found")


def admit(
    tx: Transaction,
    registry: Registry,
    master: Master,
    hint: ModeHint,
    check: Callable[[], None],
) -> None:
    """Record an attachment on its master, if nothing there uses another mode.

    ``check`` is called while waiting, and may raise to end the wait. Raises CniError
    104 if the master is used in another mode, 11 if it is used in an unknown one.
    """
    found, is_searched = None, False
    while True:
        with registry.master_lock(master.key, check):
            opposed = _opposed(tx, registry, master, hint, found, is_searched=is_searched)
            if opposed is None:
                registry.remember(master.key, hint)
                return
        if opposed is not _UNKNOWN:
            raise _conflict(registry, master, hint, opposed)
        found, is_searched = _search(tx, registry, master), True


def _opposed(
    tx: Transaction,
    registry: Registry,
    master: Master,
    hint: ModeHint,
    found: Running | None,
    *,
    is_searched: bool,
) -> Running | None:
    """Return what conflicts with an attachment's mode; _UNKNOWN if a search is needed.

    ``found`` is the result of a search. Since the master's lock is held, the time
    taken here must not grow with the node.
    """
    running = _recorded(tx, registry, master, hint)
    if running is not None and _agrees(running, hint):
        return None
    freedom = is_free(tx, master)
    if freedom:
        running = _forget_all(registry, master, hint)
    elif running is None:
        running = _visible(registry, master) or found
        if running is None and not (freedom is None and is_searched):
            return _UNKNOWN
    return None if running is None or _agrees(running, hint) else running


def _agrees(running: Running, hint: ModeHint) -> bool:
    return (running.mode, running.flag) == (hint.mode, hint.flag)


def _recorded(tx: Transaction, registry: Registry, master: Master, own: ModeHint) -> Running | None:
    """Return the mode of a recorded attachment that is being created or still exists."""
    read = 0
    for hint in islice(registry.hints(master.key), _MOST_HINTS):
        if hint.attachment == own.attachment:
            continue
        if not hint.is_complete and registry.is_live(hint.attachment.key):
            return Running(hint.mode, hint.flag, hint.describe())
        if read < _MOST_READ and namespace.leads_to(hint.netns, hint.netns_identity):
            read += 1
            found = _read(tx, master, hint)
            if found is not None:
                return Running(found.mode, found.flag, hint.describe())
    return None


def _read(tx: Transaction, master: Master, hint: ModeHint) -> Link | None:
    """Return the link that a hint is about, if what its container shows can be believed."""
    try:
        found = links.find(tx, hint)
    except CommandError:  # the container has just ended
        return None
    if found is None:
        return None
    place, link = found
    is_as_recorded = (link.mode, link.flag) == (hint.mode, hint.flag)
    return link if is_as_recorded or _is_proven(tx, master, link, place) else None


def _forget_all(registry: Registry, master: Master, own: ModeHint) -> Running | None:
    """Remove the hints of a free master; return the mode of an attachment being created."""
    coming = None
    for hint in list(registry.hints(master.key)):
        if hint.attachment == own.attachment:
            continue  # it tells that addresses may still be allocated
        if registry.is_live(hint.attachment.key):
            coming = Running(hint.mode, hint.flag, hint.describe())
        else:
            registry.forget(hint.attachment)
    return coming


def _visible(registry: Registry, master: Master) -> Running | None:
    link = next(iter(master.slaves), None)
    return Running(link.mode, link.flag, _on_host(registry, link)) if link else None


def is_free(tx: Transaction, master: Master) -> bool | None:
    """Whether the kernel reports no ipvlan on the master; None if it can't report that.

    For a macvlan it would report on the interface below (macvlan_common_newlink()).
    """
    if master.link.kind in ("macvlan", "macvtap"):
        return None
    try:
        tx.see(Command(commands.link_add_macvlan_refused(master.link.name), inside=master.home))
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


def _search(tx: Transaction, registry: Registry, master: Master) -> Running | None:
    """Search for an interface of the master that this plugin has no record of.

    Return None if the master has become free. Raises CniError 11 if it has not, and
    nothing is found.
    """
    from cni_ipvlan.plugin import inventory

    others = filter(namespace.is_of_our_user, namespace.others())
    deadline = time.monotonic() + _SEARCH_SECONDS
    suspects = []
    for each in inventory.take(tx, registry, deadline=deadline, others=others):
        if _is_proven(tx, master, each.link, each.place):
            return Running(each.link.mode, each.link.flag, each.describe())
        if master.carries(each.link, each.place):
            suspects.append(each)
    if becomes_free(tx, master) is False:
        raise _not_found(registry, master, suspects)
    return None


def _not_found(registry: Registry, master: Master, suspects: Sequence[Attachment]) -> CniError:
    error = CniError(
        TRY_AGAIN_LATER,
        f"the master {master.link.name!r} carries ipvlan interfaces, but they can't be "
        "found, so their mode is unknown",
        "they may be going away with a container that has just ended",
    )
    for each in suspects[:_NAMED]:
        link = each.link
        error.add_private(
            f"perhaps one of them: {each.describe()}, {link.kind} in mode {link.mode} {link.flag}"
        )
    for hint in islice(registry.hints(master.key), _NAMED):
        error.add_private(f"recorded: {hint.describe()} in mode {hint.mode} {hint.flag}")
    return error


def _is_proven(tx: Transaction, master: Master, link: Link, place: Namespace | None) -> bool:
    """Whether a link certainly has this master.

    The kernel reports a parent's index and the number of the parent's namespace. That
    number is compared with the one that the kernel gives our own namespace there. A
    master in a container is its owner's, who can change modes anyway.
    """
    if not master.carries(link, place):
        return False
    if place is None or master.home is not None:
        return True
    try:
        output = tx.see(Command(commands.namespace_number(os.getpid()), inside=place))
    except (CommandError, ProgramNotFoundError):  # it is gone, or may not be entered
        return False
    return link.parent_netns == queries.namespace_number(output, namespace.own()[1])


def _conflict(registry: Registry, master: Master, hint: ModeHint, running: Running) -> CniError:
    """Return the error, with what root's records and the host show."""
    hints = (each for each in registry.hints(master.key) if each.attachment != hint.attachment)
    on_host = (_on_host(registry, link) for link in master.slaves)
    named = list(dict.fromkeys([*on_host, running.where, *(h.describe() for h in hints)]))
    many = f"{len(named)} interfaces run" if len(named) > 1 else "an interface runs"
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    error = CniError(
        MODE_CONFLICT,
        f"the master {master.link.name!r} is used in mode {running.mode} {running.flag}; "
        f"this network wants {hint.mode} {hint.flag}",
        "all ipvlan interfaces of a master share one mode and flag\n"
        f"try: use mode {running.mode} and flag {running.flag} here, or another master",
    )
    error.add_private(f"found: {many} in that mode: {', '.join(named[:_NAMED])}{more}")
    return error


def _on_host(registry: Registry, link: Link) -> str:
    key = links.key_of(link.name)
    if not key or registry.is_live(key):
        return f"{link.name} on the host"
    return f"{link.name} on the host, half made by a killed call: its DEL, or GC, removes it"
