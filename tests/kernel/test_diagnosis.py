"""ipvlan trace and probe: their verdicts on networks that work, and on broken ones.

A network has a name, the commands that make it, and what is asked; if it is broken, words of the
verdict and of what to do next. A word before a command says where it is run: one and two are
containers, eth0 of the host is on a wire to a neighbour. ONE and TWO stand for namespaces.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby, islice
from typing import Any
from unittest import mock

import pytest
from attacker import NOBODY
from command_line import ipvlan
from lab import LEASES, SHARED_VENV, hide_program, run, wait_until
from runtime import static
from sampling import sample
from setup import Setup

from cni_ipvlan.cli import options
from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import inventory

FINE = "everything answers"
BASES = """
gateway | neighbour: ip address add 10.1.0.1/24 dev eth0
addressed | host: ip address add 10.1.0.10/24 dev eth0
wires | host: ip link add name eth1 up type veth peer name eth1 netns neighbour;
    neighbour: ip link set dev eth1 up
l3s | addressed; gateway; add one 10.1.0.2/24 - mode=l3s
pair | gateway; add one 10.1.0.2/24 10.1.0.1; add two 10.1.0.3/24 10.1.0.1
far | space far; neighbour: ip link add name far0 up type veth peer name eth0 netns far;
    far: ip link set dev eth0 up
routed | gateway; far; neighbour: ip address add 10.9.0.2/24 dev far0;
    neighbour: net/ipv4/ip_forward=1; far: ip address add 10.9.0.1/24 dev eth0;
    far: ip route add default via 10.9.0.2; add one 10.1.0.2/24 10.1.0.1
inner | gateway; space b; b: ip link add name d0 up type bridge;
    neighbour: ip link add name e2 up type veth peer name eth0 netns b; b: ip link set dev eth0 up;
    neighbour: ip address add 10.5.0.1/24 dev e2; b: ip address add 10.5.0.2/24 dev eth0;
    b: ip route add default via 10.5.0.1; neighbour: net/ipv4/ip_forward=1;
    add one 10.1.0.2/24 10.1.0.1
ipv6 | neighbour: ip address add fd00:1::1/64 dev eth0 nodad; add one fd00:1::2/64 fd00:1::1;
    add two fd00:1::3/64 fd00:1::1
unsure | ipv6; one: net/ipv6/conf/net1/accept_dad=1; one: net/ipv6/conf/net1/dad_transmits=99;
    one: ip address delete fd00:1::2/64 dev net1; one: ip address add fd00:1::2/64 dev net1
routed6 | ipv6; far; neighbour: ip address add fd00:9::2/64 dev far0 nodad;
    far: ip address add fd00:9::1/64 dev eth0 nodad; far: ip route add default via fd00:9::2
switch | space switch; space other; switch: ip link add name br0 up type bridge;
    host: ip link delete dev eth0;
    host: ip link add name eth0 up type veth peer name p0 netns switch;
    switch: ip link set dev p0 up master br0;
    switch: ip link add name p1 up type veth peer name eth0 netns other;
    switch: ip link set dev p1 up master br0; other: ip link set dev eth0 up;
    other: ip address add 10.1.0.1/24 dev eth0
switched | switch; add one 10.1.0.2/24 10.1.0.1
third | space b; switch: ip link add name p2 up type veth peer name eth0 netns b;
    switch: ip link set dev p2 master br0; b: ip link set dev eth0 up
nodes | addressed; gateway; host: ip route add 10.3.0.0/24 via 10.1.0.1;
    neighbour: ip route add 10.2.0.0/24 via 10.1.0.10; add one 10.2.0.2/24 - mode=l3;
    neighbour: ip link add name net1 link eth0 netns two type ipvlan mode l3;
    two: ip link set dev net1 up; two: ip address add 10.3.0.3/24 dev net1;
    two: ip route add default dev net1
trunk | switch; switch: ip link set dev br0 type bridge vlan_filtering 1;
    switch: bridge vlan add dev p0 vid 10; switch: bridge vlan add dev p1 vid 10 pvid untagged;
    add one 10.1.0.2/24 10.1.0.1 vlan=10
bond | host: ip link add name eth1 up type veth peer name eth1 netns neighbour;
    host: ip link set dev eth1 down; host: ip link add name bond0 type bond mode active-backup;
    host: ip link set dev eth1 master bond0; host: ip link set dev bond0 up;
    neighbour: ip link set dev eth1 up; neighbour: ip address add 10.1.0.1/24 dev eth1;
    add one 10.1.0.2/24 10.1.0.1 master=bond0
masters | gateway; wires; neighbour: ip address add 10.2.0.1/24 dev eth1;
    neighbour: net/ipv4/ip_forward=1; add one 10.1.0.2/24 10.1.0.1;
    add two 10.2.0.3/24 10.2.0.1 master=eth1
vrf | gateway; far; addressed; neighbour: ip address add 10.9.0.2/24 dev far0;
    neighbour: net/ipv4/ip_forward=1; neighbour: ip route add 10.2.0.0/24 via 10.1.0.10;
    host: ip link add name red up type vrf table 77; host: ip link set dev eth0 master red;
    add one 10.2.0.2/24 - mode=l3
access | addressed; gateway; add one 10.1.0.2/24 - hostAccess=1
l3 | addressed; gateway; add one 10.1.0.2/24 - mode=l3
hosted | addressed; wires; host: ip address add 10.2.0.10/24 dev eth1; host: net/ipv4/ip_forward=1;
    add one 10.1.0.2/24 10.1.0.10 hostAccess=1;
    add two 10.2.0.3/24 10.2.0.10 hostAccess=1 master=eth1
input | two: nft 'table inet t {chain c {type filter hook input priority 0;};}'
service | access; host: net/ipv4/ip_forward=1; one: net/ipv4/ip_forward=1;
    host: ip route add default via 10.1.0.1; one: ip route add 10.96.0.0/12 via 10.1.0.10;
    host: iptables-legacy -t nat -A PREROUTING -d 10.96.0.10/32 -p udp -j DNAT --to 10.1.0.1
vlans | neighbour: ip link add name v10 link eth0 up type vlan id 10;
    neighbour: ip address add 10.1.0.1/24 dev v10; add one 10.1.0.2/24 10.1.0.1 vlan=10
"""
HEALTHY = """
l2 | pair; trace one two
l3 | add one 10.1.0.2/24 - mode=l3; add two 10.2.0.2/24 - mode=l3; trace one two
l3s | add one 10.1.0.2/24 - mode=l3s; add two 10.2.0.2/24 - mode=l3s; trace one two
l3 with a way back | l3; neighbour: ip route add 10.1.0.2 via 10.1.0.10;
    probe --netns one --to 10.1.0.1
l3s with a way back | l3s; neighbour: ip route add 10.1.0.2 via 10.1.0.10; trace one 10.1.0.1
l3, and a gateway of its own subnet | addressed; gateway; add one 10.2.0.2/24 10.2.0.1 mode=l3;
    neighbour: ip route add 10.2.0.0/24 via 10.1.0.10; probe --netns one
    => nothing is wrong here, but nobody was asked => name an address with --to
link-local addresses alone | ipv6; one: ip -6 address flush dev net1 scope global;
    probe --netns one --to fd00:1::1 => everything answers, but net1 in ONE has no address
two masters, routed | masters; trace one two
two masters, routed by the host | hosted; trace one two
VLAN | vlans; probe --netns one
VLAN, by a switch's trunk | trunk; probe --netns one
nobody to ask | add one 10.1.0.2/24; probe --netns one
    => nothing is wrong here, but nobody was asked => name an address with --to
two gateways | pair; neighbour: ip address add 10.1.0.4/24 dev eth0;
    one: ip route replace default nexthop via 10.1.0.1 dev net1 nexthop via 10.1.0.4 dev net1;
    probe --netns one
a gateway that is not used | pair; one: ip route add default via 10.1.0.99 metric 500;
    probe --netns one
hostAccess | access; trace one host
hostAccess, and an address by an advertisement | host: ip address add fd00:1::10/64 dev eth0 nodad;
    add one fd00:1::2/64 - hostAccess=1;
    one: ip address add fd00:1::99/64 dev net1 valid_lft 999 preferred_lft 999; trace host one
hostAccess in l3 | addressed; gateway; add one 10.1.0.2/24 - mode=l3 hostAccess=1; trace one host
hostAccess in l3s | addressed; gateway; add one 10.1.0.2/24 - mode=l3s hostAccess=1; trace host one
in a VRF | pair; one: ip link add name v0 up type vrf table 10;
    one: ip link set dev net1 master v0; trace one two
from and to a VRF | pair; two: ip link add name v0 up type vrf table 10;
    two: ip link set dev net1 master v0; two: ip route add default via 10.1.0.1 dev net1 table 10;
    probe --netns two
vepa with hairpin | switch; switch: bridge link set dev p0 hairpin on;
    add one 10.1.0.2/24 - flag=vepa; add two 10.1.0.3/24 - flag=vepa; trace one two
private, to the outside | gateway; add one 10.1.0.2/24 10.1.0.1 flag=private;
    add two 10.1.0.3/24 10.1.0.1 flag=private; probe --netns one --to 10.1.0.1
IPv6 | ipv6; trace one two
an MTU that a router has advertised | ipv6; one: net/ipv6/conf/net1/mtu=1400; probe --netns one
an address that is down elsewhere, too | switched; third; b: ip link set dev eth0 down;
    b: ip address add 10.1.0.1/24 dev eth0; trace one 10.1.0.1
    => everything answers, but 10.1.0.1 is also an address of eth0 in /run/netns/b
a MAC address of two neighbours | switched; third; b: net/ipv6/conf/eth0/disable_ipv6=1;
    b: ip link set dev eth0 address 02:00:00:00:00:05;
    other: ip link set dev eth0 address 02:00:00:00:00:05; trace one 10.1.0.1
    => everything answers, but eth0 in /run/netns/other and eth0 in /run/netns/b have the same MAC
a host with two interfaces on the network | switched;
    switch: ip link add name p2 up type veth peer name eth1 netns other;
    switch: ip link set dev p2 master br0; other: ip link set dev eth1 up;
    other: ip address add 10.1.0.51/24 dev eth1; trace one 10.1.0.51
one that begins no connection | pair; one: iptables-legacy -A INPUT -p icmp --icmp-type 8 -j DROP;
    trace one two => everything answers, but 10.1.0.2 does not answer when TWO begins
dual stack | pair; one: ip address add fd00:1::2/64 dev net1 nodad;
    two: ip address add fd00:1::3/64 dev net1 nodad; trace one two
dual stack, of which one has lost IPv6 | pair; one: ip address add fd00:1::2/64 dev net1 nodad;
    two: ip address add fd00:1::3/64 dev net1 nodad; two: net/ipv6/conf/net1/disable_ipv6=1;
    trace one two => but net1 in TWO (container two) has no IPv6 address, unlike the other: it can
    have no IPv6 address (net/ipv6/conf/net1/disable_ipv6 is 1)
dual stack, from an address | access; one: ip address add fd00:1::2/64 dev net1 nodad;
    trace 10.1.0.10 one
policy routing | pair; one: ip rule add from 10.1.0.2 lookup 100;
    one: ip route add default via 10.1.0.1 dev net1 table 100; trace 10.1.0.2 10.1.0.1
policy routing, by an interface | routed; one: ip route delete default;
    one: ip rule add from 10.1.0.2 lookup 100; one: ip route add default via 10.1.0.1 table 100;
    probe --netns one --ifname net1 --to 10.9.0.1
