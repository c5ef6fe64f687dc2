"""registry: which attachments are recorded, and for how long."""

import json
import os
import re
import stat
from pathlib import Path

import pytest
from attachments import ATTACHMENT, KEY, MASTER, OTHER, OTHER_KEY, never

from cni_ipvlan.state.attachment import AttachmentId, Record
from cni_ipvlan.state.registry import Registry

OTHER_NETWORK = AttachmentId("other", "container", "net1")
NAMESPACE = ("/run/netns/c", (4, 4026532001))
RECORD = Record(*ATTACHMENT, *NAMESPACE, "l3", "vepa", pod="default/web-0", master=MASTER)
OTHER_RECORD = Record(*OTHER, *NAMESPACE, "l3", "vepa", master=MASTER)
FOREIGN_RECORD = Record(*OTHER_NETWORK, *NAMESPACE, "l2", "bridge", master=(MASTER[0], 22))


def test_key_starts_with_its_networks() -> None:
    assert re.fullmatch("[a-z2-7]{13}", KEY)
    assert OTHER_KEY.startswith(KEY[:5])
    assert not OTHER_NETWORK.key.startswith(KEY[:5])
    assert AttachmentId("a", "bc", "d").key != AttachmentId("ab", "c", "d").key
    for name in ("\ud800", "a\udcffb"):  # no Unicode
        assert len(AttachmentId(name, name, name).key) == 13


@pytest.fixture
def written(registry: Registry) -> Registry:
    for record in (RECORD, OTHER_RECORD, FOREIGN_RECORD):
        write(registry, record)
    return registry


def write(registry: Registry, record: Record) -> None:
    with registry.master_lock(record.master, never):
        registry.write(record)


def file_of(directory: Path, attachment: AttachmentId) -> Path:
    return next(directory.glob(f"on-*/{attachment.key}.*"))


@pytest.mark.parametrize("room", [[], [9]])
def test_a_record_for_which_there_is_no_room(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch, room: list[int]
) -> None:
    parts, write_part = iter(room), os.write

    def fill(file: int, data: bytes) -> int:
        for part in parts:
            return write_part(file, data[:part])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match=f"No space left on device: '{directory}/on-"):
        write(registry, RECORD)
    assert not [*directory.glob("on-*")]


