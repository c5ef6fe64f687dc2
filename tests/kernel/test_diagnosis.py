"""ipvlan trace and probe: their verdicts on networks that work, and on broken ones.

A row has commands that make a network, what is asked, and words of the verdict and of what to do
next. Words before a command say where it is run; PAIR has two containers, one and two, on one
master of the host, whose wire leads to a neighbour.
"""

import json
import shlex
from typing import Any, NamedTuple

import pytest
from people import ipvlan
from runtime import static
from scene import Scene

FINE = "everything answers"
PAIR = """
neighbour: ip address add 10.1.0.1/24 dev eth0
add one 10.1.0.2/24 10.1.0.1
add two 10.1.0.3/24 10.1.0.1
"""
HOST = "host: ip address add 10.1.0.10/24 dev eth0"
ROUTED = """
neighbour: ip address add 10.1.0.1/24 dev eth0
space far
neighbour: ip link add name far0 up type veth peer name eth0 netns far
neighbour: ip address add 10.9.0.2/24 dev far0
neighbour: sh -c "echo 1 >/proc/sys/net/ipv4/ip_forward"
far: ip link set dev eth0 up
far: ip address add 10.9.0.1/24 dev eth0
far: ip route add default via 10.9.0.2
add one 10.1.0.2/24 10.1.0.1
"""
IPV6 = """
neighbour: ip address add fd00:1::1/64 dev eth0 nodad
add one fd00:1::2/64 fd00:1::1
add two fd00:1::3/64 fd00:1::1
"""
# A bridge as the switch of the host's master.
SWITCH = """
space switch
space other
switch: ip link add name br0 up type bridge
host: ip link delete dev eth0
host: ip link add name eth0 up type veth peer name p0 netns switch
switch: ip link set dev p0 up master br0
switch: ip link add name p1 up type veth peer name eth0 netns other
switch: ip link set dev p1 up master br0
other: ip link set dev eth0 up
other: ip address add 10.1.0.1/24 dev eth0
"""
# A second master, on a wire of its own to the same router.
TWO_MASTERS = """
neighbour: ip address add 10.1.0.1/24 dev eth0
host: ip link add name eth1 up type veth peer name eth1 netns neighbour
neighbour: ip link set dev eth1 up
neighbour: ip address add 10.2.0.1/24 dev eth1
neighbour: sh -c "echo 1 >/proc/sys/net/ipv4/ip_forward"
add one 10.1.0.2/24 10.1.0.1
add two 10.2.0.3/24 10.2.0.1 master=eth1
"""
ACCESS = (
    HOST
    + """
neighbour: ip address add 10.1.0.1/24 dev eth0
add one 10.1.0.2/24 - hostAccess=1
"""
)
L3 = (
    HOST
    + """
neighbour: ip address add 10.1.0.1/24 dev eth0
add one 10.1.0.2/24 - mode=l3
"""
)
VLANS = """
neighbour: ip link add name v10 link eth0 up type vlan id 10
neighbour: ip address add 10.1.0.1/24 dev v10
add one 10.1.0.2/24 10.1.0.1 vlan=10
"""
DROP = "iptables-legacy -A"
ON, OFF = (f'sh -c "echo {each} >/proc/sys/net/ipv4/' for each in (1, 0))


class Row(NamedTuple):
    made: str
    asked: str
    verdict: str = FINE
    next: str = ""


