"""Find and open network namespaces, by their files."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl

from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.start.namedtuple import NamedTuple

_NS_GET_NSTYPE = 0xB703  # <linux/nsfs.h>
_NS_GET_USERNS = 0xB701
_CLONE_NEWNET = 0x40000000  # <linux/sched.h>
_INODES = range(0xF0000000, 1 << 32)  # from PROC_DYNAMIC_FIRST, fs/proc/generic.c
_NAMES_DIRECTORY = "/var/run/netns"  # iproute2's NETNS_RUN_DIR; /var/run is /run


class NotANamespaceError(IprouteError):
    """A path that does not lead to a network namespace."""


class Namespace(NamedTuple):
    """A network namespace: its path as given, its name for ``ip netns``, its identity.

    ``name`` is empty if it has none. ``identity`` (device, inode) is the same for
    every path to the namespace.
    """

    path: str
    name: str
    identity: tuple[int, int]


def find(path: str) -> Namespace:
    """Return the namespace at ``path``.

    Raises OSError if it can't be opened, NotANamespaceError if it is something else.
    """
    if path and not path.startswith("/"):
        # "ip link set … netns 7" would mean the namespace of process 7.
        raise NotANamespaceError("it is not an absolute path")
    with _open(path) as descriptor:
        if ioctl(descriptor, _NS_GET_NSTYPE) != _CLONE_NEWNET:
            raise NotANamespaceError("it is a namespace, but not a network namespace")
        return Namespace(path, _find_name(path), identity_of(descriptor))


@contextmanager
def keep_open(netns: Namespace) -> Iterator[str]:
    """Keep a namespace open; raises OSError if its path leads to another one by now.

    Yield a path to it by its descriptor, which leads to it whatever happens to its own path.
    """
    with _open(netns.path) as descriptor:
        if identity_of(descriptor) != netns.identity:
            raise FileNotFoundError(errno.ENOENT, "the namespace was replaced", netns.path)
        # A path through this process, so that children need not inherit the descriptor.
        yield f"/proc/{own_process()}/fd/{descriptor}"


@contextmanager
def _open(path: str) -> Iterator[int]:
    """Open a namespace of any kind, and nothing else.

    A user who has mounted it, or has it open, may replace it by a link to /dev/watchdog: a minute
    after that was opened, the machine would restart.
    """
    reference = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if identity_of(reference)[0] != own_identity()[0]:
            raise NotANamespaceError("it is not a namespace")
        descriptor = os.open(f"/proc/self/fd/{reference}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reference)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def own_process() -> str:
    """Return our process's number in /proc, which may be that of another PID namespace."""
    return os.readlink("/proc/self")


def pid_namespace_of(path: str) -> int:
    """Return the inode of the PID namespace whose processes /proc shows, for a path there; else 0.

    It is also 0 if that may not be read.
    """
    with suppress(OSError):
        return identity_of("/proc/1/ns/pid")[1] if path.startswith("/proc/") else 0
    return 0


def own_identity() -> tuple[int, int]:
    """Return the identity of the caller's own network namespace."""
    return identity_of("/proc/self/ns/net")


def own_has_link(name: str) -> bool:
    """Whether the caller's own namespace has a link of that name; cheaper than running ip."""
    with open("/proc/self/net/dev", "rb") as file:
        return any(os.fsencode(name) == line.partition(b":")[0].strip() for line in file)


def leads_to(path: str, identity: tuple[int, int]) -> bool:
    """Whether an absolute path (still) leads to that namespace; any other string does not."""
    try:
        return path.startswith("/") and identity_of(path) == identity
    except (OSError, ValueError):  # it has a NUL or can't be encoded
        return False


def is_hidden(path: str) -> bool:
    """Whether we may not look where a path leads: of a process with more capabilities than ours."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):  # it leads nowhere
        pass
    return False


def identity_of(path: str | int) -> tuple[int, int]:
    """Return (device, inode) of the namespace at a path or descriptor; raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def find_others(deadline: float = math.inf) -> Iterator[Namespace]:
    """Yield every other network namespace that can be found, each once.

    Each has a name, or a thread is in it, or a process has it open or mounted. Those that
    may not be opened are left out. The search ends at ``deadline``, a time of the monotonic clock:
    a process may have a million files open.
    """
    seen = {own_identity()}
    for path in _list_candidates(deadline):
        with suppress(OSError, NotANamespaceError):  # gone, not permitted, another file
            if identity_of(path) not in seen and (netns := find(path)).identity not in seen:
                seen.add(netns.identity)
                yield netns


def find_containers(seconds: float = math.inf) -> dict[tuple[int, int], Namespace]:
    """Return what ``find_others`` finds in a time and may be a container's, by the identity.

    One in which only a thread is, as the DHCP daemon has for each lease, is none.
    """
    found = find_others(time.monotonic() + seconds)
    return {each.identity: each for each in found if "/task/" not in each.path}


def _list_candidates(deadline: float) -> Iterator[str]:
    """Yield paths of network namespaces, and a few others."""
    yield from _list_children("/run/netns")
    processes = [path for path in _list_children("/proc") if os.path.basename(path).isdecimal()]
    for process in processes:
        yield f"{process}/ns/net"
    mounts_seen = set()
    for process in processes:
        for thread in _list_children(f"{process}/task"):
            yield f"{thread}/ns/net"
        for descriptor in _list_children(f"{process}/fd"):
            if time.monotonic() >= deadline:
                return
            with suppress(OSError):  # it is closed
                if _may_be_namespace(descriptor):
                    yield descriptor
        with suppress(OSError):  # not permitted, or it has ended
            mounts = os.readlink(f"{process}/ns/mnt")
            if mounts not in mounts_seen:
                mounts_seen.add(mounts)
                # In a mount namespace of their own, any user may mount anything, very often.
                if is_of_our_user(f"{process}/ns/mnt"):
                    yield from _list_mounts(process)


def _may_be_namespace(descriptor: str) -> bool:
    """Whether an open file may be a namespace.

    For one opened by its path, fdinfo has the inode, since Linux 5.14: stat(2) may hang on a file
    system that does not answer.
    """
    target = os.readlink(descriptor)
    if not target.startswith("/"):
        return target.startswith("net:[")
    with open(descriptor.replace("/fd/", "/fdinfo/"), "rb") as file:
        inodes = [int(line[4:]) for line in file if line.startswith(b"ino:")]
    return not inodes or inodes[0] in _INODES


def _list_mounts(process: str) -> Iterator[str]:
    """Yield the paths where a process has network namespaces mounted: proc_pid_mountinfo(5)."""
    with open(f"{process}/mountinfo", "rb") as file:
        lines = [line.split(b" ") for line in file]
    for words in lines:
        if words[3].startswith(b"net:["):
            # White space and backslashes are written as octal numbers.
            path = words[4].decode("unicode_escape").encode("latin-1")
            yield f"{process}/root{os.fsdecode(path)}"


def _list_children(directory: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(directory) as entries:
        yield from (entry.path for entry in entries)


def is_of_our_user(path: str) -> bool:
    """Whether our own user namespace owns a namespace, not one that any user could make."""
    try:
        with _open(path) as file, open(ioctl(file, _NS_GET_USERNS), "rb") as owner:
            return identity_of(owner.fileno()) == identity_of("/proc/self/ns/user")
    except (OSError, NotANamespaceError):  # gone, or owned by a parent of our user namespace
        return False


def _find_name(path: str) -> str:
    directory, name = os.path.split(path)
    with suppress(OSError):
        if os.path.samefile(directory, _NAMES_DIRECTORY):
            return name
    return ""
