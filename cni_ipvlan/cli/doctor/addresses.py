"""Check a network's addresses against those of the host and of containers on its master."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli import attachments
from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding
from cni_ipvlan.cli.validate import of_host
from cni_ipvlan.plugin import inventory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_ipvlan.cli.doctor.tools import Tools
    from cni_ipvlan.cli.validate.addresses import Address
    from cni_ipvlan.cli.validate.ranges import Range
    from cni_ipvlan.config.netconf import NetConf
    from cni_ipvlan.plugin.inventory import Attachment
    from cni_ipvlan.plugin.master import Master


def examine(
    tools: Tools, config: dict[str, Any], conf: NetConf, master: Master
) -> Iterator[Finding]:
    """Yield the findings about the addresses that a sound configuration gives out.

    Of other IPAM plugins than static and host-local, the configuration does not say them.
    """
    if conf.ipam_type not in ("static", "host-local"):
        return
    static = list(map(_ip, _static(config, "address")))
    if master.home is None:
        for _, text, advice in of_host.clashes(config, master):
            yield Finding(PROBLEM, "addresses", text, advice)
        own = [ip_address(each) for each in master.addresses]
        if conf.mode == "l2":  # the other modes send nothing to a gateway
            yield from _gateways(own, config, master.link.name)
    if static:
        yield from _of_containers(tools, conf, master, static)


def _gateways(own: list[Address], config: dict[str, Any], master: str) -> Iterator[Finding]:
    """Yield the findings about the next hops of the network's routes."""
    routes = _entries(config, "routes")
    hops = [str(each["gw"]) for each in routes if each.get("gw")]
    if len(hops) < len(routes):  # the others get the gateway
        hops += [each for each in _static(config, "gateway") if each]
        hops += [str(each.gateway) for each in _ranges(config)]
    for gateway in dict.fromkeys(map(ip_address, hops)):
        if gateway in own:
            text = (
                f"the gateway {gateway} is the host's own address on {master}, which its ipvlan "
                "containers can't reach"
            )
            advice = "use the network's router as gateway"
            yield Finding(PROBLEM, "addresses", text, advice)


def _of_containers(
    tools: Tools, conf: NetConf, master: Master, static: list[Address]
) -> Iterator[Finding]:
    taken = False
    for each in inventory.on_master(inventory.take(tools.tx, tools.registry), master):
        for address in static:
            if address in map(_ip, each.addresses) and not _is_given(tools, each):
                taken = True
                yield _taken(tools, conf, address, each)
    if not taken:
        text = f"no container on {master.link.name} has {', '.join(map(str, static))}"
        yield Finding(OK, "addresses", text)


def _is_given(tools: Tools, attachment: Attachment) -> bool:
    """Whether it is the attachment that the person asks about."""
    if tools.container is None or attachment.place is None:
        return False
    is_there = attachment.place.identity == tools.container.identity
    return is_there and tools.ifname in (attachment.link.name, "")


def _taken(tools: Tools, conf: NetConf, address: Address, holder: Attachment) -> Finding:
    """Return the finding that a container has the address, perhaps as it should."""
    owner = holder.owner
    is_expected = owner is not None and owner.network == conf.name and tools.container is None
    return Finding(
        WARNING if is_expected else PROBLEM,
        "addresses",
        f"{address} belongs to {holder.describe()}, so an ADD of another container fails",
        "give each container an address of its own",
    )


def _ranges(config: dict[str, Any]) -> Iterator[Range]:
    if config["ipam"]["type"] == "host-local":
        for ranges in attachments.ranges(config):
            yield from ranges


def _static(config: dict[str, Any], key: str) -> list[str]:
    entries = _entries(config, "addresses") if config["ipam"]["type"] == "static" else []
    return [str(each.get(key) or "") for each in entries]


def _entries(config: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = config["ipam"].get(key)
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _ip(address: str) -> Address:
    return ip_interface(address).ip
