"""What a killed ADD has left: ADD of the same attachment takes it over; others are told of it."""

import faulty
import pytest
from faulty import Faults, Point
from lab import LEASES, NetNS, find_records
from runtime import Conf, Runtime, call_environment, host_local, network, static, stdin_of
from sampling import sample
from setup import Setup

# Two names whose digests have the same first 25 bits, which are a network's key.
NAME, COLLIDING = "kube-prod", "n21567"
LEASED = network(name=NAME, ipam=host_local("10.1.0.0/24"))
KILLS = (faulty.kill_plugin, faulty.kill_plugin_after_work)
REMOVALS = ["DEL", "DEL without the namespace", "GC"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_add_again_takes_over_what_an_add_that_died_has_left(setup: Setup, mode: str) -> None:
    node, runtime, container = setup.node, setup.runtime, setup.container
    conf = {**LEASED, "mode": mode}
    points = commands(container, LEASED)
    move = next(each for each in points if " netns /" in each.words)
    for point in {move, *sample(points, 1)}:
        for kill in KILLS:
            if not call_dies(container, LEASED, point, kill):
                runtime.delete(container, LEASED).succeeds()  # it had not to wait as often
                continue

            setup.dry_run(conf=conf, ipam=static("10.1.0.2/24"))
            runtime.add(container, conf).result()

            assert container.ipvlan("net1")["mode"] == mode, point
            assert node.host.links().keys() == {"lo", "eth0"}
            assert len(node.leases()) == 1
            runtime.delete(container, conf).succeeds()
            assert find_records() == []


@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_left_on_the_host_is_named_if_it_is_in_the_way(setup: Setup, removal: str) -> None:
    node, runtime, container, other = setup.node, setup.runtime, setup.container, setup.container2
    move = next(each for each in commands(container, LEASED) if " netns /" in each.words)
    assert call_dies(container, LEASED, move)
    conf = {**LEASED, "mode": "l3"}
    (link,) = node.host.links().keys() - {"lo", "eth0"}

    runtime.gc(network(name=COLLIDING, cniVersion="1.1.0", ipam=None)).succeeds()
    assert link in node.host.links()
    answer = runtime.add(other, conf, CNI_CONTAINERID="other")

    assert answer.error()["code"] == 104
    assert f"{link} on the host, half made by a killed call: its DEL, or GC," in answer.stderr
    remove(runtime, container, LEASED, removal)
    runtime.add(other, conf, CNI_CONTAINERID="other").result()


@pytest.mark.setup(master="")
@pytest.mark.parametrize("removal", REMOVALS)
def test_what_is_left_on_a_master_in_the_container_is_removed(setup: Setup, removal: str) -> None:
    container, runtime = setup.container, setup.runtime
    container.ip("link add name eth0 up type dummy")
    conf = {**LEASED, "linkInContainer": True}
    label_point = next(each for each in commands(container, conf) if " alias " in each.words)
    assert call_dies(container, conf, label_point)
    assert len(container.links()) == 3
    remove(runtime, container, conf, removal)
    assert container.links().keys() == {"lo", "eth0"}
    assert find_records() == []


def test_an_add_on_another_master_leaves_no_note_of_the_first(setup: Setup) -> None:
    setup.add()
    setup.node.remove(setup.container)
    master = setup.node.make_master("eth1")
    setup.add(at=setup.container2, master=master, CNI_CONTAINERID="one").delete()
    assert find_records() == []


def commands(container: NetNS, conf: Conf) -> list[Point]:
    points = faulty.find_points_of_add(call_environment("ADD", container), stdin_of(conf))
    return [point for point in points if point.is_command]


def call_dies(
    container: NetNS, conf: Conf, point: Point, kill: faulty.Fault = faulty.kill_plugin
) -> bool:
    for last in LEASES.rglob("last_reserved_ip.*"):
        last.unlink()  # or the address is another one, and the point is never met
    environment = call_environment("ADD", container)
    return faulty.call_or_die(environment, stdin_of(conf), Faults({point: kill})) is None


def remove(runtime: Runtime, container: NetNS, conf: Conf, removal: str) -> None:
    if removal == "GC":
        runtime.gc(network(name=NAME, cniVersion="1.1.0", ipam=None)).succeeds()
    else:
        runtime.delete(container if removal == "DEL" else "", conf).succeeds()
