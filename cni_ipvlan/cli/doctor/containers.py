"""Check a container's namespace, and an interface's name in it."""

from __future__ import annotations

from collections.abc import Iterator

from cni_ipvlan.cli.doctor.tools import Tools
from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.iproute import commands, namespace, queries
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin.inventory import Owners
from cni_ipvlan.state.attachment import described


def examine(tools: Tools, network: str) -> Iterator[Finding]:
    """Yield the findings about a given container; ``network`` may be empty."""
    place, ifname = tools.container, tools.ifname
    if place is None:
        return
    if place.identity == namespace.own():
        text = f"{place.path} is the host's namespace, not a container's"
        yield Finding(PROBLEM, "namespace", text)
        return
    links = queries.links(tools.tx.run(Command(commands.link_show_all(), inside=place)).stdout)
    names = ", ".join(link.name for link in links)
    yield Finding(OK, "namespace", f"{place.path} has the interfaces {names}")
    owners = Owners(tools.registry.all_hints())
    for link in links if ifname else ():
        owner = owners.of(link, place)
        is_renamed = owner is not None and owner.ifname == ifname and link.name != ifname
        if ifname not in (link.name, *link.alternative_names) and not is_renamed:
            continue
        text = f"{ifname} is there, of kind {link.kind or 'physical or built-in'}"
        text += f", but is called {link.name} now" if is_renamed else ""
        if owner is not None:
            whose = described(owner.container_id, owners.pod_of(owner, place))
            text += f": the {whose} in the network {owner.network}"
        state = WARNING if owner is not None and network in ("", owner.network) else PROBLEM
        advice = (
            "an ADD of that name is refused; delete the interface first, or choose another name"
        )
        yield Finding(state, "interface", text, advice)
        return
    if ifname:
        yield Finding(OK, "interface", f"the name {ifname} is free in {place.path}")
