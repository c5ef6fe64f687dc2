"""Problems in the configuration of the IPAM plugin static."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.validate import addresses
from cni_ipvlan.cli.validate.addresses import Around
from cni_ipvlan.cli.validate.problem import Problem, as_go_reads, misspelt_for_go

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cni_ipvlan.cli.reading import Path
    from cni_ipvlan.cli.validate.addresses import Interface

OPTIONS = ("type", "addresses", "routes", "dns")
_ADDRESS = ("address", "gateway")
_ENTRIES: Path = ("ipam", "addresses")


def own_addresses(entries: list[dict[str, Any]]) -> list[Interface]:
    """Return the valid addresses among its entries."""
    found = (addresses.interface(entry.get("address")) for entry in entries)
    return [each for each in found if each is not None]


def gateways(entries: list[dict[str, Any]]) -> set[int]:
    """Return the families that have a gateway."""
    found = (addresses.address(entry.get("gateway")) for entry in entries)
    return {each.version for each in found if each is not None}


def in_entries(
    config: dict[str, Any], entries: list[dict[str, Any]], needed: Collection[int]
) -> Iterator[Problem]:
    """Yield the problems in the entries of ``addresses``.

    ``needed`` has the families with routes that need a gateway.
    """
    if not entries and not _may_be_given(config):
        text = "static has no addresses, so ADD needs some in CNI_ARGS (IP=…) or in args.cni.ips"
        yield Problem(
            _ENTRIES if "addresses" in config["ipam"] else ("ipam",), text, is_warning=True
        )
    own = own_addresses(entries)
    around = Around([each.network for each in own], [each.ip for each in own])
    for index, entry in enumerate(entries):
        path: Path = (*_ENTRIES, index)
        yield from misspelt_for_go(entry, _ADDRESS, path)
        yield from _address(entry, path)
        yield from _gateway(as_go_reads(entry, ("gateway",)), path, around, needed)
    yield from _repeated(entries)


def _may_be_given(config: dict[str, Any]) -> bool:
    """Whether a runtime that has addresses for a container hands them to the plugin."""
    parts = (config.get("capabilities"), config.get("runtimeConfig"))
    return any(isinstance(part, dict) and part.get("ips") for part in parts)


def _address(entry: dict[str, Any], path: Path) -> Iterator[Problem]:
    given = entry.get("address")
    path = (*path, "address")
    own = addresses.interface(given)
    if own is None:
        text = f"address is {given!r}; an address with a prefix length is needed"
        yield Problem(path, text)
    elif own.ip.is_unspecified or own.ip.is_multicast or own.ip.is_loopback:
        yield Problem(path, f"address is {given}; no interface but lo can have it")
    else:
        why, works = addresses.unfit(own, own.network)
        if why:
            yield Problem(path, f"address is {given}, {why}", works)


def _gateway(
    entry: dict[str, Any], path: Path, around: Around, needed: Collection[int]
) -> Iterator[Problem]:
    given, own = entry.get("gateway"), addresses.interface(entry.get("address"))
    if given in (None, "") or own is None:
        return
    path = (*path, "gateway")
    hop = addresses.address(given)
    if hop is not None and hop.version != own.version:
        yield Problem(path, f"gateway is {given} for the address {own}: two address families")
    else:
        yield from addresses.next_hop(path, given, around, is_needed=own.version in needed)


def _repeated(entries: list[dict[str, Any]]) -> Iterator[Problem]:
    """Yield the addresses that are there twice; the kernel refuses them unless all is the same."""
    seen: dict[object, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        own = addresses.interface(entry.get("address"))
        if own is None:
            continue
        first = seen.setdefault(own.ip, entry)
        if first is not entry:
            text = f"address is {entry['address']}; {own.ip} was given before"
            yield Problem((*_ENTRIES, index, "address"), text, first == entry)