def test_a_record_that_can_not_get_routes_stays_as_it_is(
    written: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, unlink = file_of(directory, ATTACHMENT), os.unlink

    def refuse(path: str) -> None:
        if path == str(file):
            raise OSError(5, "Input/output error")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        written.add_routes(RECORD, ["10.1.0.2"])
    assert [*directory.glob(f"on-*/{KEY}.*")] == [file]


def test_only_full_names_tell_whose_a_record_is(written: Registry, directory: Path) -> None:
    """As when two attachments have the same key."""
    other = RECORD._replace(container_id="another")
    file_of(directory, ATTACHMENT).write_text(json.dumps(other._asdict()))
    assert written.records_of(ATTACHMENT) == []
    written.remove_all(ATTACHMENT)
    written.finish(RECORD._replace(netns_identity=(4, 5)))
    assert other in list(written.records(MASTER))


def test_removing_a_record_keeps_others(written: Registry) -> None:
    older = written.finish(RECORD)
    write(written, RECORD)
    other = RECORD._replace(netns_identity=(4, 5))
    write(written, other)
    written.remove(RECORD)
    assert sorted(written.records_of(ATTACHMENT)) == sorted([other, older])
    written.remove(older)
    assert written.records_of(ATTACHMENT) == [other]


def test_complete_record_removes_others_of_its_attachment(
    written: Registry, directory: Path
) -> None:
    other = RECORD._replace(netns_identity=(4, 5))
    same_place = RECORD._replace(network="another", container_id="former")
    for master in (MASTER, (MASTER[0], 33)):
        for record in (other, same_place):
            write(written, record._replace(master=master))
    killed = directory / f"on-{MASTER[0]}.{MASTER[1]}" / ATTACHMENT.key
    killed.write_text("half")

    written.finish(RECORD)

    remaining = [record._replace(master=MASTER) for record in written.all_records()]
    assert RECORD._replace(is_complete=True) in remaining
    assert remaining.count(same_place) == 2  # whose addresses may be allocated
    assert (OTHER_RECORD in remaining, other in remaining) == (True, False)
    assert not killed.exists()


@pytest.mark.parametrize(("number", "end"), [(None, "@7"), (0, "@7.0"), (3, "@7.3")])
def test_a_complete_record_has_an_index(
    written: Registry, directory: Path, number: int | None, end: str
) -> None:
    """Before December 2026, it had the number of the master's namespace, too."""
    older = written.finish(RECORD)
    assert older == RECORD._replace(is_complete=True)
    assert file_of(directory, ATTACHMENT).name == RECORD.file_name
    assert stat.S_IMODE(file_of(directory, ATTACHMENT).stat().st_mode) == 0o600
    write(written, RECORD)

    complete = written.finish(RECORD._replace(parent_netns=number), 7)

    assert complete == RECORD._replace(is_complete=True, ifindex=7, parent_netns=number)
    assert written.records_of(ATTACHMENT) == [complete] != [older]
    assert written.records_of(OTHER) == [OTHER_RECORD]
    assert file_of(directory, ATTACHMENT).name == RECORD.file_name + end
    written.remove(complete)
    assert written.records_of(ATTACHMENT) == []


def test_routes_of_the_host_are_a_part_of_the_record(written: Registry, directory: Path) -> None:
    routed = written.add_routes(RECORD, ["10.1.0.2"])
    assert written.records_of(ATTACHMENT) == [routed] == [*written.records_with_routes(MASTER)]
    assert [*written.records_with_routes(MASTER, ATTACHMENT.number)] == [routed]
    assert [*written.records_with_routes(MASTER, OTHER.number)] == []
    complete = written.finish(routed, 7)
    written.remove_all(ATTACHMENT)  # as a DEL that could not remove the routes
    assert written.records_of(ATTACHMENT) == [complete]
    reader = Registry(str(directory), is_read_only=True)
    for each in (reader, written):
        each.drop_routes(complete)
        assert [*each.records_with_routes(MASTER)] == []
        assert each.records_of(ATTACHMENT) == [complete._replace(host_routes=())]
        assert [*written.records_with_routes(MASTER)] == ([complete] if each is reader else [])


def test_host_routes_were_once_in_another_directory(written: Registry, directory: Path) -> None:
    routed = RECORD._replace(host_routes=("10.1.0.2",))
    name = f"{RECORD.file_name}.adding"
    for kind in ("host", "vlan"):
        (directory / f"{kind}-{MASTER[0]}.{MASTER[1]}").mkdir()
        old = directory / f"{kind}-{MASTER[0]}.{MASTER[1]}" / name
        old.write_text(json.dumps(routed._asdict()))
    assert [*written.records_with_routes(MASTER, ATTACHMENT.number)] == [routed]
    assert sorted(written.records_of(ATTACHMENT)) == sorted([routed, RECORD])
    assert sorted(written.records(MASTER)) == [RECORD, OTHER_RECORD]
    written.drop_routes(routed)
    assert [*written.records_with_routes(MASTER)] == []
    for each in (ATTACHMENT, OTHER, OTHER_NETWORK):
        written.remove_all(each)
    for master in written.masters_with_note():
        written.drop_note(master)
    written.remove_leftovers()
    assert [path.name for path in directory.iterdir()] == ["locks"]


def test_records_of_other_versions_are_read(written: Registry, directory: Path) -> None:
    document = RECORD._asdict()
    file_of(directory, ATTACHMENT).write_text(json.dumps({**document, "more": 1}))
    assert written.records_of(ATTACHMENT) == [RECORD]
    del document["is_complete"]
    file_of(directory, ATTACHMENT).unlink()
    (directory / f"on-{MASTER[0]}.{MASTER[1]}" / ATTACHMENT.key).write_text(json.dumps(document))
    assert written.records_of(ATTACHMENT) == [RECORD._replace(is_complete=True)]
    written.remove_all(ATTACHMENT)
    assert written.records_of(ATTACHMENT) == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"netns_identity": 5}', json.dumps(RECORD._asdict())[:-9], "\udcff"],
)
def test_half_written_record_is_ignored(written: Registry, directory: Path, content: str) -> None:
    file = file_of(directory, ATTACHMENT)
    for clear in [lambda: written.remove_all(ATTACHMENT), written.remove_leftovers]:
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        (directory / "on-1.2").mkdir(exist_ok=True)
        assert list(written.records(MASTER)) == [OTHER_RECORD]
        clear()
        assert not file.exists()
        assert list(written.records(MASTER)) == [OTHER_RECORD]
    assert not (directory / "on-1.2").exists()  # another call left it, before its record


def test_a_read_only_registry_changes_nothing(written: Registry, directory: Path) -> None:
    reader = Registry(str(directory), is_read_only=True)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with reader.attachment_lock(KEY, never, strict=True), reader.master_lock(MASTER, never):
        reader.write(RECORD._replace(netns="/n"))
        reader.remove_all(ATTACHMENT)
        reader.remove_leftovers()
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert list(reader.records(MASTER)) == [OTHER_RECORD]  # it has removed the other, it thinks


def test_a_note_remains_of_the_last_record(written: Registry, directory: Path) -> None:
    written.remove_all(OTHER_NETWORK)
    written.drop_note(FOREIGN_RECORD.master)
    written.finish(RECORD, 7)

    written.remove_all(ATTACHMENT)
    assert written.masters_with_note() == []  # another attachment is there
    assert list(written.records(MASTER)) == [OTHER_RECORD]
    assert RECORD.attachment not in {each.attachment for each in written.all_records()}

    written.remove_all(OTHER)
    assert written.note(MASTER) == RECORD._replace(is_complete=True)  # the first in this mode
    assert written.note(MASTER, is_searched=True) is None
    written.remove_leftovers()
    assert written.masters_with_note() == [MASTER]
    assert not list(written.records(MASTER))
    written.drop_note(MASTER)
    assert not written.masters_with_note()
    assert not (directory / f"on-{MASTER[0]}.{MASTER[1]}").exists()


def test_a_searched_note_stays_so_until_another_mode_is_noted(written: Registry) -> None:
    with written.master_lock(MASTER, never):
        written.mark_note(MASTER, is_searched=True)
    written.remove_all(ATTACHMENT)
    write(written, OTHER_RECORD)
    assert written.note(MASTER, is_searched=True) == RECORD._replace(is_complete=True)
    written.mark_note(MASTER, is_searched=False)  # the master is free
    assert written.note(MASTER, is_searched=True) is None
    other_mode = OTHER_RECORD._replace(mode="l2")
    write(written, other_mode)
    written.remove_all(OTHER)
    assert written.note(MASTER, is_searched=True) is None
    assert written.note(MASTER) == other_mode._replace(is_complete=True)
