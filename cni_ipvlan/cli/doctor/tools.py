"""What the doctor's checks work with."""

from __future__ import annotations

from typing import NamedTuple

from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.iproute.runner import Runner
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.iproute.transaction import Transaction
from cni_ipvlan.state.registry import Registry


class Tools(NamedTuple):
    """What checks work with. ``tx`` only sees; ``container`` and ``ifname`` may not be given.

    Plugins are looked for in ``directories``, which ``set_by`` set; it is empty if they are just
    the usual ones. ``versions`` has the answers to VERSION of plugins, by their paths.
    """

    runner: Runner
    tx: Transaction
    registry: Registry
    directories: list[str]
    set_by: str
    versions: dict[str, Completed]
    ifname: str
    container: Namespace | None
