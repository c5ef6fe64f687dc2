"""What error messages of ip and the kernel mean: cause, error code, and what to try next."""

from __future__ import annotations

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, INVALID_ENVIRONMENT, TRY_AGAIN_LATER
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.plugin import codes
from cni_ipvlan.start.namedtuple import NamedTuple

_ANYTHING = " … "


class Cause(NamedTuple):
    """An error code, the cause of the failure, what to try next, and how to recognize it.

    ``signs`` are messages, as parts separated by _ANYTHING, each with words that the command must
    contain in this order; empty words are for any command.
    """

    code: int
    meaning: str = ""
    advice: str = ""
    signs: tuple[tuple[str, str], ...] = ()


# The first that matches applies. Messages are quoted verbatim; the commands that
# produce them are in tests/kernel/test_causes.py.
_CAUSES = (
    Cause(
        codes.TOOL_UNUSABLE,
        "ip is BusyBox's, which lacks features",
        "install iproute2 5.10 or newer, and put it before BusyBox in PATH",
        (("BusyBox", "ip"),),
    ),
    Cause(
        codes.TOOL_UNUSABLE,
        "this iproute2 is too old and lacks an option",
        "install iproute2 5.10 or newer (ip -V prints the version)",
        (
            ('Option "-', "ip"),
            ('unknown option "', "type ipvlan"),
            ('argument of "mode" must be', "type ipvlan"),
        ),
    ),
    Cause(
        codes.NO_IPVLAN,
        "the kernel has no ipvlan",
        "load the module (modprobe ipvlan), or install the kernel's extra modules (CONFIG_IPVLAN)",
        (("Unknown device type", "type ipvlan"), ("Operation not supported", "type ipvlan")),
    ),
    Cause(
        codes.MASTER_BUSY,
        "the master already serves another kind of link (macvlan, bridge, bond, team)",
        "use another master, or remove that link; an interface can serve only one of them",
        (("Device or resource busy", "type ipvlan"),),
    ),
    Cause(
        codes.ADDRESS_IN_USE,
        "an ipvlan interface of this master already has the address",
        "list the addresses with ipvlan show, and check that no two networks on one "
        "master hand out the same range, nor one an address twice",
        (("Address already assigned to an ipvlan device", ""),),
    ),
    Cause(
        codes.ROUTE_REFUSED,
        "a route with scope link or host can't have a gateway",
        "leave out the route's gw, or its scope",
        (
            ("Nexthop has invalid gateway", "scope 253"),
            ("Route with host scope can not have a gateway", "ip route"),
        ),
    ),
    Cause(
        codes.ROUTE_REFUSED,
        "there is no such scope",
        "leave out the route's scope, which is almost never needed",
        (("Invalid scope", "ip route"),),
    ),
    Cause(
        codes.ROUTE_REFUSED,
        "no address of the interface has the gateway in its subnet",
        "correct the gateway or the prefix length of the address",
        (("Nexthop has invalid gateway", "ip route"), ("No route to host", "ip route")),
    ),
    Cause(
        codes.ROUTE_REFUSED,
        "the container already has a route to that destination",
        "leave the route out, or give it another priority or table; a container can have "
        "only one interface with hostAccess on a master",
        (("File exists", "ip route"),),
    ),
    Cause(
        TRY_AGAIN_LATER,
        "the host's address, from which it sends, is gone, or its duplicate detection goes on",
        "wait; that needs the master's carrier",
        (("Invalid source address", "ip route"),),
    ),
    Cause(
        codes.INTERFACE_NAME_TAKEN,
        "an interface with that name already exists",
        "choose another name",
        (("File exists", "ip link"),),
    ),
    Cause(
        codes.COMMAND_FAILED,
        "that VLAN was moved to another namespace",
        "move it back, or use another ID; ip -all netns exec ip -d link show type vlan may show it",
        (("VLAN device already exists", "type vlan"),),
    ),
    Cause(
        INVALID_CONFIGURATION,
        "the MTU is too small",
        "set mtu to 68 or more, for IPv6 to 1280 or more",
        (("mtu less than device minimum", ""),),
    ),
    Cause(
        INVALID_ENVIRONMENT,
        "the container's network namespace is gone",
        "let the runtime clean up, since the container has ended",
        (
            ("Cannot open network namespace", ""),
            ("nsenter: cannot open … No such file", ""),
            ('Invalid "netns" value', "netns"),
        ),
    ),
    Cause(
        codes.NO_IPV6,
        "the kernel has no IPv6",
        "use no IPv6 addresses, or boot without ipv6.disable=1",
        (("/proc/sys/net/ipv6/conf/lo/ … No such file", ""),),
    ),
    Cause(
        codes.NOT_PERMITTED,
        "a capability is missing",
        "run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN, for arping also CAP_NET_RAW",
        (("Operation not permitted", ""), ("Permission denied", "")),
    ),
    Cause(
        codes.NOT_PERMITTED,
        "/proc/sys is mounted read-only",
        "run the plugin on the host, where /proc/sys is writable, not inside a container",
        (("Read-only file system", ""),),
    ),
    Cause(
        codes.COMMAND_FAILED,
        "the interface does not exist",
        "list the interfaces with ip link",
        (("Cannot find device", ""), ("does not exist", "")),
    ),
    Cause(
        codes.COMMAND_FAILED,
        "there is a limit on open files or processes",
        "raise that of the runtime (LimitNOFILE or TasksMax in its unit), or see ulimit -n and -u",
        ((": Too many open files", ""), (": Resource temporarily unavailable", "")),
    ),
)


def explain(failed: Command, stderr: str) -> Cause:
    """Return what a failed command's stderr means; the meaning is empty if it is unknown."""
    entered_by_ip = ("ip",) if failed.netns and failed.netns.name else ()  # with any name
    command = f" {' '.join((*entered_by_ip, *failed.argv))} "
    for cause in _CAUSES:
        for message, words in cause.signs:
            is_match = all(part in stderr for part in message.split(_ANYTHING))
            if is_match and (not words or f" {words} " in command):
                return cause
    return Cause(codes.COMMAND_FAILED)
