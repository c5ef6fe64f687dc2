"""hostAccess: the host and the containers of a master reach each other."""

from pathlib import Path
from typing import Any

import pytest
from command_line import InProcessUser
from doubles import Steps
from lab import RECORDS, run, wait_until
from runtime import host_local, network, static
from sampling import pair_each
from setup import Attachment, Setup

MODES = ("l2", "l3", "l3s")
HOST, FIRST, SECOND = "10.1.0.10", "10.1.0.2", "10.1.0.3"
CONF = network(ipam=host_local("10.1.0.0/29"), hostAccess=True)
SINGLE_STACK = {**CONF, "ipam": static(f"{FIRST}/24")}
DUAL_STACK = {**CONF, "ipam": static(f"{FIRST}/24", "fd00:1::2/64")}

ipv4 = pytest.mark.setup(master="wire", host=(f"{HOST}/24",))
dual = pytest.mark.setup(master="wire", host=(f"{HOST}/24", "10.2.0.10/24", "fd00:1::10/64"))
pytestmark = ipv4


def host_link(setup: Setup) -> str:
    return f"ipvhost{setup.host.links()['eth0']['ifindex']}"


def has_host_link(setup: Setup) -> bool:
    return host_link(setup) in setup.host.links()


def destinations(setup: Setup) -> list[str]:
    return [each["dst"] for each in setup.host.routes("dev", host_link(setup))]


def gc(setup: Setup, *valid: tuple[str, str]) -> None:
    setup.runtime.gc({**CONF, "cniVersion": "1.1.0", "ipam": None}, valid).succeeds()


def delete_gone(setup: Setup, added: Attachment) -> None:
    setup.runtime.delete("", added.conf, **added.environment).succeeds()


@dual
@pytest.mark.parametrize(
    ("mode", "address"), pair_each(MODES, ["10.1.0.2/24", "fd00:1::2/64", "10.7.0.2/24"])
)
def test_they_reach_each_other_until_it_is_detached(setup: Setup, mode: str, address: str) -> None:
    setup.host.ip("route add unreachable 10.7.0.0/16")  # which root reserves for containers
    with setup.unchanged():
        added = setup.add(mode=mode, ipam=static(address), hostAccess=True)
        assert setup.host.can_ping(address.partition("/")[0])
        assert setup.container.can_ping("fd00:1::10" if ":" in address else HOST)
        added.check()
        added.delete()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_containers_reach_each_other_and_other_hosts_as_without_it(setup: Setup, mode: str) -> None:
    setup.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    without = setup.add(SINGLE_STACK, hostAccess=False, mode=mode)
    assert not has_host_link(setup)
    assert not setup.host.can_ping(FIRST)
    without.delete()
    for container in (setup.container, setup.container2):
        setup.add(CONF, mode=mode, at=container)
    assert setup.container.can_ping(SECOND)
    assert setup.host.can_ping("10.1.0.1")
    assert setup.container.can_ping("10.1.0.1") == (mode == "l2")  # l3 needs a route over there
    if mode != "l2":
        mac = setup.host.links()["eth0"]["address"]
        setup.neighbour.ip(f"neighbour replace {FIRST} lladdr {mac} dev eth0")
        assert setup.neighbour.can_ping(FIRST)


def test_the_host_uses_one_interface_without_an_address(setup: Setup, user: InProcessUser) -> None:
    setup.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 0)
    # The host has no IPv6 address.
    attachments = [setup.add(DUAL_STACK), setup.add(hostAccess=True, at=setup.container2)]

    name = host_link(setup)
    (entry,) = setup.host.query("address", "show", "dev", name)

    assert entry["addr_info"] == []
    assert {"NOARP", "UP"} <= set(entry["flags"])
    assert setup.host.sysctl(f"net/ipv6/conf/{name}/accept_ra") == "0"
    assert setup.host.ipvlan(name) == {"mode": "l2", "flag": "bridge", "mtu": 1500, "up": True}
    routes = [(each["dst"], each["prefsrc"]) for each in setup.host.routes("dev", name)]
    assert routes == [(FIRST, HOST), (SECOND, HOST)]
    rows = map(str.split, user.check_output("ipvlan show -o wide").splitlines())
    (row,) = (each for each in rows if each[:3] == [name, "ipvlan", "(hostAccess)"])
    assert "(host)" in row
    for added in attachments:
        assert has_host_link(setup)
        added.delete()
    assert not has_host_link(setup)


