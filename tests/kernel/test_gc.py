"""GC: it removes what killed calls left, and nothing that belongs to an attachment."""

import json
import shutil
from base64 import b64encode
from contextlib import AbstractContextManager
from fcntl import LOCK_EX, flock
from itertools import product
from pathlib import Path
from threading import Event, Thread

import pytest
from attacker import start_user_namespaces
from command_line import InProcessUser
from doubles import replace_program
from lab import LEASES, RECORDS, NetNS, find_leases, find_records, run
from runtime import PLUGINS, Conf, host_local, network, static
from sampling import sample
from setup import Setup

from cni_ipvlan.cli import configs
from cni_ipvlan.iproute import machine, running
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

CONF = network(cniVersion="1.1.0", ipam=None)
VALID = ("valid", "net1")
VALID_ENTRY = {"containerID": VALID[0], "ifname": VALID[1]}
LEASED = network(ipam=host_local("10.1.0.0/24"))
GC = {"CNI_COMMAND": "GC", "CNI_PATH": PLUGINS}
KEY = "cni.dev/valid-attachments"
KEY_AT_FIRST = "cni.dev/attachments"
# What any user may have: interfaces with labels, more than are read.
FORGED = """ip link add own type dummy
for number in $(seq 100); do
    echo "link add link own name x$number type ipvlan"
    echo "link set dev x$number alias {}"
done | ip -batch -"""


def test_gc_removes_links_on_the_host_that_belong_to_no_valid_attachment(setup: Setup) -> None:
    setup.leave_link("killed")
    name = setup.leave_link("kind")
    setup.host.ip(f"link delete {name}")
    links = {
        setup.leave_link("valid"),
        setup.leave_link("killed", "another"),
        make_foreign_link("ivmine", "link eth0 name ivmine type ipvlan"),
        make_foreign_link(name, f"name {name} type dummy"),
    }
    setup.runtime.gc(CONF, [VALID]).succeeds()
    assert setup.host.links().keys() == {"lo", "eth0", *links}


