"""Labels: each interface says which attachment it is, so no call harms another's."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
from doubles import FakeIpam
from lab import MEMORY, Node, Space, run
from runtime import Runtime, host_local, network, static

from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

LEASED = network(ipam=host_local("10.1.0.0/24"))
LABEL = AttachmentId("net", "one", "net1").label


def alias(container: Space, name: str = "net1") -> str:
    return str(container.links()[name].get("ifalias", ""))


def relabel(container: Space, text: str) -> None:
    container.ip(f"link set dev net1 alias {text}")


@pytest.mark.parametrize("in_container", [False, True])
def test_add_labels_the_interface(node: Node, runtime: Runtime, *, in_container: bool) -> None:
    container = node.container()
    if in_container:
        container.ip("link add name eth0 type dummy")
        container.ip("link set dev eth0 up")
    else:
        node.master()

    runtime.add(container, network(linkInContainer=in_container)).result()

    assert alias(container) == LABEL


def test_long_names_are_cut_to_fit(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    conf = network(name="n" * 255)

    runtime.add(container, conf, CNI_CONTAINERID="c" * 255).result()

    assert len(alias(container)) <= 255
    assert alias(container) == AttachmentId("n" * 255, "c" * 255, "net1").label
    runtime.delete(container, conf, CNI_CONTAINERID="c" * 254).succeeds()
    assert "net1" in container.links()
    runtime.delete(container, conf, CNI_CONTAINERID="c" * 255).succeeds()
    assert container.links().keys() == {"lo"}


@pytest.mark.parametrize("conf", [LEASED, network(ipam=static("10.1.0.9/24"))])
def test_add_of_what_lives_in_another_namespace_harms_nothing(
    node: Node, runtime: Runtime, conf: dict[str, object]
) -> None:
    node.master()
    living, other = node.container(), node.container()
    result = runtime.add(living, LEASED).result()
    before = node.snapshot()

    error = runtime.add(other, conf).error()

    assert error["code"] == 105
    assert "the container already has an interface 'net1'" in error["msg"]
    assert f"it is net1 in {living.path}" in error["details"]
    assert node.snapshot() == before
    runtime.check(living, LEASED, result).succeeds()


def test_add_of_what_lives_elsewhere_asks_no_ipam(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    conf = network(ipam=fake_ipam.conf)
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path).result()

    runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path).error()

    assert fake_ipam.calls == ["ADD"]


@pytest.mark.parametrize("recorded", [True, False])
def test_add_again_in_the_same_namespace_harms_nothing(
    node: Node, runtime: Runtime, *, recorded: bool
) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, LEASED).result()
    if not recorded:
        run("rm", "-r", str(MEMORY))

    assert runtime.add(container, LEASED).error()["code"] == 105

    assert node.leases() == ["10.1.0.2"]
    assert alias(container) == LABEL
    runtime.check(container, LEASED, result).succeeds()


def test_add_of_what_was_renamed_is_refused(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, LEASED).result()
    container.rename("net1", "other")
    before = node.snapshot()

    assert runtime.add(container, LEASED).error()["code"] == 105
    assert node.snapshot() == before


@pytest.mark.parametrize("target", ["there", "elsewhere"])
@pytest.mark.parametrize("conf", [LEASED, network()])
def test_add_of_what_was_moved_away_is_refused_and_harms_nothing(
    node: Node, runtime: Runtime, conf: dict[str, object], target: str
) -> None:
    node.master()
    container, other, third = (node.container() for _ in range(3))
    runtime.add(container, conf).result()
    container.run("ip", "link", "set", "dev", "net1", "netns", other.path, "name", "other")
    before = node.snapshot()

    for _ in range(2):
        error = runtime.add(other if target == "there" else third, conf).error()
        assert error["code"] == 105
        assert f"other in {other.path}" in error["details"]
        assert node.snapshot() == before


def test_a_lease_that_was_there_before_is_not_released(node: Node, runtime: Runtime) -> None:
    """host-local refuses what it has given to the same container, whose namespace is gone."""
    node.master()
    gone = node.container()
    runtime.add(gone, LEASED).result()
    node.remove(gone)

    for _ in range(2):
        error = runtime.add(node.container(), LEASED).error()
        assert "duplicate allocation" in error["msg"]
        assert node.leases() == ["10.1.0.2"]

    runtime.delete("", LEASED).succeeds()
    assert node.leases() == []


def test_an_ipam_plugin_that_fails_releases_nothing_that_was_there_before(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    conf = network(ipam=fake_ipam.conf)
    gone = node.container()
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    runtime.add(gone, conf, CNI_PATH=fake_ipam.path).result()
    node.remove(gone)
    fake_ipam.answers("ADD", {"code": 42, "msg": "no"}, status=1)

    for _ in range(2):
        runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path).error()

    assert fake_ipam.calls == ["ADD", "ADD", "ADD"]


def test_an_ipam_plugin_that_fails_is_asked_to_release_what_is_new(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    fake_ipam.answers("ADD", {"code": 42, "msg": "no"}, status=1)

    runtime.add(node.container(), network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path).error()

    assert fake_ipam.calls == ["ADD", "DEL"]


def test_delete_finds_what_was_renamed(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    runtime.add(container, LEASED).result()
    container.rename("net1", "other")

    runtime.delete(container, LEASED).succeeds()

    assert node.snapshot() == before


def test_delete_reports_what_was_moved_away_and_does_not_remove_it(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container, other = node.container(), node.container()
    runtime.add(container, LEASED).result()
    container.run("ip", "link", "set", "dev", "net1", "netns", other.path)

    answer = runtime.delete(container, LEASED)

    answer.succeeds()
    assert f"net1 in {other.path}" in answer.stderr
    assert "net1" in other.links()
    again = runtime.delete(container, LEASED)
    again.succeeds()
    assert again.stderr == ""


def test_delete_without_the_namespace_removes_what_is_recorded(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()
    runtime.add(container, LEASED).result()

    runtime.delete("", LEASED).succeeds()

    assert node.snapshot() == before


def test_a_late_delete_leaves_the_next_container_in_the_namespace_alone(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    container = node.container()
    runtime.add(container, LEASED, CNI_CONTAINERID="former").result()
    node.remove(container)
    run("ip", "netns", "add", container.path.rpartition("/")[2])
    result = runtime.add(container, LEASED, CNI_CONTAINERID="present").result()

    answer = runtime.delete(container, LEASED, CNI_CONTAINERID="former")

    answer.succeeds()
    assert "belongs to another attachment" in answer.stderr
    assert node.leases() == ["10.1.0.3"]
    runtime.check(container, LEASED, result, CNI_CONTAINERID="present").succeeds()


def test_two_networks_with_one_key_are_two(node: Node, runtime: Runtime) -> None:
    """Their names have the same digest, and so have their attachments' keys."""
    node.master()
    container = node.container()
    one, two = (network(name=name) for name in ("kube-prod", "n21567"))
    assert AttachmentId("kube-prod", "one", "net1").key == AttachmentId("n21567", "one", "net1").key
    runtime.add(container, one).result()

    assert runtime.add(container, two).error()["code"] == 105
    runtime.delete(container, two).succeeds()
    assert "net1" in container.links()
    container.rename("net1", "other")
    runtime.add(container, {**two, "ipam": static("10.1.0.3/24")}).result()
    runtime.delete(container, one).succeeds()
    assert container.links().keys() == {"lo", "net1"}
    runtime.delete(container, two).succeeds()
    assert container.links().keys() == {"lo"}


