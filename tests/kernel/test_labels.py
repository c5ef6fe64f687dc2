"""Labels: each interface says which attachment it is, so no call harms another's."""

from contextlib import AbstractContextManager

import pytest
from executable import Executable
from lab import MEMORY, Space, records, run
from runtime import PLUGINS, Answer, Conf, Runtime, host_local, network, static
from scene import Added, Scene

from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

LEASED = network(ipam=host_local("10.1.0.0/24"))
LABEL = AttachmentId("net", "one", "net1").label
GC = network(cniVersion="1.1.0", ipam=None)


def alias(container: Space, name: str = "net1") -> str:
    return str(container.links()[name].get("ifalias", ""))


def relabel(container: Space, text: str) -> None:
    container.run("ip", "link", "set", "dev", "net1", "alias", text)


def delete(added: Added, netns: Space | str | None = None) -> Answer:
    """Delete an attachment, which must work; return what is said."""
    place = added.container if netns is None else netns
    answer = added.scene.runtime.delete(place, added.conf, **added.environment)
    answer.succeeds()
    return answer


def test_long_names_are_cut_to_fit(scene: Scene) -> None:
    added = scene.add(name="n" * 255, CNI_CONTAINERID="c" * 255)
    assert len(alias(scene.one)) <= 255
    assert alias(scene.one) == AttachmentId("n" * 255, "c" * 255, "net1").label
    added._replace(environment={**added.environment, "CNI_CONTAINERID": "c" * 254}).delete()
    assert "net1" in scene.one.links()
    added.delete()
    assert scene.one.links().keys() == {"lo"}
    assert records() == []


def test_add_of_what_lives_in_another_namespace_harms_nothing(scene: Scene) -> None:
    added = scene.add(LEASED)
    words = f"it is net1 in {scene.one.path}", "the container already has an interface 'net1'"
    same: Conf = {"at": scene.two, "CNI_CONTAINERID": "one"}
    for ipam in (LEASED["ipam"], static("10.1.0.9/24"), scene.ipam(ips=["10.1.0.9/24"])):
        scene.refuses(105, *words, ipam=ipam, **same)
    assert scene.fake.calls == []
    added.check()


@pytest.mark.parametrize("recorded", [True, False])
def test_add_again_in_the_same_namespace_harms_nothing(scene: Scene, *, recorded: bool) -> None:
    added = scene.add(LEASED)
    if not recorded:
        run("rm", "-r", str(MEMORY))
    assert scene.runtime.add(scene.one, LEASED).error()["code"] == 105
    assert scene.node.leases() == ["10.1.0.2"]
    assert alias(scene.one) == LABEL
    added.check()
    scene.one.rename("net1", "other")
    scene.refuses(105, conf=LEASED)


@pytest.mark.parametrize("is_there", [True, False])
def test_add_and_delete_harm_nothing_that_was_moved(scene: Scene, *, is_there: bool) -> None:
    added = scene.add(LEASED)
    scene.one.run("ip", "link", "set", "dev", "net1", "netns", scene.two.path, "name", "other")
    at = scene.two if is_there else scene.container()
    there = f"other in {scene.two.path}"
    for ipam in (LEASED["ipam"], static("10.1.0.2/24")):
        scene.refuses(105, there, at=at, ipam=ipam, CNI_CONTAINERID="one")
    assert there in delete(added).stderr
    assert "other" in scene.two.links()
    assert delete(added).stderr == ""


def test_a_lease_that_was_there_before_is_not_released(scene: Scene) -> None:
    """host-local refuses what it has given to the same container, whose namespace is gone."""
    added = scene.add(LEASED)
    scene.node.remove(scene.one)
    for _ in range(2):
        error = scene.runtime.add(scene.node.container(), LEASED).error()
        assert "duplicate allocation" in error["msg"]
        assert scene.node.leases() == ["10.1.0.2"]
    delete(added, "")
    assert scene.node.leases() == []