a delay, and a filter that accepts | pair; one: ping -c 1 10.1.0.3;
    one: tc qdisc add dev net1 root netem delay 1300ms; two: iptables-legacy -A INPUT -j DROP;
    two: iptables-legacy -I INPUT -p icmp -j ACCEPT; trace one two
a second interface | masters; add one 10.2.0.2/24 - master=eth1 name=other CNI_IFNAME=net2;
    trace one two
a limit of echoes | pair; two: iptables-legacy -A INPUT -p icmp -m limit --limit 1/min
    --limit-burst 1 -j ACCEPT; two: iptables-legacy -A INPUT -p icmp -j DROP; trace one two
    => everything answers, but 10.1.0.3 does not always answer, whatever the size of packets; a rule
    of TWO drops packets: iptables-legacy -A INPUT -p icmp -j DROP
losses of large packets by chance | pair; two: iptables-legacy -A INPUT -p icmp -m length
    --length 1500 -m statistic --mode nth --every 9 --packet 8 -j ACCEPT;
    two: iptables-legacy -A INPUT -p icmp -m length --length 1500 -j DROP; trace one two
    => everything answers, but 10.1.0.3 does not always answer
its own address | pair; one: ip link set dev lo up; probe --netns one --to 10.1.0.2
    => everything answers, but 10.1.0.2 is an address of ONE itself
another's link-local address | pair; neighbour: ip address add fe80::1/64 dev eth0 nodad;
    trace one fe80::1
link-local addresses of IPv4 | add one 169.254.1.2/16; add two 169.254.1.3/16; trace one two
a gateway that ignores ping | pair; neighbour: net/ipv4/icmp_echo_ignore_all=1; probe --netns one
    => everything answers, but 10.1.0.1
a gateway that drops ping | pair; neighbour: iptables-legacy -A INPUT -j DROP; probe --netns one
    => everything answers, but a rule of /run/netns/neighbour drops packets
behind a router | routed; probe --netns one --to 10.9.0.1
by one of several interfaces | inner; b: ip address add 10.66.0.1/24 dev d0;
    b: ip route replace default dev d0; b: ip route add 10.1.0.0/24 via 10.5.0.1; trace one b
a smaller MTU that is reported | routed; neighbour: ip link set dev far0 mtu 1400;
    far: ip link set dev eth0 mtu 1400; trace one 10.9.0.1
a gateway by proxy ARP alone | gateway; wires; neighbour: net/ipv4/ip_forward=1;
    neighbour: net/ipv4/conf/eth0/proxy_arp=1; neighbour: ip route add 10.1.0.4 dev eth1;
    add one 10.1.0.2/24 10.1.0.4; probe --netns one => everything answers, but 10.1.0.4
a container of the plugin macvlan | space mac; host: ip link add name eth1 up type dummy;
    host: ip link add name mac0 link eth1 netns mac type macvlan mode bridge;
    host: ip link add name mac1 link eth1 netns two type macvlan mode bridge;
    mac: ip address add 10.5.0.2/24 dev mac0; two: ip address add 10.5.0.3/24 dev mac1;
    mac: ip link set dev mac0 up; two: ip link set dev mac1 up; trace mac two
two nodes in mode l3 | nodes; trace one two
a bond | bond; trace one 10.1.0.1
a container of the plugin bridge | space veth; host: ip link add name br0 up type bridge;
    host: ip address add 10.5.0.1/24 dev br0;
    host: ip link add name v0 up type veth peer name eth0 netns veth;
    host: ip link set dev v0 master br0; veth: ip link set dev eth0 up;
    veth: ip address add 10.5.0.2/24 dev eth0; veth: ip route add default via 10.5.0.1;
    probe --netns veth
"""
BROKEN = """
near end down | pair; one: ip link set dev net1 down; trace one two
    => net1 in ONE is down => exec container1 ip link set dev net1 up
far end down | pair; two: ip link set dev net1 down; trace one two
    => net1 in TWO is down => exec container2 ip link set dev net1 up
down below the master | vlans; host: ip link set dev eth0 down; probe --netns one
    => eth0 of the host is down => bring it up: ip link set dev eth0 up
no carrier | pair; neighbour: ip link set dev eth0 down; probe --netns one
    => eth0 in /run/netns/neighbour is down => exec neighbour ip link set dev eth0 up
the switch is down | switch; add one 10.1.0.2/24 10.1.0.1; switch: ip link set dev br0 down;
    probe --netns one => br0 in /run/netns/switch is down => exec switch ip link set dev br0 up
a bridge without its port | switch; host: ip link add name br9 up type bridge;
    host: ip link add name d0 up master br9 type dummy;
    add one 10.1.0.2/24 10.1.0.1 master=br9; probe --netns one
    => eth0 of the host is a port of no bridge => ip link set dev eth0 master br9
out of the switch | switch; add one 10.1.0.2/24 10.1.0.1; switch: ip link set dev p0 nomaster;
    probe --netns one => p0 in /run/netns/switch is a port of no bridge
    => exec switch ip link set dev p0 master br0
no route, after a table that throws | add one 10.1.0.2/24; one: ip rule add lookup 100;
    one: ip route add throw default table 100; probe --netns one --to 10.9.0.1
    => ONE has no route to 10.9.0.1; its subnets: 10.1.0.0/24 => ip route add 10.9.0.1 via
no route back | add one 10.1.0.2/24 - mode=l3; add two 10.2.0.2/24 - mode=l3;
    two: ip route delete default; trace one two
    => TWO has no route to 10.1.0.2 => exec container2 ip route add 10.1.0.2
no route back at the router's other side | routed; far: ip route delete default; trace one 10.9.0.1
    => /run/netns/far has no route to 10.1.0.2 => exec far ip route add 10.1.0.2 via 10.9.0.2
too wide a prefix | routed; one: ip address flush dev net1; one: ip address add 10.1.0.2/8 dev net1;
    one: ip route add default via 10.1.0.1; trace one 10.9.0.1
    => net1 in ONE has 10.1.0.2/8, so 10.9.0.1 seems to be near => correct the prefix length
a prefix whose broadcast address the other has | add one 10.1.0.2/25; add two 10.1.0.127/24;
    trace one two => ONE takes 10.1.0.127 for a broadcast address => correct the prefix length
a local route | pair; two: ip route add local 10.1.0.2 dev lo; trace one two
    => TWO takes 10.1.0.2 for a local address => exec container2 ip route delete local 10.1.0.2 dev
a router that answers for a whole subnet | routed; neighbour: ip link set dev lo up;
    neighbour: ip address add 10.9.0.9/24 dev lo; trace one 10.9.0.1
    => neighbour takes 10.9.0.1 for a local address => ip route delete local 10.9.0.0/24 dev lo
no route back to who was told of a nearer way | gateway; add one 10.1.0.2/24 10.1.0.1;
    neighbour: ip address add 10.2.0.1/24 dev eth0; neighbour: net/ipv4/ip_forward=1;
    add two 10.2.0.3/24 - name=other; trace one two => TWO has no route to 10.1.0.2
wrong prefix | addressed; add one 10.1.0.2/24; add two 10.1.0.130/25; trace one two
    => TWO has no route to 10.1.0.2; its subnets: 10.1.0.128/25 => correct the prefix length
no IPv6 | add one 10.1.0.2/24; probe --netns one --to fd00::1
    => ONE has no global IPv6 address, and no route to fd00::1 => give it one, by addresses
thrown out of the table | pair; one: ip route add throw 10.1.0.3; trace one two
    => ONE throws away what goes to 10.1.0.3: throw => ip -4 route delete throw 10.1.0.3
no route by that interface | routed; one: ip route delete default;
    one: ip link add name d0 up type dummy; one: ip address add 10.88.0.2/24 dev d0;
    one: ip route add default via 10.88.0.1; probe --netns one --ifname net1 --to 10.9.0.1
    => ONE has no route to 10.9.0.1 => ip route add 10.9.0.1 via
no route, and what is down elsewhere | add one 10.1.0.2/24; one: ip link add name d0 type dummy;
    one: ip address add 10.77.0.1/24 dev d0; probe --netns one --to 10.9.0.1
    => ONE has no route to 10.9.0.1
routes that lead round | routed; neighbour: ip route add 10.77.0.0/16 via 10.9.0.1;
    far: net/ipv4/ip_forward=1; trace one 10.77.0.1
    => packets to 10.77.0.1 go round through /run/netns/neighbour and /run/netns/far
    => ip route get 10.77.0.1
answers sent to a host that would send them back | switch; addressed; third;
    b: ip address add 10.1.0.50/24 dev eth0; b: ip route add default via 10.1.0.1;
    other: ip route add 10.7.0.0/24 via 10.1.0.50; add one 10.7.0.2/24 - mode=l3; trace one 10.1.0.1
    => packets to 10.7.0.2 go round through /run/netns/other and /run/netns/b
    => exec other ip route get 10.7.0.2
too small a TTL | routed; one: net/ipv4/ip_default_ttl=1; trace one 10.9.0.1
    => packets of ONE end after 1 hops (net/ipv4/ip_default_ttl) => echo 64