@pytest.mark.parametrize("text", ["mine", "cni-ipvlan/net/one", "''"])
def test_an_interface_without_a_label_is_known_by_its_name(
    node: Node, runtime: Runtime, text: str
) -> None:
    """One that an older version has made, or whose owner has changed the alias."""
    node.master()
    container = node.container()
    before = node.snapshot()
    result = runtime.add(container, LEASED).result()
    container.run("ip", "link", "set", "dev", "net1", "alias", text.strip("'"))

    runtime.check(container, LEASED, result).succeeds()
    runtime.delete(container, LEASED).succeeds()

    assert node.snapshot() == before


def test_a_forged_label_makes_nobody_elses_interface_go(node: Node, runtime: Runtime) -> None:
    node.master()
    victim, forger = node.container(), node.container()
    victims_result = runtime.add(victim, LEASED, CNI_CONTAINERID="victim").result()
    runtime.add(forger, LEASED, CNI_CONTAINERID="forger").result()
    relabel(forger, AttachmentId("net", "victim", "net1").label)

    answer = runtime.delete(forger, LEASED, CNI_CONTAINERID="forger")

    answer.succeeds()
    runtime.check(victim, LEASED, victims_result, CNI_CONTAINERID="victim").succeeds()
    runtime.delete(victim, LEASED, CNI_CONTAINERID="victim").succeeds()
    assert victim.links().keys() == {"lo"}


def test_check_reports_an_interface_of_another_attachment(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, LEASED).result()
    relabel(container, AttachmentId("net", "another", "net1").label)

    error = runtime.check(container, LEASED, result).error()

    assert error["code"] == 110
    assert "it belongs to the container 'another'" in error["msg"]


def test_check_reports_an_interface_that_was_renamed(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, LEASED).result()
    container.rename("net1", "other")

    error = runtime.check(container, LEASED, result).error()

    assert error["code"] == 110
    assert "it was renamed to 'other'" in error["msg"]


def test_gc_leaves_a_living_container_alone_and_reports_it(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    result = runtime.add(container, LEASED).result()
    container.rename("net1", "other")

    answer = runtime.gc(network(cniVersion="1.1.0", ipam=None))

    answer.succeeds()
    assert "not removed" in answer.stderr
    assert container.path in answer.stderr
    container.rename("other", "net1")
    container.ip("link set dev net1 up")
    runtime.check(container, LEASED, result).succeeds()
    assert runtime.add(node.container(), LEASED).error()["code"] == 105


def test_gc_with_an_ipam_plugin_that_knows_no_gc_says_that_leases_stay(
    node: Node, runtime: Runtime
) -> None:
    """As Debian's host-local."""
    answer = runtime.gc({**LEASED, "cniVersion": "1.1.0"})

    answer.succeeds()
    assert "its leases stay" in answer.stderr


def test_gc_leaves_alone_what_an_add_completes_meanwhile(
    node: Node, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GC has listed the record before the ADD ended, and waits for its lock."""
    node.master()
    container = node.container()
    result = runtime.add(container, LEASED).result()
    (record,) = MEMORY.glob("on-*/*")
    adding = record.rename(f"{record}.adding")
    idle = Registry.idle

    def ended_meanwhile(registry: Registry, key: str) -> AbstractContextManager[bool]:
        if adding.exists():
            adding.rename(record)
        return idle(registry, key)

    monkeypatch.setattr(Registry, "idle", ended_meanwhile)
    runtime.gc(network(cniVersion="1.1.0", ipam=None)).succeeds()

    assert record.exists()
    runtime.check(container, LEASED, result).succeeds()


def test_a_cause_names_the_container_by_its_label(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network()).result()
    container.rename("net1", "other")
    run("rm", "-r", str(MEMORY))

    answer = runtime.add(node.container(), network(), CNI_CONTAINERID="two")

    assert answer.error()["code"] == 106
    assert f"belongs to other in {container.path} (container one)" in answer.stderr
