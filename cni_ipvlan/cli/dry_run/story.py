"""Make a call as a dry run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_ipvlan.cli.dry_run import answer, foresight
from cni_ipvlan.cli.dry_run.plan import DryRun, is_allocation
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import perform
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.node import id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.plugin.master import Master
    from cni_ipvlan.plugin.node import Node

    Begin = Callable[[Plan, Result], Node]


def make(request: Request, begin: Begin, ipam_result: Result | None) -> DryRun:
    """Make a call as a dry run; raises CniError if the call would certainly fail.

    ``begin`` returns a node that fills a plan, and takes a result for the IPAM plugin's.
    ``ipam_result`` is that result if it is known; the plugin is not called then. A failed CHECK
    is not raised, as what it looked at shows why.
    """
    plan, failure = Plan(answer.STAND_INS), None
    delivered: list[Result] = []
    node = begin(plan, ipam_result or answer.FOR_IPV4)
    try:
        perform(node, request, delivered.append)
    except CniError as error:
        if error.code != CHECK_FAILED:
            raise
        failure = error
    made = DryRun(request.environment, plan, failure=failure)
    if request.command == "CHECK":
        return made._replace(looks=plan.queries)
    if not delivered:
        return made
    looking = begin(Plan(), ipam_result or answer.FOR_IPV4)  # assumes nothing
    parent = foresight.expected_master(looking, request)
    foresight.check_addresses(looking, parent, plan)
    made = made._replace(result=results.render(delivered[0], request.version))
    allocation = next(filter(is_allocation, plan.changes), None)
    if allocation is None:
        return made
    if ipam_result is not None:
        plan.changes.remove(allocation)
        plan.assumptions.append(
            f"the result given with --ipam-result is allocated; {allocation.argv[0]} is not called"
        )
        return made
    foresight.check_leases(request, plan, allocation)
    return _for_any_answer(made, parent, node, request, begin, delivered[0])


def _for_any_answer(
    made: DryRun, parent: Master, node: Node, request: Request, begin: Begin, expected: Result
) -> DryRun:
    """Make the dry run again for an answer with both families, unless IPv6 can't work.

    What only the second one does is for IPv6.
    """
    mtu = expected.interfaces[-1].mtu or 0
    conf = netconf.parse(request.config, request.version)
    made = made._replace(
        reader=answer.reader(conf, request.version, mtu, parent),
        has_older=any(hint.is_complete for hint in node.registry.hints_of(id_of(request))),
    )
    if mtu < LEAST_MTU_OF_IPV6:
        return made
    both = Plan(answer.STAND_INS)
    delivered: list[Result] = []
    again = begin(both, answer.FOR_BOTH)._replace(listener=Log(lambda _text: None, {}))
    perform(again, request, delivered.append)  # which has warned already
    of_ipv4 = {_identity(change) for change in made.plan.changes}
    return made._replace(
        plan=both,
        result=results.render(delivered[0], request.version),
        ipv6_only=[change for change in both.changes if _identity(change) not in of_ipv4],
    )


def _identity(change: Command) -> object:
    return change.argv, change.inside, change.stdin
