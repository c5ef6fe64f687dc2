"""Labels: each interface says which attachment it is, so no call harms another's."""

from contextlib import AbstractContextManager

import pytest
from executable import Executable
from lab import RECORDS, NetNS, find_leases, find_records, run
from runtime import PLUGINS, Answer, Conf, Runtime, host_local, network, static
from setup import Attachment, Setup

from cni_ipvlan.state.attachment import AttachmentId
from cni_ipvlan.state.registry import Registry

LEASED = network(ipam=host_local("10.1.0.0/24"))
LABEL = AttachmentId("net", "one", "net1").label
GC = network(cniVersion="1.1.0", ipam=None)


def alias(container: NetNS, name: str = "net1") -> str:
    return str(container.links()[name].get("ifalias", ""))


def relabel(container: NetNS, text: str) -> None:
    container.run("ip", "link", "set", "dev", "net1", "alias", text)


def delete(added: Attachment, netns: NetNS | str | None = None) -> Answer:
    """Delete an attachment, which must succeed; return the answer."""
    namespace = added.container if netns is None else netns
    answer = added.setup.runtime.delete(namespace, added.conf, **added.environment)
    answer.succeeds()
    return answer


def test_long_names_are_cut_to_fit(setup: Setup) -> None:
    added = setup.add(name="n" * 255, CNI_CONTAINERID="c" * 255)
    assert len(alias(setup.container)) <= 255
    assert alias(setup.container) == AttachmentId("n" * 255, "c" * 255, "net1").label
    added._replace(environment={**added.environment, "CNI_CONTAINERID": "c" * 254}).delete()
    assert "net1" in setup.container.links()
    added.delete()
    assert setup.container.links().keys() == {"lo"}
    assert find_records() == []


def test_add_of_what_lives_in_another_namespace_harms_nothing(setup: Setup) -> None:
    added = setup.add(LEASED)
    words = f"it is net1 in {setup.container.path}", "the container already has an interface 'net1'"
    options: Conf = {"at": setup.container2, "CNI_CONTAINERID": "one"}
    for ipam in (LEASED["ipam"], static("10.1.0.9/24"), setup.ipam(ips=["10.1.0.9/24"])):
        setup.expect_error(105, *words, ipam=ipam, **options)
    assert setup.fake.calls == []
    added.check()


@pytest.mark.parametrize("has_record", [True, False])
def test_add_again_in_the_same_namespace_harms_nothing(setup: Setup, *, has_record: bool) -> None:
    added = setup.add(LEASED)
    if not has_record:
        run("rm", "-r", str(RECORDS))
    assert setup.runtime.add(setup.container, LEASED).error()["code"] == 105
    assert setup.node.leases() == ["10.1.0.2"]
    assert alias(setup.container) == LABEL
    added.check()
    setup.container.rename("net1", "other")
    setup.expect_error(105, conf=LEASED)


@pytest.mark.parametrize("has_link", [True, False])
def test_add_and_delete_harm_nothing_that_was_moved(setup: Setup, *, has_link: bool) -> None:
    added = setup.add(LEASED)
    setup.container.ip(f"link set dev net1 netns {setup.container2.path} name other")
    at = setup.container2 if has_link else setup.make_container()
    words = f"other in {setup.container2.path}"
    for ipam in (LEASED["ipam"], static("10.1.0.2/24")):
        setup.expect_error(105, words, at=at, ipam=ipam, CNI_CONTAINERID="one")
    assert words in delete(added).stderr
    assert "other" in setup.container2.links()
    assert delete(added).stderr == ""


def test_a_lease_that_was_there_before_is_not_released(setup: Setup) -> None:
    """host-local refuses what it has given to the same container, whose namespace is gone."""
    added = setup.add(LEASED)
    setup.node.remove(setup.container)
    for _ in range(2):
        error = setup.runtime.add(setup.node.make_container(), LEASED).error()
        assert "duplicate allocation" in error["msg"]
        assert setup.node.leases() == ["10.1.0.2"]
    delete(added, "")
    assert setup.node.leases() == []


def test_delete_finds_what_was_renamed_and_check_and_gc_report_it(setup: Setup) -> None:
    with setup.unchanged():
        added = setup.add(LEASED)
        setup.container.rename("net1", "other")
        assert added.check("it was renamed to 'other'")["code"] == 110
        answer = setup.runtime.gc(GC)
        answer.succeeds()
        assert f"net1 in {setup.container.path}" in answer.stderr
        assert "not removed" in answer.stderr
        assert setup.container.links().keys() == {"lo", "other"}
        assert setup.node.leases() == ["10.1.0.2"]
        add_answer = setup.runtime.add(setup.node.make_container(), LEASED)
        assert add_answer.error()["code"] == 105
        setup.node.remove(NetNS("/run/netns/container2"))
        added.delete()