too small a TTL by an advertised route | routed6; neighbour: net/ipv6/conf/all/forwarding=1;
    one: ip route replace default via fd00:1::1 hoplimit 1 expires 999; trace one fd00:9::1
    => packets of ONE end after 1 hops (the route: default via fd00:1::1 dev net1
    => route replace default via fd00:1::1 dev net1 metric 1024 pref medium
the host's route in mode l3 is missing | gateway; add one 10.1.0.2/24 - mode=l3;
    neighbour: ip route add 10.1.0.2 dev eth0; trace one 10.1.0.1
    => the host has no route to 10.1.0.1 => ip route add 10.1.0.1 dev eth0
a rule that leads elsewhere | pair; one: ip link add name wg0 up type dummy; one: ip rule add lookup
    99; one: ip address add 10.66.0.2/32 dev wg0; one: ip route add default dev wg0 table 99;
    trace one 10.7.0.1 => 10.7.0.1 does not answer wg0 in ONE => the route: default dev wg0 table 99
another interface, and a host that can't be the router | addressed; add one 10.1.0.2/24; host:
    net/ipv4/ip_forward=1; host: ip link add name d0 up type dummy; host: ip address add
    10.77.0.1/24 dev d0; one: ip link add name d1 up type dummy; one: ip address add 10.66.0.2/24
    dev d1; one: ip route add default via 10.66.0.1; probe --netns one --to 10.77.0.1 => packets to
    10.77.0.1 leave ONE by d1, not by net1 => a better route or a rule says so
blackhole by policy routing | pair; one: ip rule add to 10.1.0.3 lookup 100;
    one: ip route add blackhole default table 100; trace one two
    => blackhole default table 100 (by the rule 32765 => route delete blackhole default table 100
a nexthop object that throws away | routed; far: ip link set dev lo up;
    far: ip nexthop add id 7 blackhole; far: ip route add 10.1.0.0/16 nhid 7; trace one 10.9.0.1
    => /run/netns/far throws away what goes to 10.1.0.2: blackhole 10.1.0.0/16
    => exec far ip -4 route delete 10.1.0.0/16 nhid 7
a rule that prohibits, beside another | pair; one: ip rule add to 10.7.0.0/16 prohibit priority 9;
    one: ip rule add to 10.1.0.3 ipproto icmp prohibit priority 9; trace one two
    => prohibit by the rule 9: from all to 10.1.0.3 ipproto icmp
    => ip -4 rule delete priority 9 from all to 10.1.0.3 ipproto icmp prohibit
a rule that says unreachable, by an interface | routed;
    one: ip rule add from 10.1.0.2 unreachable priority 9;
    probe --netns one --ifname net1 --to 10.9.0.1
    => ONE throws away what goes to 10.9.0.1: unreachable by the rule 9: from 10.1.0.2
    => exec container1 ip -4 rule delete priority 9 from 10.1.0.2
a rule for one port, and a blackhole | pair; one: ip rule add ipproto tcp dport 80 blackhole;
    one: ip route add blackhole 10.1.0.3; trace one two
    => ONE throws away what goes to 10.1.0.3: blackhole 10.1.0.3
    => ip -4 route delete blackhole 10.1.0.3
the way back is a blackhole, and a strict rp_filter | routed;
    neighbour: net/ipv4/conf/eth0/rp_filter=1; neighbour: ip route add blackhole 10.1.0.2;
    trace one 10.9.0.1 => /run/netns/neighbour throws away what goes to 10.1.0.2: blackhole
    => exec neighbour ip -4 route delete blackhole 10.1.0.2
no rule for the table main | pair; one: ip rule delete lookup main;
    one: ip rule add from 10.1.0.99 lookup main; trace one two
    => ONE has no route to 10.1.0.3 => exec container1 ip -4 rule add priority 32766 lookup main
no rule for the table local | pair; two: ip rule delete lookup local; trace one two
    => TWO has 10.1.0.3, but takes it for another's
    => exec container2 ip -4 rule add priority 0 lookup local
the table local is empty | pair; two: ip route flush table local; trace one two
    => TWO has 10.1.0.3, but takes it for another's
    => exec container2 ip route add local 10.1.0.3 dev net1 table local
a route to the loopback | pair; one: ip link set dev lo up; one: ip route add 10.1.0.3 dev lo;
    trace one two
    => ONE sends what goes to 10.1.0.3 to itself => exec container1 ip route delete 10.1.0.3 dev lo
its own gateway | add one 10.1.0.2/24 10.1.0.2; probe --netns one
    => the gateway 10.1.0.2 is an address of ONE itself => correct the gateway
its own gateway to others | add one 10.1.0.2/24 10.1.0.2; probe --netns one --to 10.9.0.1
    => the route: default via 10.1.0.2 => correct the gateway 10.1.0.2
a wrong gateway beside the right one | routed; one: ip rule add from 10.1.0.2 lookup 9;
    one: ip route add default via 10.1.0.99 table 9; trace one 10.9.0.1
    => nobody answers for 10.1.0.99, the gateway to 10.9.0.1
    => 10.1.0.1 is there: ip netns exec container1 ip route replace default via 10.1.0.1 dev net1
a router's wrong gateway, by a rule about sources | routed;
    neighbour: ip rule add from 10.1.0.2 lookup 9;
    neighbour: ip route add 10.9.0.0/24 via 10.9.0.99 table 9; trace one 10.9.0.1
    => nobody answers for 10.9.0.99, the gateway to 10.9.0.1, on the network of far0 in
    /run/netns/neighbour; the route: 10.9.0.0/24 via 10.9.0.99 dev far0 table 9
a tunnel whose ends differ | host: ip address add 10.9.0.1/24 dev eth0;
    neighbour: ip address add 10.9.0.2/24 dev eth0;
    host: ip link add name t1 up type vxlan id 1 remote 10.9.0.2 dstport 4789;
    neighbour: ip link add name t1 up type vxlan id 2 remote 10.9.0.1 dstport 4789;
    neighbour: ip address add 10.1.0.1/24 dev t1; add one 10.1.0.2/24 - master=t1;
    trace one 10.1.0.1 => t1 of the host, a tunnel to t1 in /run/netns/neighbour, lets nothing pass
    => compare these: ip -d link show t1; ip netns exec neighbour ip -d link show t1
two networks with one subnet | wires; neighbour: ip address add 10.1.0.1/24 dev eth1;
    neighbour: net/ipv4/conf/all/arp_ignore=1; add one 10.1.0.2/24;
    add one 10.1.0.4/24 - master=eth1 name=other CNI_IFNAME=net2; trace one 10.1.0.1
    => packets to 10.1.0.1 leave ONE by net1, not by net2; the route: 10.1.0.0/24 dev net1
    => exec container1 ip route replace 10.1.0.1 dev net2
an address of a port of a bridge | pair; neighbour: ip link add name br9 up type bridge;
    neighbour: ip link set dev eth0 master br9; trace one 10.1.0.1
    => eth0 in /run/netns/neighbour has 10.1.0.1/24, but is a port of br9 => 10.1.0.1/24 dev br9
answers by another router, which drops them | routed; space b; b: net/ipv4/ip_forward=1;
    b: ip link add name e2 up type veth peer name eth2 netns far; far: ip link set dev eth2 up;
    b: ip link add name e1 up type veth peer name far1 netns neighbour; b: ip address add
    10.8.0.1/24 dev e2; far: ip address add 10.8.0.2/24 dev eth2; b: ip address add 10.7.0.1/24 dev
    e1; b: ip route add default via 10.7.0.2; neighbour: ip address add 10.7.0.2/24 dev far1;
    neighbour: ip link set dev far1 up; far: ip route replace default via 10.8.0.1;
    b: iptables-legacy -A FORWARD -j DROP; trace one 10.9.0.1
    => a rule of /run/netns/b drops packets: iptables-legacy -A FORWARD -j DROP
a subnet that the other end has inside, too | inner; b: ip address add 10.1.0.254/24 dev d0;
    trace one b => packets to 10.1.0.2 leave /run/netns/b by d0, not by eth0
    => exec b ip route replace 10.1.0.2 via 10.5.0.1
a route to a former node | routed; space old;
    neighbour: ip link add name e2 up type veth peer name eth0 netns old;
    neighbour: ip address add 10.3.0.1/24 dev e2; old: ip link set dev eth0 up;
    old: ip address add 10.3.0.2/24 dev eth0; neighbour: ip route add 10.1.0.2 via 10.3.0.2;
    trace one 10.9.0.1 => packets to 10.1.0.2 leave /run/netns/neighbour by e2, not by eth0
    => exec neighbour ip route replace 10.1.0.2 dev eth0
a route's source is another interface's | pair; one: ip link add name d0 up type dummy;
    one: ip address add 10.77.0.5/32 dev d0;
    one: ip route add 10.1.0.3/32 dev net1 src 10.77.0.5; trace one two
    => ONE sends to 10.1.0.3 from 10.77.0.5, as its route says
    => ip route replace 10.1.0.3 dev net1 scope link src 10.1.0.2
a route's source is unknown elsewhere | routed; one: ip address add 10.77.0.5/32 dev net1;
    one: ip route replace default via 10.1.0.1 src 10.77.0.5; trace one 10.9.0.1
    => ONE sends to 10.9.0.1 from 10.77.0.5, as its route says
    => ip route replace default via 10.1.0.1 dev net1 src 10.1.0.2
no route back, and a lenient rp_filter | routed; neighbour: net/ipv4/conf/eth0/rp_filter=2;
    neighbour: ip route delete 10.1.0.0/24 dev eth0; trace one 10.9.0.1
    => /run/netns/neighbour has no route to 10.1.0.2
    => exec neighbour ip route add 10.1.0.2 dev eth0
no route back but the default route | routed; neighbour: ip address flush dev eth0;
    neighbour: ip address add 10.1.0.1/32 dev eth0; neighbour: ip route add default via 10.9.0.1;
    trace one 10.9.0.1
    => packets to 10.1.0.2 leave /run/netns/neighbour by far0, not by eth0; the route: default via
    => exec neighbour ip route replace 10.1.0.2 dev eth0
leaves by another interface | pair; one: ip link add name d0 up type dummy;
    one: ip address add 10.1.0.9/32 dev d0; one: ip route add 10.1.0.3 dev d0; trace one two
    => packets to 10.1.0.3 leave ONE by d0, not by net1; the route: 10.1.0.3 dev d0 scope link
duplicate address | masters; space dup;
    host: ip link add name e2 up type veth peer name eth0 netns dup;
    dup: ip address add 10.2.0.3/32 dev eth0; neighbour: ip address add 10.1.0.2/32 dev eth1;
    trace one two => 10.1.0.2 is also an address of => no two networks
an address that the other end has on lo, too | switched; other: ip link set dev lo up;
    other: ip link set dev eth0 address 02:00:00:00:00:05; one: ping -c 1 -w 9 10.1.0.1;
    other: ip address add 10.1.0.2/32 dev lo; trace one 10.1.0.1
    => has 10.1.0.2, too: 02:00:00:00:00:05, eth0 in /run/netns/other => no two networks
input dropped | pair; two: iptables-legacy -A INPUT -s 10.1.0.2 -j DROP; trace one two
    => a rule of TWO drops packets => -t filter -D INPUT -s 10.1.0.2/32 -j DROP
sent elsewhere | pair; one: iptables-legacy -t nat -A OUTPUT -d 10.1.0.3 -j DNAT --to 10.1.0.9;
    trace one two => a rule of ONE sends packets elsewhere
    => exec container1 iptables-legacy -t nat -D OUTPUT -d 10.1.0.3/32 -j DNAT
a network sent elsewhere | pair; one: iptables-legacy -t nat -A OUTPUT -d 10.1.0.0/24 -j NETMAP
    --to 10.98.0.0/24; trace one two => a rule of ONE sends packets elsewhere => -j NETMAP
a rule for all but the smallest packets | pair; two: iptables-legacy -A INPUT -p icmp -m length
    --length 300: -j DROP; trace one two => a rule of TWO drops packets
a filter of tc on the master | pair; host: tc qdisc add dev eth0 clsact;
    host: tc filter add dev eth0 egress matchall action drop; probe --netns one
    => a filter of tc of the host drops packets: dev eth0 egress => tc filter delete dev eth0 egress
the gateway's address at another container | gateway; add one 10.1.0.2/24 10.1.0.1;
    add two 10.1.0.1/24; probe --netns one
    => 10.1.0.1 is an address of => no two networks or nodes may hand out one range
the gateway's address at another host, which answers first | switched; third;
    b: ip link set dev eth0 address 02:00:00:00:00:05; b: ip address add 10.1.0.1/24 dev eth0;
    one: ip neighbour replace 10.1.0.1 lladdr 02:00:00:00:00:05 dev net1;
    probe --netns one --to 10.9.0.1 => 10.1.0.1 is an address of => no two networks
a queue without a program | pair; two: iptables-legacy -A INPUT -p icmp -j NFQUEUE; trace one two
    => a rule of TWO lets a program decide about packets => -D INPUT -p icmp -j NFQUEUE
a policy that drops answers | pair; one: iptables-legacy -P INPUT DROP; trace one two
    => the policy of ONE drops packets: iptables-legacy -P INPUT DROP
    => exec container1 iptables-legacy -t filter -I INPUT -s 10.1.0.3 -j ACCEPT
questions for an IPv6 neighbour dropped | switch; add one fd00:1::2/64;
    other: ip address add fd00:1::1/64 dev eth0 nodad;
    other: ip6tables-legacy -A INPUT -p ipv6-icmp --icmpv6-type 135 -j DROP; trace one fd00:1::1
    => a rule of /run/netns/other drops packets => -t filter -D INPUT
the router drops | routed; neighbour: iptables-legacy -A FORWARD -d 10.9.0.1 -j DROP;
    trace one 10.9.0.1
    => a rule of /run/netns/neighbour drops packets: iptables-legacy -A FORWARD
    => exec neighbour iptables-legacy -t filter -D FORWARD
the host's policy drops in l3s | l3s; neighbour: ip route add 10.1.0.2 via 10.1.0.10;
    host: iptables-legacy -P INPUT DROP; trace one 10.1.0.1
    => the policy of the host drops packets => iptables-legacy -t filter -I INPUT -s 10.1.0.1 -j
masqueraded, and a wrong neighbour | routed; far: ip route delete default;
    neighbour: iptables-legacy -t nat -A POSTROUTING -o far0 -j MASQUERADE;
    far: ip neighbour replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent;
    trace one 10.9.0.1 => eth0 in /run/netns/far takes 02:00:00:00:00:99 for 10.9.0.2 (permanent)
    => exec far ip neighbour delete 10.9.0.2
masqueraded twice, and a wrong neighbour | routed; space deep; far: net/ipv4/ip_forward=1;
    far: ip link add name e2 up type veth peer name eth0 netns deep; deep: ip link set dev eth0 up;
    far: ip address add 10.8.0.1/24 dev e2; deep: ip address add 10.8.0.2/24 dev eth0;
    neighbour: ip route add default via 10.9.0.1; far: ip route delete default;
    neighbour: iptables-legacy -t nat -A POSTROUTING -o far0 -j MASQUERADE;
    far: iptables-legacy -t nat -A POSTROUTING -o e2 -j MASQUERADE;
    neighbour: ip neighbour replace 10.1.0.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent;
    trace one 10.8.0.2 => eth0 in /run/netns/neighbour takes 02:00:00:00:00:99 for 10.1.0.2 (perm
    => exec neighbour ip neighbour delete 10.1.0.2
an address of another's for masquerading | routed; far: ip route delete default;
    neighbour: iptables-legacy -t nat -A POSTROUTING -o far0 -j SNAT --to-source 10.9.0.77;
    trace one 10.9.0.1 => a rule of /run/netns/neighbour changes addresses: => answers must find
a router that sends nothing of its own | routed; neighbour: iptables-legacy -P OUTPUT DROP;
    neighbour: ip address flush dev far0; trace one 10.9.0.1
    => /run/netns/neighbour has no route to 10.9.0.1 => exec neighbour ip route add 10.9.0.1
a qdisc of a class, and one that tc prints wrongly | routed;
    neighbour: tc qdisc add dev far0 root handle 1: prio; neighbour: ip link add name d0 type dummy;
    neighbour: tc qdisc add dev far0 parent 1:2 handle 20: netem loss 100%;
    neighbour: tc qdisc add dev d0 root hfsc; probe --netns one --to 10.9.0.1
    => the qdisc netem on far0 => tc qdisc delete dev far0 parent 1:2 handle 20:
masqueraded in l3 | l3; neighbour: ip route add 10.1.0.2 via 10.1.0.10;
    host: iptables-legacy -t nat -A POSTROUTING -s 10.1.0.2 -j MASQUERADE; trace one 10.1.0.1
    => changes addresses, so that in mode l3 answers don't come back => use mode l3s; or
the host drops what comes by hostAccess | access;
    host: iptables-legacy -P INPUT DROP; trace one host
    => the policy of the host drops packets => iptables-legacy -t filter -I INPUT -s 10.1.0.2 -j
echo ignored, and isolated networks | pair; space iso;
    iso: ip link add name d0 up type dummy; iso: ip address add 10.1.0.2/24 dev d0;
    iso: ip address add 10.1.0.1/24 dev d0; neighbour: net/ipv4/icmp_echo_ignore_all=1;
    trace one 10.1.0.1 => 10.1.0.1 ignores echo requests => exec neighbour
echo ignored, and VLANs with the same addresses | vlans; add two 10.1.0.2/24 - vlan=20 name=other;
    neighbour: net/ipv4/icmp_echo_ignore_all=1; trace one 10.1.0.1
    => 10.1.0.1 ignores echo requests => exec neighbour
echo ignored behind proxy ARP | gateway; far; neighbour: net/ipv4/ip_forward=1;
    neighbour: net/ipv4/conf/all/proxy_arp=1; neighbour: ip route add 10.1.0.200 dev far0;
    far: ip address add 10.1.0.200/24 dev eth0; far: net/ipv4/icmp_echo_ignore_all=1;
    add one 10.1.0.2/24; trace one 10.1.0.200 => 10.1.0.200 ignores echo requests => exec far
the router does not forward | routed; neighbour: net/ipv4/ip_forward=0; trace one 10.9.0.1
    => /run/netns/neighbour is the way to 10.9.0.1, but does not forward packets
    => exec neighbour sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
the router filters by the way back | routed; neighbour: net/ipv4/conf/eth0/rp_filter=1;
    neighbour: ip route add 10.1.0.2 via 10.9.0.1; trace one 10.9.0.1
    => /run/netns/neighbour drops what comes from 10.1.0.2 by eth0, since it would answer by far0
    => correct its route to 10.1.0.2, or be less strict
the router filters by a route that leads nowhere | pair; neighbour: net/ipv4/conf/eth0/rp_filter=1;
    neighbour: ip link add name d0 up type dummy; neighbour: ip route add 10.1.0.2 dev d0;
    probe --netns one => neighbour drops what comes from 10.1.0.2 by eth0
    => correct its route to 10.1.0.2
MTU black hole | routed; neighbour: ip link set dev far0 mtu 1400;
    far: ip link set dev eth0 mtu 1400;
    neighbour: iptables-legacy -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP;
    trace one 10.9.0.1 => a rule of /run/netns/neighbour drops packets => -D OUTPUT -p icmp
an end that takes less | pair; one: ip link set dev net1 mtu 1200; trace two one
    => packets of 1500 bytes don't reach 10.1.0.2, those of 1200 do => set dev net1 mtu 1500
a queue too small for large packets | pair;
    host: tc qdisc add dev eth0 root tbf rate 1mbit burst 1000 latency 50ms; probe --netns one
    => the qdisc tbf on eth0 of the host, or a filter there, drops packets => dev eth0 root
a queue that holds packets back | pair; one: tc qdisc add dev net1 root handle 1: htb default 1;
    one: tc class add dev net1 parent 1: classid 1:1 htb rate 8bit burst 1 cburst 1; trace one two
    => the qdisc htb on net1 of ONE holds packets back => exec container1 tc qdisc delete dev net1
a queue without room | pair; two: tc qdisc add dev net1 root pfifo limit 0; trace one two
    => the qdisc pfifo on net1 of TWO => exec container2 tc qdisc delete dev net1 root
a queue that corrupts packets | pair; one: tc qdisc add dev net1 root netem corrupt 100%;
    two: tc qdisc add dev net1 root netem corrupt 100%; trace one two => corrupts 100% of packets
private, and a rule that drops something else | gateway; add one 10.1.0.2/24 10.1.0.1 flag=private;
    add two 10.1.0.3/24 10.1.0.1 flag=private; two: iptables-legacy -P OUTPUT DROP; trace one two
    => both are on eth0, and flag private keeps its interfaces apart => use flag bridge
private, and a router that answers ARP for all | gateway; neighbour: net/ipv4/ip_forward=1;
    neighbour: net/ipv4/conf/eth0/proxy_arp_pvlan=1; add one 10.1.0.2/24 10.1.0.1 flag=private;
    add two 10.1.0.3/24 10.1.0.1 flag=private; trace one two => flag private keeps => flag bridge
macvlan in mode private | space mac; host: ip link add name mac0 link eth0 netns mac type macvlan
    mode private; host: ip link add name mac1 link eth0 netns two type macvlan mode private; mac: ip
    address add 10.5.0.2/24 dev mac0; two: ip address add 10.5.0.3/24 dev mac1; mac: ip link set dev
    mac0 up; two: ip link set dev mac1 up; trace mac two => is a macvlan in mode private, which
    keeps it apart from others on eth0 of the host => use mode bridge for both
vepa in mode l3 without a router | addressed; gateway; host: ip route add 10.2.0.0/24 via 10.1.0.1;
    neighbour: ip route add 10.2.0.0/24 via 10.1.0.10; add one 10.2.0.2/24 - mode=l3 flag=vepa;
    add two 10.2.0.3/24 - mode=l3 flag=vepa; trace one two
    => the way to 10.2.0.3, but does not forward packets => echo 1 >/proc/sys/net/ipv4/ip_forward
vepa in mode l3 without a route | addressed; gateway; neighbour: net/ipv4/ip_forward=1;
    neighbour: ip route add 10.2.0.0/24 via 10.1.0.10; add one 10.2.0.2/24 - mode=l3 flag=vepa;
    add two 10.2.0.3/24 - mode=l3 flag=vepa; trace one two
    => the host has no route to 10.2.0.3 => ip route add 10.2.0.3 via 10.1.0.1
vepa, and losses in the switch | switch; switch: bridge link set dev p0 hairpin on;
    add one 10.1.0.2/24 - flag=vepa; add two 10.1.0.3/24 - flag=vepa;
    switch: tc qdisc add dev p0 root netem loss 100%; trace one two => the qdisc netem on p0
vepa in a VLAN that the switch lacks | switch; switch: bridge link set dev p0 hairpin on;
    switch: ip link set dev br0 type bridge vlan_filtering 1;
    add one 10.1.0.2/24 - flag=vepa vlan=10; add two 10.1.0.3/24 - flag=vepa vlan=10; trace one two
    => does not let frames of VLAN 10 pass p0 => exec switch bridge vlan add dev p0 vid 10
vepa without hairpin | switch; add one 10.1.0.2/24 - flag=vepa vlan=10; add two 10.1.0.3/24 -
    flag=vepa vlan=10; trace one two => flag vepa sends their packets to the switch of eth0.10 =>
    exec switch bridge link set dev p0 hairpin on
a rule beside hostAccess | access; host: ip rule add to 10.1.0.2 lookup 99; host: ip route add
    10.1.0.0/24 dev eth0 table 99; trace one host => does not send to 10.1.0.2 by it; the route:
    10.1.0.0/24 dev eth0 table 99 => correct the rule that leads there: ip rule
hostAccess without a rule for the table main | access; host: ip rule delete lookup main;
    trace host one => but does not send to 10.1.0.2 by it
    => no rule leads to its table main; add one: ip -4 rule add priority 32766 lookup main
a better route than that of hostAccess | addressed; add one 10.1.0.2/24 - mode=l3 hostAccess=1;
    host: ip link add name d0 up type dummy; host: ip route add 10.1.0.2 dev d0; trace one host
    => but does not send to 10.1.0.2 by it; the route: 10.1.0.2 dev d0
    => which hostAccess would replace
the host and its own | addressed; add one 10.1.0.2/24; trace one host
    => lets no packets pass between a host and its own ipvlan interfaces => set hostAccess
the host is the gateway of its own to others | addressed; add one 10.1.0.2/24 10.1.0.10;
    probe --netns one --to 10.9.0.1
    => lets no packets pass between a host and its own ipvlan interfaces => set hostAccess
the host and an address on lo of its own | addressed; add one 10.1.0.2/24;
    one: ip link set dev lo up; one: ip address add 10.1.0.50/32 dev lo; trace host 10.1.0.50
    => the kernel lets no packets pass between a host and its own ipvlan interfaces
the host's broadcast address | addressed; add one 10.1.0.2/24; one: ip address flush dev net1;
    one: ip address add 10.1.0.255/24 dev net1; trace host one
    => the host takes 10.1.0.255 for a broadcast address => give the other one another address
the host and its own, by macvlan | addressed; space mac;
    host: ip link add name mac0 link eth0 netns mac type macvlan mode bridge;
    mac: ip address add 10.1.0.2/24 dev mac0; mac: ip link set dev mac0 up; trace mac host
    => the kernel lets no packets pass between a host and its own macvlan interfaces
    => another interface of the host
the host does not forward | hosted; host: net/ipv4/ip_forward=0; trace one two
    => the host is the way to 10.2.0.3, but does not forward packets => echo 1 >/proc/sys/net/ipv4
the host's policy drops what it forwards | hosted; host: iptables-legacy -P FORWARD DROP;
    trace one two
    => the policy of the host drops packets: iptables-legacy -P FORWARD DROP => -I FORWARD -s 10
an IPv6 router that does not forward | routed6; trace one fd00:9::1
    => /run/netns/neighbour is the way to fd00:9::1, but does not forward packets
    => exec neighbour sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
an IPv6 router's wrong neighbour | routed6; neighbour: net/ipv6/conf/all/forwarding=1;
    neighbour: ip neighbour replace fd00:1::2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent;
    trace one fd00:9::1 => eth0 in /run/netns/neighbour takes 02:00:00:00:00:99 for fd00:1::2
    => exec neighbour ip neighbour delete fd00:1::2
mode changed by another program | pair; one: ip link set dev net1 type ipvlan mode l3;
    probe --netns one
    => net1 in ONE was attached in mode l2 bridge, and shows l3 bridge now: another program may have
    => exec container1 ip link set dev net1 type ipvlan mode l2 bridge
through a container | pair; space far; two: ip link add name far0 up type veth peer name eth0 netns
    far; two: ip address add 10.66.0.1/24 dev far0; far: ip link set dev eth0 up; far: ip address
    add 10.66.0.2/24 dev eth0; far: ip route add default via 10.66.0.1; one: ip route add
    10.66.0.0/24 via 10.1.0.3; trace one 10.66.0.2 => ipvlan hands net1 in TWO only packets for its
    own addresses, and 10.66.0.2 is none => use macvlan
an address on lo | pair; two: ip link set dev lo up; two: ip address add 10.1.0.50/32 dev lo;
    trace one 10.1.0.50
    => ipvlan hands net1 in TWO only packets for its own addresses, and 10.1.0.50 is none
    => exec container2 ip address add 10.1.0.50 dev net1
no route, and answers would leave elsewhere | add one 10.1.0.2/24; add two 10.2.0.3/24;
    two: ip link add name d0 up type dummy; two: ip route add default dev d0; trace one two
    => ONE has no route to 10.2.0.3
ARP is not answered, and harmless flags of a switch | switched;
    switch: bridge link set dev p0 learning off mcast_flood off;
    switch: bridge link set dev p1 flood off;
    other: net/ipv4/conf/all/arp_ignore=8; probe --netns one
    => eth0 in /run/netns/other has 10.1.0.1, but does not answer ARP or ND
    (net/ipv4/conf/all/arp_ignore)
    => exec other sh -c 'echo 0 >/proc/sys/net/ipv4/conf/all/arp_ignore'
ARP is not answered for another's address | pair; neighbour: net/ipv4/conf/all/arp_ignore=1;
    neighbour: ip link add name d0 up type dummy; neighbour: ip address add 10.1.0.9/32 dev d0;
    trace one 10.1.0.9 => has 10.1.0.9, but does not answer ARP or ND => echo 0
no ARP | pair; one: ip link set dev net1 arp off; trace one 10.1.0.1
    => net1 in ONE asks for no neighbour => exec container1 ip link set dev net1 arp on
hostAccess with rp_filter | access; host: net/ipv4/conf/eth0/rp_filter=1; trace one host => the host
    drops what comes from 10.1.0.2 by eth0 => echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter
hostAccess without its neighbour | access; one: ip neighbour delete 10.1.0.10 dev net1;
    trace one host
    => net1 in ONE has no permanent neighbour entry for 10.1.0.10, the host
    => exec container1 ip neighbour replace 10.1.0.10 lladdr
hostAccess without its route | access;
    host: sh -c "ip route flush dev $(ip -o link | grep -o 'ipvhost[0-9]*')"; trace one host
    => but does not send to 10.1.0.2 by it => ip route replace 10.1.0.2 dev ipvhost
hostAccess without its interface | access;
    host: sh -c "ip link delete $(ip -o link | grep -o 'ipvhost[0-9]*')"; trace one host
    => lets no packets pass between => the host's interface for hostAccess is gone
hostAccess that asks for neighbours | access;
    host: sh -c "ip link set $(ip -o link | grep -o 'ipvhost[0-9]*') arp on"; trace host one
    => asks for neighbours => hostAccess has it not ask: ip link set dev ipvhost
hostAccess down | access; host: sh -c "ip link set $(ip -o link | grep -o 'ipvhost[0-9]*') down";
    trace host one => ipvhost => ip link set dev ipvhost
l3 without a way back | l3; probe --netns one --to 10.1.0.1
    => in mode l3 nobody answers ARP for 10.1.0.2, and /run/netns/neighbour has no route
    => exec neighbour ip route add 10.1.0.2 via 10.1.0.10
l3 beside a host that has only link-local addresses | host: ip route add fd00:1::1 dev eth0;
    neighbour: ip address add fd00:1::1/64 dev eth0 nodad; add one fd00:1::2/64 - mode=l3;
    host: ip address add fe80::10/64 dev eth0 nodad; trace one fd00:1::1
    => in mode l3 nobody answers => ip route add fd00:1::2 via fe80::10 dev eth0
l3 without a route back | addressed; gateway; add one 10.2.0.2/24 - mode=l3; trace one 10.1.0.1
    => /run/netns/neighbour has no route to 10.2.0.2 => ip route add 10.2.0.2 via 10.1.0.10
different VLANs | add one 10.1.0.2/24 - vlan=10; add two 10.1.0.3/24 - vlan=20 name=other;
    trace one two => net1 in ONE is in VLAN 10, net1 in TWO is in VLAN 20 => same
VLAN on one side only | vlans; neighbour: ip address flush dev v10; gateway; probe --netns one
    => eth0 in /run/netns/neighbour is in no VLAN, net1 in ONE is in VLAN 10 => the same option vlan
two masters in mode l3 | wires; add one 10.5.0.2/24 - mode=l3; add two 10.6.0.2/24 - mode=l3
    master=eth1 name=other; host: ip route add 10.5.0.2 dev eth0; host: ip route add 10.6.0.2 dev
    eth1; trace one two => the host has no route to 10.6.0.2 by eth0, but by eth1 => in mode l3
    packets leave by their own master only
a router between two masters in mode l3 | nodes; wires; neighbour: net/ipv4/ip_forward=1;
    neighbour: ip address add 10.4.0.1/24 dev eth1; neighbour: ip route add 10.5.0.0/24 via
    10.4.0.10; host: ip address add 10.4.0.10/24 dev eth1; host: ip route add default via 10.1.0.1;
    host: ip route add 10.5.0.0/24 dev eth1; space web; add web 10.5.0.2/24 - mode=l3 master=eth1
    name=other; trace one 10.5.0.2 => the host has no route to 10.2.0.2 by eth1, but by eth0
a gateway of IPv6 for IPv4 | ipv6; one: ip address add 10.1.0.2/24 dev net1;
    one: ip -4 route add default via inet6 fd00:1::9 dev net1; probe --netns one --to 10.9.0.1
    => nobody answers for fd00:1::9, the gateway to 10.9.0.1
a default route without its gateway | routed; one: ip route replace default dev net1;
    probe --netns one --to 10.9.0.1
    => 10.9.0.1 is looked for on eth0 of the host => ip route replace 10.9.0.1 via 10.1.0.1
two masters without a way | host: ip link add name eth1 up type dummy; add one 10.1.0.2/24;
    add two 10.1.0.3/24 - master=eth1 name=other; trace one two
    => 10.1.0.3 is looked for on eth0 of the host, but net1 in TWO is on eth1 of the host
    => use one master
nobody on the second network | masters; one: ip address add fd00:7::2/64 dev net1 nodad; add one
    10.2.0.2/24 - master=eth1 name=other CNI_IFNAME=net2; neighbour: ip link set dev eth0 down;
    trace one 10.2.0.77 => nobody answers for 10.2.0.77 on the network of eth1 => check the address
nobody on the network of another plugin | pair; one: ip link add name d0 up type dummy;
    one: ip address add 10.5.0.2/24 dev d0; one: ip link set dev d0 arp on; trace one 10.5.0.77
    => nobody answers for 10.5.0.77 on the network of d0 => use another master
nobody is the gateway | add one 10.1.0.2/24 10.1.0.1; probe --netns one
    => nobody answers for 10.1.0.1 on the network of eth0 of the host; the => check the address
nobody is the gateway by VLAN and rule | addressed; add one 10.1.0.2/24 10.1.0.1 vlan=10;
    host: ip address add 10.2.0.10/24 dev eth0.10; one: ip rule add from 10.1.0.2 lookup 100;
    one: ip route add default via 10.1.0.9 dev net1 table 100; probe --netns one --to 10.9.0.1
    => nobody answers for 10.1.0.9, the gateway to 10.9.0.1, on the network of eth0.10 of the host
    (VLAN 10), which has 10.2.0.0/24; the route: default via 10.1.0.9 dev net1 table 100
    => correct the route or a prefix length
a master that leads nowhere | host: ip link add name d1 up type dummy;
    add one 10.1.0.2/24 10.1.0.1 master=d1; probe --netns one
    => d1 of the host is a dummy, which leads nowhere => use another master
a service's address | routed; host: iptables-legacy -t nat -A PREROUTING -d 10.96.0.10/32 -p udp
    --dport 53 -j DNAT --to-destination 10.1.0.2; probe --netns one --to 10.96.0.10
    => 10.96.0.10 is known to rules of the host only => set hostAccess and routesViaHost
a service's address by the host | service; probe --netns one --to 10.96.0.10
    => 10.96.0.10 is known to rules of the host only, as a service's address is, and packets to it
    pass the host => try its port
a service's address by a host that does not forward | service; host: net/ipv4/ip_forward=0;
    probe --netns one --to 10.96.0.10 => but does not forward packets => ip_forward
a service's address by a host that has another address now | service;
    host: ip address flush dev eth0; host: ip address add 10.1.0.20/24 dev eth0;
    probe --netns one --to 10.96.0.10 => packets to it pass the host, but the host has ipvhost
    => add the route: ip route replace 10.1.0.2 dev ipvhost
a lease of who is gone | add one 10.1.0.2/24; host: sh -c
    "mkdir -p /var/lib/cni/networks/n && echo db >/var/lib/cni/networks/n/10.1.0.77";
    trace one 10.1.0.77 => leased it to the container db, which lacks it => ipvlan show
a broadcast address | add one 10.1.0.2/24; trace one 10.1.0.255 => it is a broadcast address
    => name an address that one host has
no address at another host | pair; neighbour: ip address flush dev eth0; trace one neighbour
    => eth0 in /run/netns/neighbour has no address => exec neighbour ip address add ADDRESS dev eth0
no address | pair; one: ip address flush dev net1; probe --netns one => net1 in ONE has no address
not on this node | pair; trace 10.1.0.77 one => 10.1.0.77 is not on this node => swap
IPv6 is switched off beside IPv4 | ipv6; one: ip address add 10.1.0.2/24 dev net1;
    one: net/ipv6/conf/net1/disable_ipv6=1; probe --netns one --to fd00:1::1
    => net1 in ONE can have no IPv6 address (net/ipv6/conf/net1/disable_ipv6 is 1)
    => echo 0 >/proc/sys/net/ipv6/conf/net1/disable_ipv6
IPv6 is switched off beside IPv4, for another's IPv6 address | ipv6;
    one: ip address add 10.1.0.2/24 dev net1; one: net/ipv6/conf/net1/disable_ipv6=1;
    trace one fd00:1::7 => net1 in ONE (container one) has no IPv6 address, unlike the other
    => echo 0 >/proc/sys/net/ipv6/conf/net1/disable_ipv6
the MTU is too small for IPv6 | ipv6; one: ip address add 10.1.0.2/24 dev net1;
    one: ip link set dev net1 mtu 1200; probe --netns one --to fd00:1::1
    => net1 in ONE can have no IPv6 address (its MTU is 1200) => ip link set dev net1 mtu 1280
link-local addresses alone, to the outside | ipv6; one: ip address add 10.1.0.2/24 dev net1;
    one: ip -6 address flush dev net1 scope global;
    probe --netns one --to fd00:9::1 => net1 in ONE has no IPv6 address but link-local ones
a check of addresses without end | unsure; neighbour: ip link set dev eth0 down;
    probe --netns one --to fd00:1::1
    => eth0 in /run/netns/neighbour is down => exec neighbour ip link set dev eth0 up
an address whose check has not ended | unsure; trace neighbour one
    => fd00:1::2/64 can't be used yet => wait
IPv6 is switched off | ipv6; two: net/ipv6/conf/net1/disable_ipv6=1; trace one two
    => net1 in TWO has no address, and can have no IPv6 address => conf/net1/disable_ipv6
a port of the switch is not ready | switched; switch: ip link set dev p0 nomaster;
    switch: ip link set dev br0 type bridge stp_state 1 forward_delay 3000;
    switch: ip link set dev p0 master br0; probe --netns one
    => p0 in /run/netns/switch, a port of br0, has state listening
    => exec switch ip link set dev br0 type bridge stp_state 0
isolated ports | switched; switch: bridge link set dev p0 isolated on;
    switch: bridge link set dev p1 isolated on; probe --netns one
    => are isolated ports of br0 => exec switch bridge link set dev p0 isolated off
a port of the switch floods no ARP | switched; switch: bridge link set dev p1 bcast_flood off;
    probe --netns one => p1 in /run/netns/switch, a port of br0, has bcast_flood off
    => exec switch bridge link set dev p1 bcast_flood on
a port of the switch neither learns nor floods | switched;
    switch: bridge link set dev p1 flood off learning off; switch: ip link set dev p1 down;
    switch: ip link set dev p1 up;
    probe --netns one => p1 in /run/netns/switch, a port of br0, has flood off
    => exec switch bridge link set dev p1 flood on
a switch that keeps the gateway's frames | switched;
    other: ip link set dev eth0 address 02:00:00:00:00:05;
    switch: bridge fdb replace 02:00:00:00:00:05 dev p1 master; probe --netns one
    => br0 in /run/netns/switch sends what is for 02:00:00:00:00:05 to br0, not to p1
    => exec switch bridge fdb delete 02:00:00:00:00:05 dev p1 master
a wrong port for the gateway's frames in a VLAN | trunk; third;
    switch: bridge vlan add dev p2 vid 10; other: ip link set dev eth0 address 02:00:00:00:00:05;
    switch: bridge fdb replace 02:00:00:00:00:05 dev p2 master sticky static vlan 10;
    probe --netns one => sends what is for 02:00:00:00:00:05 to p2 in /run/netns/switch, not to p1
    => bridge fdb delete 02:00:00:00:00:05 dev p2 master vlan 10
ports of different VLANs | switched; switch: ip link set dev br0 type bridge vlan_filtering 1;
    switch: bridge vlan delete dev p1 vid 1; switch: bridge vlan add dev p1 vid 30 pvid untagged;
    probe --netns one => br0 in /run/netns/switch does not let frames of VLAN 1 pass p1 in
    /run/netns/switch untagged => exec switch bridge vlan add dev p1 vid 1 pvid untagged
a port of another VLAN than all | switched; third;
    switch: ip link set dev br0 type bridge vlan_filtering 1;
    switch: bridge vlan delete dev p0 vid 1; switch: bridge vlan add dev p0 vid 30 pvid untagged;
    probe --netns one => does not let frames of VLAN 1 pass p0 in /run/netns/switch untagged
    => exec switch bridge vlan add dev p0 vid 1 pvid untagged
no VLAN for untagged frames | switched; switch: ip link set dev br0 type bridge vlan_filtering 1;
    switch: bridge vlan delete dev p0 vid 1; switch: bridge vlan delete dev p1 vid 1;
    probe --netns one => does not let frames of VLAN 1 pass p0 in /run/netns/switch untagged
    => exec switch bridge vlan add dev p0 vid 1 pvid untagged
frames that leave with a tag | switched; switch: ip link set dev br0 type bridge vlan_filtering 1;
    switch: bridge vlan delete dev p1 vid 1; switch: bridge vlan add dev p1 vid 1;
    probe --netns one => does not let frames of VLAN 1 pass p1 in /run/netns/switch untagged
    => exec switch bridge vlan add dev p1 vid 1 pvid untagged
echo ignored behind a trunk | trunk; other: net/ipv4/icmp_echo_ignore_all=1; trace one 10.1.0.1
    => 10.1.0.1 ignores echo requests: net/ipv4/icmp_echo_ignore_all is 1 in => exec other sh -c
losses at a port of the switch | switched; switch: tc qdisc add dev p1 root netem loss 100%;
    probe --netns one => the qdisc netem on p1 of /run/netns/switch => qdisc delete dev p1 root
a policy of IPsec | pair; two: ip xfrm policy add dir in src 10.1.0.2 dst 10.1.0.3 action block;
    trace one two => IPsec of TWO drops packets (XfrmInPolBlock => exec container2 ip xfrm policy
packets that live too short | masters; one: iptables-legacy -t mangle -A OUTPUT -j TTL --ttl-set 1;
    trace one two => a rule of ONE lets packets pass few hops => -t mangle -D OUTPUT -j TTL
a rule that says unreachable | routed; neighbour: ip rule add iif far0 unreachable priority 8;
    neighbour: ip rule add iif eth0 unreachable priority 9; trace one 10.9.0.1
    => unreachable by the rule 9: from all to all iif eth0
    => ip -4 rule delete priority 9 from all to all iif eth0 unreachable
the gateway answers no ARP | pair; neighbour: ip link set dev eth0 arp off; probe --netns one
    => eth0 in /run/netns/neighbour answers no ARP => exec neighbour ip link set dev eth0 arp on
the router asks for no neighbour | routed; neighbour: ip link set dev far0 arp off;
    trace one 10.9.0.1 => far0 in /run/netns/neighbour asks for no neighbour => dev far0 arp on
the router does not forward what comes by one interface | routed;
    neighbour: net/ipv4/conf/eth0/forwarding=0; trace one 10.9.0.1
    => does not forward packets => echo 1 >/proc/sys/net/ipv4/conf/eth0/forwarding
answers through a router that does not forward | routed; space back;
    far: ip link add name e1 up type veth peer name eth0 netns back; back: ip link set dev eth0 up;
    far: ip address add 10.4.0.2/24 dev e1; back: ip address add 10.4.0.1/24 dev eth0;
    back: ip link add name d0 up type dummy; back: ip route add 10.1.0.0/24 dev d0;
    back: net/ipv4/ip_forward=0; far: ip route replace default via 10.4.0.1; trace one 10.9.0.1
    => /run/netns/back is the way to 10.1.0.2, but does not forward packets => echo 1
the host's rule about what comes from mode l3 | nodes;
    host: ip rule add from 10.2.0.0/24 prohibit priority 50; trace one two
    => the host throws away what goes to 10.3.0.3: prohibit by the rule 50
    => ip -4 rule delete priority 50
a wrong gateway by the host's rule about mode l3s | l3s; host: ip rule add from 10.1.0.2 lookup 9;
    neighbour: ip route add 10.1.0.2 via 10.1.0.10;
    host: ip route add default via 10.1.0.77 table 9; trace one 10.1.0.1
    => nobody answers for 10.1.0.77, the gateway to 10.1.0.1
    => 10.1.0.1 is there: ip route replace 10.1.0.1 dev eth0 table 9
another node's wrong neighbour | nodes;
    neighbour: ip neighbour replace 10.1.0.10 lladdr 02:00:00:00:00:99 dev eth0 nud noarp;
    trace one two => takes 02:00:00:00:00:99 for 10.1.0.10 (noarp), but eth0 of the host has
    => exec neighbour ip neighbour delete
the host's route in mode l3 is unreachable | nodes; host: ip route add unreachable 10.3.0.3;
    trace one two => the host throws away what goes to 10.3.0.3: unreachable => ip -4 route delete
a bond whose active port leads elsewhere | bond; space b;
    host: ip link add name eth2 type veth peer name p2 netns b; b: ip link set dev p2 up;
    host: ip link set dev eth2 master bond0;
    host: ip link set dev bond0 type bond active_slave eth2; probe --netns one
    => 10.1.0.1 is looked for on bond0 of the host, but eth1 in /run/netns/neighbour is on
a bond without ports | bond; host: ip link set dev eth1 nomaster; probe --netns one
    => bond0 of the host has no ports => ip link set dev PORT master bond0
the host's VRF without a route | vrf; trace one 10.9.0.1
    => the host has no route to 10.9.0.1 => ip route add 10.9.0.1 via 10.1.0.1 vrf red
the router's VRF | routed; neighbour: ip link add name red up type vrf table 10;
    neighbour: ip link set dev eth0 master red; trace one 10.9.0.1 => in the VRF red
echo ignored, and links with the same indexes | space b; space far; space a; gateway;
    neighbour: ip link add name far0 index 77 up type veth peer name eth0 index 78 netns far;
    a: ip link add name far0 index 77 up type veth peer name eth0 index 78 netns b;
    neighbour: ip address add 10.9.0.2/24 dev far0; neighbour: net/ipv4/ip_forward=1;
    far: ip link set dev eth0 up; far: ip address add 10.9.0.1/24 dev eth0;
    far: ip route add default via 10.9.0.2; add one 10.1.0.2/24 10.1.0.1;
    far: net/ipv4/icmp_echo_ignore_all=1; trace one 10.9.0.1 => 10.9.0.1 ignores echo requests
a second network in common | pair; wires;
    host: ip link add name net2 link eth1 netns one type ipvlan mode l2 private;
    host: ip link add name net2 link eth1 netns two type ipvlan mode l2 private;
    one: ip link set dev net2 up; one: ip address add 10.2.0.2/24 dev net2;
    two: ip link set dev net2 up; two: ip address add 10.2.0.3/24 dev net2;
    trace one two => flag private keeps its interfaces apart => use flag bridge
ARP by two interfaces | switch; host: ip link add name eth1 up type veth peer name p2 netns switch;
    switch: ip link set dev p2 up master br0; add one 10.1.0.2/24; add two 10.1.0.3/24;
    host: ip link add name net2 link eth1 netns one type ipvlan mode l2;
    one: ip link set dev net2 up; one: ip address add 10.1.0.4/24 dev net2; trace two 10.1.0.4
    => net1 in ONE answers for 10.1.0.4, too, which is an address of net2 in ONE
    => net/ipv4/conf/net1/arp_ignore' && ip netns exec
a router's address was found twice | add two fd00:1::1/64;
    neighbour: ip address add fd00:1::1/64 dev eth0; neighbour: sleep 3;
    two: ip address flush dev net1; add one fd00:1::2/64 fd00:1::1; probe --netns one
    => eth0 in /run/netns/neighbour does not use fd00:1::1: another host has it, too
    => exec neighbour ip address delete fd00:1::1/64 dev eth0 && ip netns exec
no route in mode l3 | l3; one: ip route delete default; trace one 10.9.0.1
    => ONE has no route to 10.9.0.1 => ip route add 10.9.0.1 dev net1
no IPv6 on the master in mode l3 | add one fd00:1::2/64 - mode=l3;
    host: net/ipv6/conf/eth0/disable_ipv6=1; trace one fd00:9::1
    => eth0 of the host can have no IPv6 address => echo 0 >/proc/sys
a MAC address twice | switch; host: ip link set dev eth0 address 02:00:00:00:00:05;
    other: ip link set dev eth0 address 02:00:00:00:00:05; add one 10.1.0.2/24 10.1.0.1;
    probe --netns one => have the same MAC address, 02:00:00:00:00:05 => give one of them another
an address of two containers on two masters | wires; space b; add b 10.1.0.3/24;
    add one 10.1.0.2/24; add two 10.1.0.3/24 - master=eth1 name=other; trace one two
    => 10.1.0.3 is an address of => no two networks
both ends have the same address | wires; add one 10.1.0.2/24;
    add two 10.1.0.2/24 - master=eth1 name=other; trace one two
    => 10.1.0.2 is an address of ONE, too => no two networks
an IPv6 address of the router's loopback | ipv6; one: ip route add fd00:5::/64 dev net1;
    neighbour: ip address add fd00:5::1/128 dev lo; trace one fd00:5::1
    => in IPv6, eth0 in /run/netns/neighbour answers for its own addresses only
    => exec container1 ip route replace fd00:5::1 via fd00:1::1
a neighbour that is gone since it has answered | ipv6;
    one: ip neighbour replace fd00:1::9 lladdr 02:00:00:00:00:99 dev net1 nud reachable;
    trace one fd00:1::9 => nobody answers for fd00:1::9 => check the address
an answer past the router that has changed addresses | pair; neighbour: net/ipv4/ip_forward=1;
    neighbour: iptables-legacy -t nat -A PREROUTING -d 10.9.0.9 -j DNAT --to 10.1.0.3;
    trace one 10.9.0.9 => asked for 10.9.0.9, 10.1.0.3 answers => must masquerade
redirected to who is gone | pair; neighbour: net/ipv4/ip_forward=1;
    neighbour: ip route add 10.9.0.0/24 via 10.1.0.3; one: sh -c "ping -c 3 -W 1 10.9.0.1 || true";
    neighbour: ip route delete 10.9.0.0/24; two: ip address flush dev net1;
    trace one 10.9.0.1 => nobody answers for 10.1.0.3 => forget that: ip netns
the host has lost its address | addressed; add one 10.1.0.2/24; host: ip address flush dev eth0;
    trace one host => ; the host has none => give one of them such addresses
the second of two families, by another interface | gateway; wires; add one 10.1.0.2/24;
    neighbour: ip address add fd00:2::1/64 dev eth1 nodad;
    add one fd00:2::2/64 - master=eth1 name=other CNI_IFNAME=net2;
    neighbour: ip6tables-legacy -A INPUT -s fd00:2::2 -j DROP; trace one neighbour
    => a rule of /run/netns/neighbour drops packets => -D INPUT -s fd00:2::2/128
no family in common | pair; two: ip address flush dev net1;
    two: ip address add fd00::1/64 dev net1 nodad; trace one two => have no addresses of one family
"""
BY_NFT = """
a rule that counts | pair; input; two: nft add rule inet t c counter drop; trace one two
    => a rule of TWO drops packets: nft inet t c => nft delete rule inet t c handle
a rule that does not count | pair; input; two: nft add rule inet t c icmp type echo-request drop;
    trace one two => a rule of TWO may drop packets: nft inet t c
a rule for others | pair; input; two: nft add rule inet t c ip saddr 192.0.2.1 drop; trace one two
    => everything answers
a policy | pair; input; two: nft 'chain inet t c {policy drop;}'; trace one two
    => a rule of TWO may drop packets => nft insert rule inet t c ip saddr 10.1.0.2 accept
a rule for ARP | pair; two: nft 'table arp t {chain c {type filter hook input priority 0;drop;};}';
    trace one two => a rule of TWO may drop packets: nft arp t c
an address translated | pair; one: nft 'table ip t {chain c {type nat hook output
    priority -100;ip daddr 10.1.0.3 counter dnat to 10.1.0.9;};}'; trace one two
    => a rule of ONE sends packets elsewhere: nft ip t c => nft delete rule ip t c
masquerading in mode l3 | l3; neighbour: ip route add 10.1.0.2 via 10.1.0.10;
    host: nft 'table ip t {chain c {type nat hook postrouting
    priority 100;ip saddr 10.1.0.2 masquerade;};}'; trace one 10.1.0.1
    => may change addresses, so that in mode l3 answers don't come back => use mode l3s
