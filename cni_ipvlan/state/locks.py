"""Locks between calls, which end with whoever holds them."""

from __future__ import annotations

import fcntl
import time
from contextlib import suppress

from cni_ipvlan._namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Short at first, for the two calls that meet by chance; longer then, since a hundred which
# ask all the time leave the one that works no processor.
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.25
_PAUSE_GROWTH = 1.5
# A call that lives takes its turn in a storm of others; a command that outlives its call hangs.
_CALL_SECONDS = 180.0
_ORPHAN_SECONDS = 10.0


class BusyError(Exception):
    """Somebody else has held a lock for longer than we may wait: a call that ``is_live``,
    or else only what a killed one has left running.
    """

    def __init__(self, text: str, *, is_live: bool) -> None:
        super().__init__(text)
        self.is_live = is_live


def acquire(descriptor: int, check: Callable[[], None], busy: str) -> None:
    """Lock a directory. ``check`` is called while waiting, to raise when the wait should end.

    Raises BusyError, which says ``busy``, after three minutes.
    """
    _wait(descriptor, check, lambda waited: waited >= _CALL_SECONDS, busy)


def acquire_inherited(descriptor: int, check: Callable[[], None], busy: str) -> None:
    """Lock a file, open for writing, for this process and those that inherit the descriptor.

    Raises BusyError, which says ``busy``, after three minutes; after ten seconds
    when the process that took the lock has died and only its heirs hold it.
    """

    def is_over(waited: float) -> bool:
        return waited >= _ORPHAN_SECONDS and (waited >= _CALL_SECONDS or not _has_owner(descriptor))

    _wait(descriptor, check, is_over, busy)
    _own(descriptor)


def try_acquire(descriptor: int) -> bool:
    """Lock a file if nobody has it; return whether it is locked."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(
    descriptor: int, check: Callable[[], None], is_over: Callable[[float], bool], busy: str
) -> None:
    # flock(2) has no timeout of its own.
    began = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    while not try_acquire(descriptor):
        check()
        if is_over(time.monotonic() - began):
            raise BusyError(busy, is_live=_has_owner(descriptor))
        time.sleep(pause)
        pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)


# flock(2) locks belong to the open file, which children inherit; those of fcntl(2) to the
# process, and they end with it.


def _own(descriptor: int) -> None:
    # Without it we pass for dead, should we take too long: no reason to fail.
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX)


def _has_owner(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # a directory: nobody inherits its lock
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False
