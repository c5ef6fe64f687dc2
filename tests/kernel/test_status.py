"""STATUS: whether an ADD could succeed now, and if not, why."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import InProcessUser
from doubles import write_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import LEASES, LOGS, run
from runtime import PLUGINS, Conf, host_local, network, static
from sampling import is_long
from setup import Setup


def expect(
    setup: Setup, code: int, *words: str, master: str | None = "eth0", **variables: str
) -> Any:
    """Have STATUS fail with words in its message; return the error."""
    conf = network(cniVersion="1.1.0", master=master, ipam=setup.fake.conf)
    error = setup.runtime.status(conf, **{"CNI_PATH": setup.fake.path, **variables}).error()
    outcome = (error["code"], [word for word in words if word not in error["msg"]])
    assert outcome == (code, []), error
    return error


def test_status_is_good_when_an_add_could_succeed(setup: Setup) -> None:
    setup.host.ip("route add default dev eth0")
    with setup.unchanged():
        for master in ("eth0", None):
            conf = network(cniVersion="1.1.0", master=master, ipam=setup.fake.conf)
            setup.runtime.status(conf, CNI_PATH=setup.fake.path).succeeds()
        setup.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()  # chained
    setup.host.ip("route delete default")  # an earlier plugin of a chain may name the master
    setup.runtime.status(network(cniVersion="1.1.0", master=None, ipam=None)).succeeds()
    assert setup.fake.calls == ["STATUS"] * 2


def test_the_master_may_be_the_reason(setup: Setup) -> None:
    for master in ("eth9", None):
        expect(setup, 50, "master", master=master)
    setup.host.ip("link set dev eth0 down")  # which limits running containers, too
    expect(setup, 51, "'eth0'", "down, so no packets get through; try: ip link set dev eth0 up")


def test_an_ipam_plugin_in_trouble_is_the_reason(setup: Setup) -> None:
    expect(setup, 50, "cannot find the plugin 'fake'", CNI_PATH="/nowhere")
    setup.ipam("STATUS", script="exit 3")
    expect(setup, 50, "the plugin 'fake' exited with status 3")
    for code in (50, 51):
        setup.ipam("STATUS", code=code, msg="the pool is dry", status=1)
        assert expect(setup, code)["msg"] == "the pool is dry"
    setup.ipam("STATUS", code=4, msg="unknown CNI_COMMAND: STATUS", status=1)
    message = "the IPAM plugin fake does not know STATUS (it said: unknown CNI_COMMAND: STATUS)"
    assert expect(setup, 50)["msg"] == message


@pytest.mark.setup(master="")
def test_status_names_an_interface_to_root_only(setup: Setup, user: InProcessUser) -> None:
    setup.node.make_master("hosts0")
    conf = network(cniVersion="1.1.0", master="hosts")
    answer = setup.runtime.status({**conf, "logFile": "log", "logLevel": "error"})
    status, out, err = user.run(f"ipvlan status -c {user.write_conf(conf)}")
    assert "hosts0" not in f"{answer.error()}"
    assert "hosts0" in answer.stderr
    assert "hosts0" in (LOGS / "log").read_text()
    assert (status, out) == (1, "")
    assert err.count("did you mean 'hosts0'?") == 1


# What ADD refuses for any container.


def status(setup: Setup, conf: Conf) -> str:
    """Return the message of STATUS, with a host-local that is ready; empty if it succeeds."""
    for name in ("host-local", "static"):  # Debian's don't know the verb
        write_program(
            setup.fake.directory / name,
            f'#!/bin/sh\n[ "$CNI_COMMAND" = STATUS ] || exec {PLUGINS}/{name}\n',
        )
    conf = {**conf, "cniVersion": "1.1.0"}
    answer = setup.runtime.status(conf, CNI_PATH=str(setup.fake.directory))
    if answer.status == 0:
        return ""
    error = answer.error()
    assert error["code"] in (7, 50)
    return str(error["msg"])


@pytest.mark.slow
@pytest.mark.setup(master="wire", host=("10.1.0.10/24",))
def test_status_and_doctor_know_what_host_access_needs(setup: Setup, user: InProcessUser) -> None:
    conf = network(hostAccess=True, ipam=host_local("10.7.0.0/24"), mode="l3s")
    error = setup.expect_error(107, conf=conf)
    assert status(setup, conf) == error["msg"]
    file = user.write_conf(conf)
    assert error["msg"] in user.run(f"ipvlan doctor -c {file}")[1]
    warned = user.check_output(f"ipvlan validate {file}")
    assert f"warning: $.hostAccess: on this machine, {error['msg']}" in warned
    setup.host.ip("route add unreachable 10.7.0.0/24")
    assert status(setup, conf) == ""
    assert user.check_output(f"ipvlan validate {file}") == "1 network: no problems\n"
    setup.add(conf).delete()

    setup.host.sysctl("net/ipv6/conf/eth0/dad_transmits", "99")
    setup.host.ip("address add fd00:1::10/64 dev eth0")
    assert "has not ended" in status(setup, {**conf, "mode": "l2", "ipam": static("fd00:1::2/64")})
    setup.host.ip("address delete fd00:1::10/64 dev eth0")
    setup.host.ip("address delete 10.1.0.10/24 dev eth0")
    for ipam in (conf["ipam"], static("10.7.0.2/24")):
        error = setup.expect_error(7, conf=conf, ipam=ipam)
        assert status(setup, {**conf, "ipam": ipam}) == error["msg"]


def refusals(setup: Setup, user: InProcessUser, conf: Conf) -> str:
    """Return the message of STATUS, which users get also with a configuration of 1.0.0."""
    message = status(setup, conf)
    code, out, err = user.run(f"ipvlan status -c {user.write_conf(conf)}")
    assert (code, message in err, out) == (1, True, "")
    return message


def test_a_mode_that_is_not_the_masters(setup: Setup, user: InProcessUser) -> None:
    setup.add()
    conf = network(mode="l3", ipam=host_local("10.7.0.0/24"))
    error = setup.expect_error(104, conf=conf, at=setup.container2)
    assert refusals(setup, user, conf) == error["msg"]
    assert status(setup, {**conf, "mode": "l2"}) == ""


@pytest.mark.parametrize("path", ["/run", str(LEASES)])
def test_what_an_add_could_not_write(setup: Setup, user: InProcessUser, path: str) -> None:
    conf = network(ipam=host_local("10.7.0.0/24"))
    run("mount", "-o", "remount,bind,ro", path)
    try:
        assert setup.runtime.add(setup.container, conf).status == 1
        assert refusals(setup, user, conf) == f"{path} can't be written to"
    finally:
        run("mount", "-o", "remount,bind,rw", path)
    assert status(setup, conf) == ""


def test_leases_without_room(setup: Setup, user: InProcessUser) -> None:
    store = LEASES / "networks"
    store.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=4k", "none", str(store))
    try:
        (store / "file").write_bytes(bytes(4096))
        conf = network(ipam=host_local("10.7.0.0/24"))
        assert setup.runtime.add(setup.container, conf).status == 1
        assert refusals(setup, user, conf) == f"{store}/net is full"
    finally:
        run("umount", str(store))


def test_an_ipam_plugin_that_lacks_something(setup: Setup, user: InProcessUser) -> None:
    file = user.write_conf(network(ipam={"type": "dhcp"}))
    assert "/run/cni/dhcp.sock does not exist" in user.run(f"ipvlan status -c {file}")[2]
    path = Path("/run/cni/dhcp.sock")
    path.parent.mkdir(exist_ok=True)
    with setup.container2.enter():  # as in a container
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
    assert f"nothing listens on {path}" in user.run(f"ipvlan status -c {file}")[2]
    listening.listen()
    with listening:
        assert user.check_output(f"ipvlan status -c {file}").endswith("ready\n")
    path.unlink()
    file = user.write_conf(network(ipam=static("10.7.0.2/24")))
    result = user.run(f"ipvlan status -c {file} --cni-path /nowhere")
    assert "cannot find the plugin 'static' in --cni-path" in result[2]


def test_a_vlan_whose_name_is_taken(setup: Setup, user: InProcessUser) -> None:
    conf = network(vlan=100, ipam=host_local("10.7.0.0/24"))
    assert status(setup, conf) == ""  # an ADD makes it
    setup.host.ip("link add name eth0.100 type dummy")
    error = setup.expect_error(105, conf=conf)
    assert refusals(setup, user, conf) == error["msg"]
    warned = user.check_output(f"ipvlan validate {user.write_conf(conf)}")
    assert f"warning: $.vlan: on this machine, {error['msg']}" in warned


def test_a_persons_status_knows_what_validate_finds(setup: Setup, user: InProcessUser) -> None:
    conf = network(ipam=static("10.7.0.2/24", routes=[{"dst": "::/0", "gw": "fd00::1"}]))
    setup.expect_error(107, conf=conf)
    status, out, err = user.run(f"ipvlan status -c {user.write_conf(conf)}")
    assert (status, out) == (1, "")
    assert "$.ipam.routes[0]" in err
    file = Path(user.write_conf(network()))
    # Of two, an ADD takes the last.
    file.write_text(file.read_text().replace("{", '{"master": "eth9", ', 1))
    assert user.check_output(f"ipvlan status -c {file}") == "ready\n"


CONFIGURATIONS = st.fixed_dictionaries(
    {
        "ipam": st.sampled_from(
            (
                host_local("10.1.0.0/24"),
                host_local("10.7.0.0/24"),
                host_local("10.1.0.64/30"),
                host_local("fd00::/64"),
                host_local("10.1.0.0/24", "fd00::/64"),
                host_local("10.8.0.0/30"),  # which is full
                static("10.1.0.2/24"),
                static("10.1.0.10/24"),  # the host's
                static("0.0.0.0/24"),
                static("fd00::2/64", "10.7.0.2/24"),
                {"type": "missing"},
            )
        )
    },
    optional={
        "mode": st.sampled_from(("l2", "l3", "l3s")),
        "flag": st.sampled_from(("bridge", "private", "vepa")),
        "mtu": st.sampled_from((60, 68, 1279, 1280, 1500, 1501)),
        "master": st.sampled_from(("eth9", ["eth9", "eth?"], "eth0.7", "lo")),
        "vlan": st.sampled_from((7, 8)),
        "hostAccess": st.just(True),  # noqa: FBT003
        "routesViaHost": st.sampled_from((["10.96.0.0/12"], ["10.1.0.0/16"], ["fd01::/64"])),
    },
)


@pytest.mark.slow
@given(CONFIGURATIONS, st.sets(st.sampled_from(("address", "container"))))
@settings(
    max_examples=200 if is_long() else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_status_is_good_when_add_succeeds(setup: Setup, options: Conf, features: set[str]) -> None:
    """STATUS is about any container, so each ADD here is for a new one."""
    conf = network(**options)
    with prepare_host(setup, features), setup.temporary_container() as container:
        message = status(setup, conf)
        answer = setup.runtime.add(container, conf)
        setup.runtime.delete(container, conf)
    add_message = "" if answer.status == 0 else answer.error()["msg"]
    assert bool(message) == bool(add_message), (message, add_message)


@contextmanager
def prepare_host(setup: Setup, features: set[str]) -> Iterator[None]:
    """Give the host an address on the master or another container, if ``features`` has them."""
    full = LEASES / "networks/net/10.8.0.2"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text("x\r\nnet1")
    if "eth0.7" not in setup.host.links():
        setup.host.ip("link add link eth0 name eth0.7 type vlan id 9")
        setup.host.ip("link set dev eth0.7 up")
    with ExitStack() as stack:
        if "address" in features:
            setup.host.ip("address add 10.1.0.10/24 dev eth0")
            stack.callback(setup.host.ip, "address delete 10.1.0.10/24 dev eth0")
        if "container" in features:
            at = stack.enter_context(setup.temporary_container())
            stack.callback(setup.add(at=at, name="other", ipam=static("10.9.0.2/24")).delete)
        yield
