"""vlan: a VLAN of the master comes with its first container and goes with its last."""

from typing import Any

import pytest
from lab import kernel_without, run
from runtime import Conf, host_local, network, static
from scene import Scene

from cni_ipvlan.state.registry import Registry

CONF = network(vlan=100, ipam=host_local("10.1.0.0/24"))
ONE = {**CONF, "ipam": static("10.1.0.2/24")}


def gc(scene: Scene, **changes: Any) -> None:
    scene.runtime.gc({**ONE, "cniVersion": "1.1.0", "ipam": None, **changes}).succeeds()


def vlan_is_there(scene: Scene) -> bool:
    return "eth0.100" in scene.host.links()


@pytest.mark.scene(master="wire")
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_it_is_made_and_carries_the_container(scene: Scene, mode: str) -> None:
    scene.neighbour.ip("link add link eth0 name tagged up type vlan id 100")
    scene.neighbour.ip("address add 10.1.0.1/24 dev tagged")
    scene.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)
    with scene.unchanged():
        added = scene.add(ONE, mode=mode)

        made = scene.host.links()["eth0.100"]
        assert made["linkinfo"]["info_data"]["id"] == 100
        assert scene.node.master_of(scene.one) == "eth0.100"
        assert scene.host.ask("address", "show", "dev", "eth0.100")[0]["addr_info"] == []
        assert scene.host.sysctl("net/ipv6/conf/eth0.100/accept_ra") == "0"
        assert scene.one.reaches("10.1.0.1") == (mode == "l2")  # l3 needs a route over there
        added.check()
        added.delete()


@pytest.mark.parametrize("name", ["eth0.100", "storage"])
def test_one_that_is_there_is_used_and_stays(scene: Scene, name: str) -> None:
    scene.host.ip(f"link add link eth0 name {name} up type vlan id 100")
    with scene.unchanged():
        added = scene.add(ONE)
        assert scene.node.master_of(scene.one) == name
        added.delete()


def test_a_master_with_a_long_name_has_a_vlan_called_by_its_index(scene: Scene) -> None:
    scene.node.master("enp129s0f0np0")
    with scene.unchanged():
        added = scene.add(ONE, master="enp129s0f0np0")
        index = scene.host.links()["enp129s0f0np0"]["ifindex"]
        assert scene.node.master_of(scene.one) == f"vlan{index}.100"
        added.check()
        added.delete()


@pytest.mark.parametrize("by", [{"vlan": 100}, {"master": "eth0.100"}])
def test_it_stays_until_the_last_of_all_networks(scene: Scene, by: Conf) -> None:
    first = scene.add(ONE)
    second = scene.add(at=scene.two, name="other", **by)
    first.delete()
    assert scene.two.links()["net1"]
    second.delete()
    assert not vlan_is_there(scene)


def test_each_vlan_has_a_mode_of_its_own(scene: Scene) -> None:
    for vlan, mode in ((None, "l2"), (100, "l3"), (200, "l3s")):
        at = scene.container()
        scene.add(at=at, name=f"n{vlan}", vlan=vlan, mode=mode, CNI_CONTAINERID=f"c{vlan}")
    error = scene.refuses(104, conf=ONE, name="other", ipam=static("10.1.0.9/24"))
    assert "'eth0.100'" in error["msg"]


@pytest.mark.slow
def test_a_failed_add_or_script_removes_what_it_has_made_and_nothing_else(scene: Scene) -> None:
    routes = [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]
    bad = {**ONE, "ipam": {**ONE["ipam"], "routes": routes}}
    scene.refuses(107, conf=bad)
    script = scene.dry(conf={**CONF, "ipam": {**CONF["ipam"], "routes": routes}})
    with scene.unchanged():
        assert script.run()[0] == 2
    scene.add(CONF)
    scene.refuses(107, conf=bad, at=scene.two, name="other")
    assert vlan_is_there(scene)


@pytest.mark.parametrize("ending", ["DEL", "GC"])
def test_a_container_that_is_gone(scene: Scene, ending: str) -> None:
    before = scene.host.links()
    scene.add(ONE)
    gc(scene, name="other")  # which leaves it, since it is used
    assert "net1" in scene.one.links()
    scene.node.remove(scene.one)
    if ending == "DEL":
        scene.runtime.delete("", ONE).succeeds()
    else:
        gc(scene)
    assert scene.host.links() == before


def test_one_that_a_killed_call_has_left_down_is_brought_up(scene: Scene) -> None:
    with scene.unchanged():
        scene.host.ip("link add link eth0 name eth0.100 type vlan id 100")
        scene.host.ip("link set dev eth0.100 alias cni-ipvlan/vlan")
        added = scene.add(ONE)
        assert "UP" in scene.host.links()["eth0.100"]["flags"]
        added.delete()


def test_gc_removes_one_that_was_in_use_when_its_last_container_was_deleted(scene: Scene) -> None:
    added = scene.add(ONE)
    scene.one.ip("link delete dev net1")
    scene.host.ip("link add link eth0.100 name inner type vlan id 7")
    added.delete()
    assert vlan_is_there(scene)
    scene.host.ip("link delete dev inner")
    gc(scene)
    assert not vlan_is_there(scene)


def test_a_kernel_without_ipvlan_keeps_no_container_from_being_deleted(scene: Scene) -> None:
    added = scene.add(ONE)
    scene.one.ip("link delete dev net1")
    with kernel_without():
        added.delete()
    assert vlan_is_there(scene)
    scene.add(ONE).delete()  # the next one that is the last removes it
    assert not vlan_is_there(scene)


def test_a_kernel_without_macvlan_cannot_say_that_nobody_is_on_it(scene: Scene) -> None:
    added = scene.add(ONE)
    scene.one.ip("link delete dev net1")
    by_hand = f"link eth0.100 name by_hand netns {scene.two.path} type ipvlan mode l3"
    scene.host.ip(f"link add {by_hand}")
    with kernel_without("macvlan"):
        added.delete()
    assert scene.two.ipvlan("by_hand")["mode"] == "l3"


@pytest.mark.parametrize(
    "use",
    [
        "ip address add 10.1.0.1/24 dev eth0.100",
        "ip link add link eth0.100 name inner type vlan id 7",
        "ip link add name br0 type bridge; ip link set dev eth0.100 master br0",
        "ip link add name vrf0 type vrf table 7; ip link set dev eth0.100 master vrf0",
        "ip link add link eth0.100 name m0 netns container2 type macvlan mode bridge",
        "another network",
        "an ADD that is about to",
    ],
)
def test_one_that_others_use_stays(scene: Scene, use: str) -> None:
    assert (scene.one.path, scene.two.path) == ("/run/netns/container1", "/run/netns/container2")
    added = scene.add(ONE)
    if use == "another network":
        scene.add(at=scene.two, name="other", master="eth0.100")
    elif use == "an ADD that is about to":
        registry = Registry()
        (record,) = registry.all_records()
        registry.write(record._replace(container_id="coming"))
    else:
        if not use.startswith("ip address"):  # the kernel allows no second use beside an ipvlan
            scene.one.ip("link delete dev net1")
        run("sh", "-ec", use)

    added.delete()

    assert vlan_is_there(scene)


# tests/kernel/test_dry_run.py has what makes one.
def test_a_pasted_dry_run_uses_one_that_is_there(scene: Scene) -> None:
    scene.host.ip("link add link eth0 name storage up type vlan id 100")
    status, out = scene.dry(conf=ONE).run()
    assert status == 0, out
    assert scene.node.master_of(scene.one) == "storage"
