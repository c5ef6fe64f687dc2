"""Which addresses host-local has leased to whom, and how many it has in all."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, NamedTuple

from cni_ipvlan.cli.validate.ipam import Address, Ipam, Range
from cni_ipvlan.plugin.explain import lease_directory

_MOST_LEASE = 4096  # bytes


class Usage(NamedTuple):
    """How much of a set of ranges is leased; ``room`` does not count gateways."""

    ranges: str
    leased: int
    room: int


def usage(config: dict[str, Any]) -> list[Usage]:
    """Return the usage of each set of ranges in a valid configuration.

    A container gets one address from each set.
    """
    place = lease_directory(config)
    leased = _addresses(os.listdir(place) if os.path.isdir(place) else [])
    return [_usage(each, leased) for each in Ipam(config).sets]


class Lease(NamedTuple):
    """A lease: its file, the address, and whose it is; ``ifname`` is empty in old files."""

    file: str
    address: str
    container_id: str
    ifname: str


def in_directory(place: str) -> list[Lease]:
    """Return the leases in a directory of host-local, in the order of their addresses.

    A lease is a file named after the address, with the container's ID and the interface's name.
    """
    names = os.listdir(place) if os.path.isdir(place) else []
    found = []
    for address in sorted(_addresses(names), key=lambda each: (each.version, int(each))):
        file = os.path.join(place, str(address))
        with suppress(OSError):  # it has just been released
            container_id, ifname, *_ = *_lines(file), "", ""
            found.append(Lease(file, str(address), container_id, ifname))
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


def of_attachment(config: dict[str, Any], container_id: str, ifname: str) -> list[Address]:
    """Return the addresses that an attachment has leased."""
    return [
        ip_address(lease.address)
        for lease in in_directory(lease_directory(config))
        if (lease.container_id, lease.ifname) == (container_id, ifname)
    ]


def holds(config: dict[str, Any], container_id: str) -> bool:
    """Whether a container has a lease of a network."""
    found = in_directory(lease_directory(config))
    return any(lease.container_id == container_id for lease in found)


def _usage(of: list[Range], leased: list[Address]) -> Usage:
    taken = [address for address in leased if any(each.holds(address) for each in of)]
    names = ", ".join(str(each.subnet) for each in of)
    return Usage(names, len(taken), sum(each.room() for each in of))


def _addresses(names: list[str]) -> list[Address]:
    found = []
    for name in names:
        try:
            found.append(ip_address(name))
        except ValueError:  # host-local's own: lock, last_reserved_ip.0
            continue
    return found
