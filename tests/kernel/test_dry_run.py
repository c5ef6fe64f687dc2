"""A dry run changes nothing; pasted into a shell, it has the same effect as the plugin."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ipvlan, options
from doubles import FakeIpam
from lab import LEASES, RECORDS, NetNS, Node, make_node, wait_until
from runtime import PLUGINS, Conf, Runtime, host_local, network, static
from sampling import combine, sample
from setup import Setup
from shells import SHELLS, run_script

ADDRESSES = {"4": ["10.1.0.2/24"], "6": ["fd00:1::2/64"], "44": ["10.1.0.2/24", "10.2.0.2/16"]}
ADDRESSES["46"] = ADDRESSES["4"] + ADDRESSES["6"]
SUBNETS = {"4": ["10.1.0.0/24"], "6": ["fd00:1::/64"], "44": ["10.1.0.0/24", "10.2.0.0/16"]}
SUBNETS["46"] = SUBNETS["4"] + SUBNETS["6"]
GATEWAYS = {"10.1.0.2/24": "10.1.0.1", "fd00:1::2/64": "fd00:1::1"}

CASES = combine(
    {
        "mode": ["l2", "l3", "l3s"],
        "flag": ["bridge", "private", "vepa"],
        "mtu": ["0", "1400"],
        "ipam": ["static", "host-local", "fake", "chained"],
        "addresses": ["4", "6", "46", "44"],
        "routes": ["none", "default", "all"],
        "master": ["eth0", "e'\x1b$x", "of the container"],
        "ifname": ["net1", "it's$x", "-#=*", "ü\\n"],
        "namespace": ["named", "of a process", "mounted"],
        "ipv6": ["on", "off", "slow"],  # with duplicate address detection
        "shell": SHELLS,
    }
)


@pytest.mark.usefixtures("process_isolation")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_a_pasted_dry_run_gives_what_the_plugin_gives(
    case: dict[str, str], runtime: Runtime, fake_ipam: FakeIpam, tmp_path: Path
) -> None:
    states = []
    for method in ("plugin", "script"):
        with make_node() as node:
            setup = Setup(node, runtime, fake_ipam, master="")
            container = prepare(node, case, tmp_path / "with space")
            states.append(list(attach(method, setup, container, case)))
    assert states[0] == states[1]


def attach(method: str, setup: Setup, container: NetNS, case: dict[str, str]) -> Iterator[Conf]:
    """Attach a container and detach it; yield the configuration after each."""
    conf = configuration(case, setup.fake)
    variables: Conf = {"at": container, "CNI_IFNAME": case["ifname"], "ipam": conf.get("ipam")}
    if method == "plugin":
        added = setup.add(conf, **variables)
        yield state(setup.node, container, case["ifname"])
        added.delete()
        yield state(setup.node, container, case["ifname"])
        return
    for verb in ("add", "del"):
        setup.dry_run(verb, conf=conf, **variables).succeeds(case["shell"])
        yield state(setup.node, container, case["ifname"])


def configuration(case: dict[str, str], fake_ipam: FakeIpam) -> Conf:
    addresses = ADDRESSES[case["addresses"]]
    gateway = GATEWAYS[addresses[0]] if case["routes"] == "default" else ""
    simple = [{key: each[key] for key in each.keys() & {"dst", "gw"}} for each in routes(case)]
    fake_ipam.answer("ADD", make_result(case))
    ipam = {
        "static": static(*addresses, gateway=gateway, routes=simple),
        "host-local": host_local(*SUBNETS[case["addresses"]], routes=simple),
        "fake": fake_ipam.conf,
        "chained": None,
    }[case["ipam"]]
    is_inside = case["master"] == "of the container"
    previous = {**make_result(case), "interfaces": [{"name": "somebody"}], "dns": {"domain": "x"}}
    return network(
        # The newest that Debian's plugins know; in the version after it, routes have attributes.
        cniVersion="1.0.0" if case["ipam"] in ("static", "host-local") else "1.1.0",
        mode=case["mode"],
        flag=case["flag"],
        mtu=int(case["mtu"]),
        master="inner0" if is_inside else case["master"],
        linkInContainer=is_inside,
        ipam=ipam,
        prevResult=previous if ipam is None else None,
    )


def routes(case: dict[str, str]) -> list[dict[str, Any]]:
    """Return routes for the addresses' families; with ``all``, with each attribute."""
    entries: list[dict[str, Any]] = []
    for address in ADDRESSES[case["addresses"]]:
        if address not in GATEWAYS or case["routes"] == "none":
            continue
        is_ipv6 = ":" in address
        default: dict[str, Any] = {"dst": "::/0" if is_ipv6 else "0.0.0.0/0"}
        attributes = {"mtu": 1300, "advmss": 1200, "priority": 7, "table": 100}
        if case["routes"] == "default":
            entries.append({**default, "gw": GATEWAYS[address]} if is_ipv6 else default)
        else:
            dst = "fd00:7::/64" if is_ipv6 else "10.7.0.0/16"
            entries.append({"dst": dst, "gw": GATEWAYS[address], **attributes})
            entries.append({"dst": "fd00:8::/64" if is_ipv6 else "10.8.0.0/16"})
            entries[-1] |= {} if is_ipv6 or case["ipam"] == "host-local" else {"scope": 253}
            entries.append({"dst": address.replace("2/", "0/")})  # that the kernel has made
    return entries


