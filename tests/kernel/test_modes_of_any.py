"""The mode is that of a real interface, read now, wherever it is; what is gone refuses nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import MEMORY, Node, Space, run
from runtime import Answer, Runtime, network, static


def add(node: Node, runtime: Runtime, mode: str, number: int = 3, **options: object) -> Answer:
    """Attach another container."""
    conf = network(mode=mode, ipam=static(f"10.1.0.{number}/24"), **options)
    return runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}")


def conflict(answer: Answer) -> str:
    error = answer.error()
    assert error["code"] == 104, error
    return f"{error['msg']}\n{answer.stderr}"


def test_an_ipvtap_counts_as_an_ipvlan(node: Node, runtime: Runtime) -> None:
    node.master()
    run("ip", *["link", "add", "link", "eth0", "name", "tap", "type", "ipvtap", "mode", "l3"])

    message = conflict(add(node, runtime, "l2"))

    assert "mode l3 bridge" in message
    assert "tap on the host" in message
    assert node.host.links()["tap"]["linkinfo"]["info_data"]["mode"] == "l3"
    add(node, runtime, "l3").result()


def test_an_ipvtap_in_a_container_keeps_its_mode(node: Node, runtime: Runtime) -> None:
    """The kernel does not report where its parent is, so it is named but proves nothing."""
    node.master()
    container = node.container()
    run("ip", *["link", "add", "link", "eth0", "name", "tap", "type", "ipvtap", "mode", "l3"])
    run("ip", "link", "set", "dev", "tap", "netns", container.path)

    answer = add(node, runtime, "l2")

    assert answer.error()["code"] == 11
    assert f"tap in {container.path}, ipvtap in mode l3 bridge" in answer.stderr
    assert container.links()["tap"]["linkinfo"]["info_data"]["mode"] == "l3"


def test_slaves_that_are_down_count(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    run("ip", *["link", "add", "link", "eth0", "name", "byhand", "type", "ipvlan", "mode", "l3"])
    run("ip", "link", "set", "dev", "byhand", "netns", container.path)

    conflict(add(node, runtime, "l2"))

    assert container.ipvlan("byhand")["mode"] == "l3"


def attached(node: Node, runtime: Runtime) -> Space:
    """Attach a container in mode l2."""
    node.master()
    container = node.container()
    runtime.add(container, network(), CNI_CONTAINERID="first").result()
    return container


@contextmanager
def held_by_a_descriptor(node: Node, container: Space) -> Iterator[Space]:
    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        node.remove(container)
        yield Space(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def mounted_elsewhere(node: Node, container: Space) -> Iterator[Space]:
    place = Path("/run/a namespace\\elsewhere")
    place.touch()
    run("mount", "--bind", container.path, str(place))
    try:
        node.remove(container)
        yield Space(str(place))
    finally:
        run("umount", str(place))
        place.unlink()


@contextmanager
def moved(node: Node, container: Space) -> Iterator[Space]:
    other = node.container_of_a_process()
    container.run("ip", "link", "set", "dev", "other", "netns", other.path)
    yield other


@contextmanager
def in_place(_node: Node, container: Space) -> Iterator[Space]:
    yield container


@pytest.mark.parametrize("way", [held_by_a_descriptor, mounted_elsewhere, moved, in_place])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_slave_is_found_wherever_it_is(
    node: Node, runtime: Runtime, way: object, *, remembered: bool
) -> None:
    container = attached(node, runtime)
    container.rename("net1", "other")
    if not remembered:
        shutil.rmtree(MEMORY)
    with way(node, container) as space:  # type: ignore[operator]
        message = conflict(add(node, runtime, "l3"))
        assert "other" in message or "net1" in message
        assert space.ipvlan("other" if "other" in space.links() else "net1")["mode"] == "l2"
        add(node, runtime, "l2").result()


def test_a_slave_counts_after_gc(node: Node, runtime: Runtime) -> None:
    container = attached(node, runtime)
    runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()

    conflict(add(node, runtime, "l3"))

    assert container.ipvlan("net1")["mode"] == "l2"


def test_a_slave_of_a_master_in_a_container_counts_where_it_was_moved(
    node: Node, runtime: Runtime
) -> None:
    container, other = node.container(), node.container()
    container.ip("link add name eth0 type dummy")
    container.ip("link set dev eth0 up")
    conf = network(linkInContainer=True)
    runtime.add(container, conf).result()
    container.run("ip", "link", "set", "dev", "net1", "netns", other.path)

    answer = runtime.add(
        container, {**conf, "mode": "l3", "ipam": static("10.1.0.3/24")}, CNI_IFNAME="net2"
    )

    assert answer.error()["code"] == 104
    assert other.ipvlan("net1")["mode"] == "l2"
    runtime.add(container, {**conf, "ipam": static("10.1.0.3/24")}, CNI_IFNAME="net2").result()


@pytest.mark.parametrize("name", ["net1", "other"])
def test_what_replaces_a_remembered_interface_by_hand_counts(
    node: Node, runtime: Runtime, name: str
) -> None:
    container = attached(node, runtime)
    container.ip("link delete dev net1")
    run("ip", *f"link add link eth0 name {name} type ipvlan mode l3".split())
    run("ip", "link", "set", "dev", name, "netns", container.path)

    conflict(add(node, runtime, "l2"))

    assert container.ipvlan(name)["mode"] == "l3"
    add(node, runtime, "l3").result()


def test_a_mode_changed_by_hand_counts(node: Node, runtime: Runtime) -> None:
    container = attached(node, runtime)
    container.ip("link set dev net1 type ipvlan mode l3")

    assert "mode l3 bridge" in conflict(add(node, runtime, "l2"))

    assert container.ipvlan("net1")["mode"] == "l3"
    add(node, runtime, "l3").result()


AGAIN = ["namespace deleted", "namespace made again", "interface deleted by hand"]


@pytest.mark.parametrize("change", AGAIN)
def test_what_is_remembered_of_a_container_does_not_refuse_itself(
    node: Node, runtime: Runtime, change: str
) -> None:
    container = attached(node, runtime)
    if change == "interface deleted by hand":
        container.ip("link delete dev net1")
    else:
        node.remove(container)
        name = container.path.rpartition("/")[2]
        container = node.namespace(name if change == "namespace made again" else "another")

    conf = network(mode="l3")
    runtime.add(container, conf, CNI_CONTAINERID="first").result()

    assert container.ipvlan("net1")["mode"] == "l3"
    runtime.delete(container, conf, CNI_CONTAINERID="first").succeeds()
    assert not MEMORY.exists()


def test_a_namespace_whose_inode_is_used_again_refuses_nothing(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    identities = set()
    for number in range(4):
        space = node.namespace("web")
        identities.add(Path(space.path).stat().st_ino)
        conf = network(mode="l2" if number % 2 else "l3")
        runtime.add(space, conf, CNI_CONTAINERID=f"k{number}").result()
        assert space.ipvlan("net1")["mode"] == conf["mode"]
        node.remove(space)

    assert len(identities) < 4  # or this shows nothing


def test_an_interface_that_cannot_be_found_has_the_mode_that_root_recorded(
    node: Node, runtime: Runtime
) -> None:
    """It is in a namespace that only a socket keeps."""
    container = attached(node, runtime)
    with container.socket():
        node.remove(container)
        answer = add(node, runtime, "l3")
        error = answer.error()
        assert error["code"] == 104
        assert "root's record" in error["details"]
        assert "recorded: net1 in" in answer.stderr
    add(node, runtime, "l3").result()
