"""hostAccess: the host and the containers of a master reach each other."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lab import MEMORY, Node, Space, run
from people import ipvlan, options
from person import QuickPerson
from runtime import PLUGINS, Conf, Runtime, host_local, network, refusal, static
from shells import run_by

MODES = ("l2", "l3", "l3s")
HOST, FIRST, SECOND = "10.1.0.10", "10.1.0.2", "10.1.0.3"
CONF = network(ipam=host_local("10.1.0.0/29"), hostAccess=True)
BOTH = network(ipam=static("10.1.0.2/24", "fd00:1::2/64"), hostAccess=True)


def master(node: Node, *addresses: str) -> Space:
    """Make eth0 with the host's addresses; return the host at the other end of its wire."""
    neighbour = node.master_on_a_wire()
    for each in addresses or (f"{HOST}/24",):
        node.host.ip(f"address add {each} dev eth0" + (" nodad" if ":" in each else ""))
    return neighbour


def host_link(node: Node) -> str:
    return f"ipvhost{node.host.links()['eth0']['ifindex']}"


def reaches(place: Space, address: str) -> bool:
    with place.entered():
        return "1 received" in run("sh", "-c", f"ping -c 1 -W 1 {address} || :")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("host", "container"),
    [
        ("10.1.0.10/24", "10.1.0.2/24"),
        ("fd00:1::10/64", "fd00:1::2/64"),
        ("10.1.0.10/24", "10.7.0.2/24"),
    ],
)
def test_they_reach_each_other_until_the_container_is_detached(
    node: Node, runtime: Runtime, mode: str, host: str, container: str
) -> None:
    master(node, host)
    node.host.ip("route add unreachable 10.7.0.0/16")  # reserved for containers
    space = node.container()
    conf = network(mode=mode, ipam=static(container), hostAccess=True)
    before = node.snapshot()

    result = runtime.add(space, conf).result()

    assert reaches(node.host, container.partition("/")[0])
    assert reaches(space, host.partition("/")[0])
    runtime.check(space, conf, result).succeeds()
    runtime.delete(space, conf).succeeds()
    assert node.snapshot() == before


@pytest.mark.parametrize("mode", MODES)
def test_without_it_they_do_not(node: Node, runtime: Runtime, mode: str) -> None:
    master(node)
    space = node.container()

    runtime.add(space, {**CONF, "mode": mode, "hostAccess": False}).result()

    assert not reaches(node.host, FIRST)
    assert not host_link_is_there(node)


def host_link_is_there(node: Node) -> bool:
    return host_link(node) in node.host.links()


@pytest.mark.parametrize("mode", MODES)
def test_containers_reach_each_other_and_other_hosts_as_without_it(
    node: Node, runtime: Runtime, mode: str
) -> None:
    neighbour = master(node)
    neighbour.ip("address add 10.1.0.1/24 dev eth0")
    first, second = node.container(), node.container()
    for number, space in enumerate((first, second)):
        runtime.add(space, {**CONF, "mode": mode}, CNI_CONTAINERID=f"c{number}").result()
    assert reaches(first, SECOND)
    assert reaches(node.host, "10.1.0.1")
    assert reaches(first, "10.1.0.1") == (mode == "l2")  # l3 needs a route over there
    if mode != "l2":
        mac = node.host.links()["eth0"]["address"]
        neighbour.ip(f"neighbour replace {FIRST} lladdr {mac} dev eth0")
        assert reaches(neighbour, FIRST)


def test_the_host_uses_one_interface_of_a_master_without_an_address(
    node: Node, runtime: Runtime
) -> None:
    master(node)
    node.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)
    spaces = [node.container() for _ in range(3)]
    for number, space in enumerate(spaces):
        runtime.add(space, CONF, CNI_CONTAINERID=f"c{number}").result()

    name = host_link(node)
    (shown,) = node.host.ask("address", "show", "dev", name)

    assert shown["addr_info"] == []
    assert {"NOARP", "UP"} <= set(shown["flags"])
    assert node.host.sysctl(f"net/ipv6/conf/{name}/accept_ra") == "0"
    assert node.host.ipvlan(name) == {"mode": "l2", "flag": "bridge", "mtu": 1500, "up": True}
    assert [(each["dst"], each["prefsrc"]) for each in node.host.routes("dev", name)] == [
        (f"10.1.0.{number}", HOST) for number in (2, 3, 4)
    ]
    for number, space in enumerate(spaces):
        assert host_link_is_there(node)
        runtime.delete(space, CONF, CNI_CONTAINERID=f"c{number}").succeeds()
    assert not host_link_is_there(node)


