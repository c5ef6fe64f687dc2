"""Failures of an ADD that a dry run can foresee, where the kernel or host-local's leases tell."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_interface

from cni_ipvlan.cli import attachments
from cni_ipvlan.cli.dry_run import answer
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import explain, inventory
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node

_TAKEN = b"Error: Address already assigned to an ipvlan device."  # ipvlan_addr4_validator_event()
_HOST_LOCALS_CODE = 999  # of every failure of host-local


def check_addresses(node: Node, parent: Master, plan: Plan) -> None:
    """Raise CniError, as ADD does, if another interface of the master has a planned address."""
    steps = {
        ip_interface(step.argv[3]).ip: step
        for step in plan.changes
        if step.argv[:3] == ("ip", "address", "add") and not answer.loop_over(step.argv)[0]
    }
    if not steps:
        return
    for each in inventory.on_master(inventory.take(node.begin(), node.registry), parent):
        for address in (ip_interface(has).ip for has in each.addresses):
            if address in steps:
                refused = CommandError(steps[address], Completed(2, b"", _TAKEN, 0.0))
                failure = explain.as_cni_error(refused)
                failure.add_private(f"found: {address} belongs to {each.describe()}")
                raise failure


def check_leases(request: Request, plan: Plan) -> None:
    """Raise CniError if host-local has no address left, or has given the attachment one."""
    config, own = request.config, (request.container_id, request.ifname)
    is_released = any((step.parameters or {}).get("CNI_COMMAND") == "DEL" for step in plan.changes)
    if netconf.ipam_type(config) != "host-local" or is_released:
        return
    # host-local itself reports values that it can't use.
    with suppress(OSError, ValueError, TypeError, KeyError):
        leases = explain.lease_directory(config)
        ranges = [each for group in attachments.ranges(config) for each in group]
        for each in attachments.in_directory(leases):
            is_used = any(one.holds(ip_address(each.address)) for one in ranges)
            if is_used and (each.container_id, each.ifname) == own:
                msg = f"host-local has leased {each.address} to {request.container_id} already"
                advice = f"delete the container's attachment first; its lease is in {leases}"
                raise CniError(_HOST_LOCALS_CODE, msg, f"try: {advice}")
        for usage in attachments.usage(config):
            if usage.leased >= usage.room:
                count = f"{usage.leased} of {usage.room} addresses"
                msg = f"host-local has leased {count} of {usage.ranges}"
                advice = f"delete the leases of containers that are gone from {leases}"
                raise CniError(_HOST_LOCALS_CODE, msg, f"try: {advice}, or enlarge the range")
