"""What a check has found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.plugin.codes import NOT_PERMITTED
from cni_ipvlan.plugin.explain import as_cni_error

OK, WARNING, PROBLEM = "ok", "warning", "problem"


class Finding(NamedTuple):
    """One finding: state (ok, warning, problem), subject, text, advice (perhaps several lines).

    ``network`` is the network that it is about, or empty.
    """

    state: str
    subject: str
    text: str
    advice: str = ""
    network: str = ""


def reported(subject: str, check: Iterable[Finding]) -> Iterator[Finding]:
    """Yield what a check finds; an error in the check itself is a finding, too."""
    try:
        yield from check
    except InterruptedBySignalError:
        raise
    except (CniError, IprouteError, OSError) as error:
        yield failed(subject, error)


def failed(subject: str, error: Exception) -> Finding:
    """Return an error as a finding."""
    failure = as_cni_error(error)
    state = WARNING if failure.code == NOT_PERMITTED else PROBLEM
    return Finding(state, subject, failure.msg, failure.explanation)
