"""Make a call as a dry run, with the failures of an ADD that it can foresee; and as JSON.

The answer of an IPAM plugin is not known then, so stand-ins are taken for addresses and routes. The
script lets the plugin answer, and takes the real ones from ``ipvlan ipam-answer``, which checks the
answer as ADD does.
"""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from cni_ipvlan.cli import configs, output
from cni_ipvlan.cli.options import command, option
from cni_ipvlan.cni import SUPPORTED_VERSIONS, delegate
from cni_ipvlan.cni import result as results
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.cni.result import Address, Result, Route
from cni_ipvlan.config import netconf
from cni_ipvlan.config.netconf import NetConf
from cni_ipvlan.iproute import commands, machine
from cni_ipvlan.iproute.commands import OPTIONAL, Argv, Command
from cni_ipvlan.iproute.dry_run import Answers, Plan, identity
from cni_ipvlan.iproute.interrupts import Interrupts
from cni_ipvlan.iproute.queries import Link
from cni_ipvlan.iproute.runner import CommandError
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log
from cni_ipvlan.plugin import addressing, explain, perform
from cni_ipvlan.plugin.codes import CHECK_FAILED
from cni_ipvlan.plugin.configure import check_ipv4_conflict
from cni_ipvlan.plugin.find_master import find_master
from cni_ipvlan.plugin.host_access import HostAccess
from cni_ipvlan.plugin.ipam import STATIC_PLUGINS
from cni_ipvlan.plugin.master import Master
from cni_ipvlan.plugin.node import Node, assemble, attachment_id, find_container
from cni_ipvlan.plugin.status import expected_master

_Begin = Callable[[Plan], Node]
# The kernel's message, from ipvlan_addr4_validator_event()
_ADDRESS_IN_USE = b"Error: Address already assigned to an ipvlan device."
# The text of an IPv6 address has a colon, which shows its family.
_IPV4, _IPV6, _ROUTE = "<IPv4 address>", "<IPv6 address: …>", "<route>"
_LENGTH = "/<length>"
_FOR_IPV4 = Result(addresses=(Address(_IPV4 + _LENGTH),), routes=(Route(_ROUTE),))
_FOR_IPV6 = _FOR_IPV4._replace(addresses=(Address(_IPV6 + _LENGTH),))
_FOR_BOTH = _FOR_IPV4._replace(addresses=_FOR_IPV4.addresses + _FOR_IPV6.addresses)
# For each stand-in, the loop around a command that has it, and the words that replace it.
STAND_INS = {
    _IPV4: ("for address in $ipv4", '"${address%/*}"'),
    _IPV4 + _LENGTH: ("for address in $ipv4", '"$address"'),
    _IPV6: ("for address in $ipv6", '"${address%/*}"'),
    _IPV6 + _LENGTH: ("for address in $ipv6", '"$address"'),
    _ROUTE: ("answered route | while read -r route", "$route"),
}


@dataclass
class Prediction:
    """A call that was made as a dry run."""

    environment: Mapping[str, str]  # the call's, with the CNI variables
    plan: Plan  # the changes that it would make
    result: dict[str, Any] | None = None  # that ADD would have
    outcome: Result | None = None  # the same, parsed
    failure: CniError | None = None  # why a CHECK fails
    queries: Sequence[Command] = ()  # the queries of a CHECK
    # If the plan has stand-ins for the IPAM plugin's answer:
    reader: Argv = ()  # the command that reads it
    has_older: bool = False  # whether an earlier ADD of the attachment may have addresses, too
    family_changes: dict[int, Collection[Command]] = field(default_factory=dict)  # of one only
    refusals: dict[str, str] = field(default_factory=dict)  # why, by the test that has to succeed


def make(request: Request, begin: _Begin, ipam_result: Result | None) -> Prediction:
    """Make a call as a dry run; raises CniError if the call would certainly fail.

    ``begin`` returns a node that fills a plan. ``ipam_result`` is the IPAM plugin's result if it is
    known; the plugin is not called then. The failure of a CHECK is not raised: its queries show
    why it failed.
    """
    plugin = netconf.ipam_type(request.config) if request.command == "ADD" else ""
    is_known = ipam_result or plugin in ("", *STATIC_PLUGINS)
    stand_ins = (_FOR_BOTH, _FOR_IPV6, _FOR_IPV4)
    answers: Answers = {}
    ipam_results = (ipam_result,) if is_known else stand_ins
    runs = [_run(request, begin, each, answers) for each in ipam_results]
    prediction = next((run for run in runs if not run.failure), runs[-1])
    plan = prediction.plan
    if prediction.failure and prediction.failure.code != CHECK_FAILED:
        raise prediction.failure
    if request.command == "CHECK":
        prediction.queries = plan.queries
    if not prediction.outcome:
        return prediction
    prediction.result = results.render(prediction.outcome, request.version)
    node = begin(Plan(answers=answers))  # the answers of the runs, without their changes
    conf = netconf.parse(request.config, request.version)
    tx = node.begin()
    parent = expected_master(tx, conf, find_master(tx, conf, find_container(request)))
    _check_addresses(begin(plan), parent, plan)
    allocation = next((change for change in plan.changes if is_allocation(plan, change)), None)
    if allocation and ipam_result:
        plan.changes.remove(allocation)
        text = "the result given with --ipam-result is allocated"
        plan.assumptions.append(f"{text}; {allocation.argv[0]} is not called")
    elif allocation:
        mtu = prediction.outcome.interfaces[-1].mtu or 0
        words = ["--plugin", plugin, "--cni-version", request.version, "--mtu", str(mtu)]
        words += ["--master", parent.link.name] if parent.netns is None else []
        words += ["--host-access"] if conf.host_access else []
        prediction.reader = (os.path.abspath(sys.argv[0]), "ipam-answer", *words)
        records = node.registry.records_of(attachment_id(request))
        prediction.has_older = any(record.is_complete for record in records)
        _compare_families(prediction, *runs)
    return prediction


