"""What the doctor finds, and what its checks work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute import IprouteError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.plugin.codes import NOT_PERMITTED
from cni_ipvlan.plugin.explain import as_cni_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.state.registry import Registry

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


class SearchPath(NamedTuple):
    """CNI_PATH: its directories; and what set it, empty if they are just the usual ones."""

    directories: tuple[str, ...]
    set_by: str

    @property
    def origin(self) -> str:
        """A phrase that says why these directories are searched."""
        if self.set_by:
            return f"set by {self.set_by}"
        return "the usual directories; --cni-path names those of your runtime"


class Tools(NamedTuple):
    """What checks work with. ``tx`` only sees; ``container`` and ``ifname`` may not be given."""

    runner: Runner
    tx: Transaction
    registry: Registry
    path: SearchPath
    container: Namespace | None = None
    ifname: str = ""


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
