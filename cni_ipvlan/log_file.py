"""Open log files, and directories of captures.

Both quote the network configuration, which a tenant may have written, and root writes
them. Appended to the wrong file (/etc/ld.so.preload, another tenant's lease), log entries
would let the tenant become root. So a network may only name what lies directly in one
directory that only root can write to. CNI_IPVLAN_LOG and CNI_IPVLAN_CAPTURE are root's choice.
"""

import errno
import os
import stat
from collections.abc import Callable

DIRECTORY = "/var/log/cni-ipvlan"

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_RESERVED_SUFFIXES = (".json", ".jsonl")  # runtimes read the former, people replay the latter
_Fits = Callable[[os.stat_result], bool]
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: opening a pipe that has no reader would block.
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


def fault(name: str) -> str:
    """Return why a network may not name that log file or directory; empty if it may."""
    base = name.removeprefix(f"{DIRECTORY}/")
    is_valid = base[:1] not in ("", ".", "-") and _NAME_CHARACTERS.issuperset(base)
    if is_valid and not base.endswith(_RESERVED_SUFFIXES):
        return ""
    return (
        f"a network may only name what lies directly in {DIRECTORY}, with letters, digits, . _ - "
        "in its name, which neither begins with . or - nor ends in .json or .jsonl"
    )


def open_file(name: str, *, is_roots_choice: bool) -> int:
    """Open a log file for appending, and create it; raises OSError with the reason."""
    if is_roots_choice:
        return _open(name, _APPEND, _is_file, "it must be a regular file")
    rule = "it must be a regular file that belongs to root and has one link"
    return _open_in_logs(name, _APPEND, _is_roots_single_file, rule)


def open_directory(name: str, *, is_roots_choice: bool) -> int:
    """Open a directory of captures; raises OSError with the reason."""
    if is_roots_choice:
        return os.open(name, _LIST)
    return _open_in_logs(name, _LIST, _is_private, "only root may be able to write to it")


def _open_in_logs(name: str, flags: int, fits: _Fits, rule: str) -> int:
    """Open what a network names, without following a symlink."""
    if why := fault(name):
        raise PermissionError(errno.EPERM, why)
    advice = f"only root may be able to write to {DIRECTORY}; try: install -d -m 0700 {DIRECTORY}"
    logs = _open(DIRECTORY, _LIST | os.O_NOFOLLOW, _is_private, advice)
    try:
        base = name.removeprefix(f"{DIRECTORY}/")
        return _open(base, flags | os.O_NOFOLLOW, fits, rule, logs)
    finally:
        os.close(logs)


def _open(path: str, flags: int, fits: _Fits, rule: str, directory: int | None = None) -> int:
    try:
        descriptor = os.open(path, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; {rule}") from None
    if fits(os.fstat(descriptor)):
        return descriptor
    os.close(descriptor)
    raise PermissionError(errno.EPERM, rule)


def _is_file(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)


def _is_roots_single_file(status: os.stat_result) -> bool:
    return _is_file(status) and _is_roots(status) and status.st_nlink == 1


def _is_private(status: os.stat_result) -> bool:
    return _is_roots(status) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_roots(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())
