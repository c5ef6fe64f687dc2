"""vlan: a VLAN of the master comes with its first container and goes with its last."""

from typing import Any

import faulty
import pytest
from faulty import KillAt
from lab import find_records, remove_module, run
from runtime import Conf, call_environment, host_local, network, static, stdin_of
from setup import Setup

from cni_ipvlan.state.registry import Registry

CONF = network(vlan=100, ipam=host_local("10.1.0.0/24"))
STATIC = {**CONF, "ipam": static("10.1.0.2/24")}
ROUTES = [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]
INVALID = {**CONF, "ipam": static("10.1.0.2/24", routes=ROUTES)}


def gc(setup: Setup, **changes: Any) -> None:
    setup.runtime.gc({**STATIC, "cniVersion": "1.1.0", "ipam": None, **changes}).succeeds()


def has_vlan(setup: Setup) -> bool:
    return "eth0.100" in setup.host.links()


@pytest.mark.setup(master="wire")
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_it_is_made_and_carries_the_container(setup: Setup, mode: str) -> None:
    setup.neighbour.ip("link add link eth0 name tagged up type vlan id 100")
    setup.neighbour.ip("address add 10.1.0.1/24 dev tagged")
    setup.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)
    with setup.unchanged():
        added = setup.add(STATIC, mode=mode)

        link = setup.host.links()["eth0.100"]
        assert link["linkinfo"]["info_data"]["id"] == 100
        assert setup.node.find_master(setup.container) == "eth0.100"
        assert setup.host.query("address", "show", "dev", "eth0.100")[0]["addr_info"] == []
        assert setup.host.sysctl("net/ipv6/conf/eth0.100/accept_ra") == "0"
        assert setup.container.can_ping("10.1.0.1") == (mode == "l2")  # l3 needs a route over there
        added.check()
        added.check("its master VLAN 8 of 'eth0' does not exist any more", vlan=8)
        added.check("its master VLAN 100 of 'lo' does not exist any more", master="lo")
        added.delete()


@pytest.mark.parametrize("name", ["eth0.100", "storage"])
def test_one_that_is_there_is_used_and_stays(setup: Setup, name: str) -> None:
    setup.host.ip(f"link add link eth0 name {name} up type vlan id 100")
    with setup.unchanged():
        added = setup.add(STATIC)
        assert setup.node.find_master(setup.container) == name
        added.delete()


def test_a_master_with_a_long_name_has_a_vlan_called_by_its_index(setup: Setup) -> None:
    setup.node.make_master("enp129s0f0np0")
    with setup.unchanged():
        added = setup.add(STATIC, master="enp129s0f0np0")
        index = setup.host.links()["enp129s0f0np0"]["ifindex"]
        assert setup.node.find_master(setup.container) == f"vlan{index}.100"
        added.check()
        added.delete()


@pytest.mark.parametrize("by", [{"vlan": 100}, {"master": "eth0.100"}])
def test_it_stays_until_the_last_of_all_networks(setup: Setup, by: Conf) -> None:
    first = setup.add(STATIC)
    second = setup.add(at=setup.container2, name="other", **by)
    first.delete()
    assert setup.container2.links()["net1"]
    second.delete()
    assert not has_vlan(setup)


def test_each_vlan_has_a_mode_of_its_own(setup: Setup) -> None:
    for vlan, mode in ((None, "l2"), (100, "l3"), (200, "l3s")):
        at = setup.make_container()
        setup.add(at=at, name=f"n{vlan}", vlan=vlan, mode=mode, CNI_CONTAINERID=f"c{vlan}")
    error = setup.expect_error(104, conf=STATIC, name="other", ipam=static("10.1.0.9/24"))
    assert "'eth0.100'" in error["msg"]


@pytest.mark.slow
def test_a_failed_add_or_script_removes_what_it_has_made_and_nothing_else(setup: Setup) -> None:
    setup.expect_error(107, conf=INVALID)
    script = setup.dry_run(conf={**CONF, "ipam": {**CONF["ipam"], "routes": ROUTES}})
    with setup.unchanged():
        assert script.run()[0] == 2
    setup.add(CONF)
    setup.expect_error(107, conf=INVALID, at=setup.container2, name="other")
    assert has_vlan(setup)


