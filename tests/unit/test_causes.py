"""iproute.causes: the kernel's answers, recorded on Linux 6.12, and what they mean."""

from __future__ import annotations

import pytest

from cni_ipvlan.iproute import causes, commands
from cni_ipvlan.iproute.commands import Argv
from cni_ipvlan.iproute.namespace import Namespace

CONTAINER = Namespace("/var/run/netns/c", "c", (4, 1))
ADD = commands.link_add_ipvlan("eth0", "ivx", "l2", "bridge", 0)
MOVE = commands.link_set_netns("ivx", CONTAINER, "net1", "label")
ROUTE = commands.route_add("10.9.0.0/16", "net1")
NARROW = (*ROUTE, "scope", "253")
ADDRESS = commands.address_add("10.0.0.2/24", "net1")


@pytest.mark.parametrize(
    ("argv", "message", "kind"),
    [
        (ADD, "Error: Unknown device type.", causes.NO_IPVLAN),
        (ADD, "RTNETLINK answers: Operation not supported", causes.NO_IPVLAN),
        (ADD, "RTNETLINK answers: Device or resource busy", causes.BUSY),
        (ADD, "RTNETLINK answers: File exists", causes.NAME_TAKEN),
        (MOVE, "RTNETLINK answers: File exists", causes.NAME_TAKEN),
        (
            ADDRESS,
            "Error: ipvlan: Address already assigned to an ipvlan device.",
            causes.ADDRESS_IN_USE,
        ),
        (ROUTE, "Error: Nexthop has invalid gateway.", causes.ROUTE_REFUSED),
        (NARROW, "Error: Nexthop has invalid gateway.", causes.ROUTE_REFUSED),
        (ROUTE, "Error: Route with host scope can not have a gateway.", causes.ROUTE_REFUSED),
        (ROUTE, "Error: Invalid scope.", causes.ROUTE_REFUSED),
        (ROUTE, "RTNETLINK answers: File exists", causes.ROUTE_REFUSED),
        (ADD, "Error: mtu less than device minimum.", causes.BAD_MTU),
        (ADD, "RTNETLINK answers: Operation not permitted", causes.NOT_PERMITTED),
        (
            commands.sysctl_write("net/ipv4/conf/net1/arp_notify"),
            "tee: /proc/sys/net/ipv4/conf/net1/arp_notify: Permission denied",
            causes.NOT_PERMITTED,
        ),
        (ADD, 'Cannot find device "eth0"', causes.NO_LINK),
        (commands.link_show("eth0"), 'Device "eth0" does not exist.', causes.NO_LINK),
    ],
)
def test_known_answer_has_a_cause(argv: Argv, message: str, kind: str) -> None:
    for inside in (None, CONTAINER, Namespace("/proc/4/ns/net", "", (4, 1))):
        cause = causes.explain(commands.in_namespace(inside, argv), message + "\n")
        assert cause.kind == kind
        assert cause.meaning


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (ADD, ""),
        (ADD, "RTNETLINK answers: No buffer space available"),
        (ROUTE, "RTNETLINK answers: Operation not supported"),
        (ADDRESS, "RTNETLINK answers: File exists"),
    ],
)
def test_unknown_answer_stays_unknown(argv: Argv, message: str) -> None:
    assert causes.explain(argv, message) == causes.Cause(causes.UNKNOWN, "", "")


@pytest.mark.parametrize(
    ("message", "absent"),
    [
        (b'Cannot find device "net1"\n', True),
        (b'Device "net1" does not exist.\n', True),
        (b"RTNETLINK answers: No such device\n", True),
        (b'Cannot open network namespace "c": No such file or directory\n', True),
        (b"nsenter: cannot open /proc/42/ns/net: No such file or directory\n", True),
        (b"RTNETLINK answers: Operation not permitted\n", False),
        (b"RTNETLINK answers: Device or resource busy\n", False),
        (b"", False),
    ],
)
def test_missing_object_is_recognized(message: bytes, absent: bool) -> None:  # noqa: FBT001
    assert causes.is_absent(message) is absent
