"""Weights: which finding explains a silence best. The most specific one is the verdict."""

from __future__ import annotations

from collections.abc import Sequence

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding

# The subject of a finding, and how specific it is. What says that nothing was sent comes before
# what says that nothing arrived, and what was seen to drop a packet before what might.
_LEAST = 10  # of a silence itself
WEIGHTS = {
    "down": 100,  # no route is there then, either
    "not permitted": 95,  # who can't look should not guess
    "address": 90,
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
    "path": 35,
    "not asked": 30,
    "tentative": 25,
    "unanswered": 20,
    "may filter": 16,
    "no ping": 15,
    "beyond": 14,
}


def weigh(
    of_ends: Sequence[Finding], answers: Sequence[Finding], *, has_asked: bool
) -> tuple[list[Finding], Finding]:
    """Return all findings, and the verdict: the finding that explains a silence best.

    If all that was asked for answers, others are notes; a gateway need not answer ping.
    """
    if has_asked and all(each.state != PROBLEM for each in answers):
        of_ends = [
            each._replace(state=WARNING) if each.state == PROBLEM else each for each in of_ends
        ]
    findings = list(dict.fromkeys((*of_ends, *answers)))
    problems = [each for each in findings if each.state == PROBLEM]
    if problems:
        verdict = max(problems, key=_weight)
        vague = [each for each in problems if _weight(each) <= WEIGHTS["unanswered"]]
        others = [each for each in vague if each != verdict]
        return [each._replace(advice="") if each in others else each for each in findings], verdict
    is_silent = (WARNING, "gateway")
    silent = [f", but {each.text}" for each in answers if (each.state, each.subject) == is_silent]
    advice = "" if has_asked else "nobody was asked, as there is no gateway: name one with --to"
    return findings, Finding(OK, "", f"everything answers{''.join(silent[:1])}", advice)


def _weight(finding: Finding) -> int:
    return WEIGHTS.get(finding.subject, _LEAST)
