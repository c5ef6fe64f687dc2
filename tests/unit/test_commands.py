"""iproute.commands: each command, word for word."""

from __future__ import annotations

import itertools

import pytest

from cni_ipvlan.iproute import commands, tc
from cni_ipvlan.iproute.commands import Command, together
from cni_ipvlan.iproute.namespace import Namespace

NAMED = Namespace("/var/run/netns/blue", "blue", (4, 4026532001))
NAMELESS = Namespace("/proc/42/ns/net", "", (4, 4026532002))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            commands.link_add_ipvlan("eth0", "ivx", "l2", "bridge", 0),
            "ip link add link eth0 name ivx type ipvlan mode l2 bridge",
        ),
        (
            commands.link_add_ipvlan("eth0", "ivx", "l3s", "private", 1400),
            "ip link add link eth0 name ivx mtu 1400 type ipvlan mode l3s private",
        ),
        (commands.link_add_without_master(), "ip link add name ivprobe%d type ipvlan"),
        (
            commands.link_add_macvlan_refused("eth0"),
            "ip link add link eth0 name ivprobe%d type macvlan mode bridge macaddr flush",
        ),
        (
            commands.namespace_number(42),
            "lsns --json --type net --output NS,NETNSID --task 42",
        ),
        (
            commands.link_set_netns("ivx", NAMED, "net1", "label"),
            "ip link set dev ivx netns /var/run/netns/blue name net1 alias label",
        ),
        (
            commands.link_set_netns("ivx", NAMELESS, "net1", "label"),
            "ip link set dev ivx netns /proc/42/ns/net name net1 alias label",
        ),
        (commands.link_set_up("net1"), "ip link set dev net1 up"),
        (
            commands.link_announce("net1"),
            "ip link set dev net1 broadcast ff:ff:ff:ff:ff:ff",
        ),
        (commands.link_delete("net1"), "ip link delete dev net1"),
        (commands.link_show("net1"), "ip -j -d link show dev net1"),
        (commands.link_show_kind("ipvlan"), "ip -j -d link show type ipvlan"),
        (commands.link_show_all(), "ip -j -d link show"),
        (commands.address_add("10.0.0.2/24", "net1"), "ip address add 10.0.0.2/24 dev net1"),
        (commands.address_show("net1"), "ip -j -d address show dev net1"),
        (commands.address_show_kind("ipvlan"), "ip -j -d address show type ipvlan"),
        (commands.route_show("net1"), "ip -N -j -d route show table all dev net1"),
        (commands.route_show_default(4), "ip -4 -j route show default"),
        (commands.route_show_default(6), "ip -6 -j route show default"),
        (
            commands.sysctl_write("net/ipv4/conf/a.b/arp_notify", "x"),
            "tee /proc/sys/net/ipv4/conf/a.b/arp_notify /proc/sys/x",
        ),
        (commands.sysctl_read("a", "b"), "cat /proc/sys/a /proc/sys/b"),
    ],
)
def test_command(argv: tuple[str, ...], line: str) -> None:
    assert argv == tuple(line.split())


@pytest.mark.parametrize(
    ("attributes", "line"),
    [
        ({}, "ip route add 10.9.0.0/16 dev net1"),
        ({"gateway": "10.0.0.1"}, "ip route add 10.9.0.0/16 via 10.0.0.1 dev net1"),
        ({"table": 100}, "ip route add 10.9.0.0/16 dev net1 table 100"),
        ({"table": 0}, "ip route add 10.9.0.0/16 dev net1 table 0"),
        ({"priority": 5}, "ip route add 10.9.0.0/16 dev net1 metric 5"),
        ({"priority": 0}, "ip route add 10.9.0.0/16 dev net1 metric 0"),
        ({"scope": 0}, "ip route add 10.9.0.0/16 dev net1 scope 0"),
        ({"scope": 253}, "ip route add 10.9.0.0/16 dev net1 scope 253"),
        ({"scope": 254}, "ip route add 10.9.0.0/16 dev net1 scope 254"),
        ({"scope": 200}, "ip route add 10.9.0.0/16 dev net1 scope 200"),
        ({"mtu": 1300}, "ip route add 10.9.0.0/16 dev net1 mtu 1300"),
        ({"advmss": 1260}, "ip route add 10.9.0.0/16 dev net1 advmss 1260"),
        (
            {
                "gateway": "10.0.0.1",
                "table": 100,
                "priority": 5,
                "scope": 0,
                "mtu": 1300,
                "advmss": 1260,
            },
            (
                "ip route add 10.9.0.0/16 via 10.0.0.1 dev net1 table 100 metric 5 scope 0 "
                "mtu 1300 advmss 1260"
            ),
        ),
    ],
)
def test_route_with_exactly_the_attributes_it_is_given(
    attributes: dict[str, int | str], line: str
) -> None:
    argv = commands.route_add("10.9.0.0/16", "net1", **attributes)  # type: ignore[arg-type]
    assert argv == tuple(line.split())