def test_a_service_of_the_host_leads_to_a_container_and_a_container_to_it(
    node: Node, runtime: Runtime
) -> None:
    """As kube-proxy does it: the port of a node, and a service's address through the host."""
    neighbour = master(node)
    neighbour.ip("address add 10.1.0.1/24 dev eth0")
    conf = {**CONF, "ipam": {**CONF["ipam"], "routes": [{"dst": "10.96.0.0/12", "gw": HOST}]}}
    server, client = node.container(), node.container()
    for number, space in enumerate((server, client)):
        runtime.add(space, conf, CNI_CONTAINERID=f"c{number}").result()
    node.host.sysctl("net/ipv4/ip_forward", 1)
    nat = ("iptables-legacy", "--table", "nat", "--append")
    for address in (HOST, "10.96.0.1"):
        to = f"--destination {address} --protocol tcp --dport 80 --jump DNAT --to {FIRST}:8080"
        run(*nat, "PREROUTING", *to.split())
    run(*nat, "POSTROUTING", *f"--destination {FIRST} --jump MASQUERADE".split())

    with server.socket() as listening:
        listening.bind(("", 8080))
        listening.listen()
        for place, address in ((neighbour, HOST), (client, "10.96.0.1"), (node.host, FIRST)):
            with place.socket() as calling:
                calling.settimeout(5)
                calling.connect((address, 8080 if place is node.host else 80))


def test_both_families_and_every_address_of_the_host(node: Node, runtime: Runtime) -> None:
    master(node, "10.1.0.10/24", "10.2.0.10/24", "fd00:1::10/64")
    space = node.container()

    result = runtime.add(space, BOTH).result()

    for address in ("10.1.0.10", "10.2.0.10", "fd00:1::10"):
        assert reaches(space, address)
    assert reaches(node.host, "10.1.0.2")
    assert reaches(node.host, "fd00:1::2")
    assert {each["prefsrc"] for each in node.host.routes("dev", host_link(node))} == {
        "10.1.0.10",
        "fd00:1::10",
    }
    assert {each["dst"] for each in result["routes"]} == {
        "10.1.0.10/32", "10.2.0.10/32", "fd00:1::10/128",
    }  # fmt: skip
    runtime.check(space, BOTH, result).succeeds()


def test_an_address_that_the_host_gets_later_is_for_later_containers(
    node: Node, runtime: Runtime
) -> None:
    master(node)
    first, second = node.container(), node.container()
    runtime.add(first, CONF, CNI_CONTAINERID="first").result()
    node.host.ip("address add 10.1.0.11/24 dev eth0")
    runtime.add(second, CONF, CNI_CONTAINERID="second").result()

    assert not reaches(first, "10.1.0.11")
    assert reaches(second, "10.1.0.11")


def test_a_family_that_the_host_lacks_is_left_out(node: Node, runtime: Runtime) -> None:
    master(node)
    runtime.add(node.container(), BOTH).result()
    assert [each["dst"] for each in node.host.routes("dev", host_link(node))] == ["10.1.0.2"]


def test_the_host_reaches_them_after_its_mac_address_has_changed(
    node: Node, runtime: Runtime
) -> None:
    master(node)
    space = node.container()
    result = runtime.add(space, CONF).result()
    node.host.ip("link set dev eth0 address 02:00:00:00:00:99")

    result["interfaces"][0]["mac"] = "02:00:00:00:00:99"
    error = runtime.check(space, CONF, result).error()
    assert f"the entry of the neighbour {HOST}, the host, is missing" in error["msg"]
    space.ip(f"neighbour replace {HOST} lladdr 02:00:00:00:00:99 dev net1")
    assert reaches(node.host, FIRST)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("ip route delete 10.1.0.2", "the host has no route to 10.1.0.2 through {link}"),
        ("ip address delete 10.1.0.10/24 dev eth0", "the host has no route to 10.1.0.2"),
        ("ip link delete dev {link}", "the host's interface {link}, for hostAccess, is missing"),
        ("ip link set dev {link} down", "the host's interface {link}, for hostAccess, is down"),
        ("ip link set dev {link} arp on", "the host's interface {link}, for hostAccess, uses ARP"),
        (
            "ip -n container1 neighbour delete 10.1.0.10 dev net1",
            "the entry of the neighbour 10.1.0.10, the host, is missing",
        ),
        ("ip -n container1 route delete 10.1.0.10", "the route to 10.1.0.10/32 is missing"),
    ],
)
def test_check_sees(node: Node, runtime: Runtime, change: str, expected: str) -> None:
    master(node)
    space = node.container()
    result = runtime.add(space, CONF).result()
    link = host_link(node)
    run(*change.format(link=link).split())

    error = runtime.check(space, CONF, result).error()

    assert error["code"] == 110
    assert expected.format(link=link) in error["msg"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"flag": "private"}, 'hostAccess needs the flag bridge; "private" keeps interfaces apart'),
        ({"flag": "vepa"}, 'hostAccess needs the flag bridge; "vepa" keeps interfaces apart'),
        ({"linkInContainer": True}, "hostAccess needs a master on the host"),
    ],
)
def test_options_that_prevent_it(
    node: Node, runtime: Runtime, options: Conf, expected: str
) -> None:
    master(node)
    error = refusal(node, runtime, {**CONF, **options})
    assert error["code"] == 7
    assert expected in error["msg"]


