"""Which master ADD takes: the configured one, the first that fits, or the default route's."""

import pytest
from command_line import ipvlan
from lab import run
from runtime import Conf, network, static
from sampling import sample
from setup import Setup

NAMES = ("wan7", "eth1", "ens3", "ens4")  # in the order in which they are made
SELECTIONS: list[tuple[str | list[str], str]] = [
    (["eth1", "ens*"], "eth1"),
    (["eth9", "ens*"], "ens3"),
    (["ens4", "eth1"], "ens4"),
    (["eth9", "uplink", "eth1"], "wan7"),  # by an altname
    ("upl*", "wan7"),
    ("ens?", "ens3"),
    ("en[a-z][4-9]", "ens4"),
    ("ens[!3]", "ens4"),
    ("*", "wan7"),  # the loopback interface can't be a master
    (["x*", "e*"], "eth1"),
    (["eth1"], "eth1"),
]
pytestmark = pytest.mark.setup(master="")
routed = pytest.mark.setup(host=("10.8.0.1/24",))


@pytest.fixture
def several(setup: Setup) -> Setup:
    for name in NAMES:
        setup.node.make_master(name)
    setup.host.ip("link property add dev wan7 altname uplink")
    return setup


def test_the_first_entry_that_fits_is_the_master(several: Setup) -> None:
    previous = {"ips": [{"address": "10.1.0.2/24"}]}
    for master, expected in sample(SELECTIONS, 3):
        conf = network(master=master, cniVersion="1.1.0", ipam=None)
        with several.unchanged():
            several.runtime.status(conf).succeeds()
            added = several.add(conf, ipam=None, prevResult=previous)

            assert several.node.find_master(several.container) == expected, master
            added.check(prevResult=added.result)
            options: Conf = {"prevResult": previous, "CNI_IFNAME": "net2"}
            error = several.expect_error(104, conf=conf, ipam=None, mode="l3", **options)
            assert f"{expected!r}" in error["msg"]
            added.delete()


def test_the_order_is_that_of_the_index_whatever_they_are_called(several: Setup) -> None:
    several.host.ip("link set dev ens3 down")
    several.host.ip("link set dev ens3 name ens9")
    several.host.ip("link property add dev wan7 altname ensure")
    several.add(master="ens?")
    several.add(master="ens*", at=several.container2, CNI_IFNAME="a")
    assert several.node.find_master(several.container) == "ens9"  # although it is down
    assert several.node.find_master(several.container2, "a") == "wan7"


@pytest.mark.parametrize(
    "command",
    [
        "ip link add name upper0 type bridge; ip link set dev ens3 master upper0",
        "ip link add name taker0 link ens3 type macvlan",
        "ip link set dev ens3 mtu 1200",
    ],
)
def test_a_pattern_passes_over_what_can_not_be_the_master(several: Setup, command: str) -> None:
    run("sh", "-ec", command)
    several.add(master="ens*", mtu=1400)
    assert several.node.find_master(several.container) == "ens4"
    if "bridge" in command:  # a name is not passed over
        error = several.expect_error(103, master=["ens3", "ens*"], at=several.container2)
        assert error["msg"] == "the master 'ens3' is a port of a bridge"


def test_a_pattern_passes_over_interfaces_of_attachments(several: Setup) -> None:
    """A link has an ``iv`` name on the host until it is moved, or if its call was killed."""
    for kind in ("ipvlan", "ipvtap"):
        run("ip", "link", "add", "link", "eth1", "name", f"iv-{kind}", "type", kind)
    several.node.make_master("iv7")
    several.add(master="iv*")
    assert several.node.find_master(several.container) == "iv7"


@pytest.mark.slow
def test_an_interface_may_be_called_like_a_pattern(several: Setup) -> None:
    for name in ("e*", "eth[1]", "w?"):
        several.node.make_master(name)
        added = several.add(master=name)
        assert several.node.find_master(several.container) == name
        added.check()
        added.delete()


