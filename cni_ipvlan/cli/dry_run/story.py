"""Make a call as a dry run."""

from __future__ import annotations

from collections.abc import Callable

from cni_ipvlan.cli.dry_run import answer, foresight
from cni_ipvlan.cli.dry_run.plan import DryRun, is_allocation
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.cni.result import Result
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute.dry_run import Plan
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import features, perform, preflight
from cni_ipvlan.plugin.addressing import LEAST_MTU_OF_IPV6
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.node import Node, id_of

_Begin = Callable[[Plan, Result], Node]


def make(request: Request, begin: _Begin, ipam_result: Result | None) -> DryRun:
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
    conf, tx = netconf.parse(request.config, request.version), looking.begin()
    parent = find_master(tx, conf, preflight.container_namespace(request))
    for feature in features.configured(conf):
        parent = feature.expected(tx, parent, conf)
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
    foresight.check_leases(request, plan)
    mtu = delivered[0].interfaces[-1].mtu or 0
    made = made._replace(
        reader=answer.reader(conf, request.version, mtu, parent),
        has_older=any(hint.is_complete for hint in node.registry.hints_of(id_of(request))),
    )
    return _for_both_families(made, request, begin) if mtu >= LEAST_MTU_OF_IPV6 else made


def _for_both_families(made: DryRun, request: Request, begin: _Begin) -> DryRun:
    """Make a dry run again for an answer with IPv6 as well: what only this one does is for that."""
    plan = Plan(answer.STAND_INS)
    delivered: list[Result] = []
    silent = Log(lambda _text: None, {})  # the first one has warned already
    again = begin(plan, answer.FOR_BOTH)._replace(listener=silent)
    perform(again, request, delivered.append)
    of_ipv4 = [(change.argv, change.inside, change.stdin) for change in made.plan.changes]
    return made._replace(
        plan=plan,
        result=results.render(delivered[0], request.version),
        ipv6_only=[
            change
            for change in plan.changes
            if (change.argv, change.inside, change.stdin) not in of_ipv4
        ],
    )
