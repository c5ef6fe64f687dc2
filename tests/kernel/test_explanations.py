"""Every error has what was tried, the answer, its cause and what to do (docs/errors.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doubles import FakeIpam
from lab import KEPT_OUT, Node, run
from runtime import PLUGINS, Runtime, host_local, network, refusal, static

ROUTE = {"dst": "0.0.0.0/0"}


def test_a_kernel_without_ipvlan(node: Node, runtime: Runtime, no_ipvlan: None) -> None:
    node.master()

    error = refusal(node, runtime, network())

    assert error["code"] == 101
    assert error["msg"].endswith("the kernel has no ipvlan")
    command, answer, found, advice = error["details"].splitlines()
    assert command.startswith("command: ip link add link eth0 name iv")
    assert command.endswith(" type ipvlan mode l2 bridge")
    assert answer == "answer: Error: Unknown device type."
    assert found.endswith(f"has the module ipvlan, but {KEPT_OUT} blocks it")
    assert "modprobe ipvlan" in advice
    status = runtime.status(network(cniVersion="1.1.0")).error()
    assert (status["code"], status["details"].splitlines()[2]) == (50, found)


@pytest.mark.parametrize("address", ["10.1.0.2/24", "fd00:1::2/64"])
def test_an_address_that_a_container_of_the_master_has(
    node: Node, runtime: Runtime, address: str
) -> None:
    node.master()
    first = node.container()
    conf = network(ipam=static(address))
    runtime.add(first, conf, CNI_CONTAINERID="first", CNI_IFNAME="eth5").result()

    error = refusal(node, runtime, network(name="other", ipam=static(address)))

    assert error["code"] == 106
    assert error["msg"] == (
        f"cannot add the address {address}: another ipvlan interface of this master already has "
        "the address"
    )
    command, answer, advice, _ = error["details"].splitlines()
    assert command.startswith("command: ip netns exec ")
    assert command.endswith(f" ip address add {address} dev net1")
    assert answer.endswith("Address already assigned to an ipvlan device.")
    plain = address.partition("/")[0]
    found = f"found: {plain} belongs to eth5 in {first.path} (container first)"
    assert error["private"] == f"refused net1: {found}"
    assert "ipvlan show" in advice


def test_an_address_in_use_elsewhere(node: Node, runtime: Runtime) -> None:
    node.master()
    place = node.container_of_a_process()
    run("ip", "link", "add", "name", "byhand", "link", "eth0", "type", "ipvlan", "mode", "l2")
    run("ip", "link", "set", "dev", "byhand", "netns", place.path)
    place.ip("address add 10.1.0.2/16 dev byhand")

    error = refusal(node, runtime, network())

    assert error["private"].endswith(f"found: 10.1.0.2 belongs to byhand in {place.path}")


@pytest.mark.parametrize(
    ("addresses", "route", "found"),
    [
        (
            ["10.1.0.2/24", "10.2.0.2/16"],
            {"dst": "0.0.0.0/0", "gw": "10.9.0.1"},
            (
                "the gateway 10.9.0.1 is in no subnet of net1, which has 10.1.0.2/24 "
                "(subnet 10.1.0.0/24), 10.2.0.2/16 (subnet 10.2.0.0/16)"
            ),
        ),
        (
            ["fd00:1::2/64"],
            {"dst": "::/0", "gw": "fd00:9::1"},
            (
                "the gateway fd00:9::1 is in no subnet of net1, which has fd00:1::2/64 "
                "(subnet fd00:1::/64)"
            ),
        ),
        (
            ["10.1.0.2/24"],
            {"dst": "fd00:7::/64", "gw": "fd00:9::1"},
            "net1 has no IPv6 address, so it can't reach the gateway fd00:9::1",
        ),
    ],
    ids=["IPv4", "IPv6", "other family"],
)
def test_a_gateway_that_is_out_of_reach(
    node: Node, runtime: Runtime, addresses: list[str], route: dict[str, str], found: str
) -> None:
    node.master()

    error = refusal(node, runtime, network(ipam=static(*addresses, routes=[route])))

    assert error["code"] == 107
    assert error["msg"] == (
        f"cannot add the route to {route['dst']}: no address of the interface has the gateway in "
        "its subnet"
    )
    assert f"via {route['gw']} dev net1" in error["details"]
    assert f"found: {found}" in error["details"].splitlines()
    assert "try: correct the gateway or the prefix length" in error["details"]


def test_a_route_that_is_there_already(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    container.ip("link add name eth0 type dummy")
    container.ip("link set dev eth0 up")
    container.ip("address add 10.2.0.2/24 dev eth0")
    container.ip("route add default via 10.2.0.1 dev eth0")
    conf = network(ipam=static("10.1.0.2/24", gateway="10.1.0.1", routes=[ROUTE]))

    error = refusal(node, runtime, conf, container)

    assert error["code"] == 107
    assert "already has a route to that destination" in error["msg"]
    assert (
        "found: the container has the route 0.0.0.0/0 via 10.2.0.1 dev eth0 metric 0"
        in error["details"].splitlines()
    )


@pytest.mark.parametrize(("kind", "called"), [("dummy", "dummy"), ("ipvlan", "ipvlan")])
def test_a_name_that_is_taken(node: Node, runtime: Runtime, kind: str, called: str) -> None:
    node.master()
    container = node.container()
    container.ip("link add name below type dummy")
    container.ip(f"link add name net1 link below type {kind}")

    error = refusal(node, runtime, network(), container)

    assert error["code"] == 105
    assert error["msg"] == f"the container already has an interface 'net1', of kind {called}"
    assert "try: choose another CNI_IFNAME" in error["details"]


@pytest.mark.parametrize(
    ("path", "why", "advice"),
    [
        ("/run/netns/gone", "there is no such file", "the container may have ended already"),
        ("/etc/passwd", "it is not a namespace", "give the path of a network namespace"),
        ("/proc/self/ns/uts", "but not a network namespace", "give the path of a network"),
        ("/etc/passwd/net", "Not a directory", "give the path of a network namespace"),
        ("/proc/self/ns/net", "the namespace the plugin itself runs in", "needs none"),
    ],
)
def test_a_namespace_that_is_no_containers(
    node: Node, runtime: Runtime, path: str, why: str, advice: str
) -> None:
    node.master()

    error = runtime.add(path, network()).error()

    assert error["code"] == 4
    assert error["msg"].startswith(f"CNI_NETNS is {path!r}; ")
    assert why in error["msg"]
    assert error["details"].startswith("try: ")
    assert advice in error["details"]


def test_a_kernel_without_ipv6(node: Node, runtime: Runtime, tmp_path: Path) -> None:
    node.master()
    # Every kernel that has the module ipvlan has IPv6, but a node may have it switched off at boot.
    stand_in = tmp_path / "cat"
    stand_in.write_text('#!/bin/sh\necho "cat: $1: No such file or directory" >&2\nexit 1\n')
    stand_in.chmod(0o755)

    error = refusal(node, runtime, network(ipam=static("fd00::2/64")), PATH=str(tmp_path))

    assert error["code"] == 114
    assert "the kernel has no IPv6" in error["msg"]
    assert "try: use no IPv6 addresses" in error["details"]


def test_parameters_that_are_read_only(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    container.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    run("mount", "--bind", "/proc/sys", "/proc/sys")
    run("mount", "-o", "remount,bind,ro", "/proc/sys")
    try:
        error = refusal(node, runtime, network(ipam=static("fd00::2/64")), container)
    finally:
        run("umount", "/proc/sys")

    assert error["code"] == 112
    assert "/proc/sys is mounted read-only" in error["msg"]
    assert "Read-only file system" in error["details"]


def test_an_ip_that_is_not_there(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    program = str(Path(shutil.which("ip") or "").resolve())
    run("mount", "--bind", "/dev/null", program)
    try:
        error = runtime.add(container, network()).error()
    finally:
        run("umount", program)

    assert error["code"] == 113
    assert error["msg"] == "cannot find the program 'ip'"
    searched, advice = error["details"].splitlines()
    assert searched == "searched: /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert advice == "try: install iproute2"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        # iproute2 4.9 to 4.15 know ipvlan without flags, those before 4.9 without l3s.
        ("vepa", 'ipvlan: unknown option "vepa"?'),
        ("l3s", 'Error: argument of "mode" must be either "l2", or "l3"'),
    ],
)
def test_an_ip_that_is_too_old_for_an_option(
    node: Node, runtime: Runtime, tmp_path: Path, option: str, message: str
) -> None:
    node.master()
    old = tmp_path / "ip"
    old.write_text(
        f'#!/bin/sh\ncase " $* " in\n'
        f"*' type ipvlan mode '*'{option} '*) echo '{message}' >&2; exit 255;;\n"
        f'esac\nexec {shutil.which("ip")} "$@"\n'
    )
    old.chmod(0o755)
    conf = network(mode="l3s") if option == "l3s" else network(flag="vepa")

    error = refusal(node, runtime, conf, PATH=str(tmp_path))

    assert error["code"] == 113
    assert "this iproute2 is too old and lacks an option" in error["msg"]
    assert f"answer: {message}" in error["details"]
    assert "try: install iproute2 5.10 or newer" in error["details"]


def test_an_ipam_plugin_that_is_not_there(node: Node, runtime: Runtime, tmp_path: Path) -> None:
    node.master()
    (tmp_path / "host-locl").touch(mode=0o644)
    path = f"{tmp_path}:/no/such/directory:{PLUGINS}"
    conf = network(ipam={"type": "host-locl", "subnet": "10.1.0.0/24"})

    error = refusal(node, runtime, conf, CNI_PATH=path)

    assert error["code"] == 108
    assert error["msg"] == "cannot find the plugin 'host-locl' in CNI_PATH"
    searched, found, advice = error["details"].splitlines()
    assert searched == (
        f"searched: {tmp_path}, /no/such/directory (No such file or directory), {PLUGINS}"
    )
    assert found == "found: a host-locl that can't be executed"
    assert "install host-locl" in advice

    error = refusal(node, runtime, conf)

    assert "did you mean 'host-local'?" in error["details"]


def test_an_ipam_plugin_that_prints_something_else(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    fake_ipam.on("ADD", "echo 'all is well'; echo 'a word' >&2")

    error = refusal(node, runtime, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert error["code"] == 109
    assert error["msg"] == "the plugin 'fake' printed no JSON result"
    output, words, command, advice = error["details"].splitlines()
    assert output == "its stdout: all is well"
    assert words == "its stderr: a word"
    assert command.startswith("command: env CNI_COMMAND=ADD CNI_CONTAINERID=")
    assert command.endswith("/fake")
    assert advice.startswith("try: run it by hand")


def test_an_ipam_plugin_that_dies(node: Node, runtime: Runtime, fake_ipam: FakeIpam) -> None:
    node.master()
    fake_ipam.on("ADD", "kill -KILL $$")

    error = refusal(node, runtime, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert error["code"] == 109
    assert error["msg"] == "the plugin 'fake' was killed by SIGKILL and printed no CNI error"
    assert "may have run out of memory: see dmesg" in error["details"]


def test_an_ipam_plugin_that_has_no_address_left(node: Node, runtime: Runtime) -> None:
    node.master()
    conf = network(ipam=host_local("10.1.0.0/30"))
    runtime.add(node.container(), conf, CNI_CONTAINERID="first").result()

    error = refusal(node, runtime, conf)

    assert "no IP addresses available in range set: 10.1.0.1-10.1.0.2" in error["msg"]
    command, advice = error["details"].splitlines()
    assert command.endswith(f"{PLUGINS}/host-local")
    assert advice.startswith("try: delete the leases of containers that are gone")
    assert "/var/lib/cni/networks/net has a file for each" in advice


def test_an_ipam_plugin_that_knows_the_container_already(node: Node, runtime: Runtime) -> None:
    node.master()
    conf = network(ipam=host_local("10.1.0.0/24"))
    container = node.container()
    runtime.add(container, conf).result()
    container.ip("link delete dev net1")

    error = runtime.add(container, conf).error()

    assert "duplicate allocation is not allowed" in error["msg"]
    assert "try: delete the container's attachment first" in error["details"]


@pytest.mark.parametrize(
    ("scope", "why"),
    [
        (253, "a route with scope link or host can't have a gateway"),
        (254, "a route with scope link or host can't have a gateway"),
        (255, "there is no such scope"),
    ],
)
def test_a_route_with_a_gateway_and_a_scope(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, scope: int, why: str
) -> None:
    node.master()
    route = {"dst": "10.9.0.0/16", "gw": "10.1.0.1", "scope": scope}
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}], "routes": [route]})

    error = refusal(node, runtime, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert error["code"] == 107
    assert error["msg"] == f"cannot add the route to 10.9.0.0/16: {why}"
    assert "try: leave out the route's " in error["details"]


def test_a_dhcp_plugin_without_its_daemon(node: Node, runtime: Runtime) -> None:
    node.master()

    error = refusal(node, runtime, network(ipam={"type": "dhcp"}))

    assert "dhcp.sock" in error["msg"]
    daemon = "systemctl enable --now cni-dhcp.socket cni-dhcp.service"
    assert f"try: start its daemon on this node: {daemon}" in error["details"].splitlines()
    # Asked to release, it failed the same way: it has allocated nothing.
    assert "undone" not in error["details"] + error["private"]


def test_an_ipam_plugin_that_does_not_support_the_version(node: Node, runtime: Runtime) -> None:
    node.master()

    error = refusal(node, runtime, network(cniVersion="1.1.0", ipam=host_local("10.1.0.0/24")))

    assert (error["code"], error["msg"]) == (1, "incompatible CNI versions")
    assert 'config is "1.1.0"' in error["details"]
    assert "undone" not in error["details"] + error["private"]