@pytest.mark.parametrize("mode", MODES)
def test_a_hosts_service_leads_to_a_container_and_the_other_way(setup: Setup, mode: str) -> None:
    """kube-proxy forwards the port of a node, and a service's address, in this way."""
    setup.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    conf = {**CONF, "mode": mode, "routesViaHost": ["10.96.0.0/12"]}
    server, client = (
        setup.add(conf, at=container).container for container in (setup.container, setup.container2)
    )
    setup.host.sysctl("net/ipv4/ip_forward", 1)
    nat = ("iptables-legacy", "--table", "nat", "--append")
    for address in (HOST, "10.96.0.1"):
        to = f"--destination {address} --protocol tcp --dport 80 --jump DNAT --to {FIRST}:8080"
        for chain in ("PREROUTING", "OUTPUT"):  # what leaves in l3 and l3s is the host's own output
            run(*nat, chain, *to.split())
    run(*nat, "POSTROUTING", *f"--destination {FIRST} --jump MASQUERADE".split())

    with server.socket() as listening:
        listening.bind(("", 8080))
        listening.listen()
        pings = (setup.neighbour, HOST), (client, "10.96.0.1"), (setup.host, FIRST)
        for source, address in pings:
            with source.socket() as calling:
                calling.settimeout(5)
                calling.connect((address, 8080 if source is setup.host else 80))


@pytest.mark.slow
@dual
@pytest.mark.parametrize("mode", MODES)
def test_routes_via_the_host_are_in_the_result_and_checked(setup: Setup, mode: str) -> None:
    subnets = {"10.96.0.0/12": HOST, "fd00:96::/112": "fd00:1::10"}
    conf = {**DUAL_STACK, "mode": mode, "routesViaHost": [*subnets]}
    added = setup.add(conf)
    routes = {each["dst"]: each.get("gw") for each in added.result["routes"]}
    assert {each: routes[each] for each in subnets} == {
        subnet: gateway if mode == "l2" else None for subnet, gateway in subnets.items()
    }
    added.check()
    added.container.ip("route delete 10.96.0.0/12")
    added.check("10.96.0.0/12")
    added.delete()
    added_without_ipv6 = setup.add({**conf, "ipam": SINGLE_STACK["ipam"]})  # it has no IPv6
    assert "fd00:96::/112" not in {each["dst"] for each in added_without_ipv6.result["routes"]}
    second = {**SINGLE_STACK, "mode": mode, "ipam": static("10.1.0.3/24")}
    setup.expect_error(107, HOST, "can have only one interface", conf=second, CNI_IFNAME="eth5")
    added_without_ipv6.delete()
    covers = {**SINGLE_STACK, "mode": mode, "routesViaHost": ["10.0.0.0/8"]}
    setup.expect_error(107, "10.0.0.0/8, which overlaps with 10.1.0.0/24", conf=covers)


def test_a_ping_of_a_service_leads_no_container_past_the_host(setup: Setup) -> None:
    """The host would send it on by the master, and tell the container to use its own gateway."""
    setup.neighbour.ip("address add 10.1.0.1/24 dev eth0")
    setup.host.ip("route add default via 10.1.0.1")
    setup.host.sysctl("net/ipv4/ip_forward", 1)
    setup.add(SINGLE_STACK, routesViaHost=["10.96.0.0/12"])
    for _ in range(3):  # told so once, the kernel first asks who that is
        assert not setup.container.can_ping("10.96.0.10")
    assert f"via {HOST} " in setup.container.ip("route get 10.96.0.10")


@dual
def test_both_families_and_every_address_of_the_host(setup: Setup) -> None:
    other = {"name": "eth0", "sandbox": setup.container.path}
    ips = [{"address": "10.9.0.5/24", "interface": 0}]
    chained = {"cniVersion": "1.0.0", "interfaces": [other], "ips": ips}
    setup.host.ip("address add fd00:1::11/64 dev eth0 nodad")
    added = setup.add(DUAL_STACK, prevResult=chained)
    setup.container.ip("address add fd00:1::99/64 dev net1 nodad")  # as a router's advertisement
    hosts = (HOST, "10.2.0.10", "fd00:1::10", "fd00:1::11")
    assert all(setup.container.can_ping(each) for each in hosts)
    assert setup.host.can_ping(FIRST)
    assert setup.host.can_ping("fd00:1::2")
    sources = {each["prefsrc"] for each in setup.host.routes("dev", host_link(setup))}
    assert sources == {HOST, "fd00:1::10"}
    routes = {each["dst"] for each in added.result["routes"]}
    assert routes == {f"{HOST}/32", "10.2.0.10/32", "fd00:1::10/128", "fd00:1::11/128"}
    added.check()
    run("rm", "-r", str(RECORDS))
    added.check()
    setup.host.ip("address delete fd00:1::10/64 dev eth0")
    added.check("the host's route to fd00:1::2 has lost its source")


