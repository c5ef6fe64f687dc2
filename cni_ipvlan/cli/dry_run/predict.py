"""Make a call as a dry run, with the failures of an ADD that it can foresee; and as JSON."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_interface
from typing import Any

from cni_ipvlan.cli import output
from cni_ipvlan.cli.dry_run import answer
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.cni.result import Result
from cni_ipvlan.config import netconf
from cni_ipvlan.iproute import machine
from cni_ipvlan.iproute.commands import OPTIONAL, Argv, Command
from cni_ipvlan.iproute.dry_run import Answers, Plan, identity
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import explain, host_local, inventory, perform
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.ipam import STATIC_PLUGINS
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node, attachment_id, find_container
from cni_ipvlan.plugin.status import expected_master

_Begin = Callable[[Plan], Node]
_TAKEN = b"Error: Address already assigned to an ipvlan device."  # ipvlan_addr4_validator_event()
_HOST_LOCALS_CODE = 999  # of every failure of host-local


@dataclass
class Prediction:
    """A call that was made as a dry run."""

    environment: Mapping[str, str]  # the call's, with the CNI variables
    plan: Plan  # the changes that it would make
    result: dict[str, Any] | None = None  # that ADD would have
    outcome: Result | None = None  # the same, parsed
    failure: CniError | None = None  # why a CHECK fails
    looks: Sequence[Command] = ()  # the queries of a CHECK
    # If the plan has stand-ins for the IPAM plugin's answer:
    reader: Argv = ()  # the command that reads it
    has_older: bool = False  # whether an earlier ADD of the attachment may have addresses, too
    only: dict[int, Collection[Command]] = field(default_factory=dict)  # changes for one family
    refused: dict[str, str] = field(default_factory=dict)  # why, unless a test succeeds


def make(request: Request, begin: _Begin, ipam_result: Result | None) -> Prediction:
    """Make a call as a dry run; raises CniError if the call would certainly fail.

    ``begin`` returns a node that fills a plan. ``ipam_result`` is the IPAM plugin's result if it is
    known; the plugin is not called then. A failed CHECK is not raised, as what it looked at shows
    why.
    """
    name = netconf.ipam_type(request.config) if request.command == "ADD" else ""
    is_open = name not in ("", *STATIC_PLUGINS) and not ipam_result
    known = (answer.FOR_BOTH, answer.FOR_IPV6, answer.FOR_IPV4) if is_open else (ipam_result,)
    answers: Answers = {}
    runs = [_run(request, begin, each, answers) for each in known]
    made = next((run for run in runs if not run.failure), runs[-1])
    if made.failure and made.failure.code != CHECK_FAILED:
        raise made.failure
    if request.command == "CHECK":
        made.looks = made.plan.queries
    if not made.outcome:
        return made
    made.result = results.render(made.outcome, request.version)
    looking = begin(Plan(answers=answers))  # assumes nothing
    conf = netconf.parse(request.config, request.version)
    tx = looking.begin()
    parent = expected_master(tx, conf, find_master(tx, conf, find_container(request)))
    _check_addresses(looking, parent, made.plan)
    allocation = next((each for each in made.plan.changes if is_allocation(made.plan, each)), None)
    if allocation and ipam_result:
        made.plan.changes.remove(allocation)
        is_not = f"{allocation.argv[0]} is not called"
        made.plan.assumptions.append(f"the result given with --ipam-result is allocated; {is_not}")
    elif allocation:
        _check_room(request, made.plan)
        mtu = made.outcome.interfaces[-1].mtu or 0
        made.reader = answer.reader(conf, request.version, mtu, parent)
        records = looking.registry.records_of(attachment_id(request))
        made.has_older = any(record.is_complete for record in records)
        _note_families(made, *runs)
    return made


def _run(request: Request, begin: _Begin, known: Result | None, answers: Answers) -> Prediction:
    """Make a dry run with one answer of the IPAM plugin."""
    plan = Plan({*answer.STAND_INS}, STATIC_PLUGINS, known, answers)
    made = Prediction(request.environment, plan)
    try:
        perform(begin(plan), request, partial(setattr, made, "outcome"))
    except CniError as error:
        made.failure = error
    return made


def _note_families(made: Prediction, both: Prediction, ipv6: Prediction, ipv4: Prediction) -> None:
    """Note which changes are only for addresses of one family, and which answers ADD refuses."""
    for family, without in ((4, ipv6), (6, ipv4)):
        others = {*map(identity, without.plan.changes)}
        if not without.failure:
            made.only[family] = [x for x in made.plan.changes if identity(x) not in others]
    tests = '[ -z "$ipv4" ] || [ -z "$ipv6" ]', '[ -n "$ipv4" ]', '[ -n "$ipv6" ]'
    for test, run in zip(tests, (both, ipv6, ipv4), strict=True):
        if run.failure:
            made.refused[test] = run.failure.msg


def _check_addresses(node: Node, parent: Master, plan: Plan) -> None:
    """Raise CniError, as ADD does, if another interface of the master has a planned address."""
    steps = {
        ip_interface(step.argv[3]).ip: step
        for step in plan.changes
        if step.argv[:3] == ("ip", "address", "add") and step.argv[3] not in answer.STAND_INS
    }
    found = inventory.search(node.begin(), node.registry) if steps else iter(())
    for each in inventory.select_of_master(found, parent):
        if (each.netns and each.netns.identity, each.link.name) in plan.removed:
            continue  # what a killed ADD has left
        for address in (ip_interface(has).ip for has in each.addresses):
            if address in steps:
                refused = CommandError(steps[address], Completed(2, b"", _TAKEN, 0.0))
                failure = explain.as_cni_error(refused)
                failure.add_private(f"found: {address} belongs to {each.describe()}")
                raise failure


def _check_room(request: Request, plan: Plan) -> None:
    """Raise CniError, as host-local does, if it has no address left."""
    is_released = any(step.parameters.get("CNI_COMMAND") == "DEL" for step in plan.changes)
    if netconf.ipam_type(request.config) != "host-local" or is_released:
        return
    try:
        with suppress(OSError, ValueError, TypeError, KeyError):  # which host-local itself reports
            host_local.check_capacity(request.config)
    except CniError as error:
        error.code = _HOST_LOCALS_CODE
        raise


def is_allocation(plan: Plan, change: Command) -> bool:
    """Whether a change lets an IPAM plugin allocate."""
    return change.parameters.get("CNI_COMMAND") == "ADD" and not plan.was_run(change)


def assumptions(plan: Plan) -> list[str]:
    """Return what the plan depends on but could not be checked."""
    found = list(plan.assumptions)
    module, missing = machine.ipvlan_module(), machine.missing_capabilities()
    is_used = any("ipvlan" in change.argv and "add" in change.argv for change in plan.changes)
    if is_used and module.state != machine.LOADED:
        found.append(f"the kernel has ipvlan, or can load it ({module.text})")
    if plan.changes and missing:
        found.append(f"you run this as root, or with {' and '.join(missing)}")
    return found


def document(made: Prediction) -> dict[str, Any]:
    """Return the steps as JSON, with the expected result."""
    return {
        "steps": [
            {
                "argv": list(step.entered_argv),
                "namespace": step.netns and step.netns.path,
                "purpose": step.purpose,
                "stdin": step.stdin.decode("utf-8", "replace") or None,
                "environment": step.parameters,
                "undo": [list(undo.command.full_argv) for undo in step.undo],
                "needed": step.accept != OPTIONAL,
                **{f"ipv{each}Only": step in made.only.get(each, ()) for each in (4, 6)},
                "run": made.plan.was_run(step) or step in made.looks,
            }
            for step in (*made.plan.changes, *made.looks)
        ],
        "assumptions": assumptions(made.plan),
        "result": made.result,
        "failure": output.failure_document(made.failure) if made.failure else None,
    }
