"""One mode and flag for all ipvlan interfaces of a master.

The mode belongs to the master. A new interface in another mode changes the mode of
all others, without an error or an event (ipvlan_link_new() and
ipvlan_set_port_mode() in drivers/net/ipvlan/ipvlan_main.c), and those in containers
can't be seen from the host. So a mode is checked against root's own records and the
host's interfaces, then against the kernel, which reports whether the master carries
any ipvlan. Namespaces are searched only for interfaces made by something else. Since
a container's owner can forge what its namespace shows, that never permits a mode.
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
from cni_ipvlan.plugin.codes import MODE_CONFLICT

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.state.registry import ModeHint, Registry

# The most hints read while the master's lock is held.
_MOST_HINTS = 64
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
    running = _remembered(registry, master, hint) or _visible(master)
    if running is not None and _agrees(running, hint):
        return None
    is_free = _is_free(tx, master)
    if is_free:
        running = _forget_all(registry, master, hint)
    elif running is None:
        running = found
        if running is None and not (is_free is None and is_searched):
            return _UNKNOWN
    return None if running is None or _agrees(running, hint) else running


def _agrees(running: Running, hint: ModeHint) -> bool:
    return (running.mode, running.flag) == (hint.mode, hint.flag)


def _remembered(registry: Registry, master: Master, own: ModeHint) -> Running | None:
    """Return the mode of a recorded attachment that still exists; all have the same."""
    for hint in islice(registry.hints(master.key), _MOST_HINTS):
        if hint.attachment != own.attachment and _counts(registry, hint):
            return Running(hint.mode, hint.flag, hint.describe())
    return None


def _counts(registry: Registry, hint: ModeHint) -> bool:
    """Whether the container exists, or a call is about to create its interface."""
    return namespace.leads_to(hint.netns, hint.netns_identity) or registry.is_live(
        hint.attachment.key
    )


def _forget_all(registry: Registry, master: Master, own: ModeHint) -> Running | None:
    """Remove the hints of a free master; return the mode of an attachment being created."""
    coming = None
    for hint in list(registry.hints(master.key)):
        if hint.attachment != own.attachment and registry.is_live(hint.attachment.key):
            coming = Running(hint.mode, hint.flag, hint.describe())
        else:
            registry.forget(hint.attachment)
    return coming


def _visible(master: Master) -> Running | None:
    link = next(iter(master.slaves), None)
    return Running(link.mode, link.flag, _on_host(master)[0]) if link else None


def _is_free(tx: Transaction, master: Master) -> bool | None:
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


def _search(tx: Transaction, registry: Registry, master: Master) -> Running | None:
    """Search for an interface of the master that this plugin has no record of.

    Return None if the master has become free. Raises CniError 11 if it has not, and
    nothing is found.
    """
    from cni_ipvlan.plugin import inventory

    others = filter(namespace.is_of_our_user, namespace.others())
    deadline = time.monotonic() + _SEARCH_SECONDS
    for each in inventory.on_master(
        inventory.take(tx, registry, deadline=deadline, others=others), master
    ):
        if _is_proven(tx, each, master):
            return Running(each.link.mode, each.link.flag, each.describe())
    deadline = time.monotonic() + _TEARDOWN_SECONDS
    while _is_free(tx, master) is False:
        if time.monotonic() >= deadline:
            raise CniError(
                TRY_AGAIN_LATER,
                f"the master {master.link.name!r} carries ipvlan interfaces, but they can't be "
                "found, so their mode is unknown",
                "they may be going away with a container that has just ended",
            )
        time.sleep(_POLL_SECONDS)
    return None


def _is_proven(tx: Transaction, attachment: Attachment, master: Master) -> bool:
    """Whether the kernel reports that a link's parent is in the master's namespace."""
    place = attachment.place
    if place is None:
        return True
    if master.home is not None:
        return False
    try:
        output = tx.see(Command(commands.namespace_number(os.getpid()), inside=place))
    except (CommandError, ProgramNotFoundError):  # it is gone, or may not be entered
        return False
    number = queries.namespace_number(output, namespace.own()[1])
    return attachment.link.parent_netns == number


def _conflict(registry: Registry, master: Master, hint: ModeHint, running: Running) -> CniError:
    """Return the error, with what root's records and the host show."""
    hints = (each for each in registry.hints(master.key) if each.attachment != hint.attachment)
    named = list(dict.fromkeys([*_on_host(master), running.where, *(h.describe() for h in hints)]))
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


def _on_host(master: Master) -> list[str]:
    return [f"{link.name} on the host" for link in master.slaves]