def test_without_addresses_the_host_gets_nothing(setup: Setup) -> None:
    with setup.unchanged():
        added = setup.add(CONF, ipam=None, prevResult={"cniVersion": "1.0.0"})
        assert list(RECORDS.glob("on-*/*@*"))
        added.delete()


@dual
def test_an_address_that_another_host_has_is_not_the_hosts(setup: Setup) -> None:
    setup.neighbour.ip("address add fd00:1::11/64 dev eth0 nodad")
    setup.host.ip("address add fd00:1::11/64 dev eth0")
    wait_until(lambda: bool(setup.host.run("ip", "address", "show", "dadfailed")))
    setup.add(DUAL_STACK)
    assert setup.container.can_ping("fd00:1::10")


def test_what_is_given_twice_counts_once(setup: Setup) -> None:
    setup.host.ip(f"address add {HOST}/32 dev eth0")
    added = setup.add(SINGLE_STACK, routesViaHost=["10.96.0.0/12", "10.96.0.0/12"])
    assert setup.container.can_ping(HOST)
    added.check()
    added.delete()


def test_an_address_that_the_host_gets_later_is_for_later_containers(setup: Setup) -> None:
    earlier = setup.add(CONF)
    setup.host.ip("address add 10.1.0.11/24 dev eth0")
    setup.add(CONF, at=setup.container2).check()
    earlier.check()
    assert not setup.container.can_ping("10.1.0.11")
    assert setup.container2.can_ping("10.1.0.11")


def test_the_host_reaches_them_after_its_mac_address_has_changed(setup: Setup) -> None:
    added = setup.add(CONF)
    setup.host.ip("link set dev eth0 address 02:00:00:00:00:99")
    added.result["interfaces"][0]["mac"] = "02:00:00:00:00:99"
    added.check(f"the entry of the neighbour {HOST}, the host, is missing")
    setup.container.ip(f"neighbour replace {HOST} lladdr 02:00:00:00:00:99 dev net1")
    assert setup.host.can_ping(FIRST)


def test_check_sees_each_change(setup: Setup) -> None:
    added = setup.add(CONF)
    link = host_link(setup)
    for change, expected in (
        (
            f"ip -n container1 neighbour replace {HOST} lladdr 02:00:00:00:00:99 dev net1",
            "the entry of the neighbour 10.1.0.10, the host, is missing",
        ),
        (
            "ip -n container1 neighbour delete 10.1.0.10 dev net1",
            "the entry of the neighbour 10.1.0.10, the host, is missing",
        ),
        ("ip -n container1 route delete 10.1.0.10", "the route to 10.1.0.10/32 is missing"),
        (f"ip link set dev {link} arp on", f"host's interface {link}, for hostAccess, uses ARP"),
        ("ip address delete 10.1.0.10/24 dev eth0", "the host has no route to 10.1.0.2"),
        ("ip address add 10.1.0.10/24 dev eth0", f"no route to 10.1.0.2 through {link}"),
        ("ip link set dev eth0 netns container1", "its master 'eth0' does not exist any more"),
        (f"ip link set dev {link} down", f"the host's interface {link}, for hostAccess, is down"),
        (f"ip link delete dev {link}", f"the host's interface {link}, for hostAccess, is missing"),
    ):
        run(*change.split())
        assert added.check(expected)["code"] == 110


# A network's author is a stranger: the host must not send its own packets to a container. What is
# refused otherwise is in test_refusals.