def test_in_the_container_its_interfaces_are_candidates(several: Setup) -> None:
    for name in ("ens7", "ens8"):
        several.container.ip(f"link add name {name} type dummy")
    added = several.add(master=["eth1", "ens*"], linkInContainer=True)
    assert several.container.links()["net1"]["link"] == "ens7"
    added.check()


def test_if_none_fits_only_root_sees_which_there_are(setup: Setup) -> None:
    for name in ("eth0", "eth1"):
        setup.node.make_master(name)
    run("ip", "link", "add", "name", "upper0", "type", "bridge")
    run("ip", "link", "set", "dev", "eth1", "master", "upper0")
    private_lines = [
        "found there: lo, eth0, eth1, upper0",
        "'eth1' fits 'eth[1-9]', but the master 'eth1' is a port of a bridge",
    ]

    error = setup.expect_error(102, master=["ens3", "eth[1-9]"])

    assert error["msg"] == (
        "cannot find a master: no interface that can be one fits 'ens3' or 'eth[1-9]'"
    )
    assert error["details"].splitlines() == [
        "looked in: the host's namespace",
        "try: correct the option master",
        "the node's log has the rest",
    ]
    assert error["private"].splitlines() == [f"one net1: {each}" for each in private_lines]


def test_check_compares_with_what_add_has_chosen(setup: Setup) -> None:
    setup.node.make_master("ens4")
    added = setup.add(master=["eth1", "ens*"])
    setup.node.make_master("eth1")  # an ADD would take it now
    added.check()
    added.check("its master is not 'eth1' or 'w*'", master=["eth1", "w*"])
    added.check("its master 'x' or 'w*' does not exist any more", master=["x", "w*"])


def test_it_is_found_on_a_host_that_has_no_ipv4_address(setup: Setup) -> None:
    with setup.node.make_namespace("fresh").enter():  # its lo is down: there is no table local
        setup.node.make_master("e#1")  # which is asked for alone: ip -batch overlooks the error
        setup.add(master="e#1").check()


def test_people_are_told_which_one_it_is(several: Setup) -> None:
    dry = several.dry_run(master=["eth9", "ens*"], ipam=static("10.1.0.2/24"))
    assert "ip link add link ens3 " in dry.text
    assert "ens3 is up, MTU 1500" in ipvlan("doctor", *dry.options[:-2]).check_output()
    ipvlan("add", *dry.options).check_output()
    assert "  ens3" in ipvlan("show", "--master", "ens3").check_output()


# Without a master it is the default route's interface. What is refused is in test_refusals.


@routed
@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (["-4 default via 10.8.0.9 metric 200 dev eth0", "-4 default dev eth1 metric 100"], "eth1"),
        (["-4 default dev eth1 metric 100", "-4 default via 10.8.0.9 dev eth0"], "eth0"),
        (["-4 default dev eth1 metric 900", "-6 default dev eth0 metric 1"], "eth1"),
        (["-6 default dev eth0 metric 20", "-6 default dev eth1 metric 10"], "eth1"),
        (["-4 unreachable default metric 1", "-4 default dev eth1 metric 900"], "eth1"),
        (["-4 default nexthop dev eth1 nexthop via 10.8.0.9 dev eth0"], "eth1"),
    ],
    ids=["lowest metric", "none is 0", "IPv4 first", "IPv6 then", "unreachable", "multipath"],
)
def test_the_default_routes_interface(setup: Setup, routes: list[str], expected: str) -> None:
    setup.node.make_master("eth1")
    for each in routes:
        setup.host.ip(f"{each[:2]} route add {each[3:]}")
    setup.add(master=None)
    assert setup.node.find_master(setup.container) == expected


@routed
def test_it_is_the_route_of_the_masters_namespace_unless_configured(setup: Setup) -> None:
    setup.node.make_master("eth1")
    setup.host.ip("route add default dev eth1")
    setup.container.ip("link add name inner0 up type dummy")
    setup.container.ip("route add default dev inner0")
    setup.add(master="", linkInContainer=True)  # is not given
    assert setup.container.links()["net1"]["link"] == "inner0"
    setup.add(master="eth0", at=setup.container2)
    assert setup.node.find_master(setup.container2) == "eth0"
