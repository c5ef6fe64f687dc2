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


def refused(setup: Setup, code: int, *words: str, master: str | None = "eth0", **about: str) -> Any:
    """Have STATUS fail with words in its message; return the error."""
    conf = network(cniVersion="1.1.0", master=master, ipam=setup.fake.conf)
    error = setup.runtime.status(conf, **{"CNI_PATH": setup.fake.path, **about}).error()
    found = (error["code"], [word for word in words if word not in error["msg"]])
    assert found == (code, []), error
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
        refused(setup, 50, "master", master=master)
    setup.host.ip("link set dev eth0 down")  # which limits running containers, too
    refused(setup, 51, "'eth0'", "down, so no packets get through; try: ip link set dev eth0 up")


def test_an_ipam_plugin_in_trouble_is_the_reason(setup: Setup) -> None:
    refused(setup, 50, "cannot find the plugin 'fake'", CNI_PATH="/nowhere")
    setup.ipam("STATUS", script="exit 3")
    refused(setup, 50, "the plugin 'fake' exited with status 3")
    for code in (50, 51):
        setup.ipam("STATUS", code=code, msg="the pool is dry", status=1)
        assert refused(setup, code)["msg"] == "the pool is dry"
    setup.ipam("STATUS", code=4, msg="unknown CNI_COMMAND: STATUS", status=1)
    said = "the IPAM plugin fake does not know STATUS (it said: unknown CNI_COMMAND: STATUS)"
    assert refused(setup, 50)["msg"] == said


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


# What ADD refuses whoever the container is.


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
@pytest.mark.setup(host=("10.1.0.10/24",))
def test_status_and_doctor_know_what_host_access_needs(setup: Setup, user: InProcessUser) -> None:
    conf = network(hostAccess=True, ipam=host_local("10.7.0.0/24"), mode="l3s")
    refusal = setup.expect_error(107, conf=conf)
    assert status(setup, conf) == refusal["msg"]
    file = user.write_conf(conf)
    assert refusal["msg"] in user.run(f"ipvlan doctor -c {file}")[1]
    warned = user.check_output(f"ipvlan validate {file}")
    assert f"warning: $.hostAccess: on this machine, {refusal['msg']}" in warned
    setup.host.ip("route add unreachable 10.7.0.0/24")
    assert status(setup, conf) == ""
    assert user.check_output(f"ipvlan validate {file}") == "1 network: no problems\n"
    setup.add(conf).delete()

    setup.host.ip("address delete 10.1.0.10/24 dev eth0")
    for ipam in (conf["ipam"], static("10.7.0.2/24")):
        refusal = setup.expect_error(7, conf=conf, ipam=ipam)
        assert status(setup, {**conf, "ipam": ipam}) == refusal["msg"]


def refusals(setup: Setup, user: InProcessUser, conf: Conf) -> str:
    """Return the message of STATUS, which a person gets, too, with a configuration of 1.0.0."""
    message = status(setup, conf)
    code, out, err = user.run(f"ipvlan status -c {user.write_conf(conf)}")
    assert (code, message in err, out) == (1, True, "")
    return message


def test_a_mode_that_is_not_the_masters(setup: Setup, user: InProcessUser) -> None:
    setup.add()
    conf = network(mode="l3", ipam=host_local("10.7.0.0/24"))
    refusal = setup.expect_error(104, conf=conf, at=setup.container2)
    assert refusals(setup, user, conf) == refusal["msg"]
    assert status(setup, {**conf, "mode": "l2"}) == ""


@pytest.mark.parametrize("place", ["/run", str(LEASES)])
def test_what_an_add_could_not_write(setup: Setup, user: InProcessUser, place: str) -> None:
    conf = network(ipam=host_local("10.7.0.0/24"))
    run("mount", "-o", "remount,bind,ro", place)
    try:
        assert setup.runtime.add(setup.container, conf).status == 1
        assert refusals(setup, user, conf) == f"{place} can't be written to"
    finally:
        run("mount", "-o", "remount,bind,rw", place)
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
    place = Path("/run/cni/dhcp.sock")
    place.parent.mkdir(exist_ok=True)
    with setup.container2.enter():  # as in a container
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(place))
    assert f"nothing listens on {place}" in user.run(f"ipvlan status -c {file}")[2]
    listening.listen()
    with listening:
        assert user.check_output(f"ipvlan status -c {file}").endswith("ready\n")
    place.unlink()
    file = user.write_conf(network(ipam=static("10.7.0.2/24")))
    said = user.run(f"ipvlan status -c {file} --cni-path /nowhere")
    assert "cannot find the plugin 'static' in --cni-path" in said[2]


def test_a_vlan_whose_name_is_taken(setup: Setup, user: InProcessUser) -> None:
    conf = network(vlan=100, ipam=host_local("10.7.0.0/24"))
    assert status(setup, conf) == ""  # an ADD makes it
    setup.host.ip("link add name eth0.100 type dummy")
    refusal = setup.expect_error(105, conf=conf)
    assert refusals(setup, user, conf) == refusal["msg"]
    warned = user.check_output(f"ipvlan validate {user.write_conf(conf)}")
    assert f"warning: $.vlan: on this machine, {refusal['msg']}" in warned


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
def test_status_is_good_when_an_add_succeeds(setup: Setup, options: Conf, there: set[str]) -> None:
    """Of containers that have nothing yet: whoever these are, a network is ready or it is not."""
    conf = network(**options)
    with host_that_has(setup, there), setup.temporary_container() as container:
        said = status(setup, conf)
        answer = setup.runtime.add(container, conf)
        setup.runtime.delete(container, conf)
    refused = "" if answer.status == 0 else answer.error()["msg"]
    assert bool(said) == bool(refused), (said, refused)


@contextmanager
def host_that_has(setup: Setup, there: set[str]) -> Iterator[None]:
    """Have an address on the master, and another container, or not; a full range in any case."""
    full = LEASES / "networks/net/10.8.0.2"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text("x\r\nnet1")
    if "eth0.7" not in setup.host.links():
        setup.host.ip("link add link eth0 name eth0.7 type vlan id 9")
        setup.host.ip("link set dev eth0.7 up")
    with ExitStack() as stack:
        if "address" in there:
            setup.host.ip("address add 10.1.0.10/24 dev eth0")
            stack.callback(setup.host.ip, "address delete 10.1.0.10/24 dev eth0")
        if "container" in there:
            at = stack.enter_context(setup.temporary_container())
            stack.callback(setup.add(at=at, name="other", ipam=static("10.9.0.2/24")).delete)
        yield
