"""The kernel's terse answers, and what they mean."""

from __future__ import annotations

from cni_ipvlan.record import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cni_ipvlan.iproute.commands import Argv

# What iproute2 (all versions from 5.10) says of a link or namespace that is not there.
_ABSENT = (
    b"Cannot find device",
    b"does not exist",
    b"No such device",
    b"No such file or directory",
)

NO_IPVLAN = "no ipvlan"
NO_LINK = "no link"
BUSY = "busy"
NAME_TAKEN = "name taken"
ADDRESS_IN_USE = "address in use"
ROUTE_REFUSED = "route refused"
BAD_MTU = "bad MTU"
NOT_PERMITTED = "not permitted"
TOOL_UNUSABLE = "tool unusable"
UNKNOWN = "unknown"


class Cause(NamedTuple):
    """What a failure means: its kind (a constant of this module), why, the next thing to try."""

    kind: str
    meaning: str
    advice: str


class _Rule(NamedTuple):
    said: str
    by: str  # a word the command must have, or nothing
    cause: Cause


# The first rule that fits counts. Each quotes the answer to the letter; the
# command that provokes it is in tests/kernel/test_causes.py.
_RULES = (
    _Rule(
        "Unknown device type",
        "ipvlan",
        Cause(
            NO_IPVLAN,
            "the kernel has no ipvlan",
            "load the module (modprobe ipvlan), or install the kernel's extra modules "
            "(CONFIG_IPVLAN)",
        ),
    ),
    _Rule(
        "Operation not supported",
        "ipvlan",
        Cause(
            NO_IPVLAN,
            "the kernel has no ipvlan",
            "load the module (modprobe ipvlan), or install the kernel's extra modules "
            "(CONFIG_IPVLAN)",
        ),
    ),
    _Rule(
        "Device or resource busy",
        "ipvlan",
        Cause(
            BUSY,
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
            "find it (ip -all netns exec ip address), and check that no two networks on one "
            "master hand out the same range",
        ),
    ),
    _Rule(
        "Nexthop has invalid gateway",
        "route",
        Cause(
            ROUTE_REFUSED,
            "no address of the interface has the gateway in its subnet",
            "correct the gateway or the prefix length of the address in the ipam configuration",
        ),
    ),
    _Rule(
        "File exists",
        "route",
        Cause(
            ROUTE_REFUSED,
            "the container already has a route to that destination",
            "take the route out of the ipam configuration, or give it another priority or table",
        ),
    ),
    _Rule(
        "File exists",
        "netns",
        Cause(
            NAME_TAKEN,
            "the container already has an interface of that name",
            "choose another CNI_IFNAME",
        ),
    ),
    _Rule(
        "File exists",
        "ipvlan",
        Cause(
            NAME_TAKEN, "an interface of that name is already there", "choose another CNI_IFNAME"
        ),
    ),
    _Rule(
        "mtu less than device minimum",
        "",
        Cause(BAD_MTU, "the MTU is too small", "set mtu to 68 or more, for IPv6 to 1280 or more"),
    ),
    _Rule(
        "Operation not permitted",
        "",
        Cause(
            NOT_PERMITTED,
            "a capability is missing",
            "run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        ),
    ),
    _Rule(
        "Permission denied",
        "",
        Cause(
            NOT_PERMITTED,
            "a capability is missing",
            "run as root, with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        ),
    ),
    _Rule("Cannot find device", "", Cause(NO_LINK, "there is no such interface", "")),
    _Rule("does not exist", "", Cause(NO_LINK, "there is no such interface", "")),
)


def explain(argv: Argv, stderr: str) -> Cause:
    """Return what a failed command's stderr means; kind UNKNOWN when it is not known."""
    for rule in _RULES:
        if rule.said in stderr and (not rule.by or rule.by in argv):
            return rule.cause
    return Cause(UNKNOWN, "", "")


def is_absent(stderr: bytes) -> bool:
    """Whether a command failed because what it was about is not there."""
    return any(words in stderr for words in _ABSENT)