@pytest.mark.parametrize("addresses", [["fd00:1::10/64"], ["fe80::1/64"]])
def test_the_host_needs_an_address_on_the_master(
    node: Node, runtime: Runtime, addresses: list[str]
) -> None:
    master(node, *addresses)
    error = refusal(node, runtime, CONF)
    assert error["code"] == 7
    assert "on the master 'eth0' the host has no address" in error["msg"]


# A network's author is a stranger: the host must not send its own packets to a container.

ELSEWHERE = "the host reaches {} in another way, which hostAccess would replace"


@pytest.mark.parametrize(
    ("mode", "route", "address", "expected"),
    [
        ("l2", "default via 10.1.0.1", "10.1.0.1", "10.1.0.1 is a gateway of the host"),
        ("l3", "10.9.0.0/16 via 10.1.0.1", "10.9.0.1", ELSEWHERE),
        ("l2", "default via 10.1.0.1", "10.96.0.1", ELSEWHERE),
        ("l3s", "10.8.0.0/16 dev eth1", "10.8.0.1", ELSEWHERE),
        ("l2", "10.1.0.4/32 dev eth1", "10.1.0.4", ELSEWHERE),
        ("l3", "default via fd00:1::1", "fd00:9::1", ELSEWHERE),
        ("l2", "default via fd00:1::1", "fd00:1::1", "fd00:1::1 is a gateway of the host"),
    ],
)
def test_an_address_that_the_host_reaches_otherwise_is_refused(
    node: Node, runtime: Runtime, mode: str, route: str, address: str, expected: str
) -> None:
    master(node, "10.1.0.10/24", "fd00:1::10/64")
    node.master("eth1")
    node.host.ip(f"route add {route}")
    length = 64 if ":" in address else 24

    conf = {**CONF, "mode": mode, "ipam": static(f"{address}/{length}")}
    error = refusal(node, runtime, conf)

    assert error["code"] == 107
    assert expected.format(address) in error["msg"]
    if expected == ELSEWHERE:  # where to is not a tenant's business
        assert "found: the route to" in error["private"]
        assert "found" not in error["details"]


def test_root_may_reserve_addresses_for_containers(node: Node, runtime: Runtime) -> None:
    master(node)
    node.host.ip("route add default via 10.1.0.1")
    node.host.ip("route add unreachable 10.7.0.0/16")
    space = node.container()

    runtime.add(space, {**CONF, "mode": "l3", "ipam": static("10.7.0.2/16")}).result()

    assert reaches(node.host, "10.7.0.2")


def test_an_address_of_a_container_on_another_master_is_refused(
    node: Node, runtime: Runtime
) -> None:
    master(node)
    node.master("eth1")
    node.host.ip("address add 10.1.0.11/24 dev eth1")
    conf = {**CONF, "ipam": static(f"{FIRST}/24")}
    space = node.container()
    runtime.add(space, conf, CNI_CONTAINERID="victim").result()

    error = refusal(node, runtime, {**conf, "name": "thief", "master": "eth1"})

    assert error["code"] == 107
    assert reaches(node.host, FIRST)


def test_an_address_of_another_host_that_the_host_knows_is_refused(
    node: Node, runtime: Runtime
) -> None:
    neighbour = master(node)
    neighbour.ip(f"address add {FIRST}/24 dev eth0")
    assert reaches(node.host, FIRST)

    error = refusal(node, runtime, CONF)

    assert error["code"] == 106
    assert "another host on the network already uses 10.1.0.2" in error["msg"]
    neighbour.ip(f"address delete {FIRST}/24 dev eth0")  # which has left: the host may know that
    runtime.add(node.container(), CONF, CNI_CONTAINERID="later").result()


