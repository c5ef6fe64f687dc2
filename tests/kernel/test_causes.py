"""Messages of the kernel and iproute2 are recognized: each is produced by a real command."""

import subprocess

from lab import Node

from cni_ipvlan.iproute import causes

SLAVE = "ip link add link eth0 name slave type ipvlan"
SECOND = "ip link add link eth0 name second type ipvlan"
# What is understood; the commands before; the command that provokes it.
PROVOKED: list[tuple[str, list[str], str]] = [
    (causes.BUSY, ["ip link add link eth0 name taker type macvlan"], SLAVE),
    (
        causes.ADDRESS_IN_USE,
        [SLAVE, SECOND, "ip address add 10.1.0.2/24 dev slave"],
        "ip address add 10.1.0.2/24 dev second",
    ),
    (
        causes.ADDRESS_IN_USE,
        [SLAVE, SECOND, "ip address add fd00::2/64 dev slave"],
        "ip address add fd00::2/64 dev second",
    ),
    (causes.ROUTE_REFUSED, [], "ip route add 10.7.0.0/16 via 10.1.0.1 dev eth0"),
    (causes.ROUTE_REFUSED, [], "ip route add 10.7.0.0/16 via 10.1.0.1 dev eth0 scope 254"),
    (causes.ROUTE_REFUSED, [], "ip route add 10.7.0.0/16 dev eth0 scope 255"),
    (
        causes.ROUTE_REFUSED,
        ["ip route add 10.7.0.0/16 dev eth0"],
        "ip route add 10.7.0.0/16 dev eth0",
    ),
    (
        causes.ROUTE_REFUSED,
        ["ip route add fd00:7::/64 dev eth0"],
        "ip route add fd00:7::/64 dev eth0",
    ),
    (causes.NAME_TAKEN, [SLAVE], SLAVE),
    (
        causes.NAME_TAKEN,
        ["ip netns add other", "ip -n other link add name taken type dummy"],
        "ip link set dev eth0 netns /run/netns/other name taken",
    ),
    (causes.BAD_MTU, [], "ip link add link eth0 name slave mtu 10 type ipvlan"),
    (causes.NOT_PERMITTED, [], f"setpriv --reuid 65534 --clear-groups {SLAVE}"),
    (
        causes.NOT_PERMITTED,
        [],
        "setpriv --reuid 65534 --clear-groups tee /proc/sys/net/ipv4/conf/eth0/arp_notify",
    ),
    (causes.NO_LINK, [], "ip link set dev nosuch up"),
    (causes.NO_LINK, [], "ip link show dev nosuch"),
    (causes.NO_LINK, [], "ip link add link nosuch name slave type ipvlan"),
    (causes.UNKNOWN, [], "ip link add name slave type ipvlan"),
]
ABSENT = [
    "ip link show dev nosuch",
    "ip link delete dev nosuch",
    "ip address show dev nosuch",
    "ip netns exec nosuch ip link",
    "nsenter --net=/run/netns/nosuch ip link",
    "tee /proc/sys/net/ipv4/conf/nosuch/arp_notify",
]


def test_a_failed_commands_answer_is_understood(node: Node) -> None:
    for kind, before, command in PROVOKED:
        node.master()
        assert [answer(each) for each in before] == [""] * len(before), command

        assert causes.explain(tuple(command.split()), answer(command)).kind == kind, command
        answer("ip link delete dev eth0")  # if it is still there

    # Every kernel that runs this has ipvlan; an unknown kind gets the same message.
    stderr_of = answer("ip link add name slave type nosuchkind")
    words = ("ip", "link", "add", "type", "ipvlan")
    assert causes.explain(words, stderr_of).kind == causes.NO_IPVLAN


def test_a_missing_object_is_recognized(node: Node) -> None:
    assert [each for each in ABSENT if not causes.is_absent(answer(each).encode())] == []


def answer(command: str) -> str:
    """Return the stderr of a command."""
    done = subprocess.run(
        command.split(), capture_output=True, check=False, env={"LC_ALL": "C"}, text=True
    )
    return done.stderr
