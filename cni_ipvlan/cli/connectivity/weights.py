"""Weights: which finding explains a silence best. The most specific one is the verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_ipvlan.cli.finding import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

# The subject of a finding, and how specific it is. What says that nothing was sent comes before
# what says that nothing arrived, and what was seen to drop a packet before what might.
WEIGHTS = {
    "down": 100,  # no route is there then, either
    "not permitted": 95,  # who can't look should not guess
    "address": 90,
    "tentative": 88,
    "blackhole": 85,
    "filter": 80,
    "rp_filter": 79,
    "forwarding": 75,
    "neighbour": 72,
    "host access": 71,
    "flag": 70,
    "host": 65,
    "carrier": 62,
    "leaves by": 60,
    "route": 55,
    "return": 54,
    "duplicate": 52,
    "vlan": 50,
    "masters": 45,
    "echo": 40,
    "may filter": 38,
    "path": 35,
    "not asked": 30,
    "unanswered": 20,
    "beyond": 15,
}


def weigh(of_ends: Sequence[Finding], answers: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return all findings; what explains no silence, since all answers, is a note."""
    is_silent = not answers or any(each.state == PROBLEM for found in answers for each in found)
    ends = of_ends if is_silent else [_note(each) for each in of_ends]
    return [*ends, *(each for found in answers for each in dict.fromkeys(found))]


def verdict(findings: Sequence[Finding]) -> Finding:
    """Return the finding that explains most."""
    problems = [each for each in findings if each.state == PROBLEM]
    if problems:
        return max(problems, key=lambda each: WEIGHTS.get(each.subject, 10))
    silent = [f", but {each.text}" for each in findings if _is_silent_gateway(each)]
    return Finding(OK, "", f"everything answers{''.join(silent[:1])}")


def _note(finding: Finding) -> Finding:
    return finding._replace(state=WARNING) if finding.state == PROBLEM else finding


def _is_silent_gateway(finding: Finding) -> bool:
    return (finding.state, finding.subject) == (WARNING, "gateway")