def _run(
    request: Request, begin: _Begin, ipam_result: Result | None, answers: Answers
) -> Prediction:
    plan = Plan({*STAND_INS}, STATIC_PLUGINS, ipam_result, answers)
    prediction = Prediction(request.environment, plan)
    try:
        perform(begin(plan), request, partial(setattr, prediction, "outcome"))
    except CniError as error:
        prediction.failure = error
    return prediction


def _compare_families(
    prediction: Prediction, both: Prediction, ipv6: Prediction, ipv4: Prediction
) -> None:
    """Note which changes are only for addresses of one family, and which answers ADD refuses."""
    changes = prediction.plan.changes
    for family, other in ((4, ipv6), (6, ipv4)):
        identities = {*map(identity, other.plan.changes)}
        only = [each for each in changes if identity(each) not in identities]
        prediction.family_changes[family] = () if other.failure else only
    tests = '[ -z "$ipv4" ] || [ -z "$ipv6" ]', '[ -n "$ipv4" ]', '[ -n "$ipv6" ]'
    for test, run in zip(tests, (both, ipv6, ipv4), strict=True):
        if run.failure:
            prediction.refusals[test] = run.failure.msg


def _check_addresses(node: Node, parent: Master, plan: Plan) -> None:
    """Raise CniError, as ADD does, if another interface of the master has a planned address."""
    for step in plan.changes:
        if step.argv[:3] == ("ip", "address", "add") and step.argv[3] not in STAND_INS:
            error = CommandError(step, Completed(2, b"", _ADDRESS_IN_USE, 0.0))
            for line in explain.find_conflicts(error, node.begin(), node.registry, parent):
                failure = explain.as_cni_error(error)
                failure.add_private(f"found: {line}")
                raise failure


def is_allocation(plan: Plan, change: Command) -> bool:
    """Whether a change lets an IPAM plugin allocate."""
    return change.parameters.get("CNI_COMMAND") == "ADD" and not plan.was_run(change)


def list_assumptions(plan: Plan) -> list[str]:
    """Return what the plan depends on but could not be checked."""
    texts = list(plan.assumptions)
    module, missing = machine.ipvlan_module(), machine.missing_capabilities()
    is_used = any("ipvlan" in change.argv and "add" in change.argv for change in plan.changes)
    if is_used and module.state != machine.LOADED:
        texts.append(f"the kernel has ipvlan, or can load it ({module.text})")
    if plan.changes and missing:
        texts.append(f"you run this as root, or with {' and '.join(missing)}")
    return texts


def render_json(prediction: Prediction) -> dict[str, Any]:
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
                "ipv4Only": step in prediction.family_changes.get(4, ()),
                "ipv6Only": step in prediction.family_changes.get(6, ()),
                "run": prediction.plan.was_run(step) or step in prediction.queries,
            }
            for step in (*prediction.plan.changes, *prediction.queries)
        ],
        "assumptions": list_assumptions(prediction.plan),
        "result": prediction.result,
        "failure": output.failure_document(prediction.failure) if prediction.failure else None,
    }


@command("ipvlan ipam-answer --plugin host-local --cni-version 1.0.0 --mtu 1500 < answer")
@option("--plugin", str, "TYPE", "The IPAM plugin that answered.", required=True)
@option(
    "--cni-version",
    click.Choice(SUPPORTED_VERSIONS),
    None,
    "cniVersion of an answer that names none.",
    required=True,
)
@option("--mtu", int, "NUMBER", "The interface's MTU, which IPv6 may refuse.", required=True)
@option("--master", str, "NAME", "The host's interface, whose own addresses are refused.")
@click.option("--host-access", is_flag=True, help="The host gets routes to the addresses.")
def ipam_answer(
    plugin: str, cni_version: str, mtu: int, master: str | None, host_access: bool, as_json: bool
) -> None:
    """Read an IPAM plugin's answer on standard input, for the script of a dry run.

    It is checked as add does. Then each address is printed on a line, after the word ipv4 or
    ipv6, and each route after the word route, in the words of ip route add.
    """
    result = delegate.result(plugin, cni_version, 0, configs.read_standard_input(), b"")
    conf = NetConf("", master or "", mtu=mtu, ipam_type=plugin, host_access=host_access)
    tx = assemble(os.environ, Interrupts(), Log(output.echo_err, {})).begin()
    parent = find_master(tx, conf, None) if master else Master(Link(0, ""))
    added = addressing.make_addressing(conf, parent, result)
    if master:
        addressing.check_not_host_addresses(tx, parent, added.addresses)
        if host_access and HostAccess().extend(tx, added, parent, conf).is_conflict_likely:
            check_ipv4_conflict(tx, parent, added)
    values: dict[str, list[str]] = {"ipv4": [], "ipv6": [], "route": []}
    for address in added.addresses:
        values[f"ipv{address.family}"].append(address.address)
    for route in added.routes_to_add:
        values["route"].append(" ".join(commands.route_add(name="", **route._asdict())[3:]))
    if as_json:
        output.echo_json(values)
    else:
        output.echo(*(f"{word} {each}" for word, texts in values.items() for each in texts))
