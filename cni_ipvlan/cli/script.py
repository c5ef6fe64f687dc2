"""A rehearsal's script, for a shell to run or a program to read."""

from __future__ import annotations

import json
from shlex import join, quote
from typing import TYPE_CHECKING, Any

from cni_ipvlan.cli.output import styled
from cni_ipvlan.iproute import machine
from cni_ipvlan.iproute.transaction import with_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_ipvlan.iproute.dry_run import Script, Step

_SHOWN_ASSUMPTIONS = 10
_ABOUT = {"container": "CNI_CONTAINERID", "interface": "CNI_IFNAME", "namespace": "CNI_NETNS"}


def assumptions(script: Script) -> list[str]:
    """Return what has to be true for the script to work that could not be seen to be."""
    found = list(script.assumptions)
    module = machine.ipvlan_module()
    if any(_creates_ipvlan(step) for step in script.steps) and module.state != machine.LOADED:
        found.append(f"the kernel has ipvlan, or loads it when asked ({module.text})")
    missing = machine.missing_capabilities()
    if script.steps and missing:
        found.append(f"who runs this has {' and '.join(missing)}, as root has")
    return found


def _creates_ipvlan(step: Step) -> bool:
    return "ipvlan" in step.argv and "add" in step.argv


def shell(environment: Mapping[str, str], script: Script) -> str:
    """Return the steps as lines for ``sh -e``, each with a comment that says what it is for."""
    lines = [_comment(_title(environment))]
    assumed = assumptions(script)
    lines += [_comment(f"assumed: {each}") for each in assumed[:_SHOWN_ASSUMPTIONS]]
    if len(assumed) > _SHOWN_ASSUMPTIONS:
        lines.append(_comment(f"assumed: {len(assumed) - _SHOWN_ASSUMPTIONS} more of the kind"))
    lines += [_line(step) for step in script.steps]
    if not script.steps:
        lines.append(_comment("there is nothing to do"))
    return "\n".join(lines)


def document(script: Script, result: dict[str, Any] | None) -> dict[str, Any]:
    """Return the steps as JSON, with the result that is foreseen."""
    return {
        "steps": [
            {
                "argv": list(step.argv),
                "namespace": step.namespace or None,
                "purpose": step.purpose,
                "stdin": step.stdin.decode("utf-8", "replace") or None,
                "environment": dict(step.parameters or {}),
                "undo": [list(undo) for undo in step.undo],
                "needed": step.is_needed,
                "run": step.was_run,
            }
            for step in script.steps
        ],
        "assumptions": assumptions(script),
        "result": result,
    }


def _title(environment: Mapping[str, str]) -> str:
    parts = [f"dry run of {environment['CNI_COMMAND']}: nothing was changed"]
    for word, variable in _ABOUT.items():
        if environment.get(variable):
            parts.append(f"{word} {environment[variable]}")
    return "; ".join(parts)


def _line(step: Step) -> str:
    if step.was_run:
        return _comment(f"done already, for it changes nothing: {step.purpose}")
    command = join((*with_parameters(step.parameters), *step.argv))
    if step.stdin:
        command = f"printf '%s\\n' {quote(_one_line(step.stdin))} | {command} >/dev/null"
    if not step.is_needed:
        command += " || :"
    return f"{command}  {_comment(step.purpose)}"


def _one_line(stdin: bytes) -> str:
    text = stdin.decode("utf-8", "surrogateescape").rstrip("\n")
    return json.dumps(json.loads(text)) if "\n" in text else text


def _comment(text: str) -> str:
    """One line that a shell passes over, without anything a terminal could take for an order."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return styled("# " + " ".join(plain.split()), fg="green")
