"""Find the ends that a word names: the host, an address, a namespace, a container or a pod."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import click

from cni_ipvlan.cli import configs, options
from cni_ipvlan.cli.attachments import matches_container
from cni_ipvlan.cli.connectivity.topology import Port, Side, Topology, is_address
from cni_ipvlan.cni import request
from cni_ipvlan.iproute import commands, namespace
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.state.attachment import describe_container

_MOST_NAMED = 10  # containers that an error lists


class End(NamedTuple):
    """One end of a connection.

    ``side`` is None for an address elsewhere; ``port`` is None for that, and for the host.
    ``is_exact`` is whether a word has named the address.
    """

    name: str
    addresses: Sequence[str]
    side: Side | None = None
    port: Port | None = None
    is_exact: bool = False


def find_ends(
    topology: Topology, word: str, ifname: str = "", near: Port | None = None
) -> list[End]:
    """Return what a word names: the host, an address, the interfaces of a container.

    Unless one is called ``ifname``, these are its ipvlan interfaces, or else those with an
    address; raises UsageError if there are none. Of several with one address it is that on the
    network of ``near``.
    """
    netns = topology.namespaces_by_word.get(word)
    if word == "host" or (netns and netns.identity == namespace.own_identity()):
        return [End("the host", topology.host.addresses, topology.host)]
    if is_address(word):
        address = options.address(word)
        segment = near.segment if near else topology.ports
        holders = topology.find_holders(address)
        if not holders:
            return [End(address, [address], is_exact=True)]
        port = min(
            holders, key=lambda e: (e not in segment, not e.link.is_up, not e.link.is_ipvlan)
        )
        if port.side is topology.host:
            return [End("the host", [address], topology.host, is_exact=True)]
        holder = None if port.is_loopback else port
        return [End(port.description, [address], port.side, holder, is_exact=True)]
    side = _find_side(topology, word, netns)
    ports = [each for each in topology.ports if each.side is side]
    if not ports:
        raise click.UsageError(_explain_unknown(topology, word, netns, side))
    candidates = (
        [each for each in ports if each.link.name == ifname]
        or [each for each in ports if each.link.is_ipvlan]
        or [each for each in ports if each.addresses]
        or ports
    )
    if candidates[1:]:
        # The first should be on the network of the other end, or else have the default route.
        segment = near.segment if near else {}
        argvs = (commands.route_show("default", family=each) for each in ("-4", "-6"))
        devices = [each.get("dev") for argv in argvs for each in candidates[0].side.entries(*argv)]
        candidates.sort(key=lambda e: (e not in segment, e.link.name not in devices))
    return [End(each.description, each.addresses, each.side, each) for each in candidates]


def _find_side(topology: Topology, word: str, netns: Namespace | None) -> Side | None:
    """Return the side that a word names; raises UsageError if it names several.

    What root or libcni recorded comes before other containers, then whole names before others.
    """
    sides = {each.netns.identity: each for each in topology.sides if each.netns}
    if netns:
        return sides.get(netns.identity)
    matches: dict[tuple[bool, bool], dict[Side, str]] = defaultdict(dict)
    for side, container_id, pod, is_recorded in _list_containers(topology, sides):
        if matches_container(container_id, pod, word):
            text = f"{describe_container(container_id, pod)} in {side}"
            matches[is_recorded, word in (container_id, pod)][side] = text
    best = matches[max(matches)] if matches else {}
    if len(best) > 1:
        containers = "; ".join(sorted(best.values())[:_MOST_NAMED])
        advice = "give NAMESPACE/NAME, the whole ID or the namespace"
        raise click.UsageError(f"{word!r} is {len(best)} containers: {containers}; {advice}")
    return next(iter(best), None)


def _list_containers(
    topology: Topology, sides: dict[tuple[int, int], Side]
) -> Iterator[tuple[Side, str, str, bool]]:
    """Yield sides with a container's ID, its pod, and whether root or libcni recorded that."""
    for port in topology.ports:
        if port.owner and port.side.netns:
            pod = port.record.pod if port.record else ""
            yield port.side, port.owner.container_id, pod, port.record is not None
    for _, result in configs.read_cache():
        with suppress(OSError, TypeError, ValueError, KeyError):  # it is gone, or malformed
            args = ";".join(map("=".join, result.get("cniArgs") or ()))
            side = sides[namespace.identity_of(result["netns"])]
            yield side, str(result.get("containerId", "")), request.pod({"CNI_ARGS": args}), True


def _explain_unknown(
    topology: Topology, word: str, netns: Namespace | None, side: Side | None
) -> str:
    if topology.missing_capabilities:
        return f"only root can look into containers, such as {word!r}: use sudo"
    if topology.omissions and side is None:
        return f"{word!r} was not found; {topology.omission_text}"
    for each in topology.records.values():
        names = (each.netns, os.path.basename(each.netns))
        is_match = word in names or matches_container(each.container_id, each.pod, word)
        if namespace.leads_to(netns.path, each.netns_identity) if netns else is_match:
            text = f"{each.ifname} of the container {each.container_id} is gone, or hidden"
            return f"{text}; ipvlan show lists what is left of it"
    if netns:
        return f"there is no interface with an address in {netns.path}"
    kinds = "host, an address, a namespace, a container's ID, or a pod"
    return f"{word!r} is not {kinds}; ipvlan show lists them"
