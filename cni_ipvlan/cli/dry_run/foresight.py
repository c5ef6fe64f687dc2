"""Failures of an ADD that a dry run can foresee, where the kernel or host-local's leases tell.

They are reported as ADD reports them.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_interface
from shlex import join
from typing import TYPE_CHECKING

from cni_ipvlan.cli import leases
from cni_ipvlan.cli.dry_run import answer
from cni_ipvlan.cli.validate.ipam import Ipam
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import explain, features, inventory, preflight
from cni_ipvlan.plugin.find_master import find_master

if TYPE_CHECKING:
    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.dry_run import Plan
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.plugin.node import Node

_TAKEN = b"Error: Address already assigned to an ipvlan device."  # ipvlan_addr4_validator_event()
_HOST_LOCALS_CODE = 999  # of every failure of host-local


def expected_master(node: Node, request: Request) -> Master:
    """Return the master that a call would use; raises CniError if there is none."""
    conf = netconf.parse(request.config, request.version)
    tx = node.begin()
    parent = find_master(tx, conf, preflight.container_namespace(request))
    for feature in features.configured(conf):
        parent = feature.expected(tx, parent, conf)
    return parent


def check_addresses(node: Node, parent: Master, plan: Plan) -> None:
    """Raise CniError if another interface of the master has a known address of a plan."""
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
                failure = explain.as_cni_error(_refused(steps[address]))
                failure.add_private(f"found: {address} belongs to {each.describe()}")
                raise failure


def _refused(step: Command) -> CommandError:
    return CommandError(step, Completed(2, b"", _TAKEN, 0.0))


def check_leases(request: Request, plan: Plan, allocation: Command) -> None:
    """Raise CniError if host-local has no address left, or has given the attachment one."""
    verbs = [(step.parameters or {}).get("CNI_COMMAND") for step in plan.changes]
    if netconf.ipam_type(request.config) != "host-local" or "DEL" in verbs:
        return
    # host-local itself reports values that it can't use.
    with suppress(OSError, ValueError, TypeError, KeyError):
        refusal = _refusal(request)
        if refusal:
            error = CniError(_HOST_LOCALS_CODE, refusal)
            error.add_details(f"command: {join(allocation.full_argv)}")
            for advice in explain.advice(request, "host-local", error):
                error.add_details(f"try: {advice}")
            raise error


def _refusal(request: Request) -> str:
    """Return what host-local would say, in its words; empty if it has an address."""
    config = request.config
    own = leases.of_attachment(config, request.container_id, request.ifname)
    usage = leases.usage(config)
    for number, ranges in enumerate(Ipam(config).sets):
        start = f"failed to allocate for range {number}: "
        for address in own:
            if any(each.holds(address) for each in ranges):
                return (
                    f"{start}{address} has been allocated to {request.container_id}, duplicate "
                    "allocation is not allowed"
                )
        if usage[number].leased >= usage[number].room:
            names = ",".join(f"{each.first}-{each.last}" for each in ranges)
            return f"{start}no IP addresses available in range set: {names}"
    return ""
