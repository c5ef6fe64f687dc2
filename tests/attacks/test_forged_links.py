"""Modes that a container forges never change the mode of a running container."""

import shutil

from attacker import (
    forge_from_nested,
    looks_busy,
    ordinary_users,
    replace_by_forged_link,
    slave_by_hand,
)
from lab import MEMORY, Space
from runtime import Answer, network, static
from scene import Scene


def add_one_of_many(scene: Scene, number: int, mode: str = "l2") -> tuple[Space, Answer]:
    container = scene.container()
    conf = network(mode=mode, ipam=static(f"10.1.0.{number}/24"))
    return container, scene.runtime.add(container, conf, CNI_CONTAINERID=f"c{number}")


def test_a_link_recreated_on_a_containers_own_interface_permits_no_mode(scene: Scene) -> None:
    """Attackers before and after the victim, since the order of the search is unknown."""
    attackers_and_victim = [add_one_of_many(scene, number) for number in (2, 3, 4)]
    for _, answer in attackers_and_victim:
        answer.result()
    (first, _), (victim, _), (last, _) = attackers_and_victim
    for attacker in (first, last):
        replace_by_forged_link(attacker, "l3")

    _, answer = add_one_of_many(scene, 5, mode="l3")

    assert victim.ipvlan("net1")["mode"] == "l2"
    assert answer.error()["code"] == 104


def test_a_forged_link_blocks_no_free_master(scene: Scene) -> None:
    scene.add()
    replace_by_forged_link(scene.one, "l2")

    added = scene.add(at=scene.two, mode="l3")

    assert added.container.ipvlan("net1")["mode"] == "l3"


def test_a_link_whose_parent_only_has_the_masters_index_permits_no_mode(scene: Scene) -> None:
    first, victim, last = (scene.container() for _ in range(3))
    slave_by_hand(victim, "l3")
    for attacker in (first, last):
        forge_from_nested(attacker, scene.container(), scene.host, "l2")
    shutil.rmtree(MEMORY, ignore_errors=True)

    _, flipping = add_one_of_many(scene, 2, mode="l2")

    assert victim.ipvlan("byhand")["mode"] == "l3"
    assert flipping.error()["code"] == 104
    add_one_of_many(scene, 3, mode="l3")[1].result()


def test_a_link_in_the_namespace_of_an_ordinary_user_blocks_no_add(scene: Scene) -> None:
    looks_busy(scene.host)
    link = scene.host.links()["eth0"]
    script = (
        f"ip link add index {link['ifindex']} address {link['address']} name eth0 type dummy\n"
        "ip link add link eth0 name forged type ipvlan mode l3\n"
        "ip link set dev eth0 up; ip link set dev forged up"
    )
    with ordinary_users(2, script):
        added = scene.add(mode="l2")

    assert added.container.ipvlan("net1")["mode"] == "l2"