def make_result(case: dict[str, str]) -> dict[str, Any]:
    ips: list[dict[str, Any]] = [{"address": each} for each in ADDRESSES[case["addresses"]]]
    if case["routes"] == "default":
        ips[0]["gateway"] = GATEWAYS[ips[0]["address"]]
    return {"cniVersion": "1.1.0", "ips": ips, "routes": routes(case)}


def prepare(node: Node, case: dict[str, str], mount: Path) -> NetNS:
    if case["namespace"] == "mounted":
        container = node.make_mounted_container(mount)
    else:
        is_named = case["namespace"] == "named"
        container = node.make_container() if is_named else node.make_anonymous_container()
    is_inside = case["master"] == "of the container"
    name = "inner0" if is_inside else case["master"]
    add = ("ip", "link", "add", "name", name, "address", "02:00:00:00:00:01", "type", "dummy")
    namespace = container if is_inside else node.host
    namespace.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
    namespace.run(*add)
    namespace.run("ip", "link", "set", "dev", name, "up")
    container.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
    container.sysctl("net/ipv6/conf/default/accept_dad", int(case["ipv6"] == "slow"))
    if case["ipv6"] == "off":
        for scope in ("all", "default"):
            container.sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", 1)
    return container


def state(node: Node, container: NetNS, ifname: str) -> dict[str, Any]:
    """Return the state of both namespaces, once IPv6 addresses are usable, and the leases."""
    query = ("ip", "-6", "address", "show", "tentative")
    wait_until(lambda: "tentative" not in container.run(*query))
    snapshot = node.snapshot()
    scopes = ["all", "default", "lo", *({ifname} & container.links().keys())]
    switches = ("ndisc_notify", "keep_addr_on_down", "disable_ipv6")
    kinds = ("ipv4/conf/{}/arp_notify", *(f"ipv6/conf/{{}}/{each}" for each in switches))
    names = [f"net/{each.format(scope)}" for scope in scopes for each in kinds]
    return {
        "host": snapshot[node.host.path],
        "container": snapshot[container.path],
        "aliases": [link.get("ifalias") for link in container.links().values()],
        "parameters": {name: container.sysctl(name) for name in names},
        "leases": snapshot["leases"],
    }


def test_a_pasted_dry_run_of_gc_removes_what_gc_removes(setup: Setup) -> None:
    setup.leave_link("killed")
    valid_link = setup.leave_link("valid")
    arguments = ("gc", "valid/net1")
    setup.dry_run(*arguments, cniVersion="1.1.0", ipam=None).succeeds()
    assert setup.host.links().keys() == {"lo", "eth0", valid_link}
    second_run = setup.dry_run(*arguments, cniVersion="1.1.0", ipam=None)
    assert "# there is nothing to do" in second_run.text