def test_an_interface_of_that_name_is_left_alone(node: Node, runtime: Runtime) -> None:
    master(node)
    node.host.ip(f"link add name {host_link(node)} type dummy")

    error = refusal(node, runtime, CONF)

    assert error["code"] == 105
    assert "which is not this plugin's" in error["msg"]


@pytest.mark.parametrize("ending", ["DEL", "GC"])
def test_one_that_took_its_place_keeps_nobody_from_being_deleted(
    node: Node, runtime: Runtime, ending: str
) -> None:
    master(node)
    space = node.container()
    conf = {**CONF, "ipam": static(f"{FIRST}/24")}
    runtime.add(space, conf).result()
    node.host.ip(f"link delete dev {host_link(node)}")
    node.host.ip(f"link add name {host_link(node)} type dummy")

    if ending == "DEL":
        runtime.delete(space, conf).succeeds()
    else:
        runtime.gc({**conf, "cniVersion": "1.1.0", "ipam": None}).succeeds()

    assert host_link_is_there(node)


def test_the_mode_of_the_hosts_interface_counts(node: Node, runtime: Runtime) -> None:
    master(node)
    space = node.container()
    runtime.add(space, CONF).result()
    node.remove(space)

    error = refusal(node, runtime, {**CONF, "name": "other", "mode": "l3"})

    assert error["code"] == 104
    runtime.delete("", CONF).succeeds()
    runtime.add(node.container(), {**CONF, "mode": "l3"}).result()


def test_more_addresses_than_a_record_has_room_for_are_refused(
    node: Node, runtime: Runtime
) -> None:
    master(node, f"{HOST}/16")
    many = [f"10.1.1.{number}/16" for number in range(1, 258 - 192)]
    assert len(many) == 65
    error = refusal(node, runtime, {**CONF, "ipam": static(*many)})
    assert (error["code"], "at most 64 addresses" in error["msg"]) == (7, True)
    runtime.add(node.container(), {**CONF, "ipam": static(*many[:-1])}).result()


# What is left is removed.


def test_delete_of_a_container_that_is_gone(node: Node, runtime: Runtime) -> None:
    master(node)
    before = node.host.routes()
    for number in range(2):
        space = node.container()
        runtime.add(space, CONF, CNI_CONTAINERID=f"c{number}").result()
        node.remove(space)

    runtime.delete("", CONF, CNI_CONTAINERID="c0").succeeds()

    assert [each["dst"] for each in node.host.routes("dev", host_link(node))] == [SECOND]
    runtime.delete("", CONF, CNI_CONTAINERID="c1").succeeds()
    assert node.host.routes() == before
    assert not host_link_is_there(node)


def test_an_add_in_a_new_container_takes_the_old_ones_route_away(
    node: Node, runtime: Runtime
) -> None:
    master(node)
    space = node.container()
    runtime.add(space, {**CONF, "ipam": static(f"{FIRST}/24")}).result()
    node.remove(space)

    runtime.add(node.container(), {**CONF, "ipam": static(f"{SECOND}/24")}).result()

    assert [each["dst"] for each in node.host.routes("dev", host_link(node))] == [SECOND]


def gc_conf(conf: Conf) -> Conf:
    return {**conf, "cniVersion": "1.1.0", "ipam": None}


@pytest.mark.parametrize("records", ["kept", "lost"])
def test_gc_removes_what_is_of_no_valid_attachment(
    node: Node, runtime: Runtime, records: str
) -> None:
    master(node)
    conf = {**CONF, "ipam": None}
    space = node.container()
    for name, address, network_name in (
        ("valid", FIRST, "net"), ("gone", SECOND, "net"), ("others", "10.1.0.4", "other"),
    ):  # fmt: skip
        place = space if name == "valid" else node.container()
        given = {**CONF, "name": network_name, "ipam": static(f"{address}/24")}
        runtime.add(place, given, CNI_CONTAINERID=name).result()
        if name == "gone":
            node.remove(place)
    if records == "lost":
        run("rm", "-r", str(MEMORY))

    runtime.gc({**conf, "cniVersion": "1.1.0"}, [("valid", "net1")]).succeeds()

    there = [each["dst"] for each in node.host.routes("dev", host_link(node))]
    assert there == [FIRST, "10.1.0.4"]
    assert reaches(node.host, FIRST)


