"""What this machine provides: capabilities, and the kernel's ipvlan module.

Only failures and the command line use this; a successful call does not need it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cni_ipvlan.start.namedtuple import NamedTuple

# <linux/capability.h>: CAP_NET_ADMIN changes links, CAP_NET_RAW is arping's, CAP_SYS_ADMIN enters
# namespaces, and CAP_SYS_PTRACE opens those of other processes.
_BITS = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
ALWAYS_NEEDED = ("CAP_NET_ADMIN", "CAP_SYS_ADMIN")
TO_SEE_ALL = (*ALWAYS_NEEDED, "CAP_SYS_PTRACE")  # namespaces of this node
_MODPROBE_DIRECTORIES = ("etc/modprobe.d", "run/modprobe.d", "usr/lib/modprobe.d")

LOADED = "loaded"
AVAILABLE = "available"
BLOCKED = "blocked"
ABSENT = "absent"
UNKNOWN = "unknown"


class Module(NamedTuple):
    """The state of ipvlan in this kernel: a constant of this module, and a sentence."""

    state: str
    text: str


def missing_capabilities(needed: Iterable[str] = ALWAYS_NEEDED) -> list[str]:
    """Return those of the ``needed`` capabilities that this process lacks."""
    with open("/proc/self/status", "rb") as file:
        line = next(line for line in file if line.startswith(b"CapEff:"))
    effective = int(line.split()[1], 16)
    return [name for name in needed if not effective >> _BITS[name] & 1]


def why_not_permitted(needed: Iterable[str] = ALWAYS_NEEDED) -> str:
    """Return a phrase that says which of the ``needed`` capabilities this process lacks."""
    missing = missing_capabilities(needed)
    if missing:
        return f"this process lacks {' and '.join(missing)}"
    return "no capability is missing; a user namespace, seccomp or AppArmor may forbid it"


def ipvlan_module(root: str = "/") -> Module:
    """Return whether the running kernel has ipvlan, without loading the module."""
    release = os.uname().release
    if os.path.exists(os.path.join(root, "sys/module/ipvlan")):
        return Module(LOADED, f"Linux {release} has the module ipvlan loaded")
    directory = os.path.join(root, "lib/modules", release)
    if _lists_ipvlan(os.path.join(directory, "modules.builtin")):
        return Module(LOADED, f"Linux {release} has ipvlan built in")
    if not os.path.exists(os.path.join(directory, "modules.dep")):
        return Module(UNKNOWN, f"{directory} has no list of modules")
    if not _lists_ipvlan(os.path.join(directory, "modules.dep")):
        return Module(ABSENT, f"{directory} has no module ipvlan")
    file = next(_find_blocking_files(root), None)
    if file:
        return Module(BLOCKED, f"{directory} has the module ipvlan, but {file} blocks it")
    return Module(AVAILABLE, f"{directory} has the module ipvlan, which is not loaded")


def _lists_ipvlan(file: str) -> bool:
    try:
        with open(file, "rb") as lines:
            return any(b"/ipvlan.ko" in line.partition(b":")[0] for line in lines)
    except OSError:
        return False


def _find_blocking_files(root: str) -> Iterator[str]:
    for directory in _MODPROBE_DIRECTORIES:
        path = os.path.join(root, directory)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            file = os.path.join(path, name)
            if name.endswith(".conf") and os.path.isfile(file):
                with open(file, "rb") as lines:
                    words = [line.split()[:2] for line in lines]
                if [b"blacklist", b"ipvlan"] in words or [b"install", b"ipvlan"] in words:
                    yield file