SHARED: list[Conf] = [{"vlan": 100}, {"hostAccess": True}]
with_host_address = pytest.mark.setup(host=("10.1.0.10/24",))


@with_host_address
@pytest.mark.parametrize("option", SHARED)
def test_del_and_a_script_leave_nothing_of_each_others(setup: Setup, option: Conf) -> None:
    def read_state() -> list[Any]:
        links = [each.links() for each in (setup.host, setup.container, setup.container2)]
        return [*links, setup.host.routes()]

    before = read_state()
    assert setup.dry_run(**option).run()[0] == 0
    added = setup.add(at=setup.container2, **option)
    with_two = setup.host.links()

    setup.runtime.delete(setup.container, network(**option), CNI_CONTAINERID="one").succeeds()
    assert setup.host.links() == with_two  # the other uses it
    assert "10.1.0.3" in str(setup.host.routes()) or "vlan" in option
    assert setup.dry_run("del", at=setup.container2, **option).run() == (0, "")

    assert read_state() == before
    added.delete()


@with_host_address
@pytest.mark.parametrize("option", SHARED)
def test_a_pasted_dry_run_of_gc_leaves_nothing_of_what_is_gone(setup: Setup, option: Conf) -> None:
    conf: Conf = {"ipam": host_local("10.1.0.0/24"), **option}
    before = [setup.host.links(), setup.host.routes(), setup.node.leases()]
    for at in (setup.container, setup.container2):
        setup.add(conf, at=at)
    for at in (setup.container, setup.container2):
        setup.node.remove(at)
    setup.dry_run("gc", "--keep-none", conf={**conf, "cniVersion": "1.1.0"}).succeeds()
    assert [setup.host.links(), setup.host.routes(), setup.node.leases()] == before


@with_host_address
def test_a_pasted_dry_run_after_the_interface_was_removed_by_hand(setup: Setup) -> None:
    setup.add(hostAccess=True)
    setup.container.ip("link delete dev net1")
    setup.dry_run(hostAccess=True).succeeds()


@with_host_address
@pytest.mark.parametrize("option", SHARED)
def test_a_script_leaves_alone_what_was_made_meanwhile(setup: Setup, option: Conf) -> None:
    first, second = (setup.dry_run(at=at, **option) for at in (setup.container, setup.container2))
    assert first.run()[0] == 0

    with setup.unchanged():
        status, out = second.run()

    assert (status, "was made meanwhile; make the dry run again" in out) == (1, True)
    removal = setup.dry_run("del", **option)
    setup.dry_run(at=setup.container2, **option).succeeds()
    host_links = setup.host.links()
    status, out = removal.run()
    assert (status, "is kept, since it may be in use" in out) == (0, True)
    assert "net1" in setup.container2.links()
    assert setup.host.links() == host_links


@with_host_address
@pytest.mark.parametrize("option", SHARED)
def test_script_of_an_add_again_keeps_what_others_use(setup: Setup, option: Conf) -> None:
    setup.add(**option)
    setup.node.remove(setup.container)
    script = setup.dry_run(at=setup.make_container())
    setup.add(at=setup.container2, name="other", **option)
    status, out = script.run()
    assert (status, "is kept, since it may be in use" in out) == (0, True)
    assert "net1" in setup.container2.links()


