"""What ADD refuses: with its code, what to do (docs/errors.md), and no word of others' affairs.

The cause may be another container or an interface of the host: only root reads of it, on stderr and
in the log. Whatever is refused, everything stays as it was.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from doubles import replace_program
from lab import MODULE_BLOCK, hide_program, run
from runtime import Conf, host_local, network, static
from setup import Setup

DUPLICATE_ROUTES = [{"dst": "10.7.0.0/16"}, {"dst": "10.7.0.0/16", "gw": "10.1.0.9"}]


class Row(NamedTuple):
    """A call of ADD, and its error: the message, words of the details, lines on stderr only."""

    options: Conf
    code: int
    msg: str
    details: tuple[str, ...]
    hidden: tuple[str, ...]


def row(code: int, msg: str, *details: str, hidden: tuple[str, ...] = (), **options: Any) -> Row:
    return Row(options, code, msg, details, hidden)


def gateway_out_of_reach(dst: str, gw: str, finding: str, *addresses: str) -> Row:
    return row(
        107,
        f"cannot add the route to {dst}: no address of the interface has the gateway in its subnet",
        f"via {gw} dev net1",
        f"\nfound: {finding}\n",
        "try: correct the gateway or the prefix length",
        ipam=static(*addresses, routes=[{"dst": dst, "gw": gw}]),
    )


def other_route(mode: str, address: str, route: str) -> Row:
    """Return a row for an address that the host reaches in another way than by hostAccess."""
    return row(
        107,
        f"the host reaches {address} in another way, which hostAccess would replace",
        hidden=(f"found: the route to {route}",),
        hostAccess=True,
        mode=mode,
        ipam=static(f"{address}/{64 if ':' in address else 24}"),
    )


def taken_by_macvlan() -> list[Row]:
    advice = "try: use another master, or remove the macvlan interfaces"
    hidden = ("the macvlan interfaces are: taker0",)
    return [row(103, "the master 'eth0' is taken by macvlan", advice, hidden=hidden)]


def port(kind: str) -> list[Row]:
    message = f"the master 'eth0' is a port of a {kind}"
    advice = "try: use that as the master"
    return [row(103, message, advice, hidden=("it is a port of 'upper0'",))]


IN_USE = "cannot add the address {}: an ipvlan interface of this master already has the address"
PORTS = "port29, port2, port9, port12, port19, " + ", ".join(
    f"port{number}" for number in (*range(20, 29), 0, 1, 3, 4, 5, 6)
)
IN_ONE = "ip -n container1"
ADDRESSED = "ip address add 10.1.0.10/24 dev eth0; ip address add fd00:1::10/64 dev eth0 nodad"

# The calls, by the commands that are run on the host before them.
# fmt: off
REFUSALS: dict[str, list[Row]] = {
    "": [
        row(
            7, "mtu is 1501; allowed on the master 'eth0': 68 to 1500", "try: leave mtu out",
            "packets larger than the master's MTU would be dropped silently\n", mtu=1501
        ),
        row(106, IN_USE.format("10.1.0.2/9"), "twice", ipam=static("10.1.0.2/8", "10.1.0.2/9")),
        row(7, "mtu is 1279; IPv6 addresses need 1280 or more", mtu=1279, ipam=static("fd00::2/9")),
        gateway_out_of_reach(
            "0.0.0.0/0", "10.9.0.1",
            "the gateway 10.9.0.1 is in no subnet of net1, which has 10.1.0.2/24 "
            "(subnet 10.1.0.0/24), 10.2.0.2/16 (subnet 10.2.0.0/16)", "10.1.0.2/24", "10.2.0.2/16"
        ),
        gateway_out_of_reach(
            "::/0", "fd00:9::1",
            "the gateway fd00:9::1 is in no subnet of net1, which has fd00:1::2/64 "
            "(subnet fd00:1::/64)", "fd00:1::2/64"
        ),
        gateway_out_of_reach(
            "fd00:7::/64", "fd00:9::1",
            "net1 has no IPv6 address, so it can't reach the gateway fd00:9::1", "10.1.0.2/24"
        ),
        row(
            107, "cannot add the route to 10.7.0.0/16: the container already has a route to that "
            "destination",
            "\nfound: the container has the route 10.7.0.0/16 via 10.1.0.1 dev net1 metric 0\n",
            ipam=host_local("10.1.0.0/24", routes=DUPLICATE_ROUTES)
        ),
        row(
            102, "no master is configured, and the host has no default route to find it by",
            "try: set the option master\n", hidden=("interfaces there: lo, eth0",), master=None
        ),
        row(
            102, "cannot find the master 'eth0'",
            "looked in: the container's namespace /run/netns/container1\n", "found there: lo",
            linkInContainer=True
        ),
        row(7, "ipam must be given, with a type, unless the plugin is chained", ipam=None),
        row(
            6,
            'prevResult: cannot decode the result: ips[].address is "10.1.0.2"; an address with a '
            "prefix length is needed", prevResult={"ips": [{"address": "10.1.0.2"}]}
        ),
    ],
    f"{IN_ONE} link add name eth0 type dummy; ip link delete dev eth0": [
        row(102, "cannot find the master 'eth0'", "linkInContainer", hidden=("found there: lo",)),
    ],
    "ip link delete dev eth0; for n in br-lan eth10 wlan0; do ip link add $n type dummy; done": [
        row(
            102, "cannot find the master 'eth0'",
            "looked in: the host's namespace\ntry: correct the option master\nthe node's log",
            hidden=(
                "found there, nearest name first: eth10, wlan0, lo, br-lan", "did you mean 'eth10'?"
            )
        ),
        row(
            102, "cannot find the master 'eth10.100'",
            hidden=(
                "found there, nearest name first: eth10, wlan0, lo, br-lan",
                "did you mean 'eth10' with vlan 100, which makes that one?",
            ), master="eth10.100"
        ),
        row(
            102, "cannot find the master 'eth10.4095'", hidden=(
                "found there, nearest name first: eth10, wlan0, lo, br-lan", "did you mean 'eth10'?"
            ), master="eth10.4095"
        ),
        row(
            102, "cannot find the master 'q7'", hidden=("found there: lo, br-lan, eth10, wlan0",),
            master="q7"
        ),
    ],
    "for n in $(seq 0 29); do ip link add port$n type dummy; done": [
        row(
            102, "cannot find the master 'prt29'",
            hidden=(
                f"found there, nearest name first: {PORTS} and 12 more", "did you mean 'port29'?"
            ), master="prt29"
        ),
    ],
    "ip link add name taker0 link eth0 type macvlan": taken_by_macvlan(),
    "ip link add name taker0 link eth0 type macvtap": taken_by_macvlan(),
    "ip link add name taker0 link eth0 netns container2 type macvlan": [
        row(
            103,
            "cannot create an ipvlan interface of eth0: the master already serves another kind of "
            "link (macvlan, bridge, bond, team)",
            "answer: RTNETLINK answers: Device or resource busy", "try: use another master",
            hidden=("found: eth0 already carries macvlan: taker0 in /run/netns/container2",)
        ),
    ],
    "ip link add name upper0 type bridge; ip link set dev eth0 down master upper0": port("bridge"),
    "ip link add name upper0 type bond; ip link set dev eth0 down master upper0": port("bond"),
    "ip link add name slave0 link eth0 type ipvlan mode l3": [
        row(
            103, "the master 'slave0' is itself an ipvlan interface",
            "try: use the interface below it as the master\n",
            hidden=("the interface below it is 'eth0'",), master="slave0"
        ),
    ],
    "ip link add name vrf0 up type vrf table 7": [
        row(103, "the master 'vrf0' is a VRF, which carries no ipvlan", master="vrf0"),
    ],
    "ip tuntap add dev tun0 mode tun": [
        row(
            103, "the master 'tun0' is not an Ethernet interface, which ipvlan needs", master="tun0"
        ),
    ],
    "ip link set dev eth0 mtu 1279": [
        row(
            7, "the MTU of the master 'eth0' is 1279; IPv6 addresses need 1280 or more",
            ipam=static("fd00::2/64")
        ),
    ],
    "ip link set dev eth0 down": [
        row(
            100, "cannot make the VLAN 100: the master 'eth0' is down, so no packets get through; "
            "try: ip link set dev eth0 up", vlan=100
        ),
    ],
    f"{IN_ONE} link add name net1 type dummy": [
        row(
            105, "the container already has an interface 'net1', of kind dummy",
            "try: choose another CNI_IFNAME"
        ),
    ],
    f"{IN_ONE} link add name own0 up type dummy; {IN_ONE} address add 10.2.0.2/24 dev own0; "
    f"{IN_ONE} route add default via 10.2.0.1": [
        row(
            107, "cannot add the route to 0.0.0.0/0: the container already has a route to that "
            "destination",
            "\nfound: the container has the route 0.0.0.0/0 via 10.2.0.1 dev own0 metric 0\n",
            ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=[{"dst": "0.0.0.0/0"}])
        ),
        row(
            102, "cannot find the master 'own1'", "did you mean 'own0'?", master="own1",
            linkInContainer=True
        ),
    ],
    ADDRESSED: [
        row(
            7, "the container gets 65 addresses; hostAccess is for at most 64 addresses",
            hostAccess=True, ipam=static(*(f"10.1.1.{number}/16" for number in range(65)))
        ),
    ],
    f"{ADDRESSED}; ip link add name vrf0 type vrf table 7; ip link set dev eth0 master vrf0": [
        row(7, "hostAccess is set, but the master 'eth0' is in a VRF", hostAccess=True)
    ],
    "ip address add fd00:1::10/64 dev eth0 nodad": [
        row(
            7, "hostAccess is set, but on the master 'eth0' the host has no address of the same "
            "family as the container's", "try: give the host an address on the master",
            hostAccess=True
        ),
    ],
    f"{ADDRESSED}; ip link add name eth1 up type dummy; ip route add default via 10.1.0.1; "
    "ip route add default via fd00:1::1; ip route add 10.9.0.0/16 via 10.1.0.1; "
    "ip route add 10.8.0.0/16 dev eth1": [
        row(
            107, "10.1.0.1 is a gateway of the host, which hostAccess would cut off",
            "try: give the container another address, or exclude it from the range",
            hostAccess=True, ipam=static("10.1.0.1/24")
        ),
        other_route("l3", "10.9.0.1", "10.9.0.0/16 via 10.1.0.1 dev eth0"),
        other_route("l3s", "10.8.0.1", "10.8.0.0/16 dev eth1"),
        other_route("l3", "fd00:9::1", "::/0 via fd00:1::1 dev eth0"),
    ],
}
# fmt: on


@pytest.mark.parametrize("commands", REFUSALS)
def test_add_refuses(setup: Setup, commands: str) -> None:
    paths = [each.path for each in (setup.container, setup.container2)]
    assert paths == ["/run/netns/container1", "/run/netns/container2"]
    run("sh", "-ec", commands)
    for each in REFUSALS[commands]:
        error = setup.expect_error(each.code, *each.details, hidden=each.hidden, **each.options)
        assert error["msg"] == each.msg
        assert error["private"].splitlines() == [f"one net1: {line}" for line in each.hidden]
        details = error.get("details", "")
        assert "undone" not in details
        names = {*setup.host.links(), "container2"} - {"lo", "eth0"}
        assert not [name for name in names if name in details and name not in each.msg]


@pytest.mark.parametrize("address", ["10.1.0.2/24", "fd00:1::2/64"])
def test_an_address_that_a_container_of_the_master_has(setup: Setup, address: str) -> None:
    victim = setup.node.make_namespace("victim")
    setup.add(at=victim, ipam=static(address), CNI_IFNAME="eth5", CNI_CONTAINERID="first")
    plain = address.partition("/")[0]
    finding = f"found: {plain} belongs to eth5 in {victim.path} (container first)"

    error = setup.expect_error(
        106, "ipvlan show", name="other", ipam=static(address), hidden=[finding]
    )

    assert error["msg"] == IN_USE.format(address)
    command, answer, *_ = error["details"].splitlines()
    assert command.startswith("command: ip netns exec ")
    assert f" ip address add {address} dev net1" in command
    assert answer.endswith("Address already assigned to an ipvlan device.")
    assert not [name for name in ("victim", "eth5", "first") if name in error["details"]]


def test_an_address_that_an_interface_made_by_hand_has(setup: Setup) -> None:
    setup.make_foreign_link(setup.container2, "l2")
    setup.container2.ip("address add 10.1.0.2/16 dev byhand")
    setup.add(ipam=static("10.1.0.9/24")).delete()  # a note of the mode stays, as after a refusal
    finding = f"found: 10.1.0.2 belongs to byhand in {setup.container2.path}"
    error = setup.expect_error(106, "ipvlan show", hidden=[finding])
    assert error["msg"] == IN_USE.format("10.1.0.2/24")
    assert not [name for name in ("byhand", "container2") if name in error["details"]]


def test_another_mode_than_many_containers(setup: Setup) -> None:
    setup.host.ip("link add name onhost link eth0 type ipvlan mode l2")
    for number in range(2, 6):
        ipam = static(f"10.1.0.{number}/24")
        setup.add(at=setup.make_container(), ipam=ipam, CNI_CONTAINERID=f"c{number}")

    options: Conf = {"mode": "l3s", "flag": "private", "ipam": static("10.1.0.9/24")}
    error = setup.expect_error(104, hidden=["onhost", " and 2 more"], **options)

    assert error["msg"] == (
        "the master 'eth0' is used in mode l2 bridge; this network wants l3s private"
    )
    _, advice, _ = error["details"].splitlines()
    finding = error["private"].removeprefix("one net1: ")
    assert finding.startswith("found: 5 interfaces run in that mode: onhost on the host, net1 in ")
    assert finding.count("(container c") == 2
    assert advice == "try: use mode l2 and flag bridge here, or another master"


def test_a_kernel_without_ipvlan(setup: Setup, no_ipvlan: None) -> None:
    error = setup.expect_error(101)
    assert error["msg"].endswith("the kernel has no ipvlan")
    command, answer, finding, advice = error["details"].splitlines()
    assert command.startswith("command: ip link add link eth0 name iv")
    assert command.endswith(" type ipvlan mode l2 bridge")
    assert answer == "answer: Error: Unknown device type."
    assert finding.endswith(f"has the module ipvlan, but {MODULE_BLOCK} blocks it")
    assert "modprobe ipvlan" in advice
    status = setup.runtime.status(network(cniVersion="1.1.0")).error()
    assert (status["code"], status["details"].splitlines()[2]) == (50, finding)


def test_a_kernel_without_ipv6(setup: Setup, tmp_path: Path) -> None:
    # Every kernel that has the module ipvlan has IPv6, but a node may have it switched off at boot.
    path = replace_program(tmp_path, "cat", 'echo "cat: $1: No such file or directory" >&2; exit 1')
    words = "the kernel has no IPv6", "try: use no IPv6 addresses"
    setup.expect_error(114, *words, ipam=static("fd00::2/64"), PATH=path)


def test_parameters_that_are_read_only(setup: Setup) -> None:
    setup.container.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,bind,ro", "/proc/sys")
    try:
        words = "/proc/sys is mounted read-only", "Read-only file system"
        setup.expect_error(112, *words, ipam=static("fd00::2/64"))
    finally:
        run("umount", "/proc/sys")


def test_an_ip_that_is_not_there(setup: Setup) -> None:
    container = setup.container
    with hide_program("ip"):
        error = setup.runtime.add(container, network()).error()
    assert (error["code"], error["msg"]) == (113, "cannot find the program 'ip'")
    searched, advice = error["details"].splitlines()
    assert searched == "searched: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert advice == "try: install iproute2"


@pytest.mark.parametrize(
    ("options", "word", "message"),
    [
        # iproute2 4.9 to 4.15 know ipvlan without flags, those before 4.9 without l3s.
        ({"flag": "vepa"}, "vepa", 'ipvlan: unknown option "vepa"?'),
        ({"mode": "l3s"}, "l3s", 'Error: argument of "mode" must be either "l2", or "l3"'),
    ],
)
def test_too_old_ip(setup: Setup, tmp_path: Path, options: Conf, word: str, message: str) -> None:
    old = f"*' type ipvlan mode '*'{word} '*) echo '{message}' >&2; exit 255;;"
    path = replace_program(tmp_path, "ip", f'case " $* " in\n{old}\nesac\nexec $real "$@"')
    words = f"answer: {message}", "try: install iproute2 5.10 or newer"
    error = setup.expect_error(113, *words, PATH=path, **options)
    assert "this iproute2 is too old and lacks an option" in error["msg"]


# Messages of tools that are not iproute2, or very old, and their statuses.
TOOLS = {
    "busybox": ("ip: invalid option -- 'j'\nBusyBox v1.36.1 multi-call binary.", 1),
    "iproute2 4.9": ('Option "-j" is unknown, try "ip -help".', 255),
    "a wrapper that says nothing": ("", 0),
    "another program": ("usage: ip ADDRESS", 2),
    "a library is missing": ("ip: error while loading shared libraries: libbpf.so.1", 127),
}


def test_an_ip_that_is_unsuitable(setup: Setup, tmp_path: Path) -> None:
    for name, (message, status) in TOOLS.items():
        path = replace_program(tmp_path, "ip", f"cat >&2 <<'END'\n{message}\nEND\nexit {status}")
        for verb in ("ADD", "DEL", "STATUS"):
            conf = network(cniVersion="1.1.0" if verb == "STATUS" else "1.0.0")
            with setup.unchanged():
                error = setup.runtime.call(verb, setup.container, conf, PATH=path).error()
            assert error["code"] in {50, 100, 113}, (name, error)
            assert re.search(r"\bip\b", error["msg"])
            assert message in error["details"]
            if name in ("busybox", "iproute2 4.9"):
                assert "iproute2 5.10 or newer" in f"{error}"