def test_a_late_delete_leaves_the_next_container_in_the_namespace_alone(setup: Setup) -> None:
    former = setup.add(LEASED, CNI_CONTAINERID="former")
    setup.node.remove(setup.container)
    run("ip", "netns", "add", setup.container.path.rpartition("/")[2])
    added = setup.add(LEASED, CNI_CONTAINERID="present")
    assert "belongs to another attachment" in delete(former).stderr
    assert setup.node.leases() == ["10.1.0.3"]
    added.check()


def test_a_namespace_with_the_inode_of_one_that_is_gone_keeps_no_lease(setup: Setup) -> None:
    """Its interface was not made by this plugin, and has the same name."""
    added = setup.add(LEASED)
    setup.container.ip("link delete dev net1")
    setup.make_foreign_link(setup.container, "l2")
    setup.container.rename("byhand", "net1")
    setup.runtime.gc({**LEASED, "cniVersion": "1.1.0"}).succeeds()
    assert find_leases() == []
    assert [each.name for each in RECORDS.glob("on-*/*")] == ["mode"]  # the master's
    assert "net1" in added.container.links()


def test_two_networks_with_one_key_are_two(setup: Setup) -> None:
    """Their names have the same digest, and so have their attachments' keys."""
    names = ("kube-prod", "n21567")
    keys = {AttachmentId(name, "one", "net1").key for name in names}
    assert len(keys) == 1
    first = setup.add(name=names[0])
    records = find_records()
    setup.expect_error(105, name=names[1])
    setup.runtime.gc({**GC, "name": names[1]}).succeeds()
    assert find_records() == records
    first.check()
    first.delete(name=names[1])
    assert "net1" in setup.container.links()
    setup.container.rename("net1", "other")
    second = setup.add(name=names[1], ipam=static("10.1.0.3/24"))
    first.delete()
    assert setup.container.links().keys() == {"lo", "net1"}
    second.delete()
    assert setup.container.links().keys() == {"lo"}


def test_a_changed_label_hides_no_interface(setup: Setup) -> None:
    """Else its address would be given to another container, which could not have it."""
    for text in ("mine", "cni-ipvlan/net/one", "", "cni-ipvlan/other/other/net1/x", f"{LABEL}x"):
        with setup.unchanged():
            added = setup.add(LEASED)
            relabel(setup.container, text)
            if "/net1/" not in text:  # it may be that of an older version
                added.check()
            setup.container.rename("net1", "other")
            setup.expect_error(105, conf=LEASED)
            setup.runtime.gc({**LEASED, "cniVersion": "1.1.0"}).succeeds()
            assert len(setup.node.leases()) == 1
            added.delete()


def test_the_go_plugin_and_this_one_delete_what_the_other_attached(setup: Setup) -> None:
    """install-node puts this plugin in the place of the Go plugin, and can restore that."""
    go_runtime = Runtime(Executable(f"{PLUGINS}/ipvlan"))
    with setup.unchanged():
        go_runtime.add(setup.container, LEASED).result()
        setup.runtime.delete(setup.container, LEASED).succeeds()
    setup.add(LEASED)
    go_runtime.delete(setup.container, LEASED).succeeds()
    assert setup.container.links().keys() == {"lo"}
    assert setup.node.leases() == []


def test_a_forged_label_makes_nobody_elses_interface_go(setup: Setup) -> None:
    victim, forger = setup.add(LEASED), setup.add(LEASED, at=setup.container2)
    relabel(setup.container2, LABEL)
    forger.delete()
    victim.check()
    victim.delete()
    assert setup.container.links().keys() == {"lo"}


def test_check_reports_an_interface_of_another_attachment(setup: Setup) -> None:
    added = setup.add(LEASED)
    relabel(setup.container, AttachmentId("net", "another", "net1").label)
    assert added.check("it belongs to the container 'another'")["code"] == 110


def test_gc_spares_what_an_add_completes(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """GC lists the record before ADD ends, and then waits for its lock."""
    added = setup.add(LEASED)
    (record,) = RECORDS.glob("on-*/*@*")
    adding = record.rename(f"{record}.adding")
    try_lock = Registry.try_attachment_lock

    def ended_meanwhile(registry: Registry, key: str) -> AbstractContextManager[bool]:
        if adding.exists():
            adding.rename(record)
        return try_lock(registry, key)

    monkeypatch.setattr(Registry, "try_attachment_lock", ended_meanwhile)
    setup.runtime.gc(GC).succeeds()

    assert record.exists()
    added.check()


def test_a_cause_names_the_container_by_its_label(setup: Setup) -> None:
    setup.add()
    setup.container.rename("net1", "other")
    (record,) = RECORDS.glob("on-*/*@*")
    record.unlink()
    words = f"belongs to other in {setup.container.path} (container one)"
    setup.expect_error(106, hidden=[words], at=setup.container2, ipam=static("10.1.0.2/24"))
