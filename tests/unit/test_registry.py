"""registry: locks between processes, hints, and a directory that leaves no trace."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ipvlan.state import locks
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import (
    AttachmentId,
    ModeHint,
    ReadOnlyRegistry,
    Registry,
    network_key,
)

if TYPE_CHECKING:
    from pathlib import Path

ATTACHMENT = AttachmentId("net", "container", "net1")
OTHER = AttachmentId("net", "container", "net2")
FOREIGN = AttachmentId("other", "container", "net1")
KEY, OTHER_KEY = ATTACHMENT.key, OTHER.key
MASTER = (4026531840, 2)
NAMESPACE = ("/run/netns/c", (4, 4026532001))
HINT = ModeHint(*ATTACHMENT, *NAMESPACE, "l3", "vepa")
OTHER_HINT = ModeHint(*OTHER, *NAMESPACE, "l3", "vepa")
FOREIGN_HINT = ModeHint(*FOREIGN, *NAMESPACE, "l2", "bridge")
HOLDER = """
import os, subprocess, sys, time
from cni_ipvlan.state.registry import Registry
registry = Registry(sys.argv[1])

def say(*words):
    print(*words, flush=True)
"""


HOLD_IN_A_CHILD = f"""
with registry.attachment_lock({KEY!r}, lambda: None, strict=True):
    child = subprocess.Popen(["sleep", "30"], close_fds=False, stdout=subprocess.DEVNULL)
    say(child.pid)
    sys.stdin.readline()
"""


def never() -> None:
    """Nothing interrupts a wait."""


def process(body: str, directory: Path) -> subprocess.Popen[str]:
    """Start a process that uses the registry in ``directory``."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER + textwrap.dedent(body), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",  # or Python would import from here what is not installed
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cni-ipvlan"


@pytest.fixture
def registry(directory: Path) -> Registry:
    return Registry(str(directory))


HOLD = f"""
with registry.attachment_lock({KEY!r}, lambda: None, strict=True):
    say("held")
    sys.stdin.readline()
say("released")
"""


HOLD_MASTER = f"""
with registry.master_lock({MASTER!r}, lambda: None):
    say("held")
    sys.stdin.readline()
"""


def test_key_starts_with_its_networks() -> None:
    assert re.fullmatch("[a-z2-7]{13}", KEY)
    assert KEY.startswith(network_key("net"))
    assert OTHER_KEY.startswith(network_key("net"))
    assert not FOREIGN.key.startswith(network_key("net"))