@pytest.mark.slow
def test_an_address_of_another_host_or_container_is_refused(setup: Setup) -> None:
    setup.node.make_master("eth1")
    setup.host.ip("address add 10.1.0.11/24 dev eth1")
    setup.add(SINGLE_STACK)
    setup.expect_error(107, conf=SINGLE_STACK, name="thief", master="eth1", at=setup.container2)
    assert setup.host.can_ping(FIRST)

    setup.neighbour.ip(f"address add {SECOND}/24 dev eth0")
    assert setup.host.can_ping(SECOND)
    used = "another host on the network already uses 10.1.0.3"
    setup.expect_error(106, used, hostAccess=True, at=setup.container2)
    unknown = setup.ipam(ips=[f"{SECOND}/24"])
    status, out = setup.dry_run(hostAccess=True, ipam=unknown, at=setup.container2).run()
    assert (status, used in out) == (1, True)
    setup.neighbour.ip(f"address delete {SECOND}/24 dev eth0")  # which the host may still know
    setup.add(hostAccess=True, at=setup.container2)


def test_an_interface_of_that_name_is_left_alone(setup: Setup) -> None:
    setup.host.ip(f"link add name {host_link(setup)} type dummy")
    setup.expect_error(105, "which is not this plugin's", conf=CONF)
    error = setup.runtime.status({**CONF, "cniVersion": "1.1.0"}).error()
    assert "which is not this plugin's" in error["msg"]


@pytest.mark.parametrize("ending", ["DEL", "GC"])
def test_one_that_took_its_place_keeps_nobody_from_being_deleted(setup: Setup, ending: str) -> None:
    added = setup.add(SINGLE_STACK)
    setup.host.ip(f"link delete dev {host_link(setup)}")
    setup.host.ip(f"link add name {host_link(setup)} type dummy")
    if ending == "DEL":
        added.delete()
    else:
        gc(setup)
    assert has_host_link(setup)


def test_the_mode_of_the_hosts_interface_counts(setup: Setup) -> None:
    added = setup.add(CONF)
    setup.node.remove(setup.container)
    setup.expect_error(104, conf=CONF, name="other", mode="l3", at=setup.container2)
    delete_gone(setup, added)
    setup.add(CONF, mode="l3", at=setup.container2)


@pytest.mark.setup(master="wire", host=(f"{HOST}/16",))
def test_as_many_addresses_as_a_record_has_room_for(setup: Setup) -> None:
    addresses = [f"10.1.1.{number}/16" for number in range(1, 65)]
    setup.add(CONF, ipam=static(*addresses))
    assert len(destinations(setup)) == 64
    setup.fake.answer("ADD", {"ips": [{"address": each} for each in (*addresses, "10.1.2.1/16")]})
    status, out = setup.dry_run(conf={**CONF, "ipam": setup.fake.conf}, at=setup.container2).run()
    assert (status, "65 addresses; hostAccess is for at most 64" in out) == (2, True)


# Leftovers are removed.


def test_delete_of_a_container_that_is_gone(setup: Setup) -> None:
    before = setup.host.routes()
    attachments = [setup.add(CONF, at=each) for each in (setup.container, setup.container2)]
    for added in attachments:
        setup.node.remove(added.container)
    delete_gone(setup, attachments[0])
    assert destinations(setup) == [SECOND]
    delete_gone(setup, attachments[1])
    assert setup.host.routes() == before
    assert not has_host_link(setup)


def test_the_hosts_interface_may_go_while_a_deletion_looks(setup: Setup, tmp_path: Path) -> None:
    steps, link = Steps(tmp_path), host_link(setup)
    variables = {"CNI_CONTAINERID": "two", **steps.environment}
    setup.add(SINGLE_STACK)
    setup.runtime.delete(setup.container2, CONF, **variables).succeeds()
    query = next(step for step in steps.records if {"route", link} <= set(step.words.split()))
    steps.reset()
    steps.plan(query.number, f"ip link delete dev {link}")
    setup.runtime.delete(setup.container2, CONF, **variables).succeeds()
    assert not has_host_link(setup)


def test_an_add_in_a_new_container_replaces_the_old_ones_route(setup: Setup) -> None:
    setup.add(SINGLE_STACK)
    setup.node.remove(setup.container)
    container = setup.make_container()
    invalid = static(f"{SECOND}/24", routes=[{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}])
    setup.expect_error(107, conf=SINGLE_STACK, at=container, ipam=invalid)
    setup.add(SINGLE_STACK, at=container, ipam=static(f"{SECOND}/24"))
    assert destinations(setup) == [SECOND]
    setup.node.remove(container)  # and now without records, and in another container
    run("rm", "-r", str(RECORDS))
    setup.add(at=setup.container2, hostAccess=True, ipam=static(f"{SECOND}/24"))
    assert setup.host.can_ping(SECOND)
    assert setup.container2.can_ping(HOST)


