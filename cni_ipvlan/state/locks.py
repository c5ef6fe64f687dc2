"""Locks between calls. A lock ends with the process that holds it.

They are bytes of one file, so that nothing is created and removed for each. A lock belongs to the
open file (F_OFD_SETLK, fcntl(2)), which the commands of a call may inherit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import time
from _struct import pack  # half of what importing struct takes
from collections.abc import Callable
from contextlib import suppress

from cni_ipvlan.state.attachment import hash_text

# Short at first, for two calls that meet by chance; then longer, since a hundred calls
# polling quickly would starve the one that works.
_FIRST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.25
_PAUSE_GROWTH = 1.5
# A live call may be slow among many others; a command that outlives its call hangs.
_CALL_SECONDS = 180.0
_ORPHAN_SECONDS = 10.0
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class BusyError(Exception):
    """A lock was not released in time.

    ``is_live`` is whether the call that took it still runs; otherwise only a
    command that the call left behind when it was killed holds the lock.
    """

    def __init__(self, text: str, *, is_live: bool) -> None:
        super().__init__(text)
        self.is_live = is_live


class Lock:
    """The lock of a name, in a file that is made if need be; raises OSError if it can't be used.

    It is released when its context is left. If it ``is_inherited``, commands that are started
    while it is held keep it, too, if their call is killed. A second byte shows whether the process
    that took it still lives.
    """

    def __init__(self, path: str, name: str, *, is_inherited: bool = False) -> None:
        number = int.from_bytes(hash_text(name, 8), "big")
        self._byte = number >> 2 << 1  # an even one, less than 2^63
        self._path, self._is_inherited = path, is_inherited
        self._files: list[int] = []

    def try_acquire(self) -> bool:
        """Take it if it is free; return whether that succeeded."""
        if not self._lock_byte(self._byte):
            return False
        if self._is_inherited:
            os.set_inheritable(self._files[-1], True)  # noqa: FBT003 - its signature
            self._lock_byte(self._byte + 1)  # without it, a slow call only looks dead to others
        return True

    def acquire(self, check: Callable[[], None], message: str) -> None:
        """Take it; ``check`` is called while waiting, and may raise to end the wait.

        Raises BusyError with the text ``message`` after three minutes, or after ten seconds if only
        what a dead call has started holds it.
        """
        start = time.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        while not self.try_acquire():
            check()
            waited = time.monotonic() - start
            if waited >= _ORPHAN_SECONDS and (waited >= _CALL_SECONDS or not self.has_owner()):
                raise BusyError(message, is_live=self.has_owner())
            time.sleep(pause)  # fcntl(2) has no timeout
            pause = min(pause * _PAUSE_GROWTH, _LONGEST_PAUSE_SECONDS)

    def is_held(self) -> bool:
        """Whether anybody holds it."""
        return self._is_byte_locked(self._byte)

    def has_owner(self) -> bool:
        """Whether the process that took it lives, which alone holds one that is not inherited."""
        return not self._is_inherited or self._is_byte_locked(self._byte + 1)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_error: object) -> None:
        while self._files:
            file = self._files.pop()
            # Closing is not enough: a daemon that an IPAM plugin has started would keep the lock.
            with suppress(OSError):  # it is closed all the same, or its own call would wait for it
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _flock_structure(fcntl.F_UNLCK))
            os.close(file)

    def _lock_byte(self, byte: int) -> bool:
        make_directory(os.path.dirname(self._path))
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        self._files.append(file)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _flock_structure(fcntl.F_WRLCK, byte, 1))
        except BlockingIOError:
            os.close(self._files.pop())
            return False
        return True

    def _is_byte_locked(self, byte: int) -> bool:
        try:
            file = os.open(self._path, os.O_RDONLY | _FLAGS)
        except FileNotFoundError:
            return False
        try:
            answer = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _flock_structure(fcntl.F_WRLCK, byte, 1))
        finally:
            os.close(file)
        return int.from_bytes(answer[:2], sys.byteorder) != fcntl.F_UNLCK


def make_directory(path: str) -> None:
    """Make a directory that only we can write to; raises OSError if the path is anything else."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        status = os.lstat(path)
    except FileNotFoundError:  # another call has just removed it
        return
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        number = errno.EACCES if os.geteuid() else errno.ENOTDIR  # root may use it
        raise OSError(number, "it is not a directory, or belongs to another user", path)


def _flock_structure(kind: int, byte: int = 0, size: int = 0) -> bytes:
    """Return a struct flock: type, whence, start, length (0 for all that follows), process."""
    return pack("hhqqi", kind, os.SEEK_SET, byte, size, 0)
