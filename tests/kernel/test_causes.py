"""Messages of the kernel and iproute2 are recognized: each is produced by a real command."""

import re
import subprocess

from lab import Node

from cni_ipvlan.cni.errors import INVALID_CONFIGURATION, TRY_AGAIN_LATER
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.plugin import causes, codes

UNKNOWN = 0  # no code: there is no cause
NO_ROOT = "setpriv --reuid 65534 --clear-groups"
SLAVE, SECOND = (f"ip link add link eth0 name {name} type ipvlan" for name in ("slave", "second"))
# The code; then commands, of which the last one fails.
PROVOKED = f"""
{codes.MASTER_BUSY} | ip link add link eth0 name taker type macvlan; {SLAVE}
{codes.ADDRESS_IN_USE} | {SLAVE}; {SECOND}; ip address add 10.1.0.2/24 dev slave;
    ip address add 10.1.0.2/24 dev second
{codes.ADDRESS_IN_USE} | {SLAVE}; {SECOND}; ip address add fd00::2/64 dev slave;
    ip address add fd00::2/64 dev second
{codes.ROUTE_REFUSED} | ip route add 10.7.0.0/16 via 10.1.0.1 dev eth0
{codes.ROUTE_REFUSED} | ip route add 10.7.0.0/16 via 10.1.0.1 dev eth0 scope 254
{codes.ROUTE_REFUSED} | ip route add 10.7.0.0/16 dev eth0 scope 255
{codes.ROUTE_REFUSED} | ip route add 10.7.0.0/16 dev eth0; ip route add 10.7.0.0/16 dev eth0
{codes.ROUTE_REFUSED} | ip route add fd00:7::/64 dev eth0; ip route add fd00:7::/64 dev eth0
{TRY_AGAIN_LATER} | ip route add fd00:7::/64 dev eth0 src fd00:1::9
{codes.INTERFACE_NAME_TAKEN} | {SLAVE}; {SLAVE}
{codes.INTERFACE_NAME_TAKEN} | ip netns add other; ip -n other link add name taken type dummy;
    ip link set dev eth0 netns /run/netns/other name taken
{codes.COMMAND_FAILED} | ip link add link eth0 name v netns other type vlan id 5;
    ip link add link eth0 name eth0.5 type vlan id 5
{INVALID_CONFIGURATION} | ip link add link eth0 name slave mtu 10 type ipvlan
{codes.NOT_PERMITTED} | {NO_ROOT} {SLAVE}
{codes.NOT_PERMITTED} | {NO_ROOT} tee /proc/sys/net/ipv4/conf/eth0/arp_notify
{codes.COMMAND_FAILED} | ip link set dev nosuch up
{codes.COMMAND_FAILED} | ip link show dev nosuch
{codes.COMMAND_FAILED} | ip link add link nosuch name slave type ipvlan
{UNKNOWN} | ip link add name slave type ipvlan
"""
ABSENT = [
    "ip link show dev nosuch",
    "ip link delete dev nosuch",
    "ip address show dev nosuch",
    "ip netns exec nosuch ip link",
    "nsenter --net=/run/netns/nosuch ip link",
    "tee /proc/sys/net/ipv4/conf/nosuch/arp_notify",
]


def test_a_failed_commands_answer_is_understood(node: Node) -> None:
    for row in re.findall(r"^\S.*\n(?: .*\n)*", PROVOKED, re.MULTILINE):
        code, _, text = row.partition(" | ")
        *before, command = (" ".join(each.split()) for each in text.split(";"))
        node.make_master()
        assert [answer(each) for each in before] == [""] * len(before), command

        cause = causes.explain(Command(tuple(command.split())), answer(command))
        assert (cause.code if cause.meaning else UNKNOWN) == int(code), command
        answer("ip link delete dev eth0")  # if it is still there

    # Every kernel that runs this has ipvlan; an unknown kind gets the same message.
    stderr_of = answer("ip link add name slave type nosuchkind")
    assert causes.explain(Command(("type", "ipvlan")), stderr_of).code == codes.NO_IPVLAN


def test_a_missing_object_is_recognized(node: Node) -> None:
    for each in ABSENT:
        assert Completed(1, b"", answer(each).encode(), 0.0).is_absent, each


def answer(command: str) -> str:
    done = subprocess.run(
        command.split(), capture_output=True, check=False, env={"LC_ALL": "C"}, text=True
    )
    return done.stderr
