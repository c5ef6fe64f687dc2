"""GC: it removes what killed calls left, and nothing that belongs to an attachment."""

from __future__ import annotations

import json

import pytest
from doubles import FakeIpam
from lab import MEMORY, Node, run
from runtime import PLUGINS, Conf, Runtime, network, static

from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

CONF = network(cniVersion="1.1.0", ipam=None)
VALID = ("valid", "net1")
GC = {"CNI_COMMAND": "GC", "CNI_PATH": PLUGINS}
KEY = "cni.dev/valid-attachments"
KEY_AT_FIRST = "cni.dev/attachments"


def test_gc_removes_links_on_the_host_that_belong_to_no_valid_attachment(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    left_behind("net", "killed", "net1")
    kept = {
        left_behind("net", *VALID),
        left_behind("another", "killed", "net1"),
        foreign("ivmine", "link eth0 name ivmine type ipvlan"),
        foreign(name := "iv" + AttachmentId("net", "other", "kind").key, f"name {name} type dummy"),
    }

    runtime.gc(CONF, [VALID]).succeeds()

    assert node.host.links().keys() == {"lo", "eth0", *kept}


def test_gc_does_not_touch_what_a_call_is_working_on(node: Node, runtime: Runtime) -> None:
    node.master()
    name = left_behind("net", "live", "net1")

    with Registry().attachment_lock(
        AttachmentId("net", "live", "net1").key, lambda: None, strict=True
    ):
        runtime.gc(CONF).succeeds()
        assert name in node.host.links()

    runtime.gc(CONF).succeeds()
    assert name not in node.host.links()


def test_gc_forgets_containers_that_have_vanished(node: Node, runtime: Runtime) -> None:
    node.master()
    gone, alive = node.container(), node.container()
    for container, identity, address in ((gone, "gone", 2), (alive, "alive", 3)):
        conf = network(ipam={"type": "static", "addresses": [{"address": f"10.1.0.{address}/24"}]})
        runtime.add(container, conf, CNI_CONTAINERID=identity).result()
    remembered = {path.name for path in MEMORY.glob("on-*/*")}
    node.remove(gone)

    runtime.gc(CONF, [("alive", "net1")]).succeeds()

    left = sorted(path.name for path in MEMORY.glob("on-*/*"))
    assert len(remembered) == 2
    assert len(left) == 2
    assert left[0].startswith(AttachmentId("net", "alive", "net1").key)
    assert left[1] == "mode"  # since nobody has seen the interface go, and the master is in use
    runtime.delete(alive, network(), CNI_CONTAINERID="alive").succeeds()
    assert not MEMORY.exists()


def test_gc_of_another_network_leaves_attachments_alone(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, network()).result()
    before = node.snapshot()

    runtime.gc({**CONF, "name": "another"}).succeeds()

    assert node.snapshot() == before
    runtime.check(container, network(), result).succeeds()


def test_gc_passes_the_valid_attachments_to_the_ipam_plugin(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    conf = {**CONF, "ipam": fake_ipam.conf}

    runtime.gc(conf, [VALID], CNI_PATH=fake_ipam.path).succeeds()

    assert fake_ipam.calls == ["GC"]
    assert b'"containerID": "valid"' in fake_ipam.stdin("GC")


def test_gc_removes_links_and_reports_when_ipam_fails(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    left_behind("net", "killed", "net1")
    fake_ipam.answers("GC", {"code": 42, "msg": "lost the key"}, status=1)

    error = runtime.gc({**CONF, "ipam": fake_ipam.conf}, CNI_PATH=fake_ipam.path).error()

    assert (error["code"], error["msg"]) == (42, "lost the key")
    assert node.host.links().keys() == {"lo", "eth0"}


@pytest.mark.parametrize("key", [KEY, KEY_AT_FIRST])
@pytest.mark.parametrize(
    "attachments", [{}, "", 0, [5], [{"containerID": "one"}], [{"ifname": "net1"}]]
)
def test_gc_with_a_wrong_list_of_valid_attachments_removes_nothing(
    node: Node, runtime: Runtime, attachments: object, key: str
) -> None:
    node.master()
    name = left_behind("net", "killed", "net1")

    error = runtime.raw({**CONF, key: attachments}, GC).error()

    assert error["code"] == 7
    assert key in error["msg"]
    assert name in node.host.links()


@pytest.mark.parametrize("valid", [{}, {KEY: None}, {KEY_AT_FIRST: None}])
def test_gc_without_a_list_of_valid_attachments_takes_none_for_valid(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, valid: Conf
) -> None:
    """libcni leaves the key out if it got no arguments, and with CRI-O it sends null."""
    node.master()
    gone, alive, other = node.container(), node.container(), node.container()
    for number, (container, name) in enumerate(((gone, "net"), (alive, "net"), (other, "other"))):
        conf = network(ipam=static(f"10.1.0.{number + 2}/24"), name=name)
        runtime.add(container, conf, CNI_CONTAINERID=f"c{number}").result()
    left_behind("net", "killed", "net1")
    kept = left_behind("other", "killed", "net1")
    node.remove(gone)
    conf = {**CONF, "ipam": fake_ipam.conf, **valid}

    runtime.raw(conf, {**GC, "CNI_PATH": fake_ipam.path}).succeeds()

    assert node.host.links().keys() == {"lo", "eth0", kept}
    assert [each.attachment.container_id for each in sorted(Registry().all_hints())] == ["c1", "c2"]
    assert "net1" in alive.links()
    assert "net1" in other.links()
    handed = json.loads(fake_ipam.stdin("GC"))
    assert not handed.pop(KEY)
    assert {KEY: None, **handed} == {KEY: None, **conf}


@pytest.mark.parametrize("others", [(), (("gone", "net1"),)])
def test_gc_takes_the_list_under_the_name_that_the_specification_had_at_first(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, others: tuple[tuple[str, str], ...]
) -> None:
    node.master()
    kept = left_behind("net", *VALID)
    left_behind("net", "killed", "net1")
    listed = [{"containerID": each[0], "ifname": each[1]} for each in (VALID, *others)]
    conf = {**CONF, "ipam": fake_ipam.conf, KEY_AT_FIRST: listed}

    runtime.raw(conf, {**GC, "CNI_PATH": fake_ipam.path}).succeeds()

    assert node.host.links().keys() == {"lo", "eth0", kept}
    assert json.loads(fake_ipam.stdin("GC")) == {**conf, KEY: listed}


def test_gc_takes_the_list_of_the_right_name_if_there_are_two(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    """A tenant may have written the other one into a configuration."""
    node.master()
    kept = left_behind("net", *VALID)
    conf = {**CONF, "ipam": fake_ipam.conf, KEY_AT_FIRST: []}

    runtime.gc(conf, [VALID], CNI_PATH=fake_ipam.path).succeeds()

    assert node.host.links().keys() == {"lo", "eth0", kept}
    assert json.loads(fake_ipam.stdin("GC"))[KEY] == [{"containerID": VALID[0], "ifname": VALID[1]}]


def left_behind(network_name: str, container: str, ifname: str) -> str:
    """Make what an ADD has made when it is killed before it moves the link; return its name."""
    name = "iv" + AttachmentId(network_name, container, ifname).key
    return foreign(name, f"link eth0 name {name} type ipvlan")


def foreign(name: str, making: str) -> str:
    run("ip", "link", "add", *making.split())
    return name
