"""What error messages of ip and the kernel mean: cause, error code, and what to try next."""

from __future__ import annotations

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, INVALID_ENVIRONMENT
from cni_ipvlan.iproute.commands import Argv
from cni_ipvlan.plugin.codes import (
    ADDRESS_IN_USE,
    COMMAND_FAILED,
    INTERFACE_NAME_TAKEN,
    MASTER_BUSY,
    NO_IPV6,
    NO_IPVLAN,
    NOT_PERMITTED,
    ROUTE_REFUSED,
    TOOL_UNUSABLE,
)
from cni_ipvlan.start.namedtuple import NamedTuple

_ANYTHING = " … "


class Cause(NamedTuple):
    """An error code, the cause of the failure, and what to try next."""

    code: int
    meaning: str
    advice: str


class _Rule(NamedTuple):
    message: str  # parts of it, separated by _ANYTHING
    words: str  # that the command must contain, one after the other; empty for any command
    cause: Cause


_IS_TOO_OLD = Cause(
    TOOL_UNUSABLE,
    "this iproute2 is too old and lacks an option",
    "install iproute2 5.10 or newer (ip -V prints the version)",
)
_HAS_NO_IPVLAN = Cause(
    NO_IPVLAN,
    "the kernel has no ipvlan",
    "load the module (modprobe ipvlan), or install the kernel's extra modules (CONFIG_IPVLAN)",
)
_IS_GATEWAY_OUT_OF_REACH = Cause(
    ROUTE_REFUSED,
    "no address of the interface has the gateway in its subnet",
    "correct the gateway or the prefix length of the address",
)
_HAS_NARROW_SCOPE = Cause(
    ROUTE_REFUSED,
    "a route with scope link or host can't have a gateway",
    "leave out the route's gw, or its scope",
)
_IS_NAMESPACE_GONE = Cause(
    INVALID_ENVIRONMENT,
    "the container's network namespace is gone",
    "let the runtime clean up, since the container has ended",
)
_IS_NOT_PERMITTED = Cause(
    NOT_PERMITTED,
    "a capability is missing",
    "run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN",
)
_IS_ABSENT = Cause(
    COMMAND_FAILED, "the interface does not exist", "list the interfaces with ip link"
)
_IS_UNKNOWN = Cause(COMMAND_FAILED, "", "")

# The first matching rule applies. Messages are quoted verbatim; the commands that
# produce them are in tests/kernel/test_causes.py.
_RULES = (
    _Rule(
        "BusyBox",
        "ip",
        Cause(
            TOOL_UNUSABLE,
            "ip is BusyBox's, which lacks features",
            "install iproute2 5.10 or newer, and put it before BusyBox in PATH",
        ),
    ),
    _Rule('Option "-', "ip", _IS_TOO_OLD),
    _Rule('unknown option "', "ipvlan", _IS_TOO_OLD),
    _Rule('argument of "mode" must be', "ipvlan", _IS_TOO_OLD),
    _Rule("Unknown device type", "ipvlan", _HAS_NO_IPVLAN),
    _Rule("Operation not supported", "ipvlan", _HAS_NO_IPVLAN),
    _Rule(
        "Device or resource busy",
        "ipvlan",
        Cause(
            MASTER_BUSY,
            "the master already serves another kind of link (macvlan, bridge, bond, team)",
            "use another master, or remove that link; an interface can serve only one of them",
        ),
    ),
    _Rule(
        "Address already assigned to an ipvlan device",
        "",
        Cause(
            ADDRESS_IN_USE,
            "another ipvlan interface of this master already has the address",
            "list the addresses with ipvlan show, and check that no two networks on one master "
            "hand out the same range",
        ),
    ),
    _Rule("Nexthop has invalid gateway", "scope 253", _HAS_NARROW_SCOPE),  # RT_SCOPE_LINK
    _Rule("Route with host scope can not have a gateway", "route", _HAS_NARROW_SCOPE),
    _Rule(
        "Invalid scope",
        "route",
        Cause(
            ROUTE_REFUSED,
            "there is no such scope",
            "leave out the route's scope, which is almost never needed",
        ),
    ),
    _Rule("Nexthop has invalid gateway", "route", _IS_GATEWAY_OUT_OF_REACH),
    _Rule("No route to host", "route", _IS_GATEWAY_OUT_OF_REACH),  # the same for IPv6
    _Rule(
        "File exists",
        "route",
        Cause(
            ROUTE_REFUSED,
            "the container already has a route to that destination",
            "leave the route out, or give it another priority or table",
        ),
    ),
    _Rule(
        "File exists",
        "link",
        Cause(
            INTERFACE_NAME_TAKEN,
            "an interface with that name already exists",
            "choose another name",
        ),
    ),
    _Rule(
        "mtu less than device minimum",
        "",
        Cause(
            INVALID_CONFIGURATION,
            "the MTU is too small",
            "set mtu to 68 or more, for IPv6 to 1280 or more",
        ),
    ),
    _Rule("Cannot open network namespace", "", _IS_NAMESPACE_GONE),
    _Rule("nsenter: cannot open … No such file", "", _IS_NAMESPACE_GONE),
    _Rule('Invalid "netns" value', "netns", _IS_NAMESPACE_GONE),
    _Rule(
        "/proc/sys/net/ipv6/conf/lo/ … No such file",
        "",
        Cause(
            NO_IPV6,
            "the kernel has no IPv6",
            "use no IPv6 addresses, or boot without ipv6.disable=1",
        ),
    ),
    _Rule("Operation not permitted", "", _IS_NOT_PERMITTED),
    _Rule("Permission denied", "", _IS_NOT_PERMITTED),
    _Rule(
        "Read-only file system",
        "",
        Cause(
            NOT_PERMITTED,
            "/proc/sys is mounted read-only",
            "run the plugin on the host, where /proc/sys is writable, not inside a container",
        ),
    ),
    _Rule("Cannot find device", "", _IS_ABSENT),
    _Rule("does not exist", "", _IS_ABSENT),
)


def explain(argv: Argv, stderr: str) -> Cause:
    """Return what a failed command's stderr means; the meaning may be empty: it is unknown."""
    for rule in _RULES:
        is_match = all(part in stderr for part in rule.message.split(_ANYTHING))
        if is_match and (not rule.words or f" {rule.words} " in f" {' '.join(argv)} "):
            return rule.cause
    return _IS_UNKNOWN
