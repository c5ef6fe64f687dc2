"""STATUS: whether an ADD could succeed now, and if not, why."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from doubles import write_program
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import LEASES, LOGS, run
from people import QuickPerson
from runtime import PLUGINS, Conf, host_local, network, static
from sampling import is_long
from scene import Scene


def refused(scene: Scene, code: int, *words: str, master: str | None = "eth0", **about: str) -> Any:
    """Have STATUS fail with words in its message; return the error."""
    conf = network(cniVersion="1.1.0", master=master, ipam=scene.fake.conf)
    error = scene.runtime.status(conf, **{"CNI_PATH": scene.fake.path, **about}).error()
    found = (error["code"], [word for word in words if word not in error["msg"]])
    assert found == (code, []), error
    return error


def test_status_is_good_when_an_add_could_succeed(scene: Scene) -> None:
    scene.host.ip("route add default dev eth0")
    with scene.unchanged():
        for master in ("eth0", None):
            conf = network(cniVersion="1.1.0", master=master, ipam=scene.fake.conf)
            scene.runtime.status(conf, CNI_PATH=scene.fake.path).succeeds()
        scene.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()  # chained
    scene.host.ip("route delete default")  # an earlier plugin of a chain may name the master
    scene.runtime.status(network(cniVersion="1.1.0", master=None, ipam=None)).succeeds()
    assert scene.fake.calls == ["STATUS"] * 2


def test_the_master_may_be_the_reason(scene: Scene) -> None:
    for master in ("eth9", None):
        refused(scene, 50, "master", master=master)
    scene.host.ip("link set dev eth0 down")  # which limits running containers, too
    refused(scene, 51, "'eth0'", "down, so no packets get through; try: ip link set dev eth0 up")


def test_an_ipam_plugin_in_trouble_is_the_reason(scene: Scene) -> None:
    refused(scene, 50, "cannot find the plugin 'fake'", CNI_PATH="/nowhere")
    scene.ipam("STATUS", script="exit 3")
    refused(scene, 50, "the plugin 'fake' exited with status 3")
    for code in (50, 51):
        scene.ipam("STATUS", code=code, msg="the pool is dry", status=1)
        assert refused(scene, code)["msg"] == "the pool is dry"
    scene.ipam("STATUS", code=4, msg="unknown CNI_COMMAND: STATUS", status=1)
    said = "the IPAM plugin fake does not know STATUS (it said: unknown CNI_COMMAND: STATUS)"
    assert refused(scene, 50)["msg"] == said


@pytest.mark.scene(master="")
def test_status_names_an_interface_to_root_only(scene: Scene, person: QuickPerson) -> None:
    scene.node.master("hosts0")
    conf = network(cniVersion="1.1.0", master="hosts")
    answer = scene.runtime.status({**conf, "logFile": "log", "logLevel": "error"})
    status, out, err = person.types(f"ipvlan status -c {person.writes(conf)}")
    assert "hosts0" not in f"{answer.error()}"
    assert "hosts0" in answer.stderr
    assert "hosts0" in (LOGS / "log").read_text()
    assert (status, out) == (1, "")
    assert err.count("did you mean 'hosts0'?") == 1


# What ADD refuses whoever the container is.


def status(scene: Scene, conf: Conf) -> str:
    """Return the message of STATUS, with a host-local that is ready; empty if it succeeds."""
    for name in ("host-local", "static"):  # Debian's don't know the verb
        write_program(
            scene.fake.directory / name,
            f'#!/bin/sh\n[ "$CNI_COMMAND" = STATUS ] || exec {PLUGINS}/{name}\n',
        )
    conf = {**conf, "cniVersion": "1.1.0"}
    answer = scene.runtime.status(conf, CNI_PATH=str(scene.fake.directory))
    if answer.status == 0:
        return ""
    error = answer.error()
    assert error["code"] in (7, 50)
    return str(error["msg"])


@pytest.mark.slow
@pytest.mark.scene(host=("10.1.0.10/24",))
def test_status_and_doctor_know_what_host_access_needs(scene: Scene, person: QuickPerson) -> None:
    conf = network(hostAccess=True, ipam=host_local("10.7.0.0/24"), mode="l3s")
    refusal = scene.refuses(107, conf=conf)
    assert status(scene, conf) == refusal["msg"]
    file = person.writes(conf)
    assert refusal["msg"] in person.types(f"ipvlan doctor -c {file}")[1]
    warned = person.succeeds(f"ipvlan validate {file}")
    assert f"warning: $.hostAccess: on this machine, {refusal['msg']}" in warned
    scene.host.ip("route add unreachable 10.7.0.0/24")
    assert status(scene, conf) == ""
    assert person.succeeds(f"ipvlan validate {file}") == "1 network: no problems\n"
    scene.add(conf).delete()

    scene.host.ip("address delete 10.1.0.10/24 dev eth0")
    for ipam in (conf["ipam"], static("10.7.0.2/24")):
        refusal = scene.refuses(7, conf=conf, ipam=ipam)
        assert status(scene, {**conf, "ipam": ipam}) == refusal["msg"]


def refusals(scene: Scene, person: QuickPerson, conf: Conf) -> str:
    """Return the message of STATUS, which a person gets, too, with a configuration of 1.0.0."""
    message = status(scene, conf)
    code, out, err = person.types(f"ipvlan status -c {person.writes(conf)}")
    assert (code, message in err, out) == (1, True, "")
    return message


def test_a_mode_that_is_not_the_masters(scene: Scene, person: QuickPerson) -> None:
    scene.add()
    conf = network(mode="l3", ipam=host_local("10.7.0.0/24"))
    refusal = scene.refuses(104, conf=conf, at=scene.two)
    assert refusals(scene, person, conf) == refusal["msg"]
    assert status(scene, {**conf, "mode": "l2"}) == ""


@pytest.mark.parametrize("place", ["/run", str(LEASES)])
def test_what_an_add_could_not_write(scene: Scene, person: QuickPerson, place: str) -> None:
    conf = network(ipam=host_local("10.7.0.0/24"))
    run("mount", "-o", "remount,bind,ro", place)
    try:
        assert scene.runtime.add(scene.one, conf).status == 1
        assert refusals(scene, person, conf) == f"{place} can't be written to"
    finally:
        run("mount", "-o", "remount,bind,rw", place)
    assert status(scene, conf) == ""


def test_leases_without_room(scene: Scene, person: QuickPerson) -> None:
    store = LEASES / "networks"
    store.mkdir(exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=4k", "none", str(store))
    try:
        (store / "file").write_bytes(bytes(4096))
        conf = network(ipam=host_local("10.7.0.0/24"))
        assert scene.runtime.add(scene.one, conf).status == 1
        assert refusals(scene, person, conf) == f"{store}/net is full"
    finally:
        run("umount", str(store))


def test_an_ipam_plugin_that_lacks_something(scene: Scene, person: QuickPerson) -> None:
    file = person.writes(network(ipam={"type": "dhcp"}))
    assert "/run/cni/dhcp.sock does not exist" in person.types(f"ipvlan status -c {file}")[2]
    place = Path("/run/cni/dhcp.sock")
    place.parent.mkdir(exist_ok=True)
    with scene.two.entered():  # as in a container
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(place))
    assert f"nothing listens on {place}" in person.types(f"ipvlan status -c {file}")[2]
    listening.listen()
    with listening:
        assert person.succeeds(f"ipvlan status -c {file}").endswith("ready\n")
    place.unlink()
    file = person.writes(network(ipam=static("10.7.0.2/24")))
    said = person.types(f"ipvlan status -c {file} --cni-path /nowhere")
    assert "cannot find the plugin 'static' in --cni-path" in said[2]


def test_a_vlan_whose_name_is_taken(scene: Scene, person: QuickPerson) -> None:
    conf = network(vlan=100, ipam=host_local("10.7.0.0/24"))
    assert status(scene, conf) == ""  # an ADD makes it
    scene.host.ip("link add name eth0.100 type dummy")
    refusal = scene.refuses(105, conf=conf)
    assert refusals(scene, person, conf) == refusal["msg"]
    warned = person.succeeds(f"ipvlan validate {person.writes(conf)}")
    assert f"warning: $.vlan: on this machine, {refusal['msg']}" in warned


def test_a_persons_status_knows_what_validate_finds(scene: Scene, person: QuickPerson) -> None:
    conf = network(ipam=static("10.7.0.2/24", routes=[{"dst": "::/0", "gw": "fd00::1"}]))
    scene.refuses(107, conf=conf)
    status, out, err = person.types(f"ipvlan status -c {person.writes(conf)}")
    assert (status, out) == (1, "")
    assert "$.ipam.routes[0]" in err
    file = Path(person.writes(network()))
    # Of two, an ADD takes the last.
    file.write_text(file.read_text().replace("{", '{"master": "eth9", ', 1))
    assert person.succeeds(f"ipvlan status -c {file}") == "ready\n"


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
def test_status_is_good_when_an_add_succeeds(scene: Scene, options: Conf, there: set[str]) -> None:
    """Of containers that have nothing yet: whoever these are, a network is ready or it is not."""
    conf = network(**options)
    with host_that_has(scene, there), scene.passing() as container:
        said = status(scene, conf)
        answer = scene.runtime.add(container, conf)
        scene.runtime.delete(container, conf)
    refused = "" if answer.status == 0 else answer.error()["msg"]
    assert bool(said) == bool(refused), (said, refused)


@contextmanager
def host_that_has(scene: Scene, there: set[str]) -> Iterator[None]:
    """Have an address on the master, and another container, or not; a full range in any case."""
    full = LEASES / "networks/net/10.8.0.2"
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_text("x\r\nnet1")
    if "eth0.7" not in scene.host.links():
        scene.host.ip("link add link eth0 name eth0.7 type vlan id 9")
        scene.host.ip("link set dev eth0.7 up")
    with ExitStack() as stack:
        if "address" in there:
            scene.host.ip("address add 10.1.0.10/24 dev eth0")
            stack.callback(scene.host.ip, "address delete 10.1.0.10/24 dev eth0")
        if "container" in there:
            at = stack.enter_context(scene.passing())
            stack.callback(scene.add(at=at, name="other", ipam=static("10.9.0.2/24")).delete)
        yield
