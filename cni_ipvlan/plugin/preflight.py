"""Checks before any change: the container, and the interface's name."""

from __future__ import annotations

import os

from cni_ipvlan.cni.errors import INVALID_ENVIRONMENT, CniError
from cni_ipvlan.cni.request import Request
from cni_ipvlan.iproute import namespace, queries
from cni_ipvlan.iproute.namespace import Namespace
from cni_ipvlan.plugin.codes import INTERFACE_NAME_TAKEN
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry


def container_namespace(request: Request) -> Namespace:
    """Return the namespace at CNI_NETNS; raises CniError 4 if it can't be a container's."""
    try:
        found = namespace.find(request.netns)
        is_own = found.identity == namespace.own()
    except FileNotFoundError:
        raise _bad_netns(
            request,
            "there is no such file",
            "list namespaces with ip netns or lsns -t net; the container may have ended already",
        ) from None
    except PermissionError as error:
        raise _bad_netns(request, _reason(error), _how_to_open_it()) from None
    except (OSError, ValueError, namespace.NotANamespaceError) as error:
        raise _bad_netns(
            request,
            _reason(error),
            "give the path of a network namespace: /run/netns/NAME, or /proc/PID/ns/net",
        ) from None
    if is_own and not request.may_share_netns:
        raise _bad_netns(
            request,
            "that is the namespace the plugin itself runs in",
            "add no interface, since a container on the host's network needs none "
            "(CNI_NETNS_OVERRIDE=1 adds one anyway)",
        )
    return found


def _bad_netns(request: Request, why: str, advice: str) -> CniError:
    msg = f"CNI_NETNS is {request.netns!r}; {why}"
    return CniError(INVALID_ENVIRONMENT, msg, f"try: {advice}", subject="CNI_NETNS")


def _how_to_open_it() -> str:
    """Return what to try if this process may not open a namespace."""
    from cni_ipvlan.iproute import machine

    if os.geteuid():
        return "run as root"
    # The kernel asks as for ptrace(2): proc_ns_get_link() in fs/proc/namespaces.c.
    why = machine.why_not_permitted(("CAP_SYS_ADMIN", "CAP_SYS_PTRACE"))
    return f"run as the host's root with all capabilities: {why}"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def check_name_is_free(
    registry: Registry, attachment: AttachmentId, netns: Namespace, output: bytes
) -> None:
    """Raise CniError if a container has an interface of that name, or with that label.

    ``output`` shows all its interfaces. (Asked for a name that is free, the kernel runs
    modprobe, dev_load() in net/core/dev_ioctl.c.)
    """
    ifname = attachment.ifname
    for link in queries.links(output):
        is_renamed = attachment.has_label(link.alias) and link.name != ifname
        if ifname not in (link.name, *link.alternative_names) and not is_renamed:
            continue
        from cni_ipvlan.plugin import links

        kind = link.kind or "physical or built-in"
        kind += f", which is called {link.name!r} now" if is_renamed else ""
        raise CniError(
            INTERFACE_NAME_TAKEN,
            f"the container already has an interface {ifname!r}, of kind {kind}",
            "try: choose another CNI_IFNAME, or delete that interface",
            "\n".join(
                f"found: it is {record.describe()}"
                for record in links.recorded(registry, link, netns)
                if record.attachment != attachment
            ),
            "CNI_IFNAME",
        )