def test_delete_finds_what_was_renamed_and_check_and_gc_report_it(scene: Scene) -> None:
    with scene.unchanged():
        added = scene.add(LEASED)
        scene.one.rename("net1", "other")
        assert added.check("it was renamed to 'other'")["code"] == 110
        answer = scene.runtime.gc(GC)
        answer.succeeds()
        assert f"net1 in {scene.one.path}" in answer.stderr
        assert "not removed" in answer.stderr
        assert scene.one.links().keys() == {"lo", "other"}
        assert scene.node.leases() == ["10.1.0.2"]
        refused = scene.runtime.add(scene.node.container(), LEASED)
        assert refused.error()["code"] == 105
        scene.node.remove(Space("/run/netns/container2"))
        added.delete()


def test_a_late_delete_leaves_the_next_container_in_the_namespace_alone(scene: Scene) -> None:
    former = scene.add(LEASED, CNI_CONTAINERID="former")
    scene.node.remove(scene.one)
    run("ip", "netns", "add", scene.one.path.rpartition("/")[2])
    present = scene.add(LEASED, CNI_CONTAINERID="present")
    assert "belongs to another attachment" in delete(former).stderr
    assert scene.node.leases() == ["10.1.0.3"]
    present.check()


def test_two_networks_with_one_key_are_two(scene: Scene) -> None:
    """Their names have the same digest, and so have their attachments' keys."""
    names = ("kube-prod", "n21567")
    keys = {AttachmentId(name, "one", "net1").key for name in names}
    assert len(keys) == 1
    one = scene.add(name=names[0])
    remembered = records()
    scene.refuses(105, name=names[1])
    scene.runtime.gc({**GC, "name": names[1]}).succeeds()
    assert records() == remembered
    one.check()
    one.delete(name=names[1])
    assert "net1" in scene.one.links()
    scene.one.rename("net1", "other")
    two = scene.add(name=names[1], ipam=static("10.1.0.3/24"))
    one.delete()
    assert scene.one.links().keys() == {"lo", "net1"}
    two.delete()
    assert scene.one.links().keys() == {"lo"}


def test_an_interface_without_a_label_is_known_by_its_name(scene: Scene) -> None:
    """One that an older version has made, or whose owner has changed the alias."""
    for text in ("mine", "cni-ipvlan/net/one", ""):
        with scene.unchanged():
            added = scene.add()
            relabel(scene.one, text)
            added.check()
            added.delete()


def test_the_go_plugin_and_this_one_delete_what_the_other_attached(scene: Scene) -> None:
    """As where install-node has put this one in its place, and given that back."""
    theirs = Runtime(Executable(f"{PLUGINS}/ipvlan"))
    with scene.unchanged():
        theirs.add(scene.one, LEASED).result()
        scene.runtime.delete(scene.one, LEASED).succeeds()
    scene.add(LEASED)
    theirs.delete(scene.one, LEASED).succeeds()
    assert scene.one.links().keys() == {"lo"}
    assert scene.node.leases() == []


def test_a_forged_label_makes_nobody_elses_interface_go(scene: Scene) -> None:
    victim, forger = scene.add(LEASED), scene.add(LEASED, at=scene.two)
    relabel(scene.two, LABEL)
    forger.delete()
    victim.check()
    victim.delete()
    assert scene.one.links().keys() == {"lo"}


def test_check_reports_an_interface_of_another_attachment(scene: Scene) -> None:
    added = scene.add(LEASED)
    relabel(scene.one, AttachmentId("net", "another", "net1").label)
    assert added.check("it belongs to the container 'another'")["code"] == 110


def test_gc_spares_what_an_add_completes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """GC has listed the record before the ADD ended, and waits for its lock."""
    added = scene.add(LEASED)
    (record,) = MEMORY.glob("on-*/*")
    adding = record.rename(f"{record}.adding")
    idle = Registry.try_attachment_lock

    def ended_meanwhile(registry: Registry, key: str) -> AbstractContextManager[bool]:
        if adding.exists():
            adding.rename(record)
        return idle(registry, key)

    monkeypatch.setattr(Registry, "try_attachment_lock", ended_meanwhile)
    scene.runtime.gc(GC).succeeds()

    assert record.exists()
    added.check()


def test_a_cause_names_the_container_by_its_label(scene: Scene) -> None:
    scene.add()
    scene.one.rename("net1", "other")
    run("rm", "-r", str(MEMORY))
    found = f"belongs to other in {scene.one.path} (container one)"
    scene.refuses(106, hidden=[found], at=scene.two, ipam=static("10.1.0.2/24"))
