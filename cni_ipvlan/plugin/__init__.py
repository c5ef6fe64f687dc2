"""The ipvlan plugin: a module for each verb, and the steps that verbs share."""

from __future__ import annotations

from cni_ipvlan.cni import SUPPORTED_VERSIONS
from cni_ipvlan.start.namedtuple import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_ipvlan.cni.request import Request
    from cni_ipvlan.cni.result import Result
    from cni_ipvlan.plugin.node import Node


def perform(node: Node, request: Request, deliver: Callable[[Result], None]) -> None:
    """Perform a request; raises CniError.

    ``deliver`` is called with ADD's result while everything can still be undone.
    Only the requested verb is imported, since a runtime waits for the import.
    """
    if request.command == "ADD":
        from cni_ipvlan.plugin.add import add

        add(node, request, deliver)
        return
    if request.command == "DEL":
        from cni_ipvlan.plugin.delete import delete as verb
    elif request.command == "CHECK":
        from cni_ipvlan.plugin.check import check as verb
    elif request.command == "STATUS":
        from cni_ipvlan.plugin.status import status as verb
    else:
        from cni_ipvlan.plugin.gc import gc as verb
    verb(node, request)


def about() -> str:
    """Return a description of the program, printed for a call without CNI_COMMAND."""
    return (
        "ipvlan: a CNI plugin that attaches containers to a host interface through ipvlan\n"
        f"CNI protocol versions supported: {', '.join(SUPPORTED_VERSIONS)}\n"
        "for people: ipvlan --help"
    )
