"""Problems in the configuration of the IPAM plugin host-local."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.validate import addresses
from cni_ipvlan.cli.validate.addresses import Around
from cni_ipvlan.cli.validate.problem import Problem, misspelt_for_go
from cni_ipvlan.cli.validate.ranges import RANGE, as_list, is_large_enough, sets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cni_ipvlan.cli.reading import Path
    from cni_ipvlan.cli.validate.addresses import Subnet
    from cni_ipvlan.cli.validate.ranges import Entry, Range


def in_ranges(
    config: dict[str, Any], ipam: dict[str, Any], needed: Collection[int]
) -> Iterator[Problem]:
    """Yield the problems in the ranges; ``needed`` has the families whose gateway routes need."""
    yield from _form(ipam)
    found = sets(ipam)
    if not found and not _may_be_given(config):
        yield Problem(("ipam",), "host-local needs a subnet or ranges")
    elif "subnet" not in ipam:
        for key in RANGE[1:]:
            if ipam.get(key):
                text = f"{key} is ignored, since it is not in one of the ranges"
                yield Problem(("ipam", key), text)
    sound: list[tuple[Entry, Range]] = []
    for group in found:
        ranges = []
        for entry in group:
            wrong = [*_subnet(entry), *_ends(entry), *_gateway(entry, needed)]
            yield from wrong
            given = entry.range
            if given is not None and all(each.is_warning for each in wrong):
                ranges.append((entry, given))
        yield from _set(group, ranges)
        for each in ranges:
            yield from _overlap(each, sound)
            sound.append(each)


def _may_be_given(config: dict[str, Any]) -> bool:
    """Whether a runtime hands ranges to the plugin."""
    parts = (config.get("capabilities"), config.get("runtimeConfig"))
    return any(isinstance(part, dict) and part.get("ipRanges") for part in parts)


def _form(ipam: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is not a list of lists of ranges, and misspelt keys of these."""
    path: Path = ("ipam", "ranges")
    ranges = ipam.get("ranges")
    if not isinstance(ranges, list) and ranges is not None:
        yield Problem(path, 'ranges must be a list of lists: [[{"subnet": …}]]')
    for number, group in enumerate(as_list(ranges)):
        if not isinstance(group, list) or not group:
            text = 'each of the ranges must be a list with ranges: [[{"subnet": …}]]'
            yield Problem((*path, number), text)
        for index, entry in enumerate(as_list(group)):
            if isinstance(entry, dict):
                yield from misspelt_for_go(entry, RANGE, (*path, number, index))
            else:
                yield Problem((*path, number, index), 'a range must be an object: {"subnet": …}')


def _subnet(entry: Entry) -> Iterator[Problem]:
    given = entry.given.get("subnet")
    path = (*entry.path, "subnet")
    found = addresses.interface(given)
    if found is None:
        yield Problem(path, f"subnet is {given!r}; a prefix is needed")
    elif found.ip != found.network.network_address:
        text = f"subnet is {given}, which has host bits; the subnet is {found.network}"
        yield Problem(path, text)
    elif not is_large_enough(found.network):
        least = found.max_prefixlen - 2
        yield Problem(path, f"subnet is {given}; host-local needs a /{least} or larger")


def _ends(entry: Entry) -> Iterator[Problem]:
    subnet = entry.subnet
    for key in ("rangeStart", "rangeEnd"):
        if subnet is not None and entry.given.get(key) not in (None, ""):
            yield from _end(entry, key, subnet)
    start, end = entry.end("rangeStart"), entry.end("rangeEnd")
    if start is not None and end is not None and int(start) > int(end):
        text = f"rangeEnd is {end}, before rangeStart {start}"
        yield Problem((*entry.path, "rangeEnd"), text)


def _end(entry: Entry, key: str, subnet: Subnet) -> Iterator[Problem]:
    path = (*entry.path, key)
    found = entry.end(key)
    if found is None:
        yield Problem(path, f"{key} is {entry.given[key]!r}; an address is needed")
    elif found not in subnet:
        yield Problem(path, f"{key} is {found}, outside the subnet {subnet}")
    else:
        why, works = addresses.unfit(found, subnet)
        if why:
            yield Problem(path, f"{key} is {found}, {why}; a container may get it", works)


def _gateway(entry: Entry, needed: Collection[int]) -> Iterator[Problem]:
    given, subnet = entry.given.get("gateway"), entry.subnet
    if given in (None, "") or subnet is None:
        return
    path = (*entry.path, "gateway")
    hop = addresses.address(given)
    if hop is not None and hop.version != subnet.version:
        yield Problem(path, f"gateway is {given} for the subnet {subnet}: two address families")
    else:
        is_needed = subnet.version in needed
        yield from addresses.next_hop(path, given, Around([subnet]), is_needed=is_needed)


def _set(group: list[Entry], ranges: list[tuple[Entry, Range]]) -> Iterator[Problem]:
    """Yield the problems of a set as a whole: two families, no address but the gateway's."""
    if len({each.first.version for _, each in ranges}) > 1:
        path = group[0].path[:-1]
        yield Problem(path, "a set of ranges has both IPv4 and IPv6; each needs a set of its own")
    has_room = any(each.room() for _, each in ranges)
    for entry, each in ranges:
        if not each.room():
            text = f"the range has no address but the gateway's, {each.gateway}"
            yield Problem(entry.path, text, has_room)


def _overlap(new: tuple[Entry, Range], others: list[tuple[Entry, Range]]) -> Iterator[Problem]:
    entry, one = new
    for _, other in others:
        if one.overlaps(other):
            yield Problem(entry.path, f"the range {one.span} overlaps with {other.span}")
            return
