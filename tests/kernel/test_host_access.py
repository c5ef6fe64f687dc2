"""hostAccess: the host and the containers of a master reach each other."""

from pathlib import Path
from typing import Any

import pytest
from doubles import Steps
from lab import MEMORY, run
from people import QuickPerson
from runtime import host_local, network, static
from sampling import each_once
from scene import Added, Scene

MODES = ("l2", "l3", "l3s")
HOST, FIRST, SECOND = "10.1.0.10", "10.1.0.2", "10.1.0.3"
CONF = network(ipam=host_local("10.1.0.0/29"), hostAccess=True)
ONE = {**CONF, "ipam": static(f"{FIRST}/24")}
BOTH = {**CONF, "ipam": static(f"{FIRST}/24", "fd00:1::2/64")}

ipv4 = pytest.mark.scene(master="wire", host=(f"{HOST}/24",))
dual = pytest.mark.scene(master="wire", host=(f"{HOST}/24", "10.2.0.10/24", "fd00:1::10/64"))
pytestmark = ipv4


def host_link(scene: Scene) -> str:
    return f"ipvhost{scene.host.links()['eth0']['ifindex']}"


def host_link_is_there(scene: Scene) -> bool:
    return host_link(scene) in scene.host.links()


def destinations(scene: Scene) -> list[str]:
    return [each["dst"] for each in scene.host.routes("dev", host_link(scene))]


def gc(scene: Scene, *valid: tuple[str, str]) -> None:
    scene.runtime.gc({**CONF, "cniVersion": "1.1.0", "ipam": None}, valid).succeeds()


def delete_gone(scene: Scene, added: Added) -> None:
    scene.runtime.delete("", added.conf, **added.environment).succeeds()


@dual
@pytest.mark.parametrize(
    ("mode", "address"), each_once(MODES, ["10.1.0.2/24", "fd00:1::2/64", "10.7.0.2/24"])
)
def test_they_reach_each_other_until_it_is_detached(scene: Scene, mode: str, address: str) -> None:
    scene.host.ip("route add unreachable 10.7.0.0/16")  # which root reserves for containers
    with scene.unchanged():
        added = scene.add(mode=mode, ipam=static(address), hostAccess=True)
        assert scene.host.reaches(address.partition("/")[0])
        assert scene.one.reaches("fd00:1::10" if ":" in address else HOST)
        added.check()
        added.delete()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_containers_reach_each_other_and_other_hosts_as_without_it(scene: Scene, mode: str) -> None:
    scene.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    without = scene.add(ONE, hostAccess=False, mode=mode)
    assert not host_link_is_there(scene)
    assert not scene.host.reaches(FIRST)
    without.delete()
    for space in (scene.one, scene.two):
        scene.add(CONF, mode=mode, at=space)
    assert scene.one.reaches(SECOND)
    assert scene.host.reaches("10.1.0.1")
    assert scene.one.reaches("10.1.0.1") == (mode == "l2")  # l3 needs a route over there
    if mode != "l2":
        mac = scene.host.links()["eth0"]["address"]
        scene.neighbour.ip(f"neighbour replace {FIRST} lladdr {mac} dev eth0")
        assert scene.neighbour.reaches(FIRST)


def test_the_host_uses_one_interface_without_an_address(scene: Scene, person: QuickPerson) -> None:
    scene.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)
    # The host has no IPv6 address.
    both = [scene.add(BOTH), scene.add(hostAccess=True, at=scene.two)]

    name = host_link(scene)
    (shown,) = scene.host.ask("address", "show", "dev", name)

    assert shown["addr_info"] == []
    assert {"NOARP", "UP"} <= set(shown["flags"])
    assert scene.host.sysctl(f"net/ipv6/conf/{name}/accept_ra") == "0"
    assert scene.host.ipvlan(name) == {"mode": "l2", "flag": "bridge", "mtu": 1500, "up": True}
    routes = [(each["dst"], each["prefsrc"]) for each in scene.host.routes("dev", name)]
    assert routes == [(FIRST, HOST), (SECOND, HOST)]
    rows = map(str.split, person.succeeds("ipvlan show -o wide").splitlines())
    (row,) = (each for each in rows if each[:3] == [name, "ipvlan", "(hostAccess)"])
    assert "(host)" in row
    for added in both:
        assert host_link_is_there(scene)
        added.delete()
    assert not host_link_is_there(scene)


