"""What runs on this node: masters, and the ipvlan interfaces that stand on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.runner import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction


class Attachment(NamedTuple):
    """An ipvlan interface and where it is; ``netns`` is empty for one on the host."""

    link: Link
    netns: str
    container_id: str
    addresses: Sequence[str]


class Master(NamedTuple):
    """A master and what stands on it; ``link`` is None when it is in no namespace seen."""

    name: str
    link: Link | None
    attachments: Sequence[Attachment]


def look(
    tx: Transaction, whose: Callable[[str, tuple[int, int]], str | None]
) -> tuple[list[Master], list[str]]:
    """Return the masters on this node, and the namespaces that could not be looked into.

    ``whose`` returns a container's ID for an interface's name and its namespace's identity.
    """
    host = {link.ifindex: link for link in queries.links(tx.read(commands.link_show_all()))}
    found: dict[str, list[Attachment]] = {}
    unseen = []
    for place in (None, *namespace.others()):
        try:
            output = tx.read(commands.address_show_kind("ipvlan"), inside=place)
        except CommandError as error:
            unseen.append(f"{place.path if place else 'the host'}: {error.answer}")
            continue
        for link, addresses in queries.links_with_addresses(output):
            master = _master_name(link, place, host)
            found.setdefault(master, []).append(
                Attachment(
                    link,
                    place.path if place else "",
                    (whose(link.name, place.identity) if place else None) or "",
                    [each.address for each in addresses],
                )
            )
    by_name = {link.name: link for link in host.values()}
    return [Master(name, by_name.get(name), found[name]) for name in sorted(found)], unseen


def _master_name(link: Link, place: Namespace | None, host: dict[int, Link]) -> str:
    if link.parent:
        return link.parent if place is None else f"{link.parent} in {place.path}"
    master = host.get(link.parent_index)
    return master.name if master else f"interface {link.parent_index} of another namespace"


def text(masters: Sequence[Master]) -> str:
    """Draw the tree."""
    if not masters:
        return "no ipvlan interfaces"
    lines = []
    for master in masters:
        mode = f"{master.attachments[0].link.mode} {master.attachments[0].link.flag}"
        if master.link is None:
            lines.append(f"{click.style(master.name, bold=True)}  mode {mode}")
        else:
            state = "up" if master.link.is_up else click.style("down", fg="red")
            name = click.style(master.name, bold=True)
            lines.append(f"{name}  {state}, MTU {master.link.mtu}, mode {mode}")
        for number, attachment in enumerate(master.attachments, start=1):
            branch = "└─" if number == len(master.attachments) else "├─"
            lines.append(f"{branch} {_attachment(attachment)}")
    return "\n".join(lines)


def _attachment(attachment: Attachment) -> str:
    parts = [click.style(attachment.link.name, fg="cyan")]
    parts.append(f"in {attachment.netns}" if attachment.netns else "on the host")
    if attachment.container_id:
        parts.append(f"container {attachment.container_id}")
    if not attachment.link.is_up:
        parts.append(click.style("down", fg="red"))
    parts.append(" ".join(attachment.addresses) or "no addresses")
    return "  ".join(parts)


def document(masters: Sequence[Master]) -> list[dict[str, Any]]:
    """Return the tree as JSON."""
    return [
        {
            "master": master.name,
            "up": master.link.is_up if master.link else None,
            "mtu": master.link.mtu if master.link else None,
            "mode": master.attachments[0].link.mode,
            "flag": master.attachments[0].link.flag,
            "attachments": [
                {
                    "interface": each.link.name,
                    "netns": each.netns or None,
                    "containerID": each.container_id or None,
                    "up": each.link.is_up,
                    "mtu": each.link.mtu,
                    "mac": each.link.mac,
                    "addresses": list(each.addresses),
                }
                for each in master.attachments
            ],
        }
        for master in masters
    ]
