"""Choose the verdict: the finding that explains a silence best, which is the most specific one."""

from collections.abc import Sequence

from cni_ipvlan.cli.output import OK, PROBLEM, WARNING, Finding

# Subjects of findings, the most specific first; others are the silence itself. What says that
# nothing was sent comes before what says that nothing arrived. What was seen to drop packets comes
# before what might, but after what lets no packet pass: it may have dropped others' packets.
# On most hosts some rule might, so it comes after what says who is absent or silent outside.
_VAGUE = (
    *("bridge flag", "unanswered", "may filter frames", "silent"),
    *("told", "no ping", "beyond", "may filter", "nat"),
)
_SUBJECTS = (
    "down",  # no route is there then, either
    "not permitted",  # who can't look should not guess
    *("address", "blackhole", "service", "source"),
    *("local", "delivery", "rp_filter", "detour", "forwarding", "flag", "neighbour"),
    *("host access", "host", "carrier", "mode", "bridge", "leaves by", "route", "return"),
    *("duplicate", "vlan", "echo"),
    *("filter", "path", "ttl"),
    "returns by",  # answers may well come another way
    "masters",  # of the interface by which an answer returns, this is no cause of its own
    *("not asked", "tentative", "refused", *_VAGUE),
)
# What the verdict has besides, if all answers.
_NOTES = ("own", "address", "duplicate", "loss", "gateway", "family", "tried back")
_RANKS = {subject: rank for rank, subject in enumerate(_SUBJECTS)}


def choose_verdict(
    end_findings: Sequence[Finding], answers: Sequence[Finding]
) -> tuple[list[Finding], Finding]:
    """Return all findings, and the verdict: the finding that explains a silence best.

    If all that was asked for answers, others are notes; a gateway need not answer ping.
    """
    if answers and all(each.state != PROBLEM for each in answers):
        end_findings = [
            each._replace(state=WARNING) if each.state == PROBLEM else each for each in end_findings
        ]
    findings = list(dict.fromkeys((*end_findings, *answers)))
    problems = sorted((each for each in findings if each.state == PROBLEM), key=_rank)
    if problems:
        vague = [each for each in problems[1:] if _rank(each) >= _RANKS[_VAGUE[0]]]
        findings = [e._replace(advice="") if e in vague else e for e in findings]
        return findings, problems[0]
    if not answers:
        text = "nothing is wrong here, but nobody was asked: no route uses a gateway"
        return findings, Finding(OK, "", text, "name an address with --to")
    notes = [each for each in findings if each.state == WARNING]
    texts = [f", but {each.text}" for kind in _NOTES for each in notes if each.subject == kind]
    return findings, Finding(OK, "", f"everything answers{''.join(texts[:1])}")


def _rank(finding: Finding) -> int:
    return _RANKS.get(finding.subject, len(_RANKS))