NAMES = st.text(max_size=8)


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_keys_differ_as_attachments_do(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    # NUL, which separates them, is in no ID.
    assert (AttachmentId(*one).key == AttachmentId(*two).key) == (one == two)


@pytest.mark.parametrize("name", ["\ud800", "a\udcffb"])
def test_key_of_a_name_that_is_no_unicode(name: str) -> None:
    assert len(AttachmentId(name, name, name).key) == 13


def test_directory_is_roots_alone_and_gone_afterwards(registry: Registry, directory: Path) -> None:
    with registry.attachment_lock(KEY, never, strict=True):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == [f"lock-{KEY}"]
        assert stat.S_IMODE((directory / f"lock-{KEY}").stat().st_mode) == 0o600
    assert not directory.exists()


def test_directory_stays_while_another_attachment_is_worked_on(
    registry: Registry, directory: Path
) -> None:
    with registry.attachment_lock(KEY, never, strict=True):
        with registry.attachment_lock(OTHER_KEY, never, strict=True):
            pass
        assert (directory / f"lock-{KEY}").exists()


def test_directory_stays_while_anything_is_remembered(registry: Registry, directory: Path) -> None:
    with registry.attachment_lock(KEY, never, strict=True), registry.master_lock(MASTER, never):
        registry.remember(MASTER, HINT)
    assert directory.exists()
    with registry.attachment_lock(KEY, never, strict=True):
        registry.forget(ATTACHMENT)
    assert not directory.exists()


def test_lock_is_released_by_an_exception(registry: Registry, directory: Path) -> None:
    with pytest.raises(ZeroDivisionError), registry.attachment_lock(KEY, never, strict=True):
        raise ZeroDivisionError
    assert not directory.exists()


def test_second_call_for_an_attachment_waits_for_the_first(
    registry: Registry, directory: Path
) -> None:
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    asked = []

    def release_at_the_third_question() -> None:
        asked.append(True)
        if len(asked) == 3:
            holder.communicate("\n")

    with registry.attachment_lock(KEY, release_at_the_third_question, strict=True):
        assert len(asked) >= 3
        assert holder.returncode == 0
        assert (directory / f"lock-{KEY}").exists()
    assert not directory.exists()


def test_call_for_another_attachment_does_not_wait(registry: Registry, directory: Path) -> None:
    holder = process(HOLD, directory)
    assert line(holder) == "held"

    def fail() -> None:
        raise AssertionError

    with registry.attachment_lock(OTHER_KEY, fail, strict=True):
        pass
    holder.communicate("\n")


@pytest.mark.parametrize("strict", [True, False])
def test_wait_can_be_interrupted(
    registry: Registry,
    directory: Path,
    strict: bool,  # noqa: FBT001
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    holder = process(HOLD, directory)
    assert line(holder) == "held"
    with (
        pytest.raises(KeyboardInterrupt),
        registry.attachment_lock(KEY, interrupt, strict=strict),
    ):
        pass
    assert registry.is_live(KEY)
    holder.communicate("\n")


@pytest.mark.parametrize("strict", [True, False])
def test_wait_for_a_call_that_lives_ends_as_busy(
    registry: Registry,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    strict: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.0)
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    with (
        pytest.raises(BusyError, match="this container"),
        registry.attachment_lock(KEY, never, strict=strict),
    ):
        pass
    assert registry.is_live(KEY)
    holder.communicate("\n")


def test_wait_for_what_a_killed_call_left_running_ends_sooner(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.1)
    holder = process(HOLD_IN_A_CHILD, directory)
    child = int(line(holder))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with pytest.raises(BusyError), registry.attachment_lock(KEY, never, strict=True):
        pass
    went_on = False
    with registry.attachment_lock(KEY, never, strict=False):
        went_on = True
    assert went_on
    assert not directory.exists()  # or what hangs would leave the lock's file for good
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    holder.communicate()


def test_many_who_wait_take_turns_and_leave_the_processor_alone(
    registry: Registry, directory: Path
) -> None:
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    asked = []
    began = time.monotonic()

    def release_after_a_second() -> None:
        asked.append(True)
        if holder.returncode is None and time.monotonic() - began > 1:
            holder.communicate("\n")

    with registry.attachment_lock(KEY, release_after_a_second, strict=True):
        assert 3 < len(asked) < 25


def test_attachment_is_live_while_its_lock_is_held(registry: Registry, directory: Path) -> None:
    assert not registry.is_live(KEY)
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    assert registry.is_live(KEY)
    assert not registry.is_live(OTHER_KEY)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert (directory / f"lock-{KEY}").exists()  # a killed call leaves its lock's file …
    assert not registry.is_live(KEY)
    with registry.attachment_lock(KEY, never, strict=True):
        pass
    assert not directory.exists()  # … and the next one clears it away


def test_command_that_outlives_a_killed_call_keeps_the_lock(
    registry: Registry, directory: Path
) -> None:
    holder = process(HOLD_IN_A_CHILD, directory)
    child = int(line(holder))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert registry.is_live(KEY)
    subprocess.run(["kill", "-KILL", str(child)], check=True)
    deadline = time.monotonic() + 5
    while registry.is_live(KEY) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not registry.is_live(KEY)
    holder.communicate()


def test_only_one_process_at_a_time_has_the_lock(directory: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    body = f"""
    for _ in range(25):
        with registry.attachment_lock({KEY!r}, lambda: None, strict=True):
            with open({str(counter)!r}) as file:
                count = int(file.read())
            os.sched_yield()
            with open({str(counter)!r}, "w") as file:
                file.write(str(count + 1))
    """
    workers = [process(body, directory) for _ in range(4)]
    for worker in workers:
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert counter.read_text() == "100"
    assert not directory.exists()


def test_lock_of_a_master_is_held_by_one_at_a_time(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.1)
    holder = process(HOLD_MASTER, directory)
    assert line(holder) == "held"
    with pytest.raises(BusyError), registry.master_lock(MASTER, never):
        pass
    with registry.master_lock((MASTER[0], 3), never):
        pass  # another master's
    holder.communicate("\n")
    with registry.master_lock(MASTER, never):
        pass
    assert list(directory.glob("on-*")) == []


def test_lock_of_a_master_holds_although_its_directory_comes_and_goes(
    registry: Registry, directory: Path, tmp_path: Path
) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    worker = f"""
        for _ in range(25):
            with registry.master_lock({MASTER!r}, lambda: None):
                with open({str(counter)!r}, "r+") as file:
                    count = int(file.read()) + 1
                    file.seek(0)
                    file.write(str(count))
        """
    workers = [process(worker, directory) for _ in range(4)]
    for each in workers:
        each.communicate(timeout=60)
        assert each.returncode == 0
    assert counter.read_text() == "100"
    assert list(directory.glob("on-*")) == []


@pytest.mark.parametrize("what", ["dangling link", "link", "another user's"])
def test_directory_that_is_not_ours_is_refused_at_once(tmp_path: Path, what: str) -> None:
    place = tmp_path / "cni-ipvlan"
    if what == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root can make it")
        place.mkdir()
        os.chown(place, 65534, 65534)
    else:
        place.symlink_to(tmp_path / ("nowhere" if what == "dangling link" else "."))
    registry = Registry(str(place))

    with pytest.raises(OSError, match="another user's"), registry.master_lock(MASTER, never):
        pass
    with (
        pytest.raises(OSError, match="another user's"),
        registry.attachment_lock(KEY, never, strict=True),
    ):
        pass
    went_on = False
    with registry.attachment_lock(KEY, never, strict=False):
        went_on = True
    assert went_on


@pytest.mark.parametrize("obstacle", ["file", "no parent"])
def test_unusable_directory_stops_only_the_strict(tmp_path: Path, obstacle: str) -> None:
    place = tmp_path / "run" / "cni-ipvlan"
    if obstacle == "file":
        place.parent.mkdir()
        place.write_text("")
    registry = Registry(str(place))
    with (
        pytest.raises(OSError, match="cni-ipvlan"),
        registry.attachment_lock(KEY, never, strict=True),
    ):
        pass
    went_on = False
    with registry.attachment_lock(KEY, never, strict=False):
        went_on = True
    assert went_on


@pytest.fixture
def remembering(registry: Registry) -> Registry:
    """A registry that remembers three attachments on two masters."""
    remember(registry, MASTER, HINT)
    remember(registry, MASTER, OTHER_HINT)
    remember(registry, (MASTER[0], 22), FOREIGN_HINT)
    return registry


def remember(registry: Registry, master: tuple[int, int], hint: ModeHint) -> None:
    with registry.master_lock(master, never):
        registry.remember(master, hint)


def file_of(directory: Path, attachment: AttachmentId) -> Path:
    return next(directory.glob(f"on-*/{attachment.key}"))


def test_hints_at_the_attachments_of_a_master_are_found(
    remembering: Registry, directory: Path
) -> None:
    assert sorted(remembering.hints(MASTER)) == sorted([HINT, OTHER_HINT])
    assert list(remembering.hints((MASTER[0], 22))) == [FOREIGN_HINT]
    assert list(remembering.hints((1, 2))) == []
    assert sorted(remembering.all_hints()) == sorted([HINT, OTHER_HINT, FOREIGN_HINT])
    assert file_of(directory, ATTACHMENT).parent.name == "on-4026531840.2"


def test_hint_is_roots_alone(remembering: Registry, directory: Path) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("on-*")} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("on-*/*")} == {0o600}


def test_attachment_is_recalled_with_its_master(remembering: Registry) -> None:
    assert remembering.recall(ATTACHMENT) == HINT
    assert remembering.master_index(ATTACHMENT) == 2
    assert remembering.master_index(FOREIGN) == 22
    assert remembering.recall(AttachmentId("net", "nobody", "net1")) is None
    assert remembering.master_index(AttachmentId("net", "nobody", "net1")) is None


def test_forgetting_one_attachment_keeps_the_others(remembering: Registry) -> None:
    remembering.forget(ATTACHMENT)
    remembering.forget(ATTACHMENT)
    assert list(remembering.hints(MASTER)) == [OTHER_HINT]


def test_only_the_full_names_make_a_hint_an_attachments(
    remembering: Registry, directory: Path
) -> None:
    """As when two attachments have the same key."""
    other = HINT._replace(container_id="another")
    file_of(directory, ATTACHMENT).write_text(json.dumps(other._asdict()))

    assert remembering.recall(ATTACHMENT) is None
    remembering.forget(ATTACHMENT)
    assert other in list(remembering.hints(MASTER))


def test_remembering_again_replaces(remembering: Registry) -> None:
    remember(remembering, MASTER, HINT._replace(netns="/n"))
    found = [each.netns for each in remembering.hints(MASTER) if each.attachment == ATTACHMENT]
    assert found == ["/n"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"mode": "l2"}',
        '{"netns_identity": 5}',
        json.dumps({**HINT._asdict(), "more": 1}),
        json.dumps(HINT._asdict())[:-9],
        "\udcff",
    ],
)
@pytest.mark.parametrize("end", ["forget", "remove_leftovers"])
def test_hint_that_a_killed_call_wrote_by_half_says_nothing_and_can_be_forgotten(
    remembering: Registry, directory: Path, content: str, end: str
) -> None:
    file = file_of(directory, ATTACHMENT)
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert list(remembering.hints(MASTER)) == [OTHER_HINT]
    clear(remembering, end)
    assert not file.exists()
    assert list(remembering.hints(MASTER)) == [OTHER_HINT]


