"""A rehearsal's script, for a shell to run or a program to read."""

from __future__ import annotations

import json
from shlex import join, quote
from typing import TYPE_CHECKING, Any

from cni_ipvlan.iproute.transaction import with_parameters

if TYPE_CHECKING:
    from cni_ipvlan.iproute.rehearsal import Script, Step


def shell(title: str, script: Script) -> str:
    """Return the steps as lines for ``sh -e``, each with a comment that says what it is for."""
    lines = [_comment(title)]
    lines += [_comment(f"assumed: {assumption}") for assumption in script.assumptions]
    lines += [_line(step) for step in script.steps]
    if not script.steps:
        lines.append("# there is nothing to do")
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
        "assumptions": script.assumptions,
        "result": result,
    }


def _line(step: Step) -> str:
    if step.was_run:
        return _comment(f"done already, for it changes nothing: {step.purpose}")
    command = join((*with_parameters(step.parameters), *step.argv))
    if step.stdin:
        command = f"printf %s {quote(_one_line(step.stdin))} | {command} >/dev/null"
    if not step.is_needed:
        command += " || :"
    return f"{command}  {_comment(step.purpose)}"


def _one_line(stdin: bytes) -> str:
    text = stdin.decode("utf-8", "surrogateescape")
    if "\n" not in text.rstrip("\n"):
        return text.rstrip("\n")
    return json.dumps(json.loads(text), ensure_ascii=False)


def _comment(text: str) -> str:
    return "# " + " ".join(text.split())
