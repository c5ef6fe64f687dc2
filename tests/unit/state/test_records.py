"""registry: which attachments are recorded, and for how long."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from holder import ATTACHMENT, KEY, MASTER, OTHER, OTHER_KEY, never

from cni_ipvlan.state.attachment import AttachmentId, Record, network_key
from cni_ipvlan.state.registry import Registry

FOREIGN = AttachmentId("other", "container", "net1")
NAMESPACE = ("/run/netns/c", (4, 4026532001))
HINT = Record(*ATTACHMENT, *NAMESPACE, "l3", "vepa", pod="default/web-0")
OTHER_HINT = Record(*OTHER, *NAMESPACE, "l3", "vepa")
FOREIGN_HINT = Record(*FOREIGN, *NAMESPACE, "l2", "bridge")


def test_key_starts_with_its_networks() -> None:
    assert re.fullmatch("[a-z2-7]{13}", KEY)
    assert KEY.startswith(network_key("net"))
    assert OTHER_KEY.startswith(network_key("net"))
    assert not FOREIGN.key.startswith(network_key("net"))
    assert AttachmentId("a", "bc", "d").key != AttachmentId("ab", "c", "d").key
    for name in ("\ud800", "a\udcffb"):  # no Unicode
        assert len(AttachmentId(name, name, name).key) == 13


@pytest.fixture
def remembering(registry: Registry) -> Registry:
    """A registry that remembers three attachments on two masters."""
    remember(registry, MASTER, HINT)
    remember(registry, MASTER, OTHER_HINT)
    remember(registry, (MASTER[0], 22), FOREIGN_HINT)
    return registry


def remember(registry: Registry, master: tuple[int, int], record: Record) -> None:
    with registry.master_lock(master, never):
        registry.remember(master, record)


def file_of(directory: Path, attachment: AttachmentId) -> Path:
    return next(directory.glob(f"on-*/{attachment.key}.*"))


def test_records_of_a_masters_attachments(remembering: Registry, directory: Path) -> None:
    assert sorted(remembering.records(MASTER)) == [HINT, OTHER_HINT]
    assert list(remembering.records((MASTER[0], 22))) == [FOREIGN_HINT]
    assert list(remembering.records((1, 2))) == []
    assert sorted(remembering.all_records()) == [HINT, OTHER_HINT, FOREIGN_HINT]
    assert file_of(directory, ATTACHMENT).parent.name == "on-4026531840.2"
    # They are readable by root only.
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("on-*")} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("on-*/*")} == {0o600}
    # An attachment is recalled with its master.
    assert remembering.records_of(ATTACHMENT) == [HINT]
    assert remembering.master_index(ATTACHMENT) == 2
    assert remembering.master_index(FOREIGN) == 22
    assert remembering.records_of(AttachmentId("net", "nobody", "net1")) == []
    assert remembering.master_index(AttachmentId("net", "nobody", "net1")) is None


def test_forgetting_one_attachment_keeps_the_others(remembering: Registry, directory: Path) -> None:
    remember(remembering, MASTER, HINT._replace(netns="/n"))
    assert [each.netns for each in remembering.records_of(ATTACHMENT)] == ["/n"]  # it is replaced
    remembering.forget(ATTACHMENT)
    remembering.forget(ATTACHMENT)
    assert list(remembering.records(MASTER)) == [OTHER_HINT]
    for other in (OTHER, FOREIGN):
        assert len(list(directory.glob("on-*/*"))) > 0
        with remembering.attachment_lock(other.key, never, strict=True):
            remembering.forget(other)
    assert not directory.exists()


def test_only_full_names_tell_whose_a_record_is(remembering: Registry, directory: Path) -> None:
    """As when two attachments have the same key."""
    other = HINT._replace(container_id="another")
    file_of(directory, ATTACHMENT).write_text(json.dumps(other._asdict()))

    assert remembering.records_of(ATTACHMENT) == []
    remembering.forget(ATTACHMENT)
    assert other in list(remembering.records(MASTER))


def test_withdrawing_a_record_keeps_others(remembering: Registry) -> None:
    older = remembering.complete(HINT)
    remember(remembering, MASTER, HINT)
    elsewhere = HINT._replace(netns_identity=(4, 5))
    remember(remembering, MASTER, elsewhere)

    remembering.withdraw(HINT)
    assert sorted(remembering.records_of(ATTACHMENT)) == sorted([elsewhere, older])
    remembering.withdraw(older)
    assert remembering.records_of(ATTACHMENT) == [elsewhere]


def test_complete_record_removes_what_it_disproves(remembering: Registry, directory: Path) -> None:
    elsewhere = HINT._replace(netns_identity=(4, 5))
    same_place = HINT._replace(network="another", container_id="former")
    other_interface = same_place._replace(ifname="net7")
    for master in (MASTER, (MASTER[0], 33)):
        for record in (elsewhere, same_place, other_interface):
            remember(remembering, master, record)
    (directory / f"on-{MASTER[0]}.{MASTER[1]}" / ATTACHMENT.key).write_text("of an older version")

    remembering.complete(HINT)

    left = list(remembering.all_records())
    assert HINT._replace(is_complete=True) in left
    assert left.count(other_interface) == 2
    assert OTHER_HINT in left
    assert not {elsewhere, same_place} & set(left)
    note = remembering.note(MASTER)
    assert note in [each._replace(is_complete=True) for each in (elsewhere, same_place)]
    assert not (directory / f"on-{MASTER[0]}.{MASTER[1]}" / ATTACHMENT.key).exists()


def test_equal_digests_do_not_disprove_a_record(remembering: Registry, directory: Path) -> None:
    """The digest of a place has 40 bits, so another place's can be made to be equal."""
    place = HINT.file_name.partition(".")[2]
    others = file_of(directory, FOREIGN)
    others = others.rename(others.with_name(f"{FOREIGN.key}.{place}"))
    elsewhere = FOREIGN_HINT._replace(netns_identity=(4, 5))
    others.write_text(json.dumps(elsewhere._asdict()))

    remembering.complete(HINT)

    assert elsewhere._replace(is_complete=True) in list(remembering.all_records())