HEALTHY = {
    "l2": Row(PAIR, "trace one two"),
    "l2, from an address": Row(PAIR, "trace 10.1.0.2 10.1.0.3"),
    "l3": Row("add one 10.1.0.2/24 - mode=l3\nadd two 10.2.0.2/24 - mode=l3", "trace one two"),
    "l3s": Row("add one 10.1.0.2/24 - mode=l3s\nadd two 10.2.0.2/24 - mode=l3s", "trace one two"),
    "l3 with a way back": Row(
        L3 + "neighbour: ip route add 10.1.0.2 via 10.1.0.10", "probe --netns one --to 10.1.0.1"
    ),
    "l3s with a way back": Row(
        L3.replace("l3", "l3s") + "neighbour: ip route add 10.1.0.2 via 10.1.0.10",
        "trace one 10.1.0.1",
    ),
    "two masters, routed": Row(TWO_MASTERS, "trace one two"),
    "two masters, routed by the host": Row(
        HOST
        + """
host: ip link add name eth1 up type veth peer name eth1 netns neighbour
neighbour: ip link set dev eth1 up
host: ip address add 10.2.0.10/24 dev eth1
host: sh -c "echo 1 >/proc/sys/net/ipv4/ip_forward"
add one 10.1.0.2/24 10.1.0.10 hostAccess=1
add two 10.2.0.3/24 10.2.0.10 hostAccess=1 master=eth1
""",
        "trace one two",
    ),
    "VLAN": Row(VLANS, "probe --netns one"),
    "hostAccess": Row(ACCESS, "trace one host"),
    "hostAccess, from the host": Row(ACCESS, "trace host one"),
    "hostAccess in l3": Row(ACCESS.replace("hostA", "mode=l3 hostA"), "trace one host"),
    "hostAccess in l3s": Row(ACCESS.replace("hostA", "mode=l3s hostA"), "trace host one"),
    "vepa with hairpin": Row(
        SWITCH
        + """
switch: bridge link set dev p0 hairpin on
add one 10.1.0.2/24 - flag=vepa
add two 10.1.0.3/24 - flag=vepa
""",
        "trace one two",
    ),
    "private, to the outside": Row(
        PAIR.replace("0.1\n", "0.1 flag=private\n"), "probe --netns one --to 10.1.0.1"
    ),
    "IPv6": Row(IPV6, "trace one two"),
    "IPv6, to the gateway": Row(IPV6, "probe --netns one"),
    "dual stack": Row(
        PAIR
        + """
one: ip address add fd00:1::2/64 dev net1 nodad
two: ip address add fd00:1::3/64 dev net1 nodad
""",
        "trace one two",
    ),
    "policy routing": Row(
        PAIR
        + """
one: ip rule add from 10.1.0.2 lookup 100
one: ip route add default via 10.1.0.1 dev net1 table 100
""",
        "trace 10.1.0.2 10.1.0.1",
    ),
    "a filter that accepts": Row(
        PAIR
        + """
two: iptables-legacy -A INPUT -p icmp -j ACCEPT
two: iptables-legacy -A INPUT -j DROP
""",
        "trace one two",
    ),
    "a second interface": Row(
        TWO_MASTERS + "add one 10.2.0.2/24 - master=eth1 name=other CNI_IFNAME=net2",
        "trace one two",
    ),
    "a gateway that ignores ping": Row(
        PAIR + f'neighbour: {ON}icmp_echo_ignore_all"', "probe --netns one", f"{FINE}, but 10.1.0.1"
    ),
    "behind a router": Row(ROUTED, "probe --netns one --to 10.9.0.1"),
    "a smaller MTU that is reported": Row(
        ROUTED + "neighbour: ip link set dev far0 mtu 1400\nfar: ip link set dev eth0 mtu 1400",
        "trace one 10.9.0.1",
    ),
    "a container of the plugin macvlan": Row(
        """
space mac
host: ip link add name eth1 up type dummy
host: ip link add name mac0 link eth1 netns mac type macvlan mode bridge
host: ip link add name mac1 link eth1 netns two type macvlan mode bridge
mac: ip address add 10.5.0.2/24 dev mac0
two: ip address add 10.5.0.3/24 dev mac1
mac: ip link set dev mac0 up
two: ip link set dev mac1 up
""",
        "trace mac two",
    ),
    "a container of the plugin bridge": Row(
        """
space veth
host: ip link add name br0 up type bridge
host: ip address add 10.5.0.1/24 dev br0
host: ip link add name v0 up type veth peer name eth0 netns veth
host: ip link set dev v0 master br0
veth: ip link set dev eth0 up
veth: ip address add 10.5.0.2/24 dev eth0
veth: ip route add default via 10.5.0.1
""",
        "probe --netns veth",
    ),
}
BROKEN = {
    "near end down": Row(
        PAIR + "one: ip link set dev net1 down",
        "trace one two",
        "net1 in ONE is down",
        "exec container1 ip link set dev net1 up",
    ),
    "far end down": Row(
        PAIR + "two: ip link set dev net1 down",
        "trace one two",
        "net1 in TWO is down",
        "exec container2 ip link set dev net1 up",
    ),
    "master down": Row(
        PAIR + "host: ip link set dev eth0 down",
        "trace one two",
        "eth0 of the host is down",
        "bring it up: ip link set dev eth0 up",
    ),
    "master down, from one end": Row(
        PAIR + "host: ip link set dev eth0 down",
        "probe --netns one",
        "eth0 of the host is down",
        "ip link set dev eth0 up",
    ),
    "far master down": Row(
        TWO_MASTERS + "host: ip link set dev eth1 down",
        "trace one two",
        "eth1 of the host is down",
        "ip link set dev eth1 up",
    ),
    "no carrier": Row(
        PAIR + "neighbour: ip link set dev eth0 down",
        "probe --netns one",
        "eth0 of the host is without carrier: its other end, eth0 in /run/netns/neighbour",
        "exec neighbour ip link set dev eth0 up",
    ),
    "the switch is down": Row(
        SWITCH + "add one 10.1.0.2/24 10.1.0.1\nswitch: ip link set dev br0 down",
        "probe --netns one",
        "br0 in /run/netns/switch is down",
        "exec switch ip link set dev br0 up",
    ),
    "out of the switch": Row(
        SWITCH + "add one 10.1.0.2/24 10.1.0.1\nswitch: ip link set dev p0 nomaster",
        "probe --netns one",
        "10.1.0.1 is looked for on eth0 of the host",
        "connect the two",
    ),
    "no route": Row(
        "add one 10.1.0.2/24",
        "probe --netns one --to 10.9.0.1",
        "ONE has no route to 10.9.0.1; its subnets: 10.1.0.0/24",
        "ip route add 10.9.0.1 via",
    ),
    "no route back": Row(
        "add one 10.1.0.2/24 - mode=l3\nadd two 10.2.0.2/24 - mode=l3\ntwo: ip route delete default",
        "trace one two",
        "TWO has no route to 10.1.0.2",
        "exec container2 ip route add 10.1.0.2",
    ),
    "no route back at the router's other side": Row(
        ROUTED + "far: ip route delete default",
        "trace one 10.9.0.1",
        "/run/netns/far has no route to 10.1.0.2",
        "exec far ip route add 10.1.0.2",
    ),
    "no route at the router": Row(
        ROUTED + "neighbour: ip address delete 10.9.0.2/24 dev far0",
        "trace one 10.9.0.1",
        "/run/netns/neighbour has no route to 10.9.0.1",
        "exec neighbour ip route add 10.9.0.1",
    ),
    "wrong prefix": Row(
        "add one 10.1.0.2/24\nadd two 10.1.0.130/25",
        "trace one two",
        "TWO has no route to 10.1.0.2; its subnets: 10.1.0.128/25",
    ),
    "blackhole": Row(
        PAIR + "one: ip route add blackhole 10.1.0.3",
        "trace one two",
        "ONE throws away what goes to 10.1.0.3: blackhole 10.1.0.3",
        "ip -4 route delete blackhole 10.1.0.3",
    ),
    "unreachable at the far end": Row(
        PAIR + "two: ip route add unreachable 10.1.0.2",
        "trace one two",
        "TWO throws away what goes to 10.1.0.2: unreachable",
        "exec container2 ip -4 route delete unreachable 10.1.0.2",
    ),
    "blackhole by policy routing": Row(
        PAIR
        + "one: ip rule add to 10.1.0.3 lookup 100\none: ip route add blackhole default table 100",
        "trace one two",
        "blackhole default table 100 (by the rule 32765",
        "route delete blackhole default table 100",
    ),
    "a rule that prohibits": Row(
        PAIR + "one: ip rule add to 10.1.0.3 prohibit",
        "trace one two",
        "prohibit rule 32765",
        "ip -4 rule delete priority 32765",
    ),
    "leaves by another interface": Row(
        PAIR
        + "one: ip link add name d0 up type dummy\none: ip address add 10.1.0.9/32 dev d0\n"
        + "one: ip route add 10.1.0.3 dev d0",
        "trace one two",
        "packets to 10.1.0.3 leave ONE by d0, not by net1",
        "exec container1 ip route get 10.1.0.3",
    ),
    "answers leave by another interface": Row(
        PAIR
        + "two: ip link add name d0 up type dummy\ntwo: ip address add 10.1.0.9/32 dev d0\n"
        + "two: ip route add 10.1.0.2 dev d0",
        "trace one two",
        "packets to 10.1.0.2 leave TWO by d0, not by net1",
        "exec container2 ip route get",
    ),
    "wrong permanent neighbour": Row(
        PAIR + "one: ip neighbour replace 10.1.0.1 lladdr 02:00:00:00:00:99 dev net1 nud permanent",
        "probe --netns one",
        "takes 02:00:00:00:00:99 for 10.1.0.1 (permanent), but eth0 in /run/netns/neighbour has",
        "exec container1 ip neighbour delete 10.1.0.1 dev net1",
    ),
    "wrong permanent neighbour at the far end": Row(
        PAIR.replace("two 10.1.0.3/24", "two 10.1.0.3/24")
        + "neighbour: ip neighbour replace 10.1.0.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
        "trace one 10.1.0.1",
        "takes 02:00:00:00:00:99 for 10.1.0.2",
        "exec neighbour ip neighbour delete 10.1.0.2 dev eth0",
    ),
    "duplicate address": Row(
        TWO_MASTERS + "space dup\nhost: ip link add name e2 up type veth peer name eth0 netns dup\n"
        "dup: ip address add 10.2.0.3/32 dev eth0\nneighbour: ip address add 10.1.0.2/32 dev eth1",
        "trace one two",
        "10.1.0.2 is also an address of",
        "no two networks",
    ),
    "input dropped": Row(
        PAIR + f"two: {DROP} INPUT -s 10.1.0.2 -j DROP",
        "trace one two",
        "a rule of TWO drops packets: iptables-legacy -A INPUT -s 10.1.0.2/32 -j DROP",
        "exec container2 iptables-legacy -t filter -D INPUT -s 10.1.0.2/32 -j DROP",
    ),
    "output rejected": Row(
        PAIR + f"one: {DROP} OUTPUT -p icmp -j REJECT",
        "trace one two",
        "a rule of ONE drops packets: iptables-legacy -A OUTPUT -p icmp -j REJECT",
        "-D OUTPUT",
    ),
    "answers dropped": Row(
        PAIR + f"one: {DROP} INPUT -p icmp -j DROP",
        "trace one two",
        "a rule of ONE drops packets",
        "-D INPUT -p icmp -j DROP",
    ),
    "own rules, from one end": Row(
        PAIR + f"one: {DROP} OUTPUT -d 10.1.0.1 -j DROP",
        "probe --netns one",
        "a rule of ONE drops packets: iptables-legacy -A OUTPUT -d 10.1.0.1/32 -j DROP",
        "-D OUTPUT",
    ),
    "a policy that drops": Row(
        PAIR + "two: iptables-legacy -P INPUT DROP",
        "trace one two",
        "the policy of TWO drops packets: iptables-legacy -P INPUT DROP",
        "exec container2 iptables-legacy -t filter -I INPUT -s 10.1.0.2 -j ACCEPT",
    ),
    "dropped in the raw table": Row(
        PAIR + "two: iptables-legacy -t raw -A PREROUTING -j DROP",
        "trace one two",
        "a rule of TWO drops packets",
        "-t raw -D PREROUTING",
    ),
    "IPv6 dropped": Row(
        IPV6 + "two: ip6tables-legacy -A INPUT -p ipv6-icmp --icmpv6-type echo-request -j DROP",
        "trace one two",
        "a rule of TWO drops packets: ip6tables-legacy",
        "exec container2 ip6tables-legacy -t filter -D INPUT",
    ),
    "the router drops": Row(
        ROUTED + f"neighbour: {DROP} FORWARD -d 10.9.0.1 -j DROP",
        "trace one 10.9.0.1",
        "a rule of /run/netns/neighbour drops packets: iptables-legacy -A FORWARD",
        "exec neighbour iptables-legacy -t filter -D FORWARD",
    ),
    "the host drops in l3s": Row(
        L3.replace("l3", "l3s")
        + f"neighbour: ip route add 10.1.0.2 via 10.1.0.10\nhost: {DROP} INPUT -s 10.1.0.1 -j DROP",
        "trace one 10.1.0.1",
        "a rule of the host drops packets: iptables-legacy -A INPUT",
        "iptables-legacy -t filter -D INPUT",
    ),
    "the host drops what comes by hostAccess": Row(
        ACCESS + f"host: {DROP} INPUT -s 10.1.0.2 -j DROP",
        "trace one host",
        "a rule of the host drops packets",
        "-D INPUT -s 10.1.0.2/32 -j DROP",
    ),
    "echo ignored": Row(
        PAIR + f'two: {ON}icmp_echo_ignore_all"',
        "trace one two",
        "10.1.0.3 ignores echo requests: net/ipv4/icmp_echo_ignore_all is 1 in TWO",
        "echo 0 >/proc/sys/net/ipv4/icmp_echo_ignore_all",
    ),
    "the router does not forward": Row(
        ROUTED + f'neighbour: {OFF}ip_forward"',
        "trace one 10.9.0.1",
        "/run/netns/neighbour is the way to 10.9.0.1, but does not forward packets",
        "exec neighbour sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'",
    ),
    "the router filters by the way back": Row(
        ROUTED
        + f'neighbour: {ON}conf/eth0/rp_filter"\nneighbour: ip route add 10.1.0.2 via 10.9.0.1',
        "trace one 10.9.0.1",
        "/run/netns/neighbour drops what comes from 10.1.0.2 by eth0",
        "echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter",
    ),
    "MTU black hole": Row(
        ROUTED
        + "neighbour: ip link set dev far0 mtu 1400\nfar: ip link set dev eth0 mtu 1400\n"
        + f"neighbour: {DROP} OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP",
        "trace one 10.9.0.1",
        "packets of 1500 bytes don't reach 10.9.0.1, those of 1400 do",
        "set the option mtu to 1400",
    ),
    "private": Row(
        PAIR.replace("0.1\n", "0.1 flag=private\n").replace("24 dev", "24 dev"),
        "trace one two",
        "both are on eth0, and flag private keeps its interfaces apart",
        "use flag bridge",
    ),
    "vepa without hairpin": Row(
        SWITCH + "add one 10.1.0.2/24 - flag=vepa\nadd two 10.1.0.3/24 - flag=vepa",
        "trace one two",
        "flag vepa sends their packets to the switch of eth0",
        "exec switch bridge link set dev p0 hairpin on",
    ),
    "the host and its own": Row(
        HOST + "\nadd one 10.1.0.2/24",
        "trace one host",
        "the kernel lets no packets pass between a host and its own ipvlan interfaces",
        "set hostAccess",
    ),
    "the host is the gateway of its own": Row(
        HOST + "\nadd one 10.1.0.2/24 10.1.0.10",
        "probe --netns one",
        "the kernel lets no packets pass between a host and its own ipvlan interfaces",
        "set hostAccess",
    ),
    "the host and its own, by macvlan": Row(
        HOST
        + "\nspace mac\nhost: ip link add name mac0 link eth0 netns mac type macvlan mode bridge\n"
        + "mac: ip address add 10.1.0.2/24 dev mac0\nmac: ip link set dev mac0 up",
        "trace mac host",
        "the kernel lets no packets pass between a host and its own macvlan interfaces",
        "another interface of the host",
    ),
    "hostAccess with rp_filter": Row(
        ACCESS + f'host: {ON}conf/eth0/rp_filter"',
        "trace one host",
        "the host drops what comes from 10.1.0.2 by eth0",
        "echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter",
    ),
    "hostAccess without its neighbour": Row(
        ACCESS + "one: ip neighbour delete 10.1.0.10 dev net1",
        "trace one host",
        "net1 in ONE has no permanent neighbour entry for 10.1.0.10, the host",
        "exec container1 ip neighbour replace 10.1.0.10 lladdr",
    ),
    "hostAccess without its route": Row(
        ACCESS + "host: sh -c \"ip route flush dev $(ip -o link | grep -o 'ipvhost[0-9]*')\"",
        "trace one host",
        "but sends to 10.1.0.2 by eth0",
        "ip route replace 10.1.0.2 dev ipvhost",
    ),
    "hostAccess down": Row(
        ACCESS + "host: sh -c \"ip link set $(ip -o link | grep -o 'ipvhost[0-9]*') down\"",
        "trace host one",
        "ipvhost",
        "ip link set dev ipvhost",
    ),
    "l3 without a way back": Row(
        L3,
        "probe --netns one --to 10.1.0.1",
        "in mode l3 nobody answers ARP for 10.1.0.2, and /run/netns/neighbour has no route",
        "exec neighbour ip route add 10.1.0.2 via 10.1.0.10",
    ),
    "different VLANs": Row(
        "add one 10.1.0.2/24 - vlan=10\nadd two 10.1.0.3/24 - vlan=20 name=other",
        "trace one two",
        "net1 in ONE is in VLAN 10, net1 in TWO is in VLAN 20",
        "same",
    ),
    "VLAN on one side only": Row(
        VLANS
        + "neighbour: ip address flush dev v10\nneighbour: ip address add 10.1.0.1/24 dev eth0",
        "probe --netns one",
        "is in VLAN 10, eth0 in /run/netns/neighbour is in no VLAN",
    ),
    "two masters without a way": Row(
        "host: ip link add name eth1 up type dummy\n"
        "add one 10.1.0.2/24\nadd two 10.1.0.3/24 - master=eth1 name=other",
        "trace one two",
        "10.1.0.3 is looked for on eth0 of the host, but net1 in TWO is on eth1 of the host",
        "use one master",
    ),
    "nobody is the gateway": Row(
        "add one 10.1.0.2/24 10.1.0.1",
        "probe --netns one",
        "nobody answers for 10.1.0.1 on the network of eth0 of the host",
        "check the address, the cable",
    ),
    "nobody has the address": Row(PAIR, "trace one 10.1.0.77", "nobody answers for 10.1.0.77"),
    "no address": Row(
        PAIR + "one: ip address flush dev net1", "probe --netns one", "net1 in ONE has no address"
    ),
    "not on this node": Row(PAIR, "trace 10.1.0.77 one", "10.1.0.77 is not on this node", "swap"),
    "no family in common": Row(
        PAIR + "two: ip address flush dev net1\ntwo: ip address add fd00::1/64 dev net1 nodad",
        "trace one two",
        "have no addresses of one family",
    ),
}
ROWS = {**HEALTHY, **BROKEN}
pytestmark = pytest.mark.scene(master="wire")