@pytest.mark.parametrize("name", ["dev", "up", "a@b", "#x", "it's", "$HOME", "-x", "é", "type"])
def test_name_is_one_word_behind_its_keyword_whatever_it_is(name: str) -> None:
    for argv, keyword in (
        (commands.link_add_ipvlan(name, "t", "l2", "bridge", 0), "link"),
        (commands.link_add_ipvlan("m", name, "l2", "bridge", 0), "name"),
        (commands.link_set_netns(name, NAMED, "n", "label"), "dev"),
        (commands.link_set_netns("n", NAMED, name, "label"), "name"),
        (commands.link_set_name(name, "n", "label"), "dev"),
        (commands.link_set_name("n", name, "label"), "name"),
        (commands.link_set_up(name), "dev"),
        (commands.link_announce(name), "dev"),
        (commands.link_delete(name), "dev"),
        (tc.clsact_add(name), "dev"),
        (tc.broadcast_filter_add(name), "dev"),
        (commands.link_show(name), "dev"),
        (commands.address_add("10.0.0.2/24", name), "dev"),
        (commands.address_show(name), "dev"),
        (commands.route_add("::/0", name), "dev"),
        (commands.route_show(name), "dev"),
    ):
        pairs = list(itertools.pairwise(argv))
        assert (keyword, name) in pairs


def test_command_in_a_namespace_with_a_name() -> None:
    argv = commands.in_namespace(NAMED, ("ip", "link", "show"))
    assert argv == ("ip", "netns", "exec", "blue", "ip", "link", "show")


def test_command_in_a_namespace_without_a_name() -> None:
    argv = commands.in_namespace(NAMELESS, ("ip", "link", "show"))
    assert argv == ("nsenter", "--net=/proc/42/ns/net", "ip", "link", "show")


def test_command_in_the_callers_namespace() -> None:
    assert commands.in_namespace(None, ("ip", "link", "show")) == ("ip", "link", "show")


def test_several_ip_commands_are_lines_of_one() -> None:
    parts = (
        Command(commands.address_add("10.0.0.2/24", "it@s"), "give it", NAMED),
        Command(commands.link_set_up("net1"), "bring it up", NAMED),
        Command(commands.address_show("net1"), inside=NAMED),
        Command(commands.route_show("net1"), inside=NAMED),
    )
    assert together(*parts) == Command(
        ("ip", "-j", "-d", "-N", "-batch", "-"),
        "give it; bring it up",
        NAMED,
        b"address add 10.0.0.2/24 dev it@s\nlink set dev net1 up\n"
        b"address show dev net1\nroute show table all dev net1\n",
        parts=parts,
    )


def test_batch_of_changes_has_no_options() -> None:
    joined = together_(commands.link_set_up("-j"), commands.link_delete("\udcff"))
    assert joined.argv == ("ip", "-batch", "-")
    assert joined.stdin == b"link set dev -j up\nlink delete dev \xff\n"
    assert joined.batch_lines == ["link set dev -j up", "link delete dev \ufffd"]


@pytest.mark.parametrize("name", ["#x", "a#", "it's", '"q"', "a\\b", "a b", "a\tb", "a\nb", ""])
def test_name_that_a_batch_would_split_makes_no_batch(name: str) -> None:
    assert together_(commands.link_set_up("net1"), commands.link_set_up(name)).argv == ()


@pytest.mark.parametrize(
    "argv", [commands.sysctl_read("a"), commands.route_show_default(4), ("ip", "-n", "x", "link")]
)
def test_command_with_its_own_settings_makes_no_batch(argv: tuple[str, ...]) -> None:
    assert together_(commands.link_set_up("net1"), argv).argv == ()


def together_(*argvs: tuple[str, ...]) -> Command:
    return together(*map(Command, argvs))


def test_parameters_stand_before_what_a_shell_runs() -> None:
    command = Command(("/cni/x",), inside=NAMED, parameters={"B": "2", "A": "1 1"})
    assert command.entered_argv == ("ip", "netns", "exec", "blue", "/cni/x")
    assert command.full_argv == ("env", "A=1 1", "B=2", *command.entered_argv)


def test_query_is_distinguished_from_a_change() -> None:
    assert commands.prints_json(commands.link_show("x"))
    assert not commands.prints_json(commands.link_set_up("x"))
    assert not commands.prints_json(commands.link_set_up("-j"))
    assert commands.prints_json(commands.route_show_default(6))


def test_wait_for_duplicate_detection_is_a_script_with_names_as_its_arguments() -> None:
    argv = commands.wait_for_ipv6("it's", 5, ["fd00::2", "fd00::3"])
    assert argv[:2] == ("sh", "-c")
    assert argv[3:5] == ("sh", "it's")
    assert argv[6:] == ("fd00::2", "fd00::3")
    assert argv[2].startswith("timeout 5 ")


def test_parameters_of_an_interface() -> None:
    assert commands.ipv6_off("a.b") == "net/ipv6/conf/a.b/disable_ipv6"
    assert commands.arp_notify("a.b") == "net/ipv4/conf/a.b/arp_notify"
    assert commands.ndisc_notify("a.b") == "net/ipv6/conf/a.b/ndisc_notify"


def test_arping_asks_once_and_waits_a_second() -> None:
    argv = ("arping", "-D", "-w", "1", "-I", "eth0", "10.1.0.2")
    assert commands.arping_duplicate("10.1.0.2", "eth0") == argv
