"""The masters on this node, and the ipvlan interfaces they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute import commands, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import inventory
from cni_ipvlan.plugin import master as plugin_master

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cni_ipvlan.iproute.queries import Link
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.state.registry import Registry


class Master(NamedTuple):
    """A master and what it carries; ``link`` is None if it is not on the host."""

    name: str
    link: Link | None
    attachments: Sequence[Attachment]


def look(tx: Transaction, registry: Registry, unseen: Callable[[str], None]) -> list[Master]:
    """Return the masters on this node; ``unseen`` is called with each place that can't be read."""
    host = queries.links(tx.see(Command(commands.link_show_all())))
    found: dict[str, list[Attachment]] = {}
    for each in inventory.take(tx, registry, unseen=unseen):
        found.setdefault(_master_name(each, host), []).append(each)
    by_name = {link.name: link for link in host}
    return [Master(name, by_name.get(name), found[name]) for name in sorted(found)]


def _master_name(attachment: Attachment, host: Sequence[Link]) -> str:
    link, place = attachment.link, attachment.place
    for master in host:
        if plugin_master.Master(master).carries(link, place):
            return master.name
    if link.parent:
        return f"{link.parent} in {place.path}" if place else link.parent
    return f"interface {link.parent_index} of another namespace"


def lines(masters: Sequence[Master]) -> list[str]:
    """Return the lines of the tree."""
    if not masters:
        return ["no ipvlan interfaces"]
    drawn = []
    for master in masters:
        drawn.append(_head(master))
        last = master.attachments[-1]
        for each in master.attachments:
            drawn.append(f"{'└─' if each is last else '├─'} {_attachment(each)}")
    return drawn


def _head(master: Master) -> str:
    parts = []
    if master.link is not None:
        parts.append("up" if master.link.is_up else styled("down", fg="red"))
        parts.append(f"MTU {master.link.mtu}")
    parts.append(f"mode {master.attachments[0].link.mode} {master.attachments[0].link.flag}")
    return f"{styled(master.name, bold=True)}  {', '.join(parts)}"


def _attachment(attachment: Attachment) -> str:
    parts = [styled(attachment.link.name, fg="cyan")]
    parts.append(f"in {attachment.place.path}" if attachment.place else "on the host")
    if attachment.link.kind != "ipvlan":
        parts.append(attachment.link.kind)
    if attachment.owner:
        parts += [f"pod {attachment.pod}"] if attachment.pod else []
        parts.append(f"container {attachment.owner.container_id}")
    if not attachment.link.is_up:
        parts.append(styled("down", fg="red"))
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
                    "netns": each.place.path if each.place else None,
                    "kind": each.link.kind,
                    "containerID": each.owner.container_id if each.owner else None,
                    "network": each.owner.network if each.owner else None,
                    "pod": each.pod or None,
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