class World:
    """The namespaces of a row, by the names that it gives them."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.spaces = {"one": scene.one, "two": scene.two, "host": scene.host}
        self.spaces["neighbour"] = scene.neighbour

    def make(self, made: str) -> None:
        for line in filter(None, made.splitlines()):
            where, _, command = line.partition(": ")
            if command:
                argv = shlex.split(command)
                if "netns" in argv:
                    named = argv.index("netns") + 1
                    argv[named] = self.spaces[argv[named]].path
                self.spaces[where].run(*argv)
            elif line.startswith("space "):
                self.spaces[line[6:]] = self.scene.node.namespace(line[6:])
            else:
                self._add(*line.split()[1:])

    def _add(self, where: str, address: str, gateway: str = "-", *options: str) -> None:
        given: dict[str, Any] = dict(each.split("=") for each in options)
        given |= {"hostAccess": True} if "hostAccess" in given else {}
        given |= {"vlan": int(given["vlan"])} if "vlan" in given else {}
        gateway = gateway.strip("-")
        routes = [{"dst": "::/0" if ":" in address else "0.0.0.0/0"}]
        ipam = static(address, gateway=gateway, routes=routes if gateway or "mode" in given else [])
        self.scene.add(at=self.spaces[where], ipam=ipam, CNI_CONTAINERID=where, **given)

    def ask(self, asked: str) -> dict[str, Any]:
        words = [
            self.spaces[w].path if w in self.spaces and w != "host" else w for w in asked.split()
        ]
        said = ipvlan(*words, "--json")
        assert said.status in (0, 1), said
        return {"status": said.status, **json.loads(said.out)}

    def named(self, text: str) -> str:
        return text.replace("ONE", self.spaces["one"].path).replace("TWO", self.spaces["two"].path)


@pytest.fixture
def world(scene: Scene) -> World:
    return World(scene)


@pytest.mark.parametrize("name", ROWS)
def test_the_verdict_names_the_cause_and_the_next_step(world: World, name: str) -> None:
    row = ROWS[name]
    world.make(row.made)
    said = world.ask(row.asked)
    assert world.named(row.verdict) in said["verdict"], said
    assert row.next in said["next"], said
    assert said["status"] == (name in BROKEN), said
    if name in HEALTHY:
        assert said["verdict"].startswith(FINE)
        assert not [each for each in said["findings"] if each["state"] == "problem"]
