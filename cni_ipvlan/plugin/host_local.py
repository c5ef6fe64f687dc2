"""The store of the IPAM plugin host-local: a file for each address, with whose it is."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import ip_address

from cni_ipvlan.start.namedtuple import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address, IPv6Address

DIRECTORY = "/var/lib/cni/networks"  # its default
_MOST_LEASE = 4096  # bytes


class Lease(NamedTuple):
    """A lease: its file, the address, and whose it is; ``ifname`` is empty in old files."""

    file: str
    address: str
    container_id: str
    ifname: str


def directory(config: Mapping[str, object]) -> str:
    """Return where a network's leases are."""
    ipam = config.get("ipam")
    base = ipam.get("dataDir") if isinstance(ipam, dict) else None
    return f"{base or DIRECTORY}/{config.get('name')}"


def leases(place: str) -> list[Lease]:
    """Return the leases in a directory, in the order of their addresses."""
    found = []
    for address in sorted(addresses(place), key=lambda each: (each.version, int(each))):
        file = os.path.join(place, str(address))
        with suppress(OSError):  # it has just been released
            container_id, ifname, *_ = *_lines(file), "", ""
            found.append(Lease(file, str(address), container_id, ifname))
    return found


def addresses(place: str) -> list[IPv4Address | IPv6Address]:
    """Return the addresses that are leased in a directory, which may be none."""
    found = []
    for name in os.listdir(place) if os.path.isdir(place) else ():
        with suppress(ValueError):  # host-local's own: lock, last_reserved_ip.0
            found.append(ip_address(name))
    return found


def _lines(file: str) -> list[str]:
    # Not blocking: the directory is named by a network's author, and may have a FIFO.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = os.read(descriptor, _MOST_LEASE)
    finally:
        os.close(descriptor)
    # Not split(): the kernel takes Unicode's spaces in an interface's name.
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    return [line.strip(" \t\r") for line in lines]