@pytest.mark.parametrize("mode", MODES)
def test_a_hosts_service_leads_to_a_container_and_the_other_way(scene: Scene, mode: str) -> None:
    """As kube-proxy does it: the port of a node, and a service's address through the host."""
    scene.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    conf = {**CONF, "mode": mode, "routesViaHost": ["10.96.0.0/12"]}
    server, client = (scene.add(conf, at=space).container for space in (scene.one, scene.two))
    scene.host.sysctl("net/ipv4/ip_forward", 1)
    nat = ("iptables-legacy", "--table", "nat", "--append")
    for address in (HOST, "10.96.0.1"):
        to = f"--destination {address} --protocol tcp --dport 80 --jump DNAT --to {FIRST}:8080"
        for chain in ("PREROUTING", "OUTPUT"):  # what leaves in l3 and l3s is the host's own output
            run(*nat, chain, *to.split())
    run(*nat, "POSTROUTING", *f"--destination {FIRST} --jump MASQUERADE".split())

    with server.socket() as listening:
        listening.bind(("", 8080))
        listening.listen()
        ends = (scene.neighbour, HOST), (client, "10.96.0.1"), (scene.host, FIRST)
        for place, address in ends:
            with place.socket() as calling:
                calling.settimeout(5)
                calling.connect((address, 8080 if place is scene.host else 80))


@pytest.mark.slow
@dual
@pytest.mark.parametrize("mode", MODES)
def test_routes_via_the_host_are_in_the_result_and_checked(scene: Scene, mode: str) -> None:
    subnets = {"10.96.0.0/12": HOST, "fd00:96::/112": "fd00:1::10"}
    conf = {**BOTH, "mode": mode, "routesViaHost": [*subnets]}
    added = scene.add(conf)
    routes = {each["dst"]: each.get("gw") for each in added.result["routes"]}
    assert {each: routes[each] for each in subnets} == {
        subnet: gateway if mode == "l2" else None for subnet, gateway in subnets.items()
    }
    added.check()
    added.container.ip("route delete 10.96.0.0/12")
    added.check("10.96.0.0/12")
    added.delete()
    one = scene.add({**conf, "ipam": ONE["ipam"]})  # it has no IPv6
    assert "fd00:96::/112" not in {each["dst"] for each in one.result["routes"]}
    second = {**ONE, "mode": mode, "ipam": static("10.1.0.3/24")}
    scene.refuses(107, HOST, "can have only one interface", conf=second, CNI_IFNAME="eth5")
    one.delete()
    covers = {**ONE, "mode": mode, "routesViaHost": ["10.0.0.0/8"]}
    scene.refuses(107, "10.0.0.0/8, which overlaps with 10.1.0.0/24", conf=covers)


@dual
def test_both_families_and_every_address_of_the_host(scene: Scene) -> None:
    other = {"name": "eth0", "sandbox": scene.one.path}
    ips = [{"address": "10.9.0.5/24", "interface": 0}]
    chained = {"cniVersion": "1.0.0", "interfaces": [other], "ips": ips}
    added = scene.add(BOTH, prevResult=chained)
    hosts = (HOST, "10.2.0.10", "fd00:1::10")
    assert [scene.one.reaches(each) for each in hosts] == [True] * 3
    assert scene.host.reaches(FIRST)
    assert scene.host.reaches("fd00:1::2")
    sources = {each["prefsrc"] for each in scene.host.routes("dev", host_link(scene))}
    assert sources == {HOST, "fd00:1::10"}
    found = {each["dst"] for each in added.result["routes"]}
    assert found == {f"{HOST}/32", "10.2.0.10/32", "fd00:1::10/128"}
    added.check()
    run("rm", "-r", str(MEMORY))
    added.check()


def test_without_addresses_the_host_gets_nothing(scene: Scene) -> None:
    with scene.unchanged():
        added = scene.add(CONF, ipam=None, prevResult={"cniVersion": "1.0.0"})
        assert list(MEMORY.glob("on-*/*"))
        added.delete()


def test_what_is_given_twice_counts_once(scene: Scene) -> None:
    scene.host.ip(f"address add {HOST}/32 dev eth0")
    added = scene.add(ONE, routesViaHost=["10.96.0.0/12", "10.96.0.0/12"])
    assert scene.one.reaches(HOST)
    added.check()
    added.delete()


def test_an_address_that_the_host_gets_later_is_for_later_containers(scene: Scene) -> None:
    earlier = scene.add(CONF)
    scene.host.ip("address add 10.1.0.11/24 dev eth0")
    scene.add(CONF, at=scene.two).check()
    earlier.check()
    assert not scene.one.reaches("10.1.0.11")
    assert scene.two.reaches("10.1.0.11")


