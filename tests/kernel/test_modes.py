"""A master has one mode and flag, those of a real slave: ADD never changes a container's."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import RECORDS, NetNS, Node, find_records, run
from runtime import Conf, host_local, network, static
from setup import Setup

from cni_ipvlan.state.registry import Registry

OTHER_MODES = [("l3", "bridge"), ("l3s", "bridge"), ("l2", "private"), ("l2", "vepa")]


@pytest.mark.setup(master="wire")
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_containers_reach_each_other_and_the_gateway(setup: Setup, mode: str) -> None:
    for words in ("address add 10.1.0.1/24 dev eth0", "address add 10.9.9.9/16 dev lo"):
        setup.neighbour.ip(words)
    setup.neighbour.ip("link set dev lo up")
    ipam = host_local("10.1.0.0/24", "fd00:1::/64", routes=[{"dst": "10.9.0.0/16"}])
    for each in (setup.container, setup.container2):
        setup.add(at=each, mode=mode, ipam=ipam).check()

    assert setup.container.can_ping("10.1.0.3")
    assert setup.container2.can_ping("fd00:1::2")
    if mode == "l2":  # the router needs a route to those in layer 3 mode
        assert setup.container.can_ping("10.1.0.1")
        assert setup.container2.can_ping("10.9.9.9")
    assert setup.node.leases() == ["10.1.0.2", "10.1.0.3", "fd00:1::2", "fd00:1::3"]


def read_refusal(setup: Setup, mode: str, at: NetNS | None = None, **options: object) -> str:
    at = at or setup.container2
    variables: Conf = {"ipam": static("10.1.0.9/24"), "CNI_CONTAINERID": "refused", **options}
    error = setup.expect_error(104, at=at, mode=mode, **variables)
    return f"{error['msg']}\n{error['details']}\n{error['private']}"


def add_in(setup: Setup, mode: str) -> None:
    ipam = static("10.1.0.8/24")
    setup.add(at=setup.make_container(), mode=mode, ipam=ipam, CNI_CONTAINERID="third")


def test_another_mode_or_flag_than_our_containers_is_refused(setup: Setup) -> None:
    setup.add()
    for mode, flag in OTHER_MODES:
        message = read_refusal(setup, mode, flag=flag)
        words = ("eth0", "l2 bridge", f"{mode} {flag}", setup.container.path)
        assert [word for word in words if word not in message] == []
    assert setup.container.ipvlan("net1")["mode"] == "l2"
    setup.runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()  # which collects none
    read_refusal(setup, "l3")
    shutil.rmtree(RECORDS)  # without records they are still found
    assert "l2" in read_refusal(setup, "l3")


def test_a_mode_that_another_program_has_changed_is_told(setup: Setup) -> None:
    setup.add().container.ip("link set dev net1 type ipvlan mode l3")
    message = read_refusal(setup, "l2")
    assert "found: they were attached in mode l2 bridge; another program has changed it" in message
    assert "changes it back" in message


@pytest.mark.parametrize(
    "make", [Node.make_container, Node.make_anonymous_container, lambda node: node.host]
)
def test_another_mode_than_by_hand_is_refused(setup: Setup, make: Callable[[Node], NetNS]) -> None:
    namespace = make(setup.node)
    setup.make_foreign_link(namespace, "l3 private", up=False)
    read_refusal(setup, "l2")
    namespace.ip("link set dev byhand up")
    assert "byhand" in read_refusal(setup, "l3s")
    setup.add(mode="l3", flag="private")  # the same is fine
    assert setup.container.ipvlan("net1")["mode"] == "l3"


def test_each_master_has_its_own_mode(setup: Setup) -> None:
    setup.node.make_master("eth1")
    setup.add(mode="l3s")
    setup.add(
        mode="l3s", at=setup.make_container(), ipam=static("10.1.0.3/24"), CNI_CONTAINERID="b"
    )
    setup.add(mode="l3", at=setup.container2, master="eth1")
    containers = (setup.container, setup.container2)
    assert [each.ipvlan("net1")["mode"] for each in containers] == ["l3s", "l3"]
    assert "l3s" in read_refusal(setup, "l2", at=setup.make_container())


def test_what_is_deleted_or_has_vanished_blocks_no_mode(setup: Setup) -> None:
    setup.add(mode="l2").delete()
    setup.add(mode="l3")
    assert setup.container.ipvlan("net1")["mode"] == "l3"
    setup.container.ip("link delete dev net1")
    setup.add(mode="l2", at=setup.container2)
    setup.node.remove(setup.container2)
    add_in(setup, "l3s")
    recorded = {each.container_id for each in Registry().all_records()}
    assert recorded == {"one", "two", "third"}  # as their addresses may be allocated


@pytest.mark.setup(master="")
def test_a_master_that_is_a_macvlan_is_guarded_too(setup: Setup) -> None:
    """The node may be a container itself."""
    setup.node.make_master("below")
    setup.host.ip("link add name eth0 link below up type macvlan")
    setup.add(mode="l2")
    assert "l2" in read_refusal(setup, "l3")
    shutil.rmtree(RECORDS)
    assert "l2" in read_refusal(setup, "l3")
    assert setup.container.ipvlan("net1")["mode"] == "l2"


def test_an_ipvtap_counts_as_an_ipvlan(setup: Setup) -> None:
    setup.host.ip("link add link eth0 name tap type ipvtap mode l3")
    message = read_refusal(setup, "l2")
    assert "mode l3 bridge" in message
    assert "tap on the host" in message
    assert setup.host.links()["tap"]["linkinfo"]["info_data"]["mode"] == "l3"
    add_in(setup, "l3")


@pytest.mark.slow
def test_an_ipvtap_in_a_container_keeps_its_mode(setup: Setup) -> None:
    """The kernel does not report where the parent is, so the link is named but proves nothing."""
    setup.make_foreign_link(setup.container, "l3", kind="ipvtap", up=False)
    tap = f"byhand in {setup.container.path}, ipvtap in mode l3 bridge"
    setup.expect_error(11, hidden=[tap], at=setup.container2, mode="l2")
    assert setup.container.links()["byhand"]["linkinfo"]["info_data"]["mode"] == "l3"


@contextmanager
def hold_by_descriptor(node: Node, container: NetNS) -> Iterator[NetNS]:
    descriptor = os.open(container.path, os.O_RDONLY)
    try:
        node.remove(container)
        yield NetNS(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextmanager
def mount_namespace(node: Node, container: NetNS) -> Iterator[NetNS]:
    path = Path("/run/a namespace\\elsewhere")
    path.touch()
    run("mount", "--bind", container.path, str(path))
    try:
        node.remove(container)
        yield NetNS(str(path))
    finally:
        run("umount", str(path))
        path.unlink()


@contextmanager
def move_slave(node: Node, container: NetNS) -> Iterator[NetNS]:
    other = node.make_anonymous_container()
    container.run("ip", "link", "set", "dev", "other", "netns", other.path)
    yield other


@contextmanager
def in_place(_node: Node, container: NetNS) -> Iterator[NetNS]:
    yield container


@pytest.mark.parametrize("enter", [hold_by_descriptor, mount_namespace, move_slave, in_place])
@pytest.mark.parametrize("has_record", [True, False])
def test_a_slave_is_found_wherever_it_is(setup: Setup, enter: object, *, has_record: bool) -> None:
    setup.add()
    setup.container.rename("net1", "other")
    if not has_record:
        shutil.rmtree(RECORDS)
    with enter(setup.node, setup.container) as namespace:  # type: ignore[operator]
        answer = setup.runtime.add(setup.container2, network(mode="l3"), CNI_CONTAINERID="two")
        assert answer.error()["code"] == 104
        # The message names where the slave is, or where it was recorded.
        places = (namespace.path, setup.container.path, "/root/run/a namespace")
        assert any(place in answer.stderr for place in places), answer.stderr
        assert namespace.ipvlan("other")["mode"] == "l2"
        add_in(setup, "l2")


@pytest.mark.setup(master="")
def test_a_slave_of_a_master_in_a_container_counts_where_it_was_moved(setup: Setup) -> None:
    setup.container.ip("link add name eth0 up type dummy")
    setup.add(linkInContainer=True)
    setup.container.run("ip", "link", "set", "dev", "net1", "netns", setup.container2.path)
    second: Conf = {"linkInContainer": True, "ipam": static("10.1.0.3/24"), "CNI_IFNAME": "net2"}
    read_refusal(setup, "l3", at=setup.container, **{**second, "CNI_CONTAINERID": "one"})
    assert setup.container2.ipvlan("net1")["mode"] == "l2"
    setup.add(**second)


@pytest.mark.parametrize("name", ["net1", "other", "the same"])
def test_what_replaces_or_changes_a_recorded_one_by_hand_counts(setup: Setup, name: str) -> None:
    setup.add()
    if name == "the same":
        name = "net1"
        setup.container.ip("link set dev net1 type ipvlan mode l3")
    else:
        setup.container.ip("link delete dev net1")
        setup.make_foreign_link(setup.container, "l3", name, up=False)
    assert "mode l3 bridge" in read_refusal(setup, "l2")
    assert setup.container.ipvlan(name)["mode"] == "l3"
    add_in(setup, "l3")


RESTARTS = ["namespace deleted", "namespace made again", "interface deleted by hand"]


@pytest.mark.parametrize("change", RESTARTS)
def test_a_record_of_a_container_does_not_refuse_itself(setup: Setup, change: str) -> None:
    container = setup.add().container
    if change == "interface deleted by hand":
        container.ip("link delete dev net1")
    else:
        setup.node.remove(container)
        name = container.path.rpartition("/")[2]
        container = setup.node.make_namespace(name if change == "namespace made again" else "other")

    added = setup.add(at=container, mode="l3")

    assert container.ipvlan("net1")["mode"] == "l3"
    added.delete()
    assert find_records() == []
