"""What the doctor's checks work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cni_ipvlan.cli.calls import USUAL

if TYPE_CHECKING:
    from cni_ipvlan.iproute.namespace import Namespace
    from cni_ipvlan.iproute.runner import Runner
    from cni_ipvlan.iproute.running import Completed
    from cni_ipvlan.iproute.transaction import Transaction
    from cni_ipvlan.state.registry import Registry


class SearchPath(NamedTuple):
    """Where plugins are looked for, and what set that; empty if they are just the usual ones."""

    directories: tuple[str, ...]
    set_by: str

    @property
    def origin(self) -> str:
        """A phrase that says why these directories are searched."""
        if self.set_by:
            return f"set by {self.set_by}"
        return f"{USUAL}; --cni-path names those of your runtime"


class Tools(NamedTuple):
    """What checks work with. ``tx`` only sees; ``container`` and ``ifname`` may not be given.

    ``versions`` has the answers to VERSION of the plugins that were asked, by their paths.
    """

    runner: Runner
    tx: Transaction
    registry: Registry
    path: SearchPath
    versions: dict[str, Completed]
    container: Namespace | None = None
    ifname: str = ""