def test_the_host_reaches_them_after_its_mac_address_has_changed(scene: Scene) -> None:
    added = scene.add(CONF)
    scene.host.ip("link set dev eth0 address 02:00:00:00:00:99")
    added.result["interfaces"][0]["mac"] = "02:00:00:00:00:99"
    added.check(f"the entry of the neighbour {HOST}, the host, is missing")
    scene.one.ip(f"neighbour replace {HOST} lladdr 02:00:00:00:00:99 dev net1")
    assert scene.host.reaches(FIRST)


def test_check_sees_each_change(scene: Scene) -> None:
    added = scene.add(CONF)
    link = host_link(scene)
    for change, expected in (
        (
            "ip -n container1 neighbour delete 10.1.0.10 dev net1",
            "the entry of the neighbour 10.1.0.10, the host, is missing",
        ),
        ("ip -n container1 route delete 10.1.0.10", "the route to 10.1.0.10/32 is missing"),
        (f"ip link set dev {link} arp on", f"host's interface {link}, for hostAccess, uses ARP"),
        ("ip address delete 10.1.0.10/24 dev eth0", "the host has no route to 10.1.0.2"),
        ("ip address add 10.1.0.10/24 dev eth0", f"no route to 10.1.0.2 through {link}"),
        (f"ip link set dev {link} down", f"the host's interface {link}, for hostAccess, is down"),
        (f"ip link delete dev {link}", f"the host's interface {link}, for hostAccess, is missing"),
    ):
        run(*change.split())
        assert added.check(expected)["code"] == 110


# A network's author is a stranger: the host must not send its own packets to a container. What is
# refused otherwise is in test_refusals.


@pytest.mark.slow
def test_an_address_of_another_host_or_container_is_refused(scene: Scene) -> None:
    scene.node.master("eth1")
    scene.host.ip("address add 10.1.0.11/24 dev eth1")
    scene.add(ONE)
    scene.refuses(107, conf=ONE, name="thief", master="eth1", at=scene.two)
    assert scene.host.reaches(FIRST)

    scene.neighbour.ip(f"address add {SECOND}/24 dev eth0")
    assert scene.host.reaches(SECOND)
    used = "another host on the network already uses 10.1.0.3"
    scene.refuses(106, used, hostAccess=True, at=scene.two)
    scene.neighbour.ip(f"address delete {SECOND}/24 dev eth0")  # which the host may still know
    scene.add(hostAccess=True, at=scene.two)


def test_an_interface_of_that_name_is_left_alone(scene: Scene) -> None:
    scene.host.ip(f"link add name {host_link(scene)} type dummy")
    scene.refuses(105, "which is not this plugin's", conf=CONF)


@pytest.mark.parametrize("ending", ["DEL", "GC"])
def test_one_that_took_its_place_keeps_nobody_from_being_deleted(scene: Scene, ending: str) -> None:
    added = scene.add(ONE)
    scene.host.ip(f"link delete dev {host_link(scene)}")
    scene.host.ip(f"link add name {host_link(scene)} type dummy")
    if ending == "DEL":
        added.delete()
    else:
        gc(scene)
    assert host_link_is_there(scene)


def test_the_mode_of_the_hosts_interface_counts(scene: Scene) -> None:
    added = scene.add(CONF)
    scene.node.remove(scene.one)
    scene.refuses(104, conf=CONF, name="other", mode="l3", at=scene.two)
    delete_gone(scene, added)
    scene.add(CONF, mode="l3", at=scene.two)


@pytest.mark.scene(master="wire", host=(f"{HOST}/16",))
def test_as_many_addresses_as_a_record_has_room_for(scene: Scene) -> None:
    many = [f"10.1.1.{number}/16" for number in range(1, 65)]
    scene.add(CONF, ipam=static(*many))
    assert len(destinations(scene)) == 64


# What is left is removed.


def test_delete_of_a_container_that_is_gone(scene: Scene) -> None:
    before = scene.host.routes()
    both = [scene.add(CONF, at=space) for space in (scene.one, scene.two)]
    for added in both:
        scene.node.remove(added.container)
    delete_gone(scene, both[0])
    assert destinations(scene) == [SECOND]
    delete_gone(scene, both[1])
    assert scene.host.routes() == before
    assert not host_link_is_there(scene)


def test_the_hosts_interface_may_go_while_a_deletion_looks(scene: Scene, tmp_path: Path) -> None:
    steps, link = Steps(tmp_path), host_link(scene)
    given = {"CNI_CONTAINERID": "two", **steps.environment}
    scene.add(ONE)
    scene.runtime.delete(scene.two, CONF, **given).succeeds()
    looks = next(step for step in steps.taken if {"route", link} <= set(step.words.split()))
    steps.forget()
    steps.at(looks.number, f"ip link delete dev {link}")
    scene.runtime.delete(scene.two, CONF, **given).succeeds()
    assert not host_link_is_there(scene)