a service | routed; host: nft 'table ip t {chain s {};map m {type ipv4_addr . inet_service:
    verdict;elements = {10.96.0.10 . 80: goto s};};}'; probe --netns one --to 10.96.0.10
    => 10.96.0.10 is known to rules of the host only => set hostAccess and routesViaHost
iptables | pair; two: iptables-nft -A INPUT -s 10.1.0.2 -j DROP; trace one two
    => a rule of TWO drops packets: iptables-nft -A INPUT => iptables-nft -t filter -D INPUT
"""
pytestmark = pytest.mark.setup(master="wire")


def read(text: str) -> dict[str, str]:
    """Return the text after each name."""
    parts = re.findall(r"^(\S.*?) \| (.*\n(?: +.*\n)*)", text, re.MULTILINE)
    return {name: " ".join(below.split()) for name, below in parts}


NETWORKS = read(BASES)
ROWS = read(HEALTHY + BROKEN)
HIDDEN = read("""
all is well | pair; probe --netns one => everything answers
echo ignored | pair; neighbour: net/ipv4/icmp_echo_ignore_all=1; trace one 10.1.0.1
    => answers ARP or ND
a gateway that leads nowhere | pair; probe --netns one --to 10.9.0.1 => its gateway 10.1.0.1 (
a namespace elsewhere with the gateway's address | routed; space vm;
    vm: ip link add name d0 up type dummy; vm: ip address add 10.1.0.1/24 dev d0;
    neighbour: net/ipv4/ip_forward=0; probe --netns one --to 10.9.0.1 => its gateway 10.1.0.1 (
echo ignored, and a namespace elsewhere with the address | pair; space vm;
    vm: ip link add name d0 up type dummy; vm: ip address add 10.1.0.1/24 dev d0;
    neighbour: net/ipv4/icmp_echo_ignore_all=1; trace one 10.1.0.1 => answers ARP or ND
another interface of a pod, behind a router | masters; one: net/ipv4/conf/net1/rp_filter=1;
    add one 10.2.0.2/24 - master=eth1 name=other CNI_IFNAME=net2; trace two 10.1.0.2
    => drops what comes from 10.2.0.3 by net1, since it would answer by net2 (
another host answers | gateway; host: ip link add name d0 up type dummy; add one 10.1.0.2/24;
    add two 10.1.0.1/24 - master=d0 name=other; trace one two
    => is not on its network: another host has that address, too
a wrong neighbour | pair;
    one: ip neighbour replace 10.1.0.1 lladdr 02:00:00:00:00:99 dev net1 nud permanent;
    trace one 10.1.0.1 => answers for it
a neighbour that is not there | pair; one: ip neighbour replace 10.1.0.9 lladdr 02:00:00:00:00:99
    dev net1 nud permanent; trace one 10.1.0.9 => nobody answers for 10.1.0.9
a bond's active port | bond; neighbour: ip link set dev eth1 down; probe --netns one
    => eth1 of the host is without carrier
the host's address only | pair; addressed; neighbour: iptables-legacy -A INPUT -s 10.1.0.2 -j DROP;
    probe --netns one => 10.1.0.1 answers eth0 of the host (10.1.0.10), but not 10.1.0.2
a router that refuses a container | routed; addressed; host: ip route add default via 10.1.0.1;
    neighbour: iptables-legacy -A FORWARD -s 10.1.0.2 -j REJECT; probe --netns one --to 10.9.0.1
    => but not 10.1.0.2; asked for 10.9.0.1, 10.1.0.1 answers: Destination Port Unreachable
nobody behind a router | routed; probe --netns one --to 10.9.0.7
    => asked for 10.9.0.7, 10.1.0.1 answers: Destination Host Unreachable
MTU black hole | routed; neighbour: ip link set dev far0 mtu 1400;
    neighbour: iptables-legacy -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP;
    probe --netns one --to 10.9.0.1 => packets of 1500 bytes don't reach 10.9.0.1, those of 1400 do
""")


class Network:
    """The namespaces of a network, by name."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.namespaces = {"one": setup.container, "two": setup.container2, "host": setup.host}
        self.namespaces["neighbour"] = setup.neighbour

    def make(self, commands: str) -> None:
        for command in filter(None, commands.split("; ")):
            name, _, words = command.partition(": ")
            if command in NETWORKS:
                self.make(NETWORKS[command])
            elif command.startswith("space "):
                self.namespaces[command[6:]] = self.setup.node.make_namespace(command[6:])
            elif command.startswith("add "):
                self._add(*command.split()[1:])
            elif words.startswith("net/"):
                self.namespaces[name].sysctl(*words.split("="))
            else:
                argv = shlex.split(words)
                if "netns" in argv:
                    position = argv.index("netns") + 1
                    argv[position] = self.namespaces[argv[position]].path
                self.namespaces[name].run(*argv)

    def _add(self, name: str, address: str, gateway: str = "-", *options: str) -> None:
        conf: dict[str, Any] = dict(each.split("=") for each in options)
        conf |= {key: int(conf[key]) for key in ("vlan",) if key in conf}
        conf |= {key: True for key in ("hostAccess",) if key in conf}
        routes = [{"dst": "::/0" if ":" in address else "0.0.0.0/0"}]
        has_default = gateway != "-" or "mode" in conf
        ipam = static(address, gateway=gateway.strip("-"), routes=routes if has_default else [])
        self.setup.add(at=self.namespaces[name], ipam=ipam, CNI_CONTAINERID=name, **conf)

    @contextmanager
    def hide(self, name: str) -> Iterator[None]:
        """Have a namespace not be found, as if it were another host's."""
        path = self.namespaces[name].path
        namespaces = [each for each in namespace.find_others() if each.path != path]
        with mock.patch.object(namespace, "find_others", side_effect=lambda _: iter(namespaces)):
            yield

    def replace_words(self, question: str) -> list[str]:
        paths = {name: each.path for name, each in self.namespaces.items() if name != "host"}
        return [paths.get(word, word) for word in question.split()]

    def ask(self, question: str) -> dict[str, Any]:
        process = ipvlan(*self.replace_words(question), "--json")
        assert process.status in (0, 1), process
        return {"status": process.status, **json.loads(process.out)}

    def replace_names(self, text: str) -> str:
        one, two = (self.namespaces[name].path for name in ("one", "two"))
        return text.replace("ONE", one).replace("TWO", two)


@pytest.fixture
def network(setup: Setup) -> Network:
    return Network(setup)


@pytest.mark.parametrize("name", ROWS)
def test_the_verdict_names_the_cause_and_the_next_step(network: Network, name: str) -> None:
    check_verdict(network, ROWS[name], is_broken=name not in read(HEALTHY))


@pytest.mark.parametrize("name", read(BY_NFT))
def test_rules_of_nft_are_blamed(network: Network, name: str) -> None:
    asking = ("sh", "-c", "nft --check add table inet t")
    if subprocess.run(asking, capture_output=True, check=False).returncode:
        pytest.skip("nft is not installed, or not in this kernel: scripts/lab-kernel --qemu")
    check_verdict(network, read(BY_NFT)[name], is_broken=FINE not in read(BY_NFT)[name])


def check_verdict(network: Network, row: str, *, is_broken: bool) -> None:
    arrangement, *expected = row.split(" => ")
    commands, _, question = arrangement.rpartition("; ")
    network.make(commands)
    answer = network.ask(question)
    for words, text in zip(expected, (answer["verdict"], answer["next"]), strict=False):
        assert network.replace_names(words) in text, answer
    assert answer["status"] == is_broken, answer
    if not is_broken:
        assert expected or answer["verdict"] == FINE, answer
        assert not [each for each in answer["findings"] if each["state"] == "problem"]


@pytest.mark.slow
def test_an_end_has_several_names(network: Network) -> None:
    network.make("pair; add one 10.1.0.5/24 - name=other CNI_IFNAME=net2")
    pod = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
    identity = "0123456789abcdef"
    container3 = network.setup.make_container()
    network.setup.add(at=container3, ipam=static("10.1.0.7/24"), CNI_CONTAINERID=identity, **pod)
    words = ("container3", container3.path, identity, identity[:12], "web-0", "default/web-0")
    for word in sample(words, 1):
        assert network.ask(f"trace {word} 10.1.0.3")["verdict"] == FINE
        assert network.ask(f"probe --netns {word} --to 10.1.0.3")["verdict"] == FINE
    assert network.ask("trace 10.1.0.3 web-0")["verdict"] == FINE
    network.namespaces["web"] = container3
    network.make("host: ip link add name v0 up type veth peer name eth0 netns web")
    network.make("host: ip address add 10.5.0.1/24 dev v0; web: ip link set dev eth0 up")
    network.make("web: ip address add 10.5.0.2/24 dev eth0")
    assert network.ask("probe --netns web-0 --ifname eth0 --to 10.5.0.1")["verdict"] == FINE
    assert "it has eth0, net1" in ipvlan("probe", "--netns", "web-0", "--ifname", "eth9").err
    network.make("web: ip link delete dev net1")
    assert f"net1 of the container {identity} is gone" in ipvlan("trace", "web-0", "host").err


@pytest.mark.slow
def test_a_word_for_several_containers_is_refused(network: Network) -> None:
    for number, at in enumerate((network.setup.container, network.setup.container2), 1):
        pod = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=n{number};K8S_POD_NAME=web-0"
        variables = {"CNI_CONTAINERID": f"01234{number}", "CNI_ARGS": pod}
        network.setup.add(at=at, ipam=static(f"10.1.0.{number + 1}/24"), **variables)
    for words in ("trace 0123 host", "probe --netns web-0"):
        process = ipvlan(*words.split())
        assert process.status == 2
        assert "is 2 containers: pod n1/web-0, container 012341 in /run/netns/" in process.err
        assert "; give NAMESPACE/NAME, the whole ID or the namespace" in process.err
    for word in ("n2/web-0", "012342", network.setup.container2.path):
        assert network.ask(f"trace {word} 10.1.0.2")["verdict"] == FINE
    offered = [each.value for each in options.complete_ends(None, None, "")]
    assert {"n1/web-0", "n2/web-0"} < {each for each in offered if "web-0" in each}


def test_a_pod_of_another_plugin_is_found_by_what_libcni_keeps(network: Network) -> None:
    network.make(ROWS["a container of the plugin bridge"].rpartition("; ")[0])
    args = [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "db-0"]]
    result = {"containerId": "0123456", "netns": network.namespaces["veth"].path, "cniArgs": args}
    results = LEASES / "results"
    results.mkdir()
    (results / "br-0123456-eth0").write_text(json.dumps(result))
    (results / "br-other-eth0").write_text('{"cniArgs": 5}')
    (results / "br-gone-eth0").write_text(json.dumps({**result, "netns": "/run/netns/gone"}))
    for word in sample(("db-0", "default/db-0", "01234"), 1):
        assert network.ask(f"probe --netns {word}")["verdict"] == FINE


@pytest.mark.slow
def test_words_that_name_no_end(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    network.make("pair; " + "host: ip link add name other0 type dummy")
    network.setup.add(name="b", ipam=static("10.1.0.5/24"), CNI_IFNAME="net2")
    for words, message in {
        "trace nobody host": "'nobody' is not host, an address, a namespace",
        "probe --netns one": "choose one with --ifname: net1, net2",
        "probe --netns one --ifname net3": "it has net1, net2",
        "probe --netns 10.1.0.77": "10.1.0.77 is not on this node",
        "probe --netns 10.1.0.3 --ifname net2": "has no interface net2; it has net1",
        "probe --netns host --ifname no --to 10.1.0.1": "has no interface no; it has eth0, other0",
        "probe --netns two --to fe80::1%net1": "is not the IP address of another host",
        "trace one 255.255.255.255": "is not the IP address of another host",
        "trace one 127.0.0.1": "is not the IP address of another host",
    }.items():
        process = ipvlan(*network.replace_words(words))
        assert (process.status, message in process.err) == (2, True), process
    for words in sample(("--ifname net2 --to 10.1.0.1", "--to ::ffff:10.1.0.1"), 1):
        assert network.ask(f"probe --netns one {words}")["verdict"] == FINE
    search = inventory.search

    def search_two(*args: Any, **keywords: Any) -> Iterator[inventory.Attachment]:
        by_netns = groupby(search(*args, **keywords), lambda each: each.netns)
        for _, attachments in islice(by_netns, 2):  # of the host and one more
            yield from attachments

    with mock.patch.object(inventory, "search", search_two):
        for name in ("one", "two"):
            network.ask(f"probe --netns {name} --ifname net1 --to 10.1.0.1")
    network.setup.node.remove(network.setup.container2)
    assert "the container two is gone" in ipvlan("trace", "two", "host").err
    hidden_namespace = namespace.Namespace("/run/netns/unseen", "", (0, 0))
    with mock.patch.object(namespace, "find_others", return_value=[hidden_namespace]):
        assert "not looked into: /run/netns/unseen: " in ipvlan("trace", "two", "host").err
    monkeypatch.setattr("cni_ipvlan.cli.connectivity.topology._SEARCH_SECONDS", 0)
    for words in ("trace one host", "probe --netns 10.1.0.2"):
        assert "since it took too long" in ipvlan(*network.replace_words(words)).err


@pytest.mark.slow
def test_missing_programs_are_named_and_not_blamed(network: Network) -> None:
    network.make("pair")
    with hide_program("arping"):
        answer = network.ask("trace one two")
    assert answer["verdict"] == FINE
    assert "iputils-arping" in json.dumps(answer["findings"])
    with hide_program("ping"):
        answer = network.ask("trace one two")
        assert "iputils-ping" in answer["next"]
        network.make("two: ip link set dev net1 down")
        assert "is down" in network.ask("trace one two")["verdict"]
    network.make("two: ip link set dev net1 up; two: iptables-legacy -A INPUT -j DROP")
    with ExitStack() as stack:
        for name in ("iptables-legacy-save", "iptables-nft-save", "iptables-save", "nft"):
            stack.enter_context(hide_program(name))
        answer = network.ask("trace one two")
    assert [each for each in answer["findings"] if "filters were not looked at" in each["text"]]


@pytest.mark.slow
def test_who_is_not_root_is_told_so(network: Network) -> None:
    network.make("pair")
    unable = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    for words in ("trace one two", "trace host 10.1.0.2", "probe --netns one"):
        for prefix in (NOBODY, unable):
            argv = (*prefix, f"{SHARED_VENV}/bin/ipvlan", *network.replace_words(words))
            process = subprocess.run(argv, check=False, capture_output=True)
            assert process.returncode in (1, 2)
            assert b"only root can look into containers" in process.stdout + process.stderr


@pytest.mark.slow
@pytest.mark.setup(master="wire", dad=True)
def test_an_address_of_another_host(network: Network) -> None:
    neighbour = network.setup.neighbour
    network.make("add one 10.1.0.2/24 10.1.0.1; neighbour: ip address add 10.1.0.2/24 dev eth0")
    with network.hide("neighbour"):
        answer = network.ask("probe --netns one")
    assert neighbour.links()["eth0"]["address"] in answer["verdict"]
    network.make("neighbour: ip address add fd00:1::2/64 dev eth0 nodad")
    network.make("one: ip address add fd00:1::2/64 dev net1")
    container = network.setup.container
    wait_until(lambda: "fd00:1::2" in container.ip("-6 address show dev net1 dadfailed"))
    answer = network.ask("probe --netns one")
    assert "does not use fd00:1::2: another host has it, too" in json.dumps(answer["findings"])
    network.make("neighbour: ip address add fe80::1/64 dev eth0 nodad")
    network.make("one: ip -6 route add default via fe80::1 dev net1")
    network.make("one: ip address delete 10.1.0.2/24 dev net1")
    verdict = network.ask("probe --netns one")["verdict"]  # the gateway answers the container
    assert "does not use fd00:1::2: another host has it, too" in verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", HIDDEN)
def test_another_host_can_only_be_asked(network: Network, name: str) -> None:
    arrangement, verdict = HIDDEN[name].split(" => ")
    commands, _, question = arrangement.rpartition("; ")
    network.make(commands)
    with network.hide("neighbour"):
        answer = network.ask(question)
    assert verdict in answer["verdict"], answer


@pytest.mark.slow
def test_dns_servers_of_the_kept_result(network: Network) -> None:
    network.make("pair")
    servers = {"nameservers": ["10.1.0.1", "10.1.0.77", "-f"]}
    container3, conf = network.setup.make_container(), {"CNI_CONTAINERID": "three", "dns": servers}
    result = network.setup.add(at=container3, ipam=static("10.1.0.5/24"), **conf).result
    file = LEASES / "multus/results/net-three-net1"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"kind": "cniCacheV1", "result": result}))

    answer = network.ask("probe --netns 10.1.0.5")

    texts = [each["text"] for each in answer["findings"] if each["subject"] == "dns"]
    assert texts[0].startswith("10.1.0.1 answers")
    assert "'-f' is not an address, so no resolver can ask it" in texts
    assert answer["verdict"].startswith("nobody answers for 10.1.0.77")