@pytest.mark.parametrize("ending", ["DEL", "GC", "ADD with another VLAN"])
def test_a_container_that_is_gone(setup: Setup, ending: str) -> None:
    before = setup.host.links()
    setup.add(STATIC)
    gc(setup, name="other")  # which leaves it, since it is used
    assert "net1" in setup.container.links()
    setup.node.remove(setup.container)
    setup.expect_error(107, conf=INVALID, at=setup.container2, CNI_CONTAINERID="one")
    if ending == "DEL":
        setup.runtime.delete("", STATIC).succeeds()
    elif ending == "GC":
        gc(setup)
    else:
        setup.add(STATIC, at=setup.container2, vlan=200, CNI_CONTAINERID="one").delete()
    assert setup.host.links() == before


@pytest.mark.slow
def test_an_add_with_another_one_that_is_killed_leaves_neither(setup: Setup) -> None:
    conf = {**STATIC, "vlan": 200}
    for number in range(1, 24):
        with setup.temporary_container() as container:
            setup.add(STATIC, at=container, CNI_CONTAINERID="one")
        with setup.temporary_container() as container:
            environment = call_environment("ADD", container, CNI_CONTAINERID="one")
            kill = KillAt(number, of_commands=True, after_work=False)
            faulty.call_or_die(environment, stdin_of(conf), kill)
            setup.runtime.delete(container, conf, CNI_CONTAINERID="one").succeeds()
        gc(setup, vlan=200)  # if it was killed before it could write a record
        assert [*setup.host.links(), *find_records()] == ["lo", "eth0"], number


def test_one_that_a_killed_call_has_left_down_is_brought_up(setup: Setup) -> None:
    with setup.unchanged():
        setup.host.ip("link add link eth0 name eth0.100 type vlan id 100")
        setup.host.ip("link set dev eth0.100 alias cni-ipvlan/vlan")
        added = setup.add(STATIC)
        assert "UP" in setup.host.links()["eth0.100"]["flags"]
        added.delete()


def test_one_that_a_killed_call_wanted_to_remove_goes(setup: Setup) -> None:
    with setup.unchanged():
        setup.host.ip("link add link eth0 name eth0.100 type vlan id 100")
        setup.host.ip("link set dev eth0.100 alias cni-ipvlan/vlan")
        setup.host.ip("link add link eth0.100 name ivprobe0 type ipvlan")
        setup.runtime.delete(setup.container, STATIC).succeeds()


def test_gc_removes_one_that_was_in_use_when_its_last_container_was_deleted(setup: Setup) -> None:
    added = setup.add(STATIC)
    setup.container.ip("link delete dev net1")
    setup.host.ip("link add link eth0.100 name inner type vlan id 7")
    added.delete()
    assert has_vlan(setup)
    setup.host.ip("link delete dev inner")
    gc(setup)
    assert not has_vlan(setup)


def test_a_kernel_without_ipvlan_keeps_no_container_from_being_deleted(setup: Setup) -> None:
    added = setup.add(STATIC)
    setup.container.ip("link delete dev net1")
    with remove_module():
        added.delete()
    assert has_vlan(setup)
    setup.add(STATIC).delete()  # the next one that is the last removes it
    assert not has_vlan(setup)


def test_a_kernel_without_macvlan_cannot_say_that_nobody_is_on_it(setup: Setup) -> None:
    added = setup.add(STATIC)
    setup.container.ip("link delete dev net1")
    by_hand = f"link eth0.100 name by_hand netns {setup.container2.path} type ipvlan mode l3"
    setup.host.ip(f"link add {by_hand}")
    with remove_module("macvlan"):
        added.delete()
    assert setup.container2.ipvlan("by_hand")["mode"] == "l3"


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
def test_one_that_others_use_stays(setup: Setup, use: str) -> None:
    paths = [each.path for each in (setup.container, setup.container2)]
    assert paths == ["/run/netns/container1", "/run/netns/container2"]
    added = setup.add(STATIC)
    if use == "another network":
        setup.add(at=setup.container2, name="other", master="eth0.100")
    elif use == "an ADD that is about to":
        registry = Registry()
        (record,) = registry.all_records()
        registry.write(record._replace(container_id="coming"))
    else:
        if not use.startswith("ip address"):  # the kernel allows no second use beside an ipvlan
            setup.container.ip("link delete dev net1")
        run("sh", "-ec", use)

    added.delete()

    assert has_vlan(setup)


# tests/kernel/test_dry_run.py has what makes one.
def test_a_pasted_dry_run_uses_one_that_is_there(setup: Setup) -> None:
    setup.host.ip("link add link eth0 name storage up type vlan id 100")
    setup.dry_run(conf=STATIC).succeeds()
    assert setup.node.find_master(setup.container) == "storage"