def test_an_add_in_a_new_container_replaces_the_old_ones_route(scene: Scene) -> None:
    scene.add(ONE)
    scene.node.remove(scene.one)
    again = scene.container()
    scene.add(ONE, at=again, ipam=static(f"{SECOND}/24"))
    assert destinations(scene) == [SECOND]
    scene.node.remove(again)  # and now without records, and in another container
    run("rm", "-r", str(MEMORY))
    scene.add(at=scene.two, hostAccess=True, ipam=static(f"{SECOND}/24"))
    assert scene.host.reaches(SECOND)
    assert scene.two.reaches(HOST)


def test_gc_removes_what_is_of_no_valid_attachment(scene: Scene) -> None:
    links = scene.host.links().keys()
    valid, gone, others = scene.one, scene.two, scene.container()
    added = scene.add(ONE, at=valid)
    scene.add(ONE, at=gone, ipam=static(f"{SECOND}/24"))
    scene.node.remove(gone)
    scene.add(ONE, at=others, name="other", ipam=static("10.1.0.4/24"))

    gc(scene, ("one", "net1"))

    assert destinations(scene) == [FIRST, "10.1.0.4"]
    assert scene.host.reaches(FIRST)
    scene.node.remove(others)
    scene.runtime.gc(network(name="other", cniVersion="1.1.0", ipam=None)).succeeds()
    assert destinations(scene) == [FIRST]
    scene.node.remove(added.container)
    gc(scene)
    assert scene.host.links().keys() == links


# Dry run, and what people are shown.


@dual
@pytest.mark.parametrize(
    ("shell", "ipam"),
    [("dash", BOTH["ipam"]), ("bash at a terminal", host_local("10.1.0.0/24", "fd00:1::/64"))],
)
def test_a_pasted_dry_run_gives_what_the_plugin_gives(
    scene: Scene, shell: str, ipam: dict[str, Any]
) -> None:
    recorded = scene.add(CONF, at=scene.two, ipam=static("10.1.0.9/24"))
    status, out = scene.dry(conf=CONF, ipam=ipam).run(shell)
    assert status == 0, out
    assert scene.host.reaches(FIRST)
    recorded.delete()  # with the last record, but not with the last route
    assert scene.host.reaches(FIRST)
    assert scene.one.reaches(HOST)


@pytest.mark.slow
@dual
def test_a_script_does_for_ipv6_alone_what_add_does(scene: Scene) -> None:
    conf = {**CONF, "ipam": scene.ipam(ips=["fd00:1::2/64"])}

    def found() -> list[Any]:
        known = sorted(each["dst"] for each in scene.one.ask("neighbour", "show"))
        return [scene.host.routes(), scene.one.routes(), known]

    assert scene.dry(conf=conf).run()[0] == 0
    pasted = found()
    assert scene.dry("del", conf=conf).run()[0] == 0
    scene.add(conf)
    assert found() == pasted


@pytest.mark.slow
@pytest.mark.scene(host=("fd00:1::10/64",))
def test_a_script_refuses_the_family_that_the_host_lacks(scene: Scene) -> None:
    script = scene.dry(conf=CONF, ipam=scene.ipam(ips=[f"{FIRST}/24"]))
    with scene.unchanged():
        status, out = script.run()
    assert (status, "has no address of the same family" in out) == (1, True)
    scene.ipam(ips=["fd00:1::2/64"])
    assert script.run()[0] == 0


def test_a_dry_run_whose_script_fails_leaves_nothing(scene: Scene) -> None:
    script = scene.dry(conf=CONF)
    scene.host.ip("route add 10.1.0.2/32 dev lo")  # since then
    with scene.unchanged():
        status, out = script.run()
    assert (status, "in another way, which hostAccess would replace" in out) == (1, True)


@pytest.mark.slow
def test_strict_filtering_on_the_master_is_named(scene: Scene, person: QuickPerson) -> None:
    scene.host.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    conf = person.writes(CONF)

    added = scene.add(CONF)
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")

    advice = "echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter"
    assert advice in added.stderr
    assert advice in out
    assert not scene.one.reaches(HOST)
    scene.host.sysctl("net/ipv4/conf/eth0/rp_filter", 2)
    assert scene.one.reaches(HOST)
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")
    assert "rp_filter" not in out


def test_a_deletion_without_a_record_leaves_others_routes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("attachment", "registry"):
        monkeypatch.setattr(f"cni_ipvlan.state.{module}.number_of", lambda _key: 1 << 31)
    scene.add(ONE)
    other = scene.two
    with scene.unchanged():
        scene.runtime.delete(other, ONE, CNI_CONTAINERID="two").succeeds()
    assert destinations(scene) == [FIRST]
