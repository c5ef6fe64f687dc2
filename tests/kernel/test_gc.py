"""GC: it removes what killed calls left, and nothing that belongs to an attachment."""

import json
import shutil
from base64 import b64encode
from contextlib import AbstractContextManager
from fcntl import LOCK_EX, flock
from itertools import product
from pathlib import Path

import pytest
from doubles import stand_in
from lab import LEASES, MEMORY, Space, leases, records, run
from people import QuickPerson
from runtime import PLUGINS, Conf, host_local, network, static
from sampling import sample
from scene import Scene

from cni_ipvlan.cli import configs
from cni_ipvlan.iproute import machine
from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

CONF = network(cniVersion="1.1.0", ipam=None)
VALID = ("valid", "net1")
LISTED = {"containerID": VALID[0], "ifname": VALID[1]}
GC = {"CNI_COMMAND": "GC", "CNI_PATH": PLUGINS}
KEY = "cni.dev/valid-attachments"
KEY_AT_FIRST = "cni.dev/attachments"


def test_gc_removes_links_on_the_host_that_belong_to_no_valid_attachment(scene: Scene) -> None:
    left_behind("net", "killed", "net1")
    kept = {
        left_behind("net", *VALID),
        left_behind("another", "killed", "net1"),
        foreign("ivmine", "link eth0 name ivmine type ipvlan"),
        foreign(name := "iv" + AttachmentId("net", "other", "kind").key, f"name {name} type dummy"),
    }
    scene.runtime.gc(CONF, [VALID]).succeeds()
    assert scene.host.links().keys() == {"lo", "eth0", *kept}


