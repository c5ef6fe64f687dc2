"""DEL: it works whatever has happened to configuration, master and namespace."""

from typing import Any

import pytest
from lab import NetNS, find_records, run
from runtime import Conf, host_local, network
from sampling import sample
from setup import Setup

from cni_ipvlan.state.registry import Registry

CONF = network(ipam=host_local("10.1.0.0/24"))
CHANGES: list[dict[str, Any]] = [
    {"mode": "l4"},
    {"mtu": 9000},
    {"mtu": "much", "flag": 5, "linkInContainer": "no", "dns": []},
    {"master": None},
    {"master": "eth99"},
    {"master": "no such/master"},
    {"prevResult": {"cniVersion": "7.0.0"}},
    {"runtimeConfig": {"mac": "02:00:00:00:00:07"}},
    {"prevResult": {"cniVersion": "1.0.0", "ips": []}},
]


def test_delete_works_with_a_configuration_that_has_become_invalid(setup: Setup) -> None:
    for options in sample(CHANGES, 4):
        with setup.unchanged():
            added = setup.add(CONF)
            assert len(setup.node.leases()) == 1
            added.delete(**options)


def test_delete_works_twice_and_without_an_add(setup: Setup) -> None:
    with setup.unchanged():
        setup.runtime.delete(setup.container, CONF).succeeds()
        added = setup.add(CONF)
        added.delete(cniVersion="1.1.0")  # which not every host-local knows
        added.delete()


@pytest.mark.parametrize("missing", ["default route", "master"])
def test_delete_works_without_what_add_went_by(setup: Setup, missing: str) -> None:
    if missing == "master":
        setup.host.ip("link delete dev eth0")
    with setup.unchanged():
        if missing == "master":
            setup.node.make_master()
        setup.host.ip("route add default dev eth0")
        added = setup.add(CONF, master=None)
        setup.host.ip("link delete dev eth0" if missing == "master" else "route delete default")
        added.delete(master=None)


@pytest.mark.parametrize("netns", ["", "as it was", "/run/netns/never"])
def test_delete_works_without_the_namespace(setup: Setup, netns: str) -> None:
    with setup.unchanged():
        added = setup.add(CONF, at=setup.container2)
        setup.node.remove(setup.container2)
        path = setup.container2.path if netns == "as it was" else netns
        setup.runtime.delete(path, added.conf, **added.environment).succeeds()


def test_delete_finds_a_container_whose_path_is_gone_but_not_its_processes(setup: Setup) -> None:
    container = setup.node.make_anonymous_container()
    run("ip", "netns", "attach", "lost", container.path.split("/")[2])
    added = setup.add(CONF, at=NetNS("/run/netns/lost"))
    setup.node.remove(added.container)
    added.delete()
    assert container.links().keys() == {"lo"}
    setup.add(CONF, mode="l3")


@pytest.mark.parametrize("path", ["", "/run/netns/gone"])
def test_a_late_delete_leaves_the_next_containers_interfaces_alone(setup: Setup, path: str) -> None:
    """One is ours, the other another program's; the namespace has the inode of one that is gone."""
    setup.add(CNI_IFNAME="net2")
    setup.make_foreign_link(setup.container, "l2", "net1")
    registry = Registry()
    (record,) = registry.all_records()
    late_record = record._replace(container_id="gone", ifname="net1", is_complete=False)
    late_record = late_record._replace(netns=path or record.netns)
    registry.write(late_record)
    index = setup.container.links()["net1" if path else "net2"]["ifindex"]
    registry.finish(late_record, index)
    setup.runtime.delete("", CONF, CNI_CONTAINERID="gone").succeeds()
    assert setup.container.links().keys() == {"lo", "net1", "net2"}
    assert [*registry.all_records()] == [record]


def test_ipam_gets_no_namespace_that_is_no_containers(setup: Setup) -> None:
    conf = network(ipam=setup.fake.conf)
    # The first was that of a container's process, whose ID another process has now.
    for path in ("/proc/self/ns/net", "/dev/null", "/run/netns/gone"):
        setup.runtime.delete(path, conf, CNI_PATH=setup.fake.path).succeeds()
        expected = path if path == "/run/netns/gone" else ""
        assert setup.fake.environment("DEL")["CNI_NETNS"] == expected


def test_delete_leaves_what_is_not_its_own_alone(setup: Setup) -> None:
    first = setup.add(CONF)
    with setup.unchanged():
        setup.add(CONF, CNI_IFNAME="net2").delete()
    first.check()

    setup.container2.ip("link add name dummy0 type dummy")
    kinds = ("name net1 type dummy", "name net1 type veth", "link dummy0 name net1 type macvlan")
    for words in kinds:
        setup.container2.ip(f"link add {words}")
        with setup.unchanged():
            setup.runtime.delete(setup.container2, CONF, CNI_CONTAINERID="two").succeeds()
        setup.container2.ip("link delete dev net1")


def test_a_note_stays_for_an_add_that_comes_in_between(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which has not created its interface yet, so that the kernel reports the master free."""
    added, registry, find = setup.add(), Registry(), Registry.masters_with_note
    (record,) = registry.all_records()
    other = record._replace(container_id="two", is_complete=False, ifindex=0)

    def begin_afterwards(registry: Registry, *args: Any) -> list[tuple[int, int]]:
        masters = find(registry, *args)
        registry.write(other)
        return masters

    monkeypatch.setattr(Registry, "masters_with_note", begin_afterwards)
    added.delete()
    assert registry.note(record.master)
    registry.remove(other)
    registry.drop_note(record.master)


def test_delete_removes_the_link_and_reports_when_ipam_fails(setup: Setup) -> None:
    document: Conf = {"cniVersion": "1.0.0", "code": 42, "msg": "lost the key"}
    for script, error in (
        (None, (42, "lost the key")),
        ("head -c 2000000 /dev/zero >&2; exit 3", (109, "the plugin 'fake' exited with status 3")),
    ):
        conf = setup.ipam("DEL", script=script, **document, status=1)
        with setup.unchanged():
            setup.ipam(ips=["10.1.0.2/24"])
            added = setup.add(ipam=conf)
            answer = setup.runtime.delete(added.container, added.conf, **added.environment)
            assert answer.error()["code"] == error[0]
            assert error[1] in answer.error()["msg"]
            assert setup.container.links().keys() == {"lo"}
            setup.ipam("DEL", script="")
            environment = {"CNI_COMMAND": "GC", "CNI_PATH": setup.fake.path}
            setup.runtime.call_raw({**added.conf, "cniVersion": "1.1.0"}, environment).succeeds()
            assert setup.fake.calls[-2:] == ["GC", "DEL"]


def test_delete_removes_the_link_when_the_ipam_plugin_has_vanished(setup: Setup) -> None:
    conf = {**setup.add().conf, "ipam": {"type": "nosuch"}}
    error = setup.runtime.delete(setup.container, conf).error()
    assert (error["code"], "nosuch" in error["msg"]) == (108, True)
    assert setup.container.links().keys() == {"lo"}
    invalid_path = host_local("10.1.0.0/24", dataDir="/run/\ud800")  # half of a character
    types: list[Any] = [{"type": each} for each in (None, 5, "../static")]
    invalid = [None, {}, [], "static", *types, invalid_path]
    for ipam in sample(invalid, 3):
        setup.add().delete(ipam=ipam)
        assert find_records() == []
        assert setup.container.links().keys() == {"lo"}
