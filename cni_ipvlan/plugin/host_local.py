"""The IPAM plugin host-local: its ranges, and its store.

The store is a directory with a file for each leased address, which names the container.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from cni_ipvlan.cni.errors import NOT_AVAILABLE, CniError
from cni_ipvlan.config.netconf import Path, lease_directory
from cni_ipvlan.start.namedtuple import Any, NamedTuple

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network

_MOST_LEASE = 4096  # bytes


class Lease(NamedTuple):
    """A lease: its file, its address, and its owner; ``ifname`` is empty in old files."""

    file: str
    address: str
    container_id: str
    ifname: str


def leases(store: str) -> list[Lease]:
    """Return the leases in a directory, in the order of their addresses."""
    found_leases = []
    for address in sorted(addresses(store), key=lambda each: (each.version, int(each))):
        file = os.path.join(store, str(address))
        with suppress(OSError):  # it has just been released
            container_id, ifname, *_ = *_read_lines(file), ""
            found_leases.append(Lease(file, str(address), container_id, ifname))
    return found_leases


def addresses(store: str) -> list[Address]:
    """Return the addresses that are leased in a directory, which may not exist."""
    found_addresses = []
    for name in os.listdir(store) if os.path.isdir(store) else ():
        with suppress(ValueError):  # host-local's own: lock, last_reserved_ip.0
            found_addresses.append(ip_address(name))
    return found_addresses


class Range(NamedTuple):
    """A range of a subnet, including both ends; containers don't get the ``gateway``.

    ``path`` is its place in a configuration, if that is needed.
    """

    subnet: Subnet
    first: Address
    last: Address
    gateway: Address | None
    path: Path = ()

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def contains(self, address: Address) -> bool:
        """Whether an address is in the range, which may be the gateway."""
        is_between = int(self.first) <= int(address) <= int(self.last)
        return is_between and address.version == self.first.version

    def overlaps(self, other: Range) -> bool:
        """Whether both have an address in common."""
        return self.contains(other.first) or other.contains(self.first)

    def capacity(self) -> int:
        """Return how many addresses containers can get."""
        has_gateway = self.gateway is not None and self.contains(self.gateway)
        return int(self.last) - int(self.first) + 1 - has_gateway


def ranges(ipam: Mapping[str, Any]) -> list[list[Range]]:
    """Return the sets of ranges in a configuration; a container gets an address from each.

    What host-local refuses is left out.
    """
    sets = [[ipam]] if ipam.get("subnet") else []
    entries = ipam.get("ranges")
    if isinstance(entries, list):
        sets += [each for each in entries if isinstance(each, list)]
    return [list(_parse_ranges(each)) for each in sets]


def lowest_addresses(ipam: Mapping[str, Any]) -> list[Address]:
    """Return the first address of each range that a container can get."""
    all_ranges = (each for ranges_of_set in ranges(ipam) for each in ranges_of_set)
    return [each.first + (each.first == each.gateway) for each in all_ranges if each.capacity()]


def _parse_ranges(entries: list[Any]) -> Iterator[Range]:
    for entry in entries:
        with suppress(AttributeError, TypeError, ValueError, IndexError):
            subnet = ip_network(entry.get("subnet"))
            defaults = subnet[1], subnet[-2 if subnet.version == 4 else -1]  # noqa: PLR2004 IP's version
            values = (entry.get(key) for key in ("rangeStart", "rangeEnd", "gateway"))
            first, last, gateway = (
                ip_address(value or default)
                for value, default in zip(values, (*defaults, defaults[0]), strict=True)
            )
            if first in subnet and last in subnet and int(first) <= int(last):
                yield Range(subnet, first, last, gateway)


class Usage(NamedTuple):
    """How much of a set of ranges is leased; ``capacity`` does not count gateways."""

    ranges: str
    leased: int
    capacity: int


def usage(config: Mapping[str, Any]) -> list[Usage]:
    """Return the usage of each set of ranges, from which a container gets one address."""
    leased: dict[int, list[int]] = {4: [], 6: []}
    for address in sorted(addresses(lease_directory(config)), key=int):
        leased[address.version].append(int(address))

    def count_leased(each: Range) -> int:  # found by bisection: there may be thousands of both
        numbers = leased[each.first.version]
        return bisect_right(numbers, int(each.last)) - bisect_left(numbers, int(each.first))

    return [
        Usage(
            ", ".join(str(each.subnet) for each in group),
            sum(map(count_leased, group)),
            sum(each.capacity() for each in group),
        )
        for group in ranges(config["ipam"])
        if group
    ]


def check_capacity(config: Mapping[str, Any]) -> None:
    """Raise CniError if all addresses of a set of ranges are leased."""
    for each in usage(config):
        if each.leased >= each.capacity:
            raise CniError(
                NOT_AVAILABLE,
                f"host-local has no address left: {each.leased} of {each.capacity} are leased",
                f"the leases are files in {lease_directory(config)}\ntry: GC releases those of "
                "containers that are gone; or enlarge the range",
            )


def _read_lines(file: str) -> list[str]:
    # Not blocking: the directory is named by a network's author, and may have a FIFO.
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = os.read(descriptor, _MOST_LEASE)
    finally:
        os.close(descriptor)
    # Not split(): the kernel takes Unicode's spaces in an interface's name.
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    return [line.strip(" \t\r") for line in lines]
