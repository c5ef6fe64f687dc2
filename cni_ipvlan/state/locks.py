"""Locks between calls; a lock ends with the process that holds it."""

from __future__ import annotations

import fcntl
import time
from contextlib import suppress

from cni_ipvlan._namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Short at first, for two calls that meet by chance; then longer, since a hundred calls
# polling quickly would starve the one that works.
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.25
_PAUSE_GROWTH = 1.5
# A live call may be slow among many others; a command that outlives its call hangs.
_CALL_SECONDS = 180.0
_ORPHAN_SECONDS = 10.0


class BusyError(Exception):
    """A lock was not released in time.

    ``is_live`` is whether the call that took it still runs; otherwise only a
    command that the call left behind when it was killed holds the lock.
    """

    def __init__(self, text: str, *, is_live: bool) -> None:
        super().__init__(text)
        self.is_live = is_live


def acquire(descriptor: int, check: Callable[[], None], busy: str) -> None:
    """Lock a directory; ``check`` is called while waiting, and may raise to end the wait.

    Raises BusyError with the text ``busy`` after three minutes.
    """
    _wait(descriptor, check, lambda waited: waited >= _CALL_SECONDS, busy)


def acquire_inherited(descriptor: int, check: Callable[[], None], busy: str) -> None:
    """Lock a file, open for writing, for this process and those that inherit the descriptor.

    Raises BusyError with the text ``busy`` after three minutes, or after ten
    seconds if the process that took the lock has died and only children hold it.
    """

    def is_over(waited: float) -> bool:
        return waited >= _ORPHAN_SECONDS and (waited >= _CALL_SECONDS or not _has_owner(descriptor))

    _wait(descriptor, check, is_over, busy)
    _mark_owner(descriptor)


def try_acquire(descriptor: int) -> bool:
    """Lock a file if it is free; return whether that succeeded."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(
    descriptor: int, check: Callable[[], None], is_over: Callable[[float], bool], busy: str
) -> None:
    # flock(2) has no timeout.
    began = time.monotonic()
    pause = _FIRST_PAUSE_SECONDS
    while not try_acquire(descriptor):
        check()
        if is_over(time.monotonic() - began):
            raise BusyError(busy, is_live=_has_owner(descriptor))
        time.sleep(pause)
        pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)


# A flock(2) lock belongs to the open file, which children inherit; an fcntl(2) lock belongs
# to the process and ends with it. So the second shows whether the owner of the first lives.


def _mark_owner(descriptor: int) -> None:
    # Without it, a slow call only looks dead to others, which is no reason to fail.
    with suppress(OSError):
        fcntl.lockf(descriptor, fcntl.LOCK_EX)


def _has_owner(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # a directory, whose lock is never inherited
        return True
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False