@pytest.mark.scene(host=("10.1.0.10/24",))
def test_what_exists_on_this_node_is_kept_if_all_of_it_was_seen(
    scene: Scene, person: QuickPerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = network(ipam=host_local("10.1.0.0/24"), hostAccess=True)
    kept, gone = scene.add(conf), scene.add(conf, at=scene.two)
    lost = scene.add(conf, at=scene.container(), CNI_CONTAINERID="three")
    command = f"ipvlan gc -c {person.writes(conf)} --keep-existing"
    scene.node.remove(gone.container)
    with monkeypatch.context() as patched:
        patched.setattr(machine, "missing_capabilities", lambda *_: ["CAP_NET_ADMIN"])
        assert "not seen: " in person.types(command)[2]
    assert len(leases()) == 3
    person.succeeds(command)
    assert len(leases()) == 2
    scene.node.remove(lost.container)
    shutil.rmtree(MEMORY)  # as a reboot does, but for the interface, whose label is there
    with monkeypatch.context() as patched:
        patched.setattr("cni_ipvlan.plugin.gc._SEARCH_SECONDS", 0)
        assert "not every namespace could be searched" in person.types(command)[2]
    assert len(leases()) == 2
    person.succeeds(command)
    assert len(leases()) == 1
    kept.check()


def test_without_a_file_all_networks_of_the_node_are_looked_after(
    scene: Scene, person: QuickPerson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reboot: containers, records and interfaces are gone, leases are on disk."""
    here, cache = tmp_path / "net.d", tmp_path / "results"
    monkeypatch.setattr(configs, "DIRECTORY", str(here))
    monkeypatch.setattr(configs, "RESULT_DIRECTORIES", (str(cache),))
    assert "libcni has kept none; -c FILE" in person.types("ipvlan gc --keep-existing")[2]
    here.mkdir()
    cache.mkdir()
    confs = [network(name=name, ipam=host_local("10.1.0.0/24")) for name in ("a", "b", "c")]
    (here / "10-a.conf").write_text(json.dumps(confs[0]))
    (here / "20-bridge.conf").write_text(json.dumps({**confs[2], "type": "bridge"}))
    kept = b64encode(json.dumps(confs[1]).encode()).decode()
    (cache / "b-one-net1").write_text(json.dumps({"kind": "cniCacheV1", "config": kept}))
    for conf in confs:
        store = LEASES / "networks" / conf["name"]
        store.mkdir(parents=True)
        (store / "10.1.0.7").write_text("one\r\nnet1")
    living = scene.add(confs[0], at=scene.two)

    person.succeeds("ipvlan gc --keep-existing")

    left = sorted(str(path.relative_to(LEASES / "networks")) for path in leases())
    assert left == ["a/10.1.0.2", "c/10.1.0.7"]  # the last is bridge's
    living.delete()
    (here / "30-nameless.conf").write_text('{"type": "ipvlan"}')
    assert f"file: {here}/30-nameless.conf" in person.types("ipvlan gc --keep-existing")[2]


def test_gc_does_not_touch_what_a_call_is_working_on(scene: Scene) -> None:
    name = left_behind("net", "live", "net1")
    with locked("live"):
        scene.runtime.gc(CONF).succeeds()
        assert name in scene.host.links()
    scene.runtime.gc(CONF).succeeds()
    assert name not in scene.host.links()


def locked(container: str) -> AbstractContextManager[None]:
    key = AttachmentId("net", container, "net1").key
    return Registry().attachment_lock(key, lambda: None, strict=True)


def test_gc_forgets_containers_that_have_vanished(scene: Scene) -> None:
    scene.add()
    alive = scene.add(at=scene.two)
    remembered = {path.name for path in MEMORY.glob("on-*/*")}
    scene.node.remove(scene.one)
    with scene.unchanged():
        scene.runtime.gc({**CONF, "name": "another"}).succeeds()  # whose they are not

    scene.runtime.gc(CONF, [("two", "net1")]).succeeds()

    left = sorted(path.name for path in MEMORY.glob("on-*/*"))
    assert len(remembered) == 2
    assert len(left) == 2
    assert left[0].startswith(AttachmentId("net", "two", "net1").key)
    assert left[1] == "mode"  # since nobody has seen the interface go, and the master is in use
    alive.check()
    alive.delete()
    assert records() == []


def test_gc_removes_links_and_reports_when_ipam_fails(scene: Scene) -> None:
    left_behind("net", "killed", "net1")
    scene.fake.answers("GC", {"code": 42, "msg": "lost the key"}, status=1)
    error = scene.runtime.gc({**CONF, "ipam": scene.fake.conf}, CNI_PATH=scene.fake.path).error()
    assert (error["code"], error["msg"]) == (42, "lost the key")
    assert scene.host.links().keys() == {"lo", "eth0"}


def test_gc_with_a_wrong_list_of_valid_attachments_removes_nothing(scene: Scene) -> None:
    name = left_behind("net", "killed", "net1")
    wrong: list[object] = [{}, "", 0, [5], [{"containerID": "one"}], [{"ifname": "net1"}]]
    for key, attachments in sample(product((KEY, KEY_AT_FIRST), wrong), 4):
        error = scene.runtime.raw({**CONF, key: attachments}, GC).error()
        assert (error["code"], key in error["msg"]) == (7, True)
        assert name in scene.host.links()


@pytest.mark.parametrize("valid", [{}, {KEY: None}, {KEY_AT_FIRST: None}])
def test_gc_without_a_list_of_valid_ones_takes_none_for_valid(scene: Scene, valid: Conf) -> None:
    """libcni leaves the key out if it got no arguments, and with CRI-O it sends null."""
    gone, alive, other = scene.one, scene.two, scene.container()
    scene.add(at=gone)
    scene.add(at=alive)
    scene.add(at=other, name="other", ipam=static("10.1.0.4/24"))
    left_behind("net", "killed", "net1")
    kept = left_behind("other", "killed", "net1")
    scene.node.remove(gone)
    conf = {**CONF, "ipam": scene.fake.conf, **valid}

    scene.runtime.raw(conf, {**GC, "CNI_PATH": scene.fake.path}).succeeds()

    assert scene.host.links().keys() == {"lo", "eth0", kept}
    left = sorted(each.attachment.container_id for each in Registry().all_records())
    assert left == ["one", "two"]
    assert "net1" in alive.links()
    assert "net1" in other.links()
    handed = json.loads(scene.fake.stdin("GC"))
    assert not handed.pop(KEY)
    assert {KEY: None, **handed} == {KEY: None, **conf}


@pytest.mark.parametrize(
    "given",
    [
        {KEY_AT_FIRST: [LISTED]},
        {KEY_AT_FIRST: [LISTED, {"containerID": "gone", "ifname": "net1"}]},
        {KEY: [LISTED], KEY_AT_FIRST: []},  # a tenant may have written the other one
    ],
)
def test_gc_takes_the_list_also_under_the_name_it_had_at_first(scene: Scene, given: Conf) -> None:
    kept = left_behind("net", *VALID)
    left_behind("net", "killed", "net1")
    conf = {**CONF, "ipam": scene.fake.conf, **given}
    scene.runtime.raw(conf, {**GC, "CNI_PATH": scene.fake.path}).succeeds()
    assert scene.host.links().keys() == {"lo", "eth0", kept}
    assert json.loads(scene.fake.stdin("GC")) == {**conf, KEY: given.get(KEY, given[KEY_AT_FIRST])}


def left_behind(network_name: str, container: str, ifname: str) -> str:
    """Make what an ADD has made when it is killed before it moves the link; return its name."""
    name = "iv" + AttachmentId(network_name, container, ifname).key
    return foreign(name, f"link eth0 name {name} type ipvlan")


def foreign(name: str, making: str) -> str:
    run("ip", "link", "add", *making.split())
    return name


# Leases of attachments whose interfaces are gone.

LEASED = network(cniVersion="1.0.0", ipam=host_local("10.1.0.0/24"))
GC_OF_LEASED = {**LEASED, "cniVersion": "1.1.0"}
STORE = LEASES / "networks" / "net"


# What a lease has that stays: names a valid attachment, or a container whose interface is there, or
# nobody; and of one that goes.
KEPT = (b"valid\r\nnet1", b"valid", b"lives\r\nnet1", b"lives", b"gone\r\nno\0name", b"-")
RELEASED = (b"gone\r\neth0", b"gone", b"old", b"", b"valid\r\neth0", b"lives\r\neth0", b"a" * 64)


def test_gc_releases_what_was_leased_before_a_restart_of_the_node(scene: Scene) -> None:
    """Records are gone, and so are interfaces; host-local's store is on disk."""
    scene.add(LEASED, at=scene.two, CNI_CONTAINERID="unlabelled")
    scene.two.ip("link set dev net1 alias mine")
    shutil.rmtree(MEMORY)
    scene.add(LEASED, CNI_CONTAINERID="lives")
    STORE.joinpath("10.1.0.12").touch()  # host-local was killed, or is just writing
    with STORE.joinpath("lock").open() as file:
        flock(file, LOCK_EX)
        scene.runtime.gc(GC_OF_LEASED, [VALID]).succeeds()
        assert STORE.joinpath("10.1.0.12").exists()
    STORE.joinpath(scene.two.addresses("net1")[0].partition("/")[0]).write_text("")
    STORE.joinpath("garbage").write_text("?")
    for number, content in enumerate((*KEPT, *RELEASED), 20):
        STORE.joinpath(f"10.1.0.{number}").write_bytes(content)
    others = LEASES / "networks/other/10.1.0.9"
    others.parent.mkdir()
    others.write_text("gone\r\nnet1")

    scene.runtime.gc(GC_OF_LEASED, [VALID]).succeeds()

    kept = [f"10.1.0.{number}" for number in range(20, 20 + len(KEPT))]
    left = {path.name for path in STORE.iterdir() if path in leases()}
    assert left == {*kept, "10.1.0.2", "10.1.0.3", "garbage"}
    assert others.exists()


def test_gc_releases_the_others_if_a_container_is_unreadable(scene: Scene, tmp_path: Path) -> None:
    for number in range(3):
        scene.add(LEASED, at=scene.container(), CNI_CONTAINERID=f"c{number}")
    scene.node.remove(Space("/run/netns/container2"))
    scene.node.remove(Space("/run/netns/container4"))
    failing = 'case "$*" in *container3*) echo odd >&2; exit 1;; esac; exec "$real" "$@"'
    path = stand_in(tmp_path / "tools", "ip", failing)
    answer = scene.runtime.raw({**GC_OF_LEASED, KEY: []}, {**GC, "PATH": path})
    assert "odd" in answer.error()["msg"]
    assert [path.name for path in leases()] == ["10.1.0.3"]
    assert [record.container_id for record in Registry().all_records()] == ["c1"]


def test_gc_asks_any_ipam_plugin_to_release_what_a_call_is_not_working_on(scene: Scene) -> None:
    about = network(cniVersion="1.1.0", ipam=scene.ipam(ips=["10.1.0.2/24"]))
    scene.add(about)
    scene.node.remove(scene.one)
    with locked("one"):
        scene.runtime.raw(about, {**GC, "CNI_PATH": scene.fake.path}).succeeds()
    valid = {KEY: [{"containerID": "one", "ifname": "net1"}]}
    scene.runtime.raw({**about, **valid}, {**GC, "CNI_PATH": scene.fake.path}).succeeds()
    assert scene.fake.calls == ["ADD", "GC", "GC"]

    scene.ipam("DEL", code=11, msg="later", status=1)
    answer = scene.runtime.raw(about, {**GC, "CNI_PATH": scene.fake.path})
    assert answer.error()["msg"] == "later"
    assert [record.container_id for record in Registry().all_records()] == ["one"]
    scene.ipam("DEL", script="")
    scene.runtime.raw(about, {**GC, "CNI_PATH": scene.fake.path}).succeeds()

    assert scene.fake.calls[-2:] == ["GC", "DEL"]
    assert list(Registry().all_records()) == []
