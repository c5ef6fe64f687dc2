"""Check a container's namespace, and an interface's name in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.state.attachment import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.doctor.tools import Tools
    from cni_ipvlan.iproute.namespace import Namespace


def find(netns: str) -> Namespace | Finding:
    """Return the namespace at a path, or the finding that it is not a container's."""
    try:
        place = namespace.find(netns)
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return Finding(PROBLEM, "namespace", f"{netns}: {why}")
    if place.identity == namespace.own():
        text = f"{netns} is the host's namespace, not a container's"
        return Finding(PROBLEM, "namespace", text)
    return place


def examine(tools: Tools, place: Namespace, network: str) -> Iterator[Finding]:
    """Yield the findings about a namespace; ``network`` may be empty, as may ``tools.ifname``."""
    shown = tools.tx.run(Command(commands.link_show_all(), inside=place)).stdout
    links = queries.links(shown)
    names = ", ".join(link.name for link in links)
    yield Finding(OK, "namespace", f"{place.path} has the interfaces {names}")
    ifname = tools.ifname
    if not ifname:
        return
    owners = Owners(tools.registry.all_hints())
    for link in links:
        owner = owners.of(link, place)
        is_renamed = owner is not None and owner.ifname == ifname and link.name != ifname
        if ifname not in (link.name, *link.alternative_names) and not is_renamed:
            continue
        text = f"{ifname} is there, of kind {link.kind or 'physical or built-in'}"
        text += f", but is called {link.name} now" if is_renamed else ""
        if owner is not None:
            whose = described(owner.container_id, owners.pod_of(owner, place))
            text += f": the {whose} in the network {owner.network}"
        is_expected = owner is not None and network in ("", owner.network)
        yield Finding(
            WARNING if is_expected else PROBLEM,
            "interface",
            text,
            "an ADD of that name is refused; delete the interface first, or choose another name",
        )
        return
    yield Finding(OK, "interface", f"the name {ifname} is free in {place.path}")
