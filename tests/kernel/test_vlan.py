"""vlan: a VLAN of the master comes with its first container and goes with its last."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from executable import Executable
from lab import MEMORY, Node, Space, kernel_without, run
from people import ipvlan, options
from runtime import (
    PLUGINS,
    Conf,
    Runtime,
    call_environment,
    host_local,
    network,
    refusal,
    static,
    stdin_of,
)
from shells import run_by

from cni_ipvlan.state.registry import Registry

CONF = network(vlan=100, ipam=host_local("10.1.0.0/24"))
ONE = {**CONF, "ipam": static("10.1.0.2/24")}


def reaches(place: Space, address: str) -> bool:
    with place.entered():
        return "1 received" in run("sh", "-c", f"ping -c 1 -W 1 {address} || :")


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_it_is_made_and_carries_the_container(node: Node, runtime: Runtime, mode: str) -> None:
    neighbour = node.master_on_a_wire()
    neighbour.ip("link add link eth0 name tagged type vlan id 100")
    neighbour.ip("address add 10.1.0.1/24 dev tagged")
    neighbour.ip("link set dev tagged up")
    container, before = node.container(), node.snapshot()
    conf = {**ONE, "mode": mode}

    result = runtime.add(container, conf).result()

    made = node.host.links()["eth0.100"]
    assert made["linkinfo"]["info_data"]["id"] == 100
    assert node.master_of(container) == "eth0.100"
    assert reaches(container, "10.1.0.1") == (mode == "l2")  # l3 needs a route over there
    runtime.check(container, conf, result).succeeds()
    runtime.delete(container, conf).succeeds()
    assert node.snapshot() == before


def test_the_host_gets_no_address_there(node: Node, runtime: Runtime) -> None:
    node.master_on_a_wire()
    node.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)

    runtime.add(node.container(), ONE).result()

    assert node.host.ask("address", "show", "dev", "eth0.100")[0]["addr_info"] == []
    assert node.host.sysctl("net/ipv6/conf/eth0.100/accept_ra") == "0"


@pytest.mark.parametrize("name", ["eth0.100", "storage"])
def test_one_that_is_there_is_used_and_stays(node: Node, runtime: Runtime, name: str) -> None:
    node.master()
    node.host.ip(f"link add link eth0 name {name} type vlan id 100")
    node.host.ip(f"link set dev {name} up")
    container, before = node.container(), node.snapshot()

    runtime.add(container, ONE).result()

    assert node.master_of(container) == name
    runtime.delete(container, ONE).succeeds()
    assert node.snapshot() == before


def test_it_stays_until_the_last_of_all_networks(node: Node, runtime: Runtime) -> None:
    node.master()
    first, second = node.container(), node.container()
    runtime.add(first, ONE, CNI_CONTAINERID="first").result()
    other = {**ONE, "name": "other", "ipam": static("10.1.0.3/24")}
    runtime.add(second, other, CNI_CONTAINERID="second").result()

    runtime.delete(first, ONE, CNI_CONTAINERID="first").succeeds()
    assert second.links()["net1"]
    runtime.delete(second, other, CNI_CONTAINERID="second").succeeds()
    assert "eth0.100" not in node.host.links()


def test_each_vlan_has_a_mode_of_its_own(node: Node, runtime: Runtime) -> None:
    node.master()
    for vlan, mode in ((None, "l2"), (100, "l3"), (200, "l3s")):
        conf = network(name=f"n{vlan}", vlan=vlan, mode=mode)
        runtime.add(node.container(), conf, CNI_CONTAINERID=f"c{vlan}").result()
    error = refusal(node, runtime, {**ONE, "name": "other", "ipam": static("10.1.0.9/24")})
    assert error["code"] == 104
    assert "'eth0.100'" in error["msg"]


def test_a_failed_add_removes_what_it_has_made_and_nothing_else(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    bad = {**ONE, "ipam": {**ONE["ipam"], "routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]}}
    refusal(node, runtime, bad)  # which compares the node with before
    runtime.add(node.container(), CONF, CNI_CONTAINERID="first").result()
    refusal(node, runtime, {**bad, "name": "other"})
    assert "eth0.100" in node.host.links()


@pytest.mark.parametrize("ending", ["DEL", "GC", "GC without records"])
def test_a_container_that_is_gone(node: Node, runtime: Runtime, ending: str) -> None:
    node.master()
    before = node.host.links()
    container = node.container()
    runtime.add(container, ONE).result()
    node.remove(container)
    if ending == "GC without records":
        run("rm", "-r", str(MEMORY))

    if ending == "DEL":
        runtime.delete("", ONE).succeeds()
    else:
        runtime.gc({**ONE, "cniVersion": "1.1.0", "ipam": None}).succeeds()

    assert node.host.links() == before


def test_one_whose_label_a_killed_call_has_not_set_is_removed(node: Node, runtime: Runtime) -> None:
    node.master()
    container, before = node.container(), node.snapshot()
    runtime.add(container, ONE).result()
    run("ip", "link", "set", "dev", "eth0.100", "alias", "")
    runtime.delete(container, ONE).succeeds()
    assert node.snapshot() == before


def test_a_kernel_without_ipvlan_keeps_no_container_from_being_deleted(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    runtime.add(container, ONE).result()
    container.ip("link delete dev net1")
    with kernel_without():
        runtime.delete(container, ONE).succeeds()
    assert "eth0.100" in node.host.links()
    runtime.gc({**ONE, "cniVersion": "1.1.0", "ipam": None}).succeeds()
    assert "eth0.100" not in node.host.links()


def test_a_kernel_without_macvlan_cannot_say_that_nobody_is_on_it(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container, other = node.container(), node.container()
    runtime.add(container, ONE).result()
    container.ip("link delete dev net1")
    run(*f"ip link add link eth0.100 name by_hand netns {other.path} type ipvlan mode l3".split())

    with kernel_without("macvlan"):
        runtime.delete(container, ONE).succeeds()

    assert other.ipvlan("by_hand")["mode"] == "l3"


def test_gc_leaves_one_that_is_used(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, ONE).result()
    for records in ("there", "lost"):
        if records == "lost":
            run("rm", "-r", str(MEMORY))
        runtime.gc({**ONE, "name": "other", "cniVersion": "1.1.0", "ipam": None}).succeeds()
        assert "net1" in container.links()


@pytest.mark.parametrize(
    "use",
    [
        "ip address add 10.1.0.1/24 dev eth0.100",
        "ip link add link eth0.100 name inner type vlan id 7",
        "ip link add name br0 type bridge; ip link set dev eth0.100 master br0",
        "ip link add name vrf0 type vrf table 7; ip link set dev eth0.100 master vrf0",
        "ip link add link eth0.100 name m0 netns container2 type macvlan mode bridge",
        "another network",
    ],
)
def test_one_that_others_use_stays(node: Node, runtime: Runtime, use: str) -> None:
    node.master()
    container, other = node.container(), node.container()
    runtime.add(container, ONE).result()
    if use == "another network":
        conf = network(name="other", master="eth0.100", ipam=static("10.1.0.3/24"))
        runtime.add(other, conf, CNI_CONTAINERID="other").result()
    else:
        if not use.startswith("ip address"):  # the kernel allows no second use beside an ipvlan
            container.ip("link delete dev net1")
        run("sh", "-ec", use)

    runtime.delete(container, ONE).succeeds()

    assert "eth0.100" in node.host.links()


def test_one_that_another_add_is_about_to_use_stays(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, ONE).result()
    registry = Registry().of_vlan
    (hint,) = registry.all_hints()
    place = Path(node.host.path).stat().st_ino, hint.host_key
    registry.remember(place, hint._replace(container_id="coming"))

    runtime.delete(container, ONE).succeeds()

    assert "eth0.100" in node.host.links()


def test_a_master_that_is_down(node: Node, runtime: Runtime) -> None:
    node.master(up=False)
    error = refusal(node, runtime, ONE)
    assert "ip link set dev eth0 up" in error["msg"]


def test_it_is_not_for_a_master_in_the_container(node: Node, runtime: Runtime) -> None:
    node.master()
    error = refusal(node, runtime, {**ONE, "linkInContainer": True})
    assert (error["code"], "vlan needs a master on the host" in error["msg"]) == (7, True)


def test_the_hosts_address_below_is_the_hosts(node: Node, runtime: Runtime) -> None:
    node.master()
    node.host.ip("address add 10.1.0.2/24 dev eth0")
    assert refusal(node, runtime, ONE)["code"] == 106


def test_many_at_once(node: Node) -> None:
    node.master()
    spaces = [node.container() for _ in range(8)]
    before = node.snapshot()

    def lives(number: int) -> None:
        for verb in ("ADD", "DEL") * 2:
            environment = call_environment(verb, spaces[number], CNI_CONTAINERID=f"c{number}")
            with node.host.entered():
                answer = Executable()(environment, stdin_of(CONF))
            assert answer.status == 0, answer

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lives, range(len(spaces))))
    assert node.snapshot() == before


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("ipam", [ONE["ipam"], CONF["ipam"]])
def test_a_pasted_dry_run_gives_what_the_plugin_gives(
    node: Node, tmp_path: Path, ipam: dict[str, Any], *, is_there: bool
) -> None:
    node.master()
    if is_there:
        node.host.ip("link add link eth0 name storage up type vlan id 100")
    container = node.container()
    script = dry_run(node, tmp_path, {**CONF, "ipam": ipam}, container)

    status, out = run_by("dash", script)

    assert status == 0, out
    assert node.master_of(container) == ("storage" if is_there else "eth0.100")


def test_a_script_that_fails_leaves_nothing(node: Node, tmp_path: Path) -> None:
    node.master()
    container = node.container()
    ipam = {**CONF["ipam"], "routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]}
    script = dry_run(node, tmp_path, {**CONF, "ipam": ipam}, container)
    before = node.snapshot()

    status, _ = run_by("dash", script)

    assert (status, node.snapshot()) == (2, before)


def dry_run(node: Node, directory: Path, conf: Conf, container: Space) -> str:
    file = directory / "net.conf"
    file.write_text(json.dumps(conf))
    before = node.snapshot()
    given = options(config=str(file), netns=container.path, cni_path=PLUGINS)
    script = ipvlan("add", "--dry-run", *given).fine()
    assert node.snapshot() == before
    return script
