"""The plan of a dry run, as a shell script or as JSON."""

from __future__ import annotations

import json
from shlex import join, quote
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute import machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_ipvlan.iproute.commands import Command
    from cni_ipvlan.iproute.dry_run import Plan

_SHOWN_ASSUMPTIONS = 10
_ABOUT = {"container": "CNI_CONTAINERID", "interface": "CNI_IFNAME", "namespace": "CNI_NETNS"}


def assumptions(plan: Plan) -> list[str]:
    """Return what the plan depends on but could not be checked."""
    found = list(plan.assumptions)
    module = machine.ipvlan_module()
    if any(_creates_ipvlan(change) for change in plan.changes) and module.state != machine.LOADED:
        found.append(f"the kernel has ipvlan, or can load it ({module.text})")
    missing = machine.missing_capabilities()
    if plan.changes and missing:
        found.append(f"you run this as root, or with {' and '.join(missing)}")
    return found


def _creates_ipvlan(change: Command) -> bool:
    return "ipvlan" in change.argv and "add" in change.argv


def shell(environment: Mapping[str, str], plan: Plan) -> str:
    """Return the steps as lines for ``sh -e``, each with its purpose as a comment."""
    lines = [_comment(_title(environment))]
    assumed = assumptions(plan)
    lines += [_comment(f"assumed: {each}") for each in assumed[:_SHOWN_ASSUMPTIONS]]
    if len(assumed) > _SHOWN_ASSUMPTIONS:
        lines.append(_comment(f"assumed: {len(assumed) - _SHOWN_ASSUMPTIONS} more"))
    lines += [_line(change) for change in plan.changes]
    if not plan.changes:
        lines.append(_comment("there is nothing to do"))
    return "\n".join(lines)


def document(plan: Plan, result: dict[str, Any] | None) -> dict[str, Any]:
    """Return the steps as JSON, with the expected result."""
    return {
        "steps": [
            {
                "argv": list(change.entered_argv),
                "namespace": change.inside.path if change.inside else None,
                "purpose": change.purpose,
                "stdin": change.stdin.decode("utf-8", "replace") or None,
                "environment": dict(change.parameters or {}),
                "undo": [list(undo.full_argv) for undo in change.undo],
                "needed": not change.may_fail,
                "run": change.changes_nothing,
            }
            for change in plan.changes
        ],
        "assumptions": assumptions(plan),
        "result": result,
    }


def _title(environment: Mapping[str, str]) -> str:
    parts = [f"dry run of {environment['CNI_COMMAND']}: nothing was changed"]
    for word, variable in _ABOUT.items():
        if environment.get(variable):
            parts.append(f"{word} {environment[variable]}")
    return "; ".join(parts)


def _line(change: Command) -> str:
    if change.changes_nothing:
        return _comment(f"already run, since it changes nothing: {change.purpose}")
    command = join(change.full_argv)
    if change.stdin:
        command = f"printf '%s\\n' {quote(_one_line(change.stdin))} | {command} >/dev/null"
    if change.may_fail:
        command += " || :"
    return f"{_printable(command)}  {_comment(change.purpose)}"


def _printable(command: str) -> str:
    """Return the same command for a shell, in printable characters only."""
    if command.isprintable():
        return command
    shown = (
        char if char.isprintable() and char not in "%\\'" else _octal(char) for char in command
    )
    return f"eval \"$(printf '{''.join(shown)}')\""


def _octal(char: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def _one_line(stdin: bytes) -> str:
    text = stdin.decode("utf-8", "surrogateescape").rstrip("\n")
    return json.dumps(json.loads(text)) if "\n" in text else text


def _comment(text: str) -> str:
    """Return a text as a one-line shell comment without escape sequences."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return styled("# " + " ".join(plain.split()), fg="green")