@pytest.mark.parametrize("end", ["forget", "remove_leftovers"])
def test_a_masters_directory_that_a_killed_call_left_is_removed(
    registry: Registry, directory: Path, end: str
) -> None:
    holder = process(HOLD_MASTER, directory)
    assert line(holder) == "held"
    clear(registry, end)
    assert list(directory.glob("on-*"))  # it is in use
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert list(directory.glob("on-*"))
    clear(registry, end)
    assert not directory.exists()


def clear(registry: Registry, end: str) -> None:
    if end == "forget":
        registry.forget(ATTACHMENT)
    else:
        registry.remove_leftovers()


def test_nothing_is_remembered_where_there_is_no_directory(registry: Registry) -> None:
    assert list(registry.hints(MASTER)) == []
    assert list(registry.all_hints()) == []
    assert registry.recall(ATTACHMENT) is None
    assert registry.master_index(ATTACHMENT) is None
    registry.forget(ATTACHMENT)
    registry.remove_leftovers()


def test_leftovers_are_the_locks_that_nobody_has(remembering: Registry, directory: Path) -> None:
    (directory / f"lock-{OTHER_KEY}").write_text("")
    holder = process(HOLD, directory)
    assert line(holder) == "held"

    remembering.remove_leftovers()

    assert [path.name for path in directory.glob("lock-*")] == [f"lock-{KEY}"]
    assert len(list(remembering.all_hints())) == 3
    holder.communicate("\n")


