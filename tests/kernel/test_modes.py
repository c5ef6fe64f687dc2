"""One mode and flag on a master, those of a real interface: ADD never flips a container's."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import MEMORY, Node, Space, records, run
from runtime import Conf, host_local, network, static
from scene import Scene

OTHERS = [("l3", "bridge"), ("l3s", "bridge"), ("l2", "private"), ("l2", "vepa")]


@pytest.mark.scene(master="wire")
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_containers_reach_each_other_and_the_gateway(scene: Scene, mode: str) -> None:
    for words in ("address add 10.1.0.1/24 dev eth0", "address add 10.9.9.9/16 dev lo"):
        scene.neighbour.ip(words)
    scene.neighbour.ip("link set dev lo up")
    ipam = host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "10.9.0.0/16"}])
    for each in (scene.one, scene.two):
        scene.add(at=each, mode=mode, ipam=ipam).check()

    assert scene.one.reaches("10.1.0.3")
    assert scene.two.reaches("fd00:1::2")
    if mode == "l2":  # the router needs a route to those in layer 3 mode
        assert scene.one.reaches("10.1.0.1")
        assert scene.two.reaches("10.9.9.9")
    assert scene.node.leases() == ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"]


def refusal(scene: Scene, mode: str, at: Space | None = None, **options: object) -> str:
    at = at or scene.two
    given: Conf = {"ipam": static("10.1.0.9/24"), "CNI_CONTAINERID": "refused", **options}
    error = scene.refuses(104, at=at, mode=mode, **given)
    return f"{error['msg']}\n{error['details']}\n{error['private']}"


def add_in(scene: Scene, mode: str) -> None:
    ipam = static("10.1.0.8/24")
    scene.add(at=scene.container(), mode=mode, ipam=ipam, CNI_CONTAINERID="third")


def test_another_mode_or_flag_than_our_containers_is_refused(scene: Scene) -> None:
    scene.add()
    for mode, flag in OTHERS:
        message = refusal(scene, mode, flag=flag)
        words = ("eth0", "l2 bridge", f"{mode} {flag}", scene.one.path)
        assert [word for word in words if word not in message] == []
    assert scene.one.ipvlan("net1")["mode"] == "l2"
    scene.runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()  # which collects none
    refusal(scene, "l3")
    shutil.rmtree(MEMORY)  # without records they are still found
    assert "l2" in refusal(scene, "l3")


def test_a_mode_that_another_program_has_changed_is_told(scene: Scene) -> None:
    scene.add().container.ip("link set dev net1 type ipvlan mode l3")
    message = refusal(scene, "l2")
    assert "found: they were attached in mode l2 bridge; another program has changed it" in message
    assert "changes it back" in message


@pytest.mark.parametrize(
    "place", [Node.container, Node.container_of_a_process, lambda node: node.host]
)
def test_another_mode_than_by_hand_is_refused(scene: Scene, place: Callable[[Node], Space]) -> None:
    space = place(scene.node)
    scene.by_hand(space, "l3 private", up=False)
    refusal(scene, "l2")
    space.ip("link set dev byhand up")
    assert "byhand" in refusal(scene, "l3s")
    scene.add(mode="l3", flag="private")  # the same is fine
    assert scene.one.ipvlan("net1")["mode"] == "l3"


def test_each_master_has_its_own_mode(scene: Scene) -> None:
    scene.node.master("eth1")
    scene.add(mode="l3s")
    scene.add(mode="l3s", at=scene.container(), ipam=static("10.1.0.3/24"), CNI_CONTAINERID="b")
    scene.add(mode="l3", at=scene.two, master="eth1")
    assert (scene.one.ipvlan("net1")["mode"], scene.two.ipvlan("net1")["mode"]) == ("l3s", "l3")
    assert "l3s" in refusal(scene, "l2", at=scene.container())


def test_what_is_deleted_or_has_vanished_blocks_no_mode(scene: Scene) -> None:
    scene.add(mode="l2").delete()
    scene.add(mode="l3")
    assert scene.one.ipvlan("net1")["mode"] == "l3"
    scene.one.ip("link delete dev net1")
    scene.add(mode="l2", at=scene.two)
    scene.node.remove(scene.two)
    add_in(scene, "l3s")


@pytest.mark.scene(master="")
def test_a_master_that_is_a_macvlan_is_guarded_too(scene: Scene) -> None:
    """As on a node that is a container itself."""
    scene.node.master("below")
    scene.host.ip("link add name eth0 link below up type macvlan")
    scene.add(mode="l2")
    assert "l2" in refusal(scene, "l3")
    shutil.rmtree(MEMORY)
    assert "l2" in refusal(scene, "l3")
    assert scene.one.ipvlan("net1")["mode"] == "l2"


def test_an_ipvtap_counts_as_an_ipvlan(scene: Scene) -> None:
    scene.host.ip("link add link eth0 name tap type ipvtap mode l3")
    message = refusal(scene, "l2")
    assert "mode l3 bridge" in message
    assert "tap on the host" in message
    assert scene.host.links()["tap"]["linkinfo"]["info_data"]["mode"] == "l3"
    add_in(scene, "l3")


@pytest.mark.slow
def test_an_ipvtap_in_a_container_keeps_its_mode(scene: Scene) -> None:
    """The kernel does not report where its parent is, so it is named but proves nothing."""
    scene.by_hand(scene.one, "l3", kind="ipvtap", up=False)
    tap = f"byhand in {scene.one.path}, ipvtap in mode l3 bridge"
    scene.refuses(11, hidden=[tap], at=scene.two, mode="l2")
    assert scene.one.links()["byhand"]["linkinfo"]["info_data"]["mode"] == "l3"


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
def test_a_slave_is_found_wherever_it_is(scene: Scene, way: object, *, remembered: bool) -> None:
    scene.add()
    scene.one.rename("net1", "other")
    if not remembered:
        shutil.rmtree(MEMORY)
    with way(scene.node, scene.one) as space:  # type: ignore[operator]
        answer = scene.runtime.add(scene.two, network(mode="l3"), CNI_CONTAINERID="two")
        assert answer.error()["code"] == 104
        # Where it is, in whatever way that is found; or where it was recorded to be.
        places = (space.path, scene.one.path, "/root/run/a namespace")
        assert any(place in answer.stderr for place in places), answer.stderr
        assert space.ipvlan("other")["mode"] == "l2"
        add_in(scene, "l2")


@pytest.mark.scene(master="")
def test_a_slave_of_a_master_in_a_container_counts_where_it_was_moved(scene: Scene) -> None:
    scene.one.ip("link add name eth0 up type dummy")
    scene.add(linkInContainer=True)
    scene.one.run("ip", "link", "set", "dev", "net1", "netns", scene.two.path)
    second: Conf = {"linkInContainer": True, "ipam": static("10.1.0.3/24"), "CNI_IFNAME": "net2"}
    refusal(scene, "l3", at=scene.one, **{**second, "CNI_CONTAINERID": "one"})
    assert scene.two.ipvlan("net1")["mode"] == "l2"
    scene.add(**second)


@pytest.mark.parametrize("name", ["net1", "other", "the same"])
def test_what_replaces_or_changes_a_recorded_one_by_hand_counts(scene: Scene, name: str) -> None:
    scene.add()
    if name == "the same":
        name = "net1"
        scene.one.ip("link set dev net1 type ipvlan mode l3")
    else:
        scene.one.ip("link delete dev net1")
        scene.by_hand(scene.one, "l3", name, up=False)
    assert "mode l3 bridge" in refusal(scene, "l2")
    assert scene.one.ipvlan(name)["mode"] == "l3"
    add_in(scene, "l3")


AGAIN = ["namespace deleted", "namespace made again", "interface deleted by hand"]


@pytest.mark.parametrize("change", AGAIN)
def test_a_record_of_a_container_does_not_refuse_itself(scene: Scene, change: str) -> None:
    container = scene.add().container
    if change == "interface deleted by hand":
        container.ip("link delete dev net1")
    else:
        scene.node.remove(container)
        name = container.path.rpartition("/")[2]
        container = scene.node.namespace(name if change == "namespace made again" else "another")

    again = scene.add(at=container, mode="l3")

    assert container.ipvlan("net1")["mode"] == "l3"
    again.delete()
    assert records() == []