def test_gc_removes_what_is_of_no_valid_attachment(setup: Setup) -> None:
    links = setup.host.links().keys()
    container, container2, container3 = setup.container, setup.container2, setup.make_container()
    added = setup.add(SINGLE_STACK, at=container)
    setup.add(SINGLE_STACK, at=container2, ipam=static(f"{SECOND}/24"))
    setup.node.remove(container2)
    setup.add(SINGLE_STACK, at=container3, name="other", ipam=static("10.1.0.4/24"))

    gc(setup, ("one", "net1"))

    assert destinations(setup) == [FIRST, "10.1.0.4"]
    assert setup.host.can_ping(FIRST)
    setup.node.remove(container3)
    setup.runtime.gc(network(name="other", cniVersion="1.1.0", ipam=None)).succeeds()
    assert destinations(setup) == [FIRST]
    setup.node.remove(added.container)
    gc(setup)
    assert setup.host.links().keys() == links


# Dry runs, and output for people.


@dual
@pytest.mark.parametrize(
    ("shell", "addresses"),
    [
        ("dash", ["fd00:1::2/64"]),
        ("bash at a terminal", [f"{FIRST}/24", "fd00:1::2/64"]),
    ],
)
def test_pasted_dry_run_does_what_add_does(setup: Setup, shell: str, addresses: list[str]) -> None:
    conf = {**CONF, "ipam": setup.ipam(ips=addresses)}

    def read_state() -> list[Any]:
        neighbours = sorted(each["dst"] for each in setup.container.query("neighbour", "show"))
        return [setup.host.routes(), setup.container.routes(), neighbours]

    attachment = setup.add(CONF, at=setup.container2, ipam=static("10.1.0.9/24"))
    setup.dry_run(conf=conf).succeeds(shell)
    attachment.delete()  # with the last record, but not with the last route
    assert all(setup.host.can_ping(each.partition("/")[0]) for each in addresses)
    pasted = read_state()
    setup.dry_run("del", conf=conf).succeeds(shell)
    setup.add(conf)
    assert read_state() == pasted


@pytest.mark.slow
@pytest.mark.setup(host=("fd00:1::10/64",))
def test_a_script_refuses_the_family_that_the_host_lacks(setup: Setup) -> None:
    script = setup.dry_run(conf=CONF, ipam=setup.ipam(ips=[f"{FIRST}/24"]))
    with setup.unchanged():
        status, out = script.run()
    assert (status, "has no address of the same family" in out) == (2, True)
    setup.ipam(ips=["fd00:1::2/64"])
    assert script.run()[0] == 0


def test_a_dry_run_whose_script_fails_leaves_nothing(setup: Setup) -> None:
    script = setup.dry_run(conf=CONF)
    setup.host.ip("route add 10.1.0.2/32 dev lo")  # since then
    with setup.unchanged():
        status, out = script.run()
    assert (status, "in another way, which hostAccess would replace" in out) == (1, True)


@pytest.mark.slow
def test_doctor_names_parameters_of_the_host(setup: Setup, user: InProcessUser) -> None:
    setup.host.sysctl("net/ipv4/conf/eth0/rp_filter", 1)
    setup.host.sysctl("net/ipv4/ip_forward", 0)
    conf = user.write_conf({**CONF, "routesViaHost": ["10.96.0.0/12"]})

    added = setup.add(CONF)
    _, out, _ = user.run(f"ipvlan doctor -c {conf}")

    advice = "echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter"
    assert advice in added.stderr
    assert advice in out
    assert not setup.container.can_ping(HOST)
    setup.host.sysctl("net/ipv4/conf/eth0/rp_filter", 2)
    assert setup.container.can_ping(HOST)
    _, out, _ = user.run(f"ipvlan doctor -c {conf}")
    assert ("rp_filter" in out, "echo 1 >/proc/sys/net/ipv4/ip_forward" in out) == (False, True)


def test_delete_without_record_spares_routes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("attachment", "registry"):
        monkeypatch.setattr(f"cni_ipvlan.state.{module}.number_of", lambda _key: 1 << 31)
    setup.add(SINGLE_STACK)
    other = setup.container2
    with setup.unchanged():
        setup.runtime.delete(other, SINGLE_STACK, CNI_CONTAINERID="two").succeeds()
    assert destinations(setup) == [FIRST]