@pytest.mark.parametrize(("number", "end"), [(None, "@7"), (0, "@7.0"), (3, "@7.3")])
def test_a_complete_record_has_the_index_and_the_number_of_the_masters_namespace(
    remembering: Registry, directory: Path, number: int | None, end: str
) -> None:
    older = remembering.complete(HINT)
    assert older == HINT._replace(is_complete=True)
    assert file_of(directory, ATTACHMENT).name == HINT.file_name
    remember(remembering, MASTER, HINT)

    complete = remembering.complete(HINT._replace(parent_netns=number), 7)

    assert complete == HINT._replace(is_complete=True, ifindex=7, parent_netns=number)
    assert remembering.records_of(ATTACHMENT) == [complete] != [older]
    assert remembering.records_of(OTHER) == [OTHER_HINT]
    assert remembering.masters_of(complete) == [MASTER]
    assert file_of(directory, ATTACHMENT).name == HINT.file_name + end
    remembering.withdraw(complete)
    assert remembering.records_of(ATTACHMENT) == []


def test_an_interface_can_be_identified_before_the_add_is_done(remembering: Registry) -> None:
    identified = remembering.identify(HINT, 7)
    assert remembering.records_of(ATTACHMENT) == [identified] == [HINT._replace(ifindex=7)]
    remembering.withdraw(identified)
    assert remembering.records_of(ATTACHMENT) == []