def test_gc_removes_the_hosts_interface_with_the_last(node: Node, runtime: Runtime) -> None:
    master(node)
    before = node.snapshot()
    space = node.container()
    runtime.add(space, {**CONF, "ipam": static(f"{FIRST}/24")}).result()
    node.remove(space)
    run("rm", "-r", str(MEMORY))

    runtime.gc({**CONF, "cniVersion": "1.1.0", "ipam": None}).succeeds()

    assert node.snapshot()[str(node.host.path)] == before[str(node.host.path)]


def test_a_route_that_was_left_is_replaced(node: Node, runtime: Runtime) -> None:
    master(node)
    space = node.container()
    runtime.add(space, {**CONF, "ipam": static(f"{FIRST}/24")}).result()
    node.remove(space)
    run("rm", "-r", str(MEMORY))

    again = node.container()
    runtime.add(again, {**CONF, "ipam": static(f"{FIRST}/24")}, CNI_CONTAINERID="two").result()

    assert reaches(node.host, FIRST)
    assert reaches(again, HOST)


def test_many_at_once(node: Node, runtime: Runtime) -> None:
    """Containers come and go together; the interface is there while one of them is."""
    master(node, "10.1.0.250/24")
    conf = {**CONF, "ipam": host_local("10.1.0.0/24")}
    stays = node.container()
    spaces = [node.container() for _ in range(6)]
    before = node.snapshot()

    def lives(number: int) -> None:
        for _ in range(2):
            about = {"CNI_CONTAINERID": f"c{number}"}
            executed(node, "ADD", spaces[number], conf, **about)
            executed(node, "DEL", spaces[number], conf, **about)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lives, range(len(spaces))))
    assert node.snapshot() == before
    result = runtime.add(stays, conf).result()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lives, range(len(spaces))))
    runtime.check(stays, conf, result).succeeds()


def executed(node: Node, verb: str, space: Space, conf: Conf, **others: str) -> None:
    from executable import Executable
    from runtime import call_environment, stdin_of

    with node.host.entered():
        answer = Executable()(call_environment(verb, space, **others), stdin_of(conf))
    assert answer.status == 0, answer


# Dry run, and what people are shown.


@pytest.mark.parametrize(
    ("shell", "ipam"),
    [
        ("dash", static("10.1.0.2/24", "fd00:1::2/64")),
        ("bash at a terminal", host_local("10.1.0.0/24", "fd00:1::/64")),
    ],
)
def test_a_pasted_dry_run_gives_what_the_plugin_gives(
    node: Node, runtime: Runtime, tmp_path: Path, shell: str, ipam: dict[str, Any]
) -> None:
    master(node, "10.1.0.10/24", "fd00:1::10/64")
    space = node.container()
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps({**CONF, "ipam": ipam}))
    before = node.snapshot()
    given = options(config=str(conf), netns=space.path, cni_path=PLUGINS)
    script = ipvlan("add", "--dry-run", *given).fine()
    assert node.snapshot() == before

    status, out = run_by(shell, script)

    assert status == 0, out
    assert reaches(node.host, FIRST)
    assert reaches(space, HOST)


def test_a_dry_run_whose_script_fails_leaves_nothing(node: Node, tmp_path: Path) -> None:
    master(node)
    space = node.container()
    conf = tmp_path / "net.conf"
    conf.write_text(json.dumps(CONF))
    given = options(config=str(conf), netns=space.path, cni_path=PLUGINS)
    script = ipvlan("add", "--dry-run", *given).fine()
    before = node.snapshot()
    node.host.ip("route add 10.1.0.2/32 dev lo")  # since then

    status, out = run_by("dash", script)

    assert status == 1
    assert "in another way, which hostAccess would replace" in out
    node.host.ip("route delete 10.1.0.2/32 dev lo")
    assert node.snapshot() == before


def test_strict_filtering_on_the_master_is_named(
    node: Node, runtime: Runtime, person: QuickPerson
) -> None:
    master(node)
    node.host.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    space = node.container()
    conf = person.writes(CONF)

    answer = runtime.add(space, CONF)
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")

    advice = "echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter"
    assert answer.status == 0
    assert advice in answer.stderr
    assert advice in out
    assert not reaches(space, HOST)
    node.host.sysctl("net/ipv4/conf/eth0/rp_filter", 2)
    assert reaches(space, HOST)
    _, out, _ = person.types(f"ipvlan doctor -c {conf}")
    assert "rp_filter" not in out


def test_show_names_the_hosts_interface(node: Node, runtime: Runtime, person: QuickPerson) -> None:
    master(node)
    runtime.add(node.container(), CONF).result()

    out = person.succeeds("ipvlan show")

    assert f"{host_link(node)}  on the host  for hostAccess" in out