@pytest.mark.slow
@pytest.mark.setup(master="wire", host=("10.1.0.10/24",))
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_the_remedy_for_the_host_and_its_own_container(network: Network, mode: str) -> None:
    default = "host: ip route add default via 10.1.0.1"
    network.make(f"gateway; {default}; add one 10.1.0.2/24 - mode={mode}")
    network.make("one: ip address add 8.8.8.8/32 dev net1")  # which is none of the network's
    network.make(f"one: ip link set dev net1 type ipvlan mode {'l3' if mode == 'l2' else 'l2'}")
    assert "ip link add" not in json.dumps(network.ask("trace one host"))
    network.make(f"one: ip link set dev net1 type ipvlan mode {mode}")
    answers = [network.ask(words) for words in ("trace one host", "trace host one")]
    for answer in answers:
        assert "a host and its own ipvlan interfaces" in answer["verdict"]
    run("sh", "-e", stdin="\n".join(re.findall("^ip .*", answers[0]["next"], re.MULTILINE)))
    assert "via 10.1.0.1" in network.setup.host.ip("route get 8.8.8.8")
    for words in ("trace one host", "trace host one"):
        assert network.ask(words)["verdict"] == FINE
    # The host still reaches others, and others the container.
    assert network.setup.host.can_ping("10.1.0.1")
    if mode == "l2":
        assert network.setup.neighbour.can_ping("10.1.0.2")
