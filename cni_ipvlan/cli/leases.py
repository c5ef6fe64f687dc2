"""How many addresses host-local has leased, and how many it has in all."""

from __future__ import annotations

import os
from contextlib import suppress
from ipaddress import IPv4Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.plugin.explain import lease_directory

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    Address = IPv4Address | IPv6Address


_FEWEST = 4  # addresses of a subnet: its own, the gateway's, the broadcast's, a container's


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
    return [_usage(each, leased) for each in ranges(config)]


def ranges(config: dict[str, Any]) -> list[list[Range]]:
    """Return the sets of ranges in a configuration of host-local whose addresses are valid.

    A subnet of less than four addresses is left out, as host-local refuses it.
    """
    ipam = config["ipam"]
    sets = [[ipam]] if "subnet" in ipam else []
    sets += [each for each in ipam.get("ranges") or () if isinstance(each, list)]
    found = [[_range(entry) for entry in each if isinstance(entry, dict)] for each in sets]
    return [[each for each in one if each is not None] for one in found]


def of_attachment(config: dict[str, Any], container_id: str, ifname: str) -> list[Address]:
    """Return the addresses that an attachment has leased: lines of its ID and interface."""
    place = lease_directory(config)
    named = [container_id.encode("utf-8", "surrogateescape"), os.fsencode(ifname)]
    found = []
    for address in _addresses(os.listdir(place) if os.path.isdir(place) else []):
        with suppress(OSError), open(os.path.join(place, str(address)), "rb") as file:
            if file.read().split() == named:
                found.append(address)
    return found


def holds(config: dict[str, Any], container_id: str) -> bool:
    """Whether a container has a lease of a network."""
    place = lease_directory(config)
    for name in os.listdir(place) if os.path.isdir(place) else ():
        with suppress(OSError), open(os.path.join(place, name), "rb") as file:
            if file.readline().strip() == container_id.encode("utf-8", "surrogateescape"):
                return True
    return False


class Range(NamedTuple):
    """A range of host-local: its subnet, its first and last address, and the gateway."""

    subnet: str
    first: Address
    last: Address
    gateway: Address

    def holds(self, address: Address) -> bool:
        """Whether an address is in the range; a container gets it unless it is the gateway."""
        is_between = int(self.first) <= int(address) <= int(self.last)
        return address.version == self.first.version and is_between

    def room(self) -> int:
        """Return how many addresses containers can get."""
        return int(self.last) - int(self.first) + 1 - self.holds(self.gateway)


def _usage(of: list[Range], leased: list[Address]) -> Usage:
    taken = [address for address in leased if any(each.holds(address) for each in of)]
    names = ", ".join(each.subnet for each in of)
    return Usage(names, len(taken), sum(each.room() for each in of))


def _range(entry: dict[str, Any]) -> Range | None:
    network = ip_network(entry["subnet"], strict=False)
    if network.num_addresses < _FEWEST:
        return None
    broadcasts = 1 if isinstance(network, IPv4Network) else 0
    return Range(
        str(network),
        ip_address(entry.get("rangeStart") or network[1]),
        ip_address(entry.get("rangeEnd") or network[-1 - broadcasts]),
        ip_address(entry.get("gateway") or network[1]),
    )


def _addresses(names: list[str]) -> list[Address]:
    found = []
    for name in names:
        try:
            found.append(ip_address(name))
        except ValueError:  # host-local's own: lock, last_reserved_ip.0
            continue
    return found
