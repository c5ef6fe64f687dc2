"""The doctor says beforehand what makes an ADD fail, or a container's network useless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import MEMORY, Node, run
from person import Person
from runtime import PLUGINS, Conf, Runtime, host_local, network, static

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


def test_cni_version_that_debians_ipam_plugins_refuse(
    node: Node, person: Person, runtime: Runtime
) -> None:
    node.master()
    conf = network(cniVersion="1.1.0")
    assert "1.1.0" in json.dumps(runtime.add(node.container(), conf).error())

    said = doctor(person, conf=conf)["problem ipam"]
    assert said == [
        f"{PLUGINS}/static does not support CNI 1.1.0, which is the configuration's cniVersion"
    ]
    assert "problem ipam" not in doctor(person, conf=network(cniVersion="1.0.0"))


@contextmanager
def read_only_run() -> Iterator[None]:
    run("mount", "-o", "remount,bind,ro", "/run")
    try:
        yield
    finally:
        run("mount", "-o", "remount,bind,rw", "/run")


def test_run_that_is_read_only(node: Node, person: Person, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    assert doctor(person)["ok records"] == ["/run is there for the records of attachments"]
    with read_only_run():
        assert "Read-only file system" in runtime.add(container, network()).error()["msg"]
        (said,) = doctor(person)["problem records"]
    assert said.startswith("/run is read-only")


def test_records_of_another_user(node: Node, person: Person, runtime: Runtime) -> None:
    node.master()
    MEMORY.mkdir()
    run("chown", "nobody", str(MEMORY))
    runtime.add(node.container(), network()).error()
    (said,) = doctor(person)["problem records"]
    assert said == f"{MEMORY} is not a directory, or belongs to another user"
    run("chown", "root", str(MEMORY))
    assert "ok records" in doctor(person)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        (
            {"ipam": host_local("10.1.0.0/24")},
            (
                "the range of 10.1.0.0/24 contains 10.1.0.7, which is the host's own on eth0; "
                "a container may get it"
            ),
        ),
        (
            {"ipam": static("10.1.0.7/24")},
            (
                "the container would get 10.1.0.7, which is the host's own on eth0, and take its "
                "packets"
            ),
        ),
        (
            {"ipam": static("10.1.0.2/24", gateway="10.1.0.7", routes=ROUTES)},
            (
                "the gateway 10.1.0.7 is the host's own address on eth0, which its ipvlan "
                "containers can't reach"
            ),
        ),
        (
            {"ipam": {"type": "host-local", "subnet": "fd00::/64"}},
            (
                "the range of fd00::/64 contains fd00::7, which is the host's own on eth0; "
                "a container may get it"
            ),
        ),
    ],
)
def test_address_of_the_host_in_a_network(
    node: Node, person: Person, conf: dict[str, Any], said: str
) -> None:
    node.master()
    for address in ("10.1.0.7/24", "fd00::7/64"):
        node.host.ip(f"address add {address} dev eth0")
    assert doctor(person, conf=network(**conf))["problem addresses"] == [said]


@pytest.mark.parametrize(
    "conf",
    [
        {"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.8"}},
        {"ipam": host_local("10.2.0.0/24")},
        {"ipam": static("10.1.0.2/24", gateway="10.1.0.1", routes=ROUTES)},
        {"ipam": static("10.1.0.2/24", gateway="10.1.0.7", routes=ROUTES), "mode": "l3"},
        # No route uses the gateway.
        {"ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "gateway": "10.1.0.7"}},
    ],
)
def test_address_of_the_host_that_a_network_leaves_alone(
    node: Node, person: Person, conf: dict[str, Any]
) -> None:
    node.master()
    node.host.ip("address add 10.1.0.7/24 dev eth0")
    assert "problem addresses" not in doctor(person, conf=network(**conf))


def test_static_address_that_a_container_has(node: Node, person: Person, runtime: Runtime) -> None:
    node.master()
    one, other = node.container(), node.container()
    assert doctor(person, conf=network())["ok addresses"] == ["no container on eth0 has 10.1.0.2"]
    runtime.add(one, network(), CNI_CONTAINERID="one").result()
    runtime.add(other, network(), CNI_CONTAINERID="other").error()

    taken = [
        (
            f"10.1.0.2 belongs to net1 in {one.path} (container one), so an ADD of another "
            "container fails"
        )
    ]
    # The network's own container may be the only one there is to be.
    assert doctor(person, conf=network())["warning addresses"] == taken
    assert doctor(person, "--netns container2", network())["problem addresses"] == taken
    assert doctor(person, conf=network(name="second"))["problem addresses"] == taken
    assert "ok addresses" in doctor(person, "--netns container1 --ifname net1", network())
    assert "ok addresses" in doctor(person, conf=network(ipam=static("10.1.0.3/24")))


def test_name_of_an_interface_in_the_container(
    node: Node, person: Person, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    where = "--netns container1 --ifname"
    assert doctor(person, f"{where} net1")["ok interface"] == [
        f"the name net1 is free in {container.path}"
    ]
    runtime.add(container, network(), CNI_CONTAINERID="one").result()
    container.ip("link add name eth7 type dummy")

    attached = ["net1 is there, of kind ipvlan: the container one in the network net"]
    assert doctor(person, f"{where} net1")["warning interface"] == attached
    assert doctor(person, f"{where} net1", network())["warning interface"] == attached
    assert doctor(person, f"{where} net1", network(name="b"))["problem interface"] == attached
    assert doctor(person, f"{where} eth7")["problem interface"] == ["eth7 is there, of kind dummy"]
    container.ip("link set dev net1 down")
    container.ip("link set dev net1 name net9")
    assert doctor(person, f"{where} net1")["warning interface"] == [
        (
            "net1 is there, of kind ipvlan, but is called net9 now: the container one in the "
            "network net"
        )
    ]


def test_the_nodes_plugins_are_not_all_run(node: Node, person: Person) -> None:
    """Each of Debian's plugins would answer VERSION; a file beside them might do anything."""
    node.master()
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
def test_status_says_once_that_the_kernel_has_no_ipvlan(node: Node, person: Person) -> None:
    node.master()
    conf = person.writes(network(cniVersion="1.1.0"))
    _, _, err = person.types(f"ipvlan status -c {conf}")
    assert err.startswith(
        "ipvlan: cannot create ipvlan interfaces with ip: the kernel has no ipvlan\n"
    )
