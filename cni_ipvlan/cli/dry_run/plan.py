"""What a dry run has found out, and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cni_ipvlan.cli import output
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import machine
from cni_ipvlan.iproute.commands import Argv, Command
from cni_ipvlan.iproute.dry_run import Plan


class DryRun(NamedTuple):
    """A call that was made as a dry run.

    environment  the call's, with the CNI variables
    plan         the changes that it would make
    result       the result that ADD would have, else None
    looks        the queries of a CHECK
    reader       the command that reads the IPAM plugin's answer, if the plan has stand-ins for it
    has_older    whether an earlier ADD of the attachment may have addresses allocated
    ipv6_only    the changes that are made only if that answer has an IPv6 address
    failure      why a CHECK fails
    """

    environment: Mapping[str, str]
    plan: Plan
    result: dict[str, Any] | None = None
    looks: Sequence[Command] = ()
    reader: Argv = ()
    has_older: bool = False
    ipv6_only: Collection[Command] = ()
    failure: CniError | None = None

    def is_ipv6_only(self, change: Command) -> bool:
        """Whether a change is made only if the answer has an IPv6 address."""
        return any(each is change for each in self.ipv6_only)


def is_allocation(change: Command) -> bool:
    """Whether a change lets an IPAM plugin allocate."""
    is_add = (change.parameters or {}).get("CNI_COMMAND") == "ADD"
    return is_add and not change.changes_nothing


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


def document(made: DryRun) -> dict[str, Any]:
    """Return the steps as JSON, with the expected result."""
    return {
        "steps": [
            {
                "argv": list(step.entered_argv),
                "namespace": step.inside and step.inside.path,
                "purpose": step.purpose,
                "stdin": step.stdin.decode("utf-8", "replace") or None,
                "environment": dict(step.parameters or {}),
                "undo": [list(undo.full_argv) for undo in step.undo],
                "needed": not step.may_fail,
                "ipv6Only": made.is_ipv6_only(step),
                "run": step.changes_nothing or step in made.looks,
            }
            for step in (*made.plan.changes, *made.looks)
        ],
        "assumptions": assumptions(made.plan),
        "result": made.result,
        "failure": output.failure_document(made.failure) if made.failure else None,
    }