def test_a_script_lets_the_plugin_allocate_and_uses_what_it_answers(setup: Setup) -> None:
    dry = setup.dry_run("add", "--args", "A=it's", ipam=host_local("10.1.0.0/24"))
    with setup.unchanged():
        plan = json.loads(ipvlan("add", "--dry-run", "--json", *dry.options).check_output())

    assert setup.node.leases() == []
    env = """| env CNI_COMMAND="$1" 'CNI_ARGS=A=it'"'"'s' CNI_CONTAINERID=one """
    assert env in dry.text
    assert f"{PLUGINS}/host-local; }}\n" in dry.text
    assert 'ip address add "$address" dev net1 broadcast +  # add' in dry.text
    assert "ip netns exec container1 ip route add $route dev net1  # add" in dry.text
    assert (plan["assumptions"], plan["failure"]) == ([], None)
    assert [each["name"] for each in plan["result"]["interfaces"]] == ["net1"]
    create, move, allocate, *_, route, _ = plan["steps"]
    link = create["argv"][create["argv"].index("name") + 1]
    assert create["purpose"] == "create an ipvlan interface of eth0"
    assert (create["namespace"], create["undo"]) == (None, [["ip", "link", "delete", "dev", link]])
    assert (create["stdin"], create["environment"], create["run"]) == (None, {}, False)
    undo = ["ip", "netns", "exec", "container1", "ip", "link", "delete", "dev", "net1"]
    assert undo in move["undo"]
    assert allocate["argv"] == [f"{PLUGINS}/host-local"]
    assert allocate["environment"]["CNI_ARGS"] == "A=it's"
    assert json.loads(allocate["stdin"])["ipam"]["type"] == "host-local"
    assert "CNI_COMMAND=DEL" in allocate["undo"][0]
    assert route["namespace"] == setup.container.path
    assert route["argv"][-3:] == ["<route>", "dev", "net1"]
    assert [step["stdin"] for step in plan["steps"] if not step["needed"]] == ["1\n"]
    of_ipv6 = [step["purpose"] for step in plan["steps"] if step["ipv6Only"]]
    purpose = "wait for IPv6 duplicate address detection"
    assert of_ipv6 == ["add the address <IPv6 address: …>/<length>", purpose]


@with_host_address
def test_a_script_adds_a_route_of_both_ipam_and_host_access_once(setup: Setup) -> None:
    answer = {"ips": [{"address": "10.1.0.2/24"}], "routes": [{"dst": "10.1.0.10/32"}]}
    setup.fake.answer("ADD", answer)
    setup.dry_run(hostAccess=True, ipam=setup.fake.conf).succeeds()


def test_static_is_run_since_it_allocates_nothing(setup: Setup) -> None:
    text = setup.dry_run().text
    assert "# already run, since it changes nothing: allocate addresses with static\n" in text
    assert " ip address add 10.1.0.2/24 dev net1 broadcast +  # add the address" in text
    assert "assumed" not in text
    assert "\narping -D -w 1 -I eth0 10.1.0.2  #" in setup.dry_run(checkIPv4Conflict=True).text


ERRORS: list[tuple[Conf, dict[str, str]]] = [
    ({"master": "eth1"}, {}),
    ({"master": ["x", "y*"]}, {}),
    ({"master": "eth*", "mtu": 9000}, {}),
    ({"master": None}, {}),
    ({"mode": "l3"}, {}),
    ({"mtu": 9000}, {}),
    ({"mode": "l5"}, {}),
    ({"ipam": {"type": "no-such-plugin"}}, {}),
    ({"ipam": static("10.1.0.9")}, {}),
    ({"ipam": static("10.1.0.8/24", "10.1.0.7/24")}, {}),
    ({"ipam": static("10.1.0.7/16"), "mode": "l2"}, {}),
    ({"ipam": static("10.1.0.5/24")}, {}),
    ({}, {"netns": "/proc/self/ns/net"}),
    ({}, {"netns": "/run/netns/gone"}),
    ({}, {"ifname": "taken"}),
    ({}, {"ifname": "a/b"}),
    ({}, {"cni_path": "/nowhere"}),
]


