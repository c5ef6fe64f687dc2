"""The ranges of addresses in a configuration of host-local, as that plugin reads them."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.validate import addresses
from cni_ipvlan.cli.validate.problem import as_go_reads

if TYPE_CHECKING:
    from cni_ipvlan.cli.reading import Path
    from cni_ipvlan.cli.validate.addresses import Address, Subnet

RANGE = ("subnet", "gateway", "rangeStart", "rangeEnd")
OPTIONS = (*RANGE, "type", "ranges", "routes", "dataDir", "resolvConf")
_LEAST_ADDRESSES = 4  # of a subnet; host-local refuses a smaller one


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

    def overlaps(self, other: Range) -> bool:
        """Whether an address is in both."""
        return self.holds(other.first) or other.holds(self.first)

    @property
    def span(self) -> str:
        """The first and the last address."""
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"

    def room(self) -> int:
        """Return how many addresses containers can get."""
        return int(self.last) - int(self.first) + 1 - self.holds(self.gateway)


class Entry(NamedTuple):
    """A range, as its configuration gives it, and its place."""

    given: dict[str, Any]
    path: Path

    @property
    def subnet(self) -> Subnet | None:
        """The subnet, or None if host-local refuses it."""
        found = addresses.interface(self.given.get("subnet"))
        is_fit = found is not None and found.ip == found.network.network_address
        return found.network if found and is_fit and is_large_enough(found.network) else None

    def end(self, key: str) -> Address | None:
        """Return rangeStart or rangeEnd, if it is given."""
        return addresses.address(self.given.get(key))

    @property
    def range(self) -> Range | None:
        """The range, with host-local's defaults for what is not given; None without a subnet."""
        subnet = self.subnet
        if subnet is None:
            return None
        last = subnet[-2] if addresses.has_broadcast(subnet) else subnet[-1]
        gateway = addresses.address(self.given.get("gateway"))
        first, last = self.end("rangeStart") or subnet[1], self.end("rangeEnd") or last
        return Range(str(subnet), first, last, gateway or subnet[1])


def is_large_enough(subnet: Subnet) -> bool:
    """Whether host-local can allocate from a subnet; it also refuses IPv4 written as IPv6."""
    is_mapped = isinstance(subnet, IPv6Network) and subnet.network_address.ipv4_mapped is not None
    return subnet.num_addresses >= _LEAST_ADDRESSES and not is_mapped


def sets(ipam: dict[str, Any]) -> list[list[Entry]]:
    """Return the sets of ranges. A container gets one address from each."""
    ipam = as_go_reads(ipam, OPTIONS)
    found = [[Entry(ipam, ("ipam",))]] if "subnet" in ipam else []
    for number, group in enumerate(as_list(ipam.get("ranges"))):
        path: Path = ("ipam", "ranges", number)
        found.append(
            [
                Entry(as_go_reads(entry, RANGE), (*path, index))
                for index, entry in enumerate(as_list(group))
                if isinstance(entry, dict)
            ]
        )
    return found


def subnets(ipam: dict[str, Any]) -> list[Subnet]:
    """Return the valid subnets."""
    found = (entry.subnet for group in sets(ipam) for entry in group)
    return [each for each in found if each is not None]


def as_list(value: object) -> list[Any]:
    """Return a value that should be a list, or an empty one."""
    return value if isinstance(value, list) else []
