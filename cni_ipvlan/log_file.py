"""Open log files, and directories of captures, without following others' symlinks.

Both quote the network configuration, which a tenant may have written, and root writes
them. Appended to the wrong file (/etc/ld.so.preload, another tenant's lease), log entries
would let the tenant become root. So a network may name them only in one place.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DIRECTORY = "/var/log/cni-ipvlan"  # only root may write here; networks may name files below it

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_OF_CAPTURES = ".json"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # in one path, the kernel's own limit: path_resolution(7)
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that has no reader would block.
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class UnfitError(Exception):
    """A file or directory that must not be written to; the message says why."""


def fault(name: str, *, is_log: bool) -> str:
    """Return why a network may not name that log file, or else directory; empty if it may."""
    rule = f"a network may only name a file or directory below {DIRECTORY}"
    if name.startswith("/") and not name.startswith(f"{DIRECTORY}/"):
        return rule
    if not all(map(_is_plain, _below(name))):
        return f"{rule}, with letters, digits, . _ - in its path, and no part beginning with . or -"
    if is_log and name.endswith(_OF_CAPTURES):
        return f"{rule}; only a capture's name ends in {_OF_CAPTURES}"
    return ""


def _is_plain(part: str) -> bool:
    return part[:1] not in ("", ".", "-") and _PLAIN.issuperset(part)


def open_for_network(name: str) -> int:
    """Open a log file that a network names, for appending; create the file, not directories.

    Raises UnfitError, OSError. From DIRECTORY on, no symlinks are followed, and
    everything must belong to root and be writable only by root.
    """
    *directories, file = _parts(name, is_log=True)
    with _Place() as place:
        place.enter_logs(directories)
        return place.open(file)


def directory_for_network(name: str) -> int:
    """Open a directory that a network names; the same rules apply."""
    with _Place() as place:
        place.enter_logs(_parts(name, is_log=False))
        return place.open_itself()


def open_for_administrator(path: str) -> int:
    """Open a log file anywhere, for appending; the path may contain symlinks.

    Raises UnfitError, OSError. Every directory and symlink on the path must
    belong to root, and no symlink may be in a directory that others can write to.
    """
    _check_absolute(path)
    parent, _, file = path.rpartition("/")
    with _Place() as place:
        place.follow(parent)
        return place.open(file)


def directory_for_administrator(path: str) -> int:
    """Open a directory anywhere; the same rules apply, and only root may write to it."""
    _check_absolute(path)
    with _Place() as place:
        place.follow(path)
        place.check_private(path)
        return place.open_itself()


def reason(error: Exception) -> str:
    """Return why a file can't be used, as a phrase."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename!r}" if error.filename else error.strerror
    return str(error)


def _parts(name: str, *, is_log: bool) -> list[str]:
    why = fault(name, is_log=is_log)
    if why:
        raise UnfitError(why)
    return _below(name)


def _check_absolute(path: str) -> None:
    if not path.startswith("/"):
        raise UnfitError("an absolute path is needed")


def _below(name: str) -> list[str]:
    return name.removeprefix(f"{DIRECTORY}/").split("/")


class _Place:
    """A directory, at first the root directory.

    Paths are followed entry by entry, since the kernel would follow a symlink
    through directories that were not checked.
    """

    def __init__(self) -> None:
        self._descriptor = os.open("/", _ENTRY)

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def follow(self, path: str) -> None:
        """Go where a path leads, following symlinks."""
        _check_owner(os.fstat(self._descriptor), "the directory")
        names = path.split("/")
        links = 0
        while names:
            name = names.pop(0)
            if not name:
                continue
            status = self._look(name)
            if not stat.S_ISLNK(status.st_mode):
                self.enter(name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = self._target(name, status)
            if target.startswith("/"):
                self._go(os.open("/", _ENTRY))
            names[:0] = target.split("/")

    def enter(self, name: str) -> None:
        """Enter a subdirectory; it must belong to root and not be a symlink."""
        below = os.open(name, _ENTRY, dir_fd=self._descriptor)
        self._go(below)
        status = os.fstat(below)
        if stat.S_ISLNK(status.st_mode):
            raise UnfitError(f"{name!r} is a symlink")
        if not stat.S_ISDIR(status.st_mode):
            raise UnfitError(f"{name!r} is not a directory")
        _check_owner(status, repr(name))

    def enter_logs(self, directories: Iterable[str]) -> None:
        """Enter DIRECTORY and subdirectories, none of which others can write to."""
        parent, _, own = DIRECTORY.rpartition("/")
        try:
            self.follow(parent)
            self.enter_private(own)
        except FileNotFoundError:
            advice = f"try: install -d -m 0700 {DIRECTORY}"
            raise UnfitError(f"there is no {DIRECTORY}; {advice}") from None
        for directory in directories:
            self.enter_private(directory)

    def enter_private(self, name: str) -> None:
        """Enter a subdirectory that only root can write to."""
        self.enter(name)
        self.check_private(name)

    def check_private(self, name: str) -> None:
        """Raise UnfitError if others can write to this directory, called ``name``."""
        if self._is_open_to_others():
            raise UnfitError(f"others can write to the directory {name!r}")

    def open_itself(self) -> int:
        """Open this directory for listing."""
        return os.open(".", _LIST, dir_fd=self._descriptor)

    def open(self, name: str) -> int:
        """Open a file in this directory for appending; create it if necessary."""
        with suppress(FileNotFoundError):
            # Check before opening, since opening a device may have side effects.
            _check_file(self._look(name))
        descriptor = os.open(name, _APPEND, 0o600, dir_fd=self._descriptor)
        try:
            _check_file(os.fstat(descriptor))
        except UnfitError:
            os.close(descriptor)
            raise
        return descriptor

    def _go(self, descriptor: int) -> None:
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)

    def _target(self, name: str, status: os.stat_result) -> str:
        if self._is_open_to_others():
            raise UnfitError(f"{name!r} is a symlink in a directory that others can write to")
        _check_owner(status, repr(name))
        return os.readlink(name, dir_fd=self._descriptor)

    def _is_open_to_others(self) -> bool:
        return bool(os.fstat(self._descriptor).st_mode & _OTHERS_MAY_WRITE)


def _check_file(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnfitError("it is a symlink")
    if not stat.S_ISREG(status.st_mode):
        raise UnfitError("it is not a regular file")
    _check_owner(status, "it")
    if status.st_nlink > 1:
        raise UnfitError("it has more than one hard link")


def _check_owner(status: os.stat_result, name: str) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise UnfitError(f"{name} does not belong to root")