def test_a_dry_run_fails_as_add_does(setup: Setup, tmp_path: Path) -> None:
    setup.host.ip("address add 10.1.0.5/24 dev eth0")
    setup.add(at=setup.container2, ipam=static("10.1.0.7/24"))
    setup.container.ip("link add name taken type dummy")
    defaults = {"netns": setup.container.path, "cni_path": PLUGINS, "container_id": "c"}
    conf = tmp_path / "net.conf"
    with setup.unchanged():
        for change, overrides in sample(ERRORS, 3):
            conf.write_text(json.dumps(network(**change)))
            arguments = options(config=str(conf), **{**defaults, **overrides})

            dry = ipvlan("add", "--dry-run", *arguments)
            real = ipvlan("add", *arguments)

            assert dry == real
            assert dry.out == ""
            assert dry.status in (1, 2)
    shutil.rmtree(RECORDS)  # it sees the mode in use without records, and makes none
    conf.write_text(json.dumps(network(mode="l3")))
    printed = ipvlan("add", "--dry-run", *options(config=str(conf), **defaults))
    assert printed.status == 1
    assert "is used in mode l2 bridge; this network wants l3 bridge" in printed.err
    assert not RECORDS.exists()


def test_a_given_result_is_used_and_the_plugin_is_not_called(setup: Setup, tmp_path: Path) -> None:
    answer = {"ips": [{"address": "10.1.0.5/24"}], "routes": [{"dst": "10.7.0.0/16"}]}
    (tmp_path / "answer").write_text(json.dumps(answer))
    dry = setup.dry_run("add", "--ipam-result", str(tmp_path / "answer"), ipam=setup.ipam())
    status, out = dry.run()
    assert "/fake is not called\n" in dry.text
    assert setup.fake.calls == []
    assert setup.container.addresses("net1") == ["10.1.0.5/24"]
    assert [route["dst"] for route in setup.container.routes()] == ["10.7.0.0/16"]
    assert (status, json.loads(out)["ips"]) == (0, [{"interface": 0, "address": "10.1.0.5/24"}])


@pytest.mark.setup(master="wire")
@pytest.mark.parametrize("is_taken", [True, False])
def test_a_script_asks_whether_its_address_is_taken(setup: Setup, *, is_taken: bool) -> None:
    setup.neighbour.ip(f"address add 10.1.0.{2 if is_taken else 3}/24 dev eth0")
    dry = setup.dry_run(ipam=host_local("10.1.0.0/24"), checkIPv4Conflict=True)
    if not is_taken:
        assert dry.run()[0] == 0
        assert setup.container.addresses("net1") == ["10.1.0.2/24"]
        return
    with setup.unchanged():
        status, out = dry.run()
    assert (status, "Unicast reply from 10.1.0.2" in out) == (1, True)


def test_a_script_refuses_the_hosts_own_address_and_gives_it_back(setup: Setup) -> None:
    dry = setup.dry_run(ipam=host_local("10.1.0.0/24"))
    setup.host.ip("address add 10.1.0.2/24 dev eth0")  # since then
    with setup.unchanged():
        status, out = dry.run()
    assert (status, "10.1.0.2/24 is the host's own address" in out) == (1, True)
    assert setup.node.leases() == []


def test_a_dry_run_of_check_prints_what_it_looks_at(setup: Setup) -> None:
    added = setup.add(ipam=host_local("10.1.0.0/24", routes=[{"dst": "10.7.0.0/16"}]))

    dry = setup.dry_run("check", conf=added.conf, prevResult=added.result)
    status, out = dry.run()
    assert status == 0, out

    for printed in ('"ifname":"eth0"', '"local":"10.1.0.2"', '"dst":"10.7.0.0/16"'):
        assert printed in out
    steps = json.loads(ipvlan("check", "--dry-run", "--json", *dry.options).check_output())["steps"]
    programs = [(step["argv"][0], step["run"]) for step in steps]
    assert programs == [(f"{PLUGINS}/host-local", False), *[("ip", True)] * 3]

    setup.container.ip("link set dev net1 down")
    failed, real = ipvlan("check", "--dry-run", *dry.options), ipvlan("check", *dry.options)
    assert (failed.status, failed.err) == (real.status, real.err)
    assert failed.status == 1
    shutil.rmtree(LEASES / "networks")
    assert run_script("dash", failed.out)[0] == 1  # says the IPAM plugin
