"""Which end a word names: the host, an address, a namespace, a container or a pod."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import click

from cni_ipvlan.cli import configs, options
from cni_ipvlan.cli.attachments import matches_container
from cni_ipvlan.cli.connectivity.world import Port, Side, World, is_address
from cni_ipvlan.cni import request
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.state.attachment import describe_container

_NAMED = 10  # of many


class End(NamedTuple):
    """One end; ``side`` is None for an address elsewhere, ``port`` for one and for the host.

    ``is_exact`` is whether a word has named the address.
    """

    name: str
    addresses: Sequence[str]
    side: Side | None = None
    port: Port | None = None
    is_exact: bool = False


def named(world: World, word: str, ifname: str = "", near: Port | None = None) -> list[End]:
    """Return what a word names: the host, an address, the interfaces of a container.

    Unless one is called ``ifname``, these are its ipvlan interfaces, or else those with an
    address; raises UsageError if there are none. Of several with one address it is that on the
    network of ``near``.
    """
    netns = world.meant.get(word)
    if word == "host" or (netns and netns.identity == namespace.own()):
        return [End("the host", world.host.usual, world.host)]
    if is_address(word):
        address = options.address(word)
        joined = near.joined if near else world.ports
        holders = world.holders(address)
        if not holders:
            return [End(address, [address], is_exact=True)]
        port = min(holders, key=lambda each: (each not in joined, not each.link.is_ipvlan))
        if port.side is world.host:
            return [End("the host", [address], world.host, is_exact=True)]
        on = None if port.is_loopback else port
        return [End(port.described, [address], port.side, on, is_exact=True)]
    side = _called(world, word, netns)
    inside = [each for each in world.ports if each.side is side]
    if not inside:
        raise click.UsageError(_why_unknown(world, word, netns, side))
    of_name = [each for each in inside if each.link.name == ifname]
    ours = [each for each in inside if each.link.is_ipvlan]
    found = of_name or ours or [each for each in inside if each.link.addresses] or inside
    if found[1:]:
        # The first should be on the network of the other end, or lead to most others.
        beside = near.joined if near else {}
        argvs = (commands.route_show("default", family=each) for each in ("-4", "-6"))
        main = [each.get("dev") for argv in argvs for each in found[0].side.entries(*argv)]
        found = sorted(found, key=lambda e: (e not in beside, e.link.name not in main))
    return [End(each.described, each.usual, each.side, each) for each in found]


def _called(world: World, word: str, netns: Namespace | None) -> Side | None:
    """Return what a word names, by whole names and root's records first; raises UsageError."""
    sides = {each.netns.identity: each for each in world.sides if each.netns}
    if netns:
        return sides.get(netns.identity)
    found: dict[tuple[bool, bool], dict[Side, str]] = defaultdict(dict)
    for side, container_id, pod, is_recorded in _containers(world, sides):
        if matches_container(container_id, pod, word):
            text = f"{describe_container(container_id, pod)} in {side}"
            found[is_recorded, word in (container_id, pod)][side] = text
    best = found[max(found)] if found else {}
    if len(best) > 1:
        listed = "; ".join(sorted(best.values())[:_NAMED])
        give = "give NAMESPACE/NAME, the whole ID or the namespace"
        raise click.UsageError(f"{word!r} is {len(best)} containers: {listed}; {give}")
    return next(iter(best), None)


def _containers(
    world: World, sides: dict[tuple[int, int], Side]
) -> Iterator[tuple[Side, str, str, bool]]:
    """Yield sides with a container's ID, its pod, and whether root or libcni recorded that."""
    for port in world.ports:
        if port.owner and port.side.netns:
            pod = port.record.pod if port.record else ""
            yield port.side, port.owner.container_id, pod, port.record is not None
    for _, kept in configs.read_cache():
        with suppress(OSError, TypeError, ValueError, KeyError):  # it is gone, or of no form
            args = ";".join(map("=".join, kept.get("cniArgs") or ()))
            side = sides[namespace.identity_of(kept["netns"])]
            yield side, str(kept.get("containerId", "")), request.pod({"CNI_ARGS": args}), True


def _why_unknown(world: World, word: str, netns: Namespace | None, side: Side | None) -> str:
    if world.missing:
        return f"only root can look into containers, such as {word!r}: use sudo"
    if world.unseen and side is None:
        return f"{word!r} was not found; {world.not_looked}"
    for each in world.recorded.values():
        path = netns.path if netns else each.netns
        names_of = (path, os.path.basename(path))
        is_meant = word in names_of or matches_container(each.container_id, each.pod, word)
        if (netns or is_meant) and namespace.leads_to(path, each.netns_identity):
            text = f"{each.ifname} of the container {each.container_id} is gone from {path}"
            return f"{text}; delete the attachment"
        if is_meant and not netns:
            text = f"the container {each.container_id} is gone, or hidden"
            return f"{text}: {path} does not lead there; ipvlan show lists what is left of it"
    if netns:
        return f"there is no interface with an address in {netns.path}"
    known = "host, an address, a namespace, a container's ID, or a pod"
    return f"{word!r} is not {known}; ipvlan show lists them"