def test_idle_attachment_is_locked_and_a_live_one_is_not(
    registry: Registry, directory: Path
) -> None:
    with registry.idle(KEY) as is_idle:
        assert is_idle
        assert registry.is_live(KEY)
        with registry.idle(KEY) as is_idle_again:
            assert not is_idle_again
    assert not directory.exists()


def test_lock_that_cannot_be_removed_fails_nobody(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str) -> None:
        raise OSError(errno.EIO, "injected")

    with registry.attachment_lock(KEY, never, strict=True):
        monkeypatch.setattr("cni_ipvlan.state.registry.os.unlink", refuse)
    assert not registry.is_live(KEY)


def test_who_only_reads_changes_nothing(remembering: Registry, directory: Path) -> None:
    reader = ReadOnlyRegistry(str(directory))
    (directory / f"lock-{OTHER_KEY}").write_text("")
    before = contents(directory)
    with reader.attachment_lock(KEY, never, strict=True), reader.master_lock(MASTER, never):
        reader.remember(MASTER, HINT._replace(netns="/n"))
        reader.forget(ATTACHMENT)
        reader.remove_leftovers()
    assert contents(directory) == before
    assert len(list(reader.hints(MASTER))) == 2


def test_who_only_reads_needs_no_directory(directory: Path) -> None:
    reader = ReadOnlyRegistry(str(directory))
    with reader.attachment_lock(KEY, never, strict=True), reader.master_lock(MASTER, never):
        pass
    assert list(reader.hints(MASTER)) == []
    assert not directory.exists()


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