def test_records_of_other_versions_are_read(remembering: Registry, directory: Path) -> None:
    document = HINT._asdict()
    file_of(directory, ATTACHMENT).write_text(json.dumps({**document, "more": 1}))
    assert remembering.records_of(ATTACHMENT) == [HINT]
    del document["is_complete"]
    file_of(directory, ATTACHMENT).unlink()
    (directory / f"on-{MASTER[0]}.{MASTER[1]}" / ATTACHMENT.key).write_text(json.dumps(document))

    assert remembering.records_of(ATTACHMENT) == [HINT._replace(is_complete=True)]
    remembering.forget(ATTACHMENT)
    assert remembering.records_of(ATTACHMENT) == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"netns_identity": 5}', json.dumps(HINT._asdict())[:-9], "\udcff"],
)
def test_half_written_record_of_a_killed_call_is_ignored_and_can_be_removed(
    remembering: Registry, directory: Path, content: str
) -> None:
    file = file_of(directory, ATTACHMENT)
    for clear in (lambda: remembering.forget(ATTACHMENT), remembering.remove_leftovers):
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        (directory / "on-1.2").mkdir(exist_ok=True)
        assert list(remembering.records(MASTER)) == [OTHER_HINT]
        clear()
        assert not file.exists()
        assert list(remembering.records(MASTER)) == [OTHER_HINT]
    assert not (directory / "on-1.2").exists()  # another call left it, before its record


def test_nothing_is_recorded_without_a_directory(registry: Registry, directory: Path) -> None:
    reader = Registry(str(directory), is_read_only=True)
    with reader.attachment_lock(KEY, never, strict=True), reader.master_lock(MASTER, never):
        assert not directory.exists()
    for each in (reader, registry):
        assert [*each.records(MASTER), *each.all_records(), *each.records_of(ATTACHMENT)] == []
    assert registry.master_index(ATTACHMENT) is None
    registry.forget(ATTACHMENT)
    registry.remove_leftovers()


def test_a_read_only_registry_changes_nothing(remembering: Registry, directory: Path) -> None:
    reader = Registry(str(directory), is_read_only=True)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with reader.attachment_lock(KEY, never, strict=True), reader.master_lock(MASTER, never):
        reader.remember(MASTER, HINT._replace(netns="/n"))
        reader.forget(ATTACHMENT)
        reader.remove_leftovers()
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert len(list(reader.records(MASTER))) == 2


def test_record_becomes_a_note_unless_seen_to_go(remembering: Registry, directory: Path) -> None:
    remembering.forget(FOREIGN)
    complete = remembering.complete(HINT, 7)

    assert remembering.forget(ATTACHMENT, [complete]) == []  # another attachment is there
    assert remembering.note(MASTER) == HINT._replace(is_complete=True)
    assert remembering.note(MASTER, is_searched=True) is None
    assert list(remembering.records(MASTER)) == [OTHER_HINT]
    assert HINT.attachment not in {each.attachment for each in remembering.all_records()}

    assert remembering.forget(OTHER) == [MASTER]
    remembering.remove_leftovers()
    assert remembering.noted() == [MASTER]
    assert remembering.is_only(MASTER)
    remembering.drop_note(MASTER)
    assert remembering.noted() == []
    assert not (directory / f"on-{MASTER[0]}.{MASTER[1]}").exists()


def test_a_searched_note_stays_so_until_another_mode_is_noted(
    remembering: Registry,
) -> None:
    with remembering.master_lock(MASTER, never):
        remembering.keep_searched(MASTER, HINT)
    remembering.forget(ATTACHMENT, [HINT])
    assert remembering.note(MASTER, is_searched=True) == HINT._replace(is_complete=True)

    other_mode = OTHER_HINT._replace(mode="l2")
    remember(remembering, MASTER, other_mode)
    remembering.forget(OTHER, [other_mode])

    assert remembering.note(MASTER, is_searched=True) is None
    assert remembering.note(MASTER) == other_mode._replace(is_complete=True)


def test_a_note_has_the_mode_of_the_last_attachment(remembering: Registry, directory: Path) -> None:
    """Which has set it for all that are there, hidden or not."""
    later = OTHER_HINT._replace(mode="l2")
    remember(remembering, MASTER, later)
    os.utime(file_of(directory, OTHER), (9_999_999_999, 9_999_999_999))
    assert remembering.last(MASTER) == later

    remembering.forget(ATTACHMENT, [HINT])

    assert remembering.note(MASTER) == later._replace(is_complete=True)
    remember(remembering, MASTER, HINT)
    assert remembering.note(MASTER) is None