@pytest.mark.setup(host=("10.1.0.10/24",))
def test_what_exists_on_this_node_is_kept_if_all_of_it_was_seen(
    setup: Setup, user: InProcessUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = network(ipam=host_local("10.1.0.0/24"), hostAccess=True)
    added, removed = setup.add(conf), setup.add(conf, at=setup.container2)
    hidden = setup.add(conf, at=setup.make_container(), CNI_CONTAINERID="three")
    command = f"ipvlan gc -c {user.write_conf(conf)} --keep-existing"
    label = removed.container.links()["net1"]["ifalias"]
    setup.make_foreign_link(hidden.container, "l2", "evil", up=False)
    hidden.container.ip(f"link set dev evil alias {label}")
    setup.node.remove(removed.container)
    with monkeypatch.context() as patched:
        patched.setattr(machine, "missing_capabilities", lambda *_: ["CAP_NET_ADMIN"])
        assert "not seen: " in user.run(command)[2]
    assert "did you mean 'three'?" in user.run(f"{command.rpartition(' ')[0]} thre/net1")[2]
    assert len(find_leases()) == 3
    with monkeypatch.context() as patched, start_user_namespaces(1, FORGED.format(label)):
        patched.setattr(running, "_MOST_STDOUT", 1 << 15)  # so that fewer links are too many
        user.check_output(command)
    assert len(find_leases()) == 2
    setup.node.remove(hidden.container)
    shutil.rmtree(RECORDS)  # as a reboot does, but for the interface, whose label is there
    with monkeypatch.context() as patched:
        patched.setattr("cni_ipvlan.plugin.gc._SEARCH_SECONDS", 0)
        assert "not every namespace could be searched" in user.run(command)[2]
    assert len(find_leases()) == 2
    user.check_output(command)
    assert len(find_leases()) == 1
    added.check()


def test_without_a_file_all_networks_of_the_node_are_looked_after(
    setup: Setup, user: InProcessUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a reboot, containers, records and interfaces are lost, but leases are on disk."""
    here, cache = tmp_path / "net.d", tmp_path / "results"
    monkeypatch.setattr(configs, "DIRECTORY", str(here))
    monkeypatch.setattr(configs, "RESULT_DIRECTORIES", (str(cache),))
    assert "libcni has kept none; -c FILE" in user.run("ipvlan gc --keep-existing")[2]
    here.mkdir()
    cache.mkdir()
    subnets = {"a": "10.1.0.0/24", "b": "10.2.0.0/24", "c": "10.3.0.0/24"}
    confs = [network(name=name, ipam=host_local(subnet)) for name, subnet in subnets.items()]
    (here / "10-a.conf").write_text(json.dumps(confs[0]))
    (here / "20-bridge.conf").write_text(json.dumps({**confs[2], "type": "bridge"}))
    of_tenant = {**confs[1], "ipam": static("10.4.0.2/24")}  # two networks have the same name
    moved = {**confs[0], "ipam": host_local("10.5.0.0/24", dataDir=str(LEASES / "old"))}
    for file, conf in (("a-one-if0", moved), ("b-one-if1", of_tenant), ("b-one-if2", confs[1])):
        encoded = b64encode(json.dumps(conf).encode()).decode()
        (cache / file).write_text(json.dumps({"kind": "cniCacheV1", "config": encoded}))
        setup.add(conf, CNI_IFNAME=file[-3:])
    setup.node.remove(setup.container)
    for conf in confs:
        store = LEASES / "networks" / conf["name"]
        store.mkdir(parents=True, exist_ok=True)
        (store / "10.1.0.7").write_text("one\r\nnet1")
    added = setup.add(confs[0], at=setup.container2)

    user.check_output("ipvlan gc --keep-existing")

    remaining = sorted("/".join(path.parts[-2:]) for path in find_leases())
    assert remaining == ["a/10.1.0.2", "c/10.1.0.7"]  # the last is bridge's
    assert [each.container_id for each in Registry().all_records()] == ["two"]
    added.delete()
    (here / "30-broken.conf").write_text("{]")
    status, _, err = user.run("ipvlan gc --keep-existing")
    assert (status, f"{here}/30-broken.conf:1: it is not valid JSON" in err) == (1, True)
    (here / "40-nameless.conf").write_text('{"type": "ipvlan"}')
    assert f"file: {here}/40-nameless.conf" in user.run("ipvlan gc --keep-existing")[2]


def test_gc_does_not_touch_what_a_call_is_working_on(setup: Setup) -> None:
    name = setup.leave_link("live")
    with lock("live"):
        setup.runtime.gc(CONF).succeeds()
        assert name in setup.host.links()
    setup.runtime.gc(CONF).succeeds()
    assert name not in setup.host.links()


def lock(container: str) -> AbstractContextManager[None]:
    key = AttachmentId("net", container, "net1").key
    return Registry().attachment_lock(key, lambda: None, strict=True)


def test_gc_forgets_containers_that_have_vanished(setup: Setup) -> None:
    setup.add()
    added = setup.add(at=setup.container2)
    records = {path.name for path in RECORDS.glob("on-*/*@*")}
    with Path(setup.container.path).open():  # in which an interface lives as long
        setup.node.remove(setup.container)
        with setup.unchanged():
            setup.runtime.gc({**CONF, "name": "another"}).succeeds()  # whose they are not
            answer = setup.runtime.gc(CONF, [("two", "net1")])
            assert "not removed, since its container still exists: net1 in /proc/" in answer.stderr

    setup.runtime.gc(CONF, [("two", "net1")]).succeeds()

    (remaining,) = RECORDS.glob("on-*/*@*")
    assert len(records) == 2
    assert remaining.name.startswith(AttachmentId("net", "two", "net1").key)
    added.check()
    added.delete()
    assert find_records() == []


@pytest.mark.parametrize("option", ["--keep-none", "--keep-existing"])
def test_gc_releases_what_only_a_thread_keeps(
    setup: Setup, user: InProcessUser, option: str
) -> None:
    """As the DHCP daemon does, until it is asked to release the address."""
    setup.add(LEASED)
    entered, ended = Event(), Event()

    def stay() -> None:
        with setup.container.enter():
            entered.set()
            ended.wait()

    Thread(target=stay, daemon=True).start()
    entered.wait()
    setup.node.remove(setup.container)
    try:
        user.check_output(f"ipvlan gc -c {user.write_conf(LEASED)} {option}")
    finally:
        ended.set()
    assert find_leases() == []


def test_gc_keeps_the_lease_of_an_interface_of_any_kind(setup: Setup, user: InProcessUser) -> None:
    """The network may have been one of bridge or macvlan."""
    setup.add(LEASED)
    shutil.rmtree(RECORDS)
    setup.container.ip("link delete dev net1")
    setup.container.ip("link add name net1 type dummy")
    setup.container.ip("address add 10.1.0.2/24 dev net1")
    setup.runtime.gc({**LEASED, "cniVersion": "1.1.0"}).succeeds()
    assert len(find_leases()) == 1
    assert json.loads(user.check_output("ipvlan show --json"))["leftovers"] == []


def test_gc_removes_links_and_reports_when_ipam_fails(setup: Setup) -> None:
    setup.leave_link("killed")
    setup.fake.answer("GC", {"code": 42, "msg": "lost the key"}, status=1)
    error = setup.runtime.gc({**CONF, "ipam": setup.fake.conf}, CNI_PATH=setup.fake.path).error()
    assert (error["code"], error["msg"]) == (42, "lost the key")
    assert setup.host.links().keys() == {"lo", "eth0"}


def test_gc_with_a_wrong_list_of_valid_attachments_removes_nothing(setup: Setup) -> None:
    name = setup.leave_link("killed")
    lists: list[object] = [{}, "", 0, [5], [{"containerID": "one"}], [{"ifname": "net1"}]]
    for key, attachments in sample(product((KEY, KEY_AT_FIRST), lists), 4):
        error = setup.runtime.call_raw({**CONF, key: attachments}, GC).error()
        assert (error["code"], key in error["msg"]) == (7, True)
        assert name in setup.host.links()


@pytest.mark.parametrize("valid", [{}, {KEY: None}, {KEY_AT_FIRST: None}])
def test_gc_without_a_list_of_valid_ones_takes_none_for_valid(setup: Setup, valid: Conf) -> None:
    """libcni leaves the key out if it got no arguments, and with CRI-O it sends null."""
    container, container2, container3 = setup.container, setup.container2, setup.make_container()
    setup.add(at=container)
    setup.add(at=container2)
    setup.add(at=container3, name="other", ipam=static("10.1.0.4/24"))
    setup.leave_link("killed")
    foreign_link = setup.leave_link("killed", "other")
    setup.node.remove(container)
    conf = {**CONF, "ipam": setup.fake.conf, **valid}

    setup.runtime.call_raw(conf, {**GC, "CNI_PATH": setup.fake.path}).succeeds()

    assert setup.host.links().keys() == {"lo", "eth0", foreign_link}
    remaining = sorted(each.attachment.container_id for each in Registry().all_records())
    assert remaining == ["killed", "one", "two"]
    assert "net1" in container2.links()
    assert "net1" in container3.links()
    handed = json.loads(setup.fake.stdin("GC"))
    assert not handed.pop(KEY)
    assert {KEY: None, **handed} == {KEY: None, **conf}


@pytest.mark.parametrize(
    "lists",
    [
        {KEY_AT_FIRST: [VALID_ENTRY]},
        {KEY_AT_FIRST: [VALID_ENTRY, {"containerID": "gone", "ifname": "net1"}]},
        {KEY: [VALID_ENTRY], KEY_AT_FIRST: []},  # a tenant may have written the other one
    ],
)
def test_gc_takes_the_list_also_under_the_name_it_had_at_first(setup: Setup, lists: Conf) -> None:
    valid_link = setup.leave_link("valid")
    setup.leave_link("killed")
    conf = {**CONF, "ipam": setup.fake.conf, **lists}
    setup.runtime.call_raw(conf, {**GC, "CNI_PATH": setup.fake.path}).succeeds()
    assert setup.host.links().keys() == {"lo", "eth0", valid_link}
    assert json.loads(setup.fake.stdin("GC")) == {**conf, KEY: lists.get(KEY, lists[KEY_AT_FIRST])}


def make_foreign_link(name: str, words: str) -> str:
    run("ip", "link", "add", *words.split())
    return name


# Leases of attachments whose interfaces are gone.

GC_OF_LEASED = {**LEASED, "cniVersion": "1.1.0"}
STORE = LEASES / "networks" / "net"

# Contents of leases that GC keeps, as they name a valid attachment, an existing interface, or none;
# and of leases that it releases.
KEPT = (b"valid\r\nnet1", b"valid", b"lives\r\nnet1", b"lives", b"gone\r\nno\0name", b"-")
RELEASED = (b"gone\r\neth0", b"gone", b"old", b"", b"valid\r\neth0", b"lives\r\neth0", b"a" * 64)


def test_gc_releases_what_was_leased_before_a_restart_of_the_node(setup: Setup) -> None:
    """Records and interfaces are lost in a restart; host-local's leases are on disk."""
    setup.add(LEASED, at=setup.container2, CNI_CONTAINERID="unlabelled")
    setup.container2.ip("link set dev net1 alias mine")
    shutil.rmtree(RECORDS)
    setup.add(LEASED, CNI_CONTAINERID="lives")
    STORE.joinpath("10.1.0.12").touch()  # host-local was killed, or is just writing
    with STORE.joinpath("lock").open() as file:
        flock(file, LOCK_EX)
        setup.runtime.gc(GC_OF_LEASED, [VALID]).succeeds()
        assert STORE.joinpath("10.1.0.12").exists()
    STORE.joinpath(setup.container2.addresses("net1")[0].partition("/")[0]).write_text("")
    STORE.joinpath("garbage").write_text("?")
    for number, content in enumerate((*KEPT, *RELEASED), 20):
        STORE.joinpath(f"10.1.0.{number}").write_bytes(content)
    foreign_lease = LEASES / "networks/other/10.1.0.9"
    foreign_lease.parent.mkdir()
    foreign_lease.write_text("gone\r\nnet1")

    setup.runtime.gc(GC_OF_LEASED, [VALID]).succeeds()

    expected = [f"10.1.0.{number}" for number in range(20, 20 + len(KEPT))]
    remaining = {path.name for path in STORE.iterdir() if path in find_leases()}
    assert remaining == {*expected, "10.1.0.2", "10.1.0.3", "garbage"}
    assert foreign_lease.exists()


def test_gc_releases_the_others_if_a_container_is_unreadable(setup: Setup, tmp_path: Path) -> None:
    for number in range(3):
        setup.add(LEASED, at=setup.make_container(), CNI_CONTAINERID=f"c{number}")
    setup.node.remove(NetNS("/run/netns/container2"))
    setup.node.remove(NetNS("/run/netns/container4"))
    failing = 'case "$*" in *container3*) echo odd >&2; exit 1;; esac; exec "$real" "$@"'
    path = replace_program(tmp_path / "tools", "ip", failing)
    answer = setup.runtime.call_raw({**GC_OF_LEASED, KEY: []}, {**GC, "PATH": path})
    assert "odd" in answer.error()["msg"]
    assert [path.name for path in find_leases()] == ["10.1.0.3"]
    assert [record.container_id for record in Registry().all_records()] == ["c1"]


def test_gc_asks_any_ipam_plugin_to_release_what_a_call_is_not_working_on(setup: Setup) -> None:
    conf = network(cniVersion="1.1.0", ipam=setup.ipam(ips=["10.1.0.2/24"]))
    setup.add(conf)
    setup.node.remove(setup.container)
    setup.add(network(name="other"), at=setup.container2, CNI_CONTAINERID="two").delete()
    with lock("one"):
        setup.runtime.call_raw(conf, {**GC, "CNI_PATH": setup.fake.path}).succeeds()
    valid = {KEY: [{"containerID": "one", "ifname": "net1"}]}
    setup.runtime.call_raw({**conf, **valid}, {**GC, "CNI_PATH": setup.fake.path}).succeeds()
    assert setup.fake.calls == ["ADD", "GC", "GC"]

    setup.ipam("DEL", code=11, msg="later", status=1)
    answer = setup.runtime.call_raw(conf, {**GC, "CNI_PATH": setup.fake.path})
    assert answer.error()["msg"] == "later"
    assert [record.container_id for record in Registry().all_records()] == ["one"]
    setup.ipam("DEL", script="")
    setup.runtime.call_raw(conf, {**GC, "CNI_PATH": setup.fake.path}).succeeds()

    assert setup.fake.calls[-2:] == ["GC", "DEL"]
    assert list(Registry().all_records()) == []
