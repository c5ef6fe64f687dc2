"""The doctor says beforehand what makes an ADD fail, or a container's network useless."""

import re

import pytest
from lab import MEMORY, run
from person import Person
from runtime import PLUGINS, Conf, host_local, network, static
from scene import Scene

ROUTES = [{"dst": "0.0.0.0/0"}]


def doctor(person: Person, arguments: str = "", conf: Conf | None = None) -> dict[str, list[str]]:
    """Return what the doctor says: the texts, by state and subject."""
    given = f"-c {person.writes(conf)} " if conf else ""
    status, out, err = person.types(f"ipvlan doctor {given}{arguments}")
    assert err == ""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if not line.startswith(" "):
            state, subject, text = re.split(" +", line, maxsplit=2)
            found.setdefault(f"{state} {subject}", []).append(text)
    assert status == any(key.startswith("problem ") for key in found)
    return found


def test_cni_version_that_debians_ipam_plugins_refuse(scene: Scene, person: Person) -> None:
    scene.refuses(1, "1.1.0", cniVersion="1.1.0")
    said = doctor(person, conf=network(cniVersion="1.1.0"))["problem ipam"]
    assert said == [
        f"{PLUGINS}/static does not support CNI 1.1.0, which is the configuration's cniVersion"
    ]
    assert "problem ipam" not in doctor(person, conf=network(cniVersion="1.0.0"))


def test_records_that_cannot_be_kept(scene: Scene, person: Person) -> None:
    assert doctor(person)["ok records"] == ["/run is there for the records of attachments"]
    container = scene.one
    run("mount", "-o", "remount,bind,ro", "/run")
    try:
        error = scene.runtime.add(container, network()).error()
        (said,) = doctor(person)["problem records"]
    finally:
        run("mount", "-o", "remount,bind,rw", "/run")
    assert "Read-only file system" in error["msg"]
    assert said.startswith("/run can't be written to")

    MEMORY.mkdir()
    run("chown", "nobody", str(MEMORY))
    scene.runtime.add(container, network()).error()
    (said,) = doctor(person)["problem records"]
    assert said == f"{MEMORY} is not a directory, or belongs to another user"
    run("chown", "root", str(MEMORY))
    assert "ok records" in doctor(person)


OWN = "which is the host's own on eth0"
GATEWAY = (
    "the gateway 10.1.0.7 is the host's own address on eth0, which its ipvlan containers can't "
    "reach"
)
# What a network gets of the host's addresses, 10.1.0.7 and fd00::7.
ADDRESSES: list[tuple[Conf, str]] = [
    (
        {"ipam": host_local("10.1.0.0/24")},
        f"the range of 10.1.0.0/24 contains 10.1.0.7, {OWN}; a container may get it",
    ),
    (
        {"ipam": host_local("fd00::/64")},
        f"the range of fd00::/64 contains fd00::7, {OWN}; a container may get it",
    ),
    (
        {"ipam": static("10.1.0.7/24")},
        f"the container would get 10.1.0.7, {OWN}, and take its packets",
    ),
    (
        {"ipam": static("10.1.0.2/24", gateway="10.1.0.7", routes=ROUTES)},
        GATEWAY,
    ),
    ({"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.8"}}, ""),
    ({"ipam": host_local("10.2.0.0/24")}, ""),
    ({"ipam": static("10.1.0.2/24", gateway="10.1.0.1", routes=ROUTES)}, ""),
    ({"ipam": static("10.1.0.2/24", gateway="10.1.0.7", routes=ROUTES), "mode": "l3"}, ""),
    # No route uses the gateway.
    ({"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.1.0.7"}}, ""),
]


@pytest.mark.scene(host=("10.1.0.7/24", "fd00::7/64"))
def test_addresses_of_the_host_in_a_network(scene: Scene, person: Person) -> None:
    for conf, said in ADDRESSES:
        found = doctor(person, conf=network(**conf)).get("problem addresses", [])
        assert found == ([said] if said else []), conf


def test_static_address_that_a_container_has(scene: Scene, person: Person) -> None:
    assert doctor(person, conf=network())["ok addresses"] == ["no container on eth0 has 10.1.0.2"]
    scene.add()
    scene.refuses(106, at=scene.two, ipam=static("10.1.0.2/24"))

    owner = f"net1 in {scene.one.path} (container one)"
    taken = [f"10.1.0.2 belongs to {owner}, so an ADD of another container fails"]
    # The network's own container may be the only one there is to be.
    assert doctor(person, conf=network())["warning addresses"] == taken
    assert doctor(person, "--netns container2", network())["problem addresses"] == taken
    assert doctor(person, conf=network(name="second"))["problem addresses"] == taken
    assert "ok addresses" in doctor(person, "--netns container1 --ifname net1", network())
    assert "ok addresses" in doctor(person, conf=network(ipam=static("10.1.0.3/24")))


def test_name_of_an_interface_in_the_container(scene: Scene, person: Person) -> None:
    container = scene.one
    where = "--netns container1 --ifname"
    free = [f"the name net1 is free in {container.path}"]
    assert doctor(person, f"{where} net1")["ok interface"] == free
    scene.add()
    container.ip("link add name eth7 type dummy")

    attached = ["net1 is there, of kind ipvlan: the container one in the network net"]
    assert doctor(person, f"{where} net1")["warning interface"] == attached
    assert doctor(person, f"{where} net1", network())["warning interface"] == attached
    assert doctor(person, f"{where} net1", network(name="b"))["problem interface"] == attached
    assert doctor(person, f"{where} eth7")["problem interface"] == ["eth7 is there, of kind dummy"]
    container.rename("net1", "net9")
    renamed = attached[0].replace("ipvlan:", "ipvlan, but is called net9 now:")
    assert doctor(person, f"{where} net1")["warning interface"] == [renamed]


def test_the_nodes_plugins_are_not_all_run(scene: Scene, person: Person) -> None:
    """Each of Debian's plugins would answer VERSION; a file beside them might do anything."""
    plugins = person.directory / "plugins"
    plugins.mkdir()
    for name in ("static", "ipvlan"):
        (plugins / name).symlink_to(f"{PLUGINS}/{name}")
    (plugins / "cleanup").write_text(f"#!/bin/sh\ntouch {plugins}/cleaned\n")
    (plugins / "cleanup").chmod(0o755)

    said = doctor(person, f"--cni-path {plugins}", network())

    assert said["ok ipam"] == [f"{plugins}/static supports CNI 1.0.0"]
    assert not (plugins / "cleaned").exists()


@pytest.mark.usefixtures("no_ipvlan")
def test_status_says_once_that_the_kernel_has_no_ipvlan(scene: Scene, person: Person) -> None:
    conf = person.writes(network(cniVersion="1.1.0"))
    _, _, err = person.types(f"ipvlan status -c {conf}")
    begin = "ipvlan: cannot create ipvlan interfaces with ip: the kernel has no ipvlan\n"
    assert err.startswith(begin)
