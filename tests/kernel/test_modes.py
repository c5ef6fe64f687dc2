"""One mode and flag on a master: ADD never flips those of a container that runs already."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from lab import MEMORY, Node, Space, run
from runtime import Runtime, network, static

OTHERS = [("l3", "bridge"), ("l3s", "bridge"), ("l2", "private"), ("l2", "vepa")]
OTHER = static("10.1.0.3/24")


@pytest.mark.parametrize(("mode", "flag"), OTHERS)
def test_another_mode_or_flag_than_our_containers_is_refused(
    node: Node, runtime: Runtime, mode: str, flag: str
) -> None:
    node.master()
    first = node.container()
    runtime.add(first, network()).result()

    message = refusal(node, runtime, mode=mode, flag=flag)

    assert all(word in message for word in ("eth0", "l2 bridge", f"{mode} {flag}", first.path))
    assert first.ipvlan("net1")["mode"] == "l2"


@pytest.mark.parametrize("place", ["named", "of a process", "host"])
@pytest.mark.parametrize("hint", ["l3", "l2 private"])
def test_another_mode_than_an_interface_made_by_hand_is_refused(
    node: Node, runtime: Runtime, place: str, hint: str
) -> None:
    node.master()
    spaces: dict[str, Callable[[], Space]] = {
        "named": node.container,
        "of a process": node.container_of_a_process,
        "host": lambda: node.host,
    }
    slave_by_hand(spaces[place](), mode=hint)

    message = refusal(node, runtime, mode="l3s")

    assert "byhand" in message


def test_the_same_mode_as_an_interface_made_by_hand_is_fine(node: Node, runtime: Runtime) -> None:
    node.master()
    slave_by_hand(node.container_of_a_process(), mode="l3 private")
    container = node.container()

    runtime.add(container, network(mode="l3", flag="private")).result()

    assert container.ipvlan("net1")["mode"] == "l3"


def test_containers_in_the_same_mode_live_side_by_side(node: Node, runtime: Runtime) -> None:
    node.master()
    for number in (2, 3, 4):
        conf = network(mode="l3s", ipam=static(f"10.1.0.{number}/24"))
        runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{number}").result()

    assert "l3s" in refusal(node, runtime, mode="l2")


def test_each_master_has_its_own_mode(node: Node, runtime: Runtime) -> None:
    for name, mode in (("eth0", "l2"), ("eth1", "l3")):
        node.master(name)
        container = node.container()
        runtime.add(container, network(master=name, mode=mode), CNI_CONTAINERID=mode).result()
        assert container.ipvlan("net1")["mode"] == mode


def test_the_mode_is_free_again_when_the_container_is_deleted(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network(mode="l2")).result()
    runtime.delete(container, network(mode="l2")).succeeds()

    runtime.add(container, network(mode="l3")).result()

    assert container.ipvlan("net1")["mode"] == "l3"


@pytest.mark.parametrize("vanished", ["container", "interface"])
def test_what_vanished_without_delete_blocks_no_mode(
    node: Node, runtime: Runtime, vanished: str
) -> None:
    node.master()
    gone = node.container()
    runtime.add(gone, network(mode="l2"), CNI_CONTAINERID="gone").result()
    if vanished == "container":
        node.remove(gone)
    else:
        gone.ip("link delete dev net1")
    container = node.container()

    runtime.add(container, network(mode="l3")).result()

    assert container.ipvlan("net1")["mode"] == "l3"


def test_without_records_the_plugin_still_finds_the_containers(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    runtime.add(node.container(), network(mode="l2"), CNI_CONTAINERID="first").result()
    shutil.rmtree(MEMORY)

    assert "l2" in refusal(node, runtime, mode="l3")


def test_an_ipvlan_on_a_containers_own_interface_is_not_taken_for_one_of_the_masters(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    run("ip", "link", "add", "link", "eth0", "name", "eth0.5", "type", "vlan", "id", "5")
    run("ip", "link", "set", "dev", "eth0.5", "up")  # lets the master look as if it had slaves
    nested = node.container()
    nested.ip("link add name eth0 type dummy")
    nested.ip("link add link eth0 name inner type ipvlan mode l3")
    container = node.container()

    runtime.add(container, network(mode="l2")).result()

    assert nested.ipvlan("inner")["mode"] == "l3"
    assert container.ipvlan("net1")["mode"] == "l2"


def refusal(node: Node, runtime: Runtime, **options: str) -> str:
    """Return the error of a refused ADD; it must leave everything as it was."""
    container = node.container()
    before = node.snapshot()
    conf = network(ipam=OTHER, **options)
    answer = runtime.add(container, conf, CNI_CONTAINERID="refused")
    error = answer.error()
    assert error["code"] == 104
    assert node.snapshot() == before
    return f"{error['msg']}\n{error['details']}\n{answer.stderr}"


def slave_by_hand(space: Space, mode: str) -> None:
    words = f"link add link eth0 name byhand type ipvlan mode {mode}".split()
    run("ip", *words)
    run("ip", "link", "set", "dev", "byhand", "netns", space.path)
    space.ip("link set dev byhand up")


def test_a_master_that_is_a_macvlan_is_guarded_too(node: Node, runtime: Runtime) -> None:
    """As on a node that is a container itself."""
    node.master("below")
    run("ip", "link", "add", "name", "eth0", "link", "below", "type", "macvlan")
    run("ip", "link", "set", "dev", "eth0", "up")
    first = node.container()
    runtime.add(first, network(mode="l2"), CNI_CONTAINERID="first").result()

    assert "l2" in refusal(node, runtime, mode="l3")
    assert first.ipvlan("net1")["mode"] == "l2"
    shutil.rmtree(MEMORY)
    assert "l2" in refusal(node, runtime, mode="l3")
    assert first.ipvlan("net1")["mode"] == "l2"
