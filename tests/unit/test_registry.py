"""registry: locks between processes, witnesses, and a directory that leaves no trace."""

from __future__ import annotations

import errno
import json
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

from cni_ipvlan import locks
from cni_ipvlan.locks import BusyError
from cni_ipvlan.registry import (
    ReadOnlyRegistry,
    Registry,
    Witness,
    attachment_key,
    network_key,
)

if TYPE_CHECKING:
    from pathlib import Path

KEY = attachment_key("net", "container", "net1")
OTHER_KEY = attachment_key("net", "container", "net2")
FOREIGN_KEY = attachment_key("other", "container", "net1")
MASTER = (4026531840, 2)
WITNESS = Witness("", "l3", "vepa", "container", "net1", "/run/netns/c", (4, 4026532001))
HOLDER = """
import os, subprocess, sys, time
from cni_ipvlan.registry import Registry
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


def test_key_starts_with_its_networks() -> None:
    assert re.fullmatch("[a-z2-7]{13}", KEY)
    assert KEY.startswith(network_key("net"))
    assert OTHER_KEY.startswith(network_key("net"))
    assert not FOREIGN_KEY.startswith(network_key("net"))


NAMES = st.text(max_size=8)


@given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
def test_keys_differ_as_attachments_do(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    # NUL, which separates them, is in no ID.
    assert (attachment_key(*one) == attachment_key(*two)) == (one == two)


@pytest.mark.parametrize("name", ["\ud800", "a\udcffb"])
def test_key_of_a_name_that_is_no_unicode(name: str) -> None:
    assert len(attachment_key(name, name, name)) == 13


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
    with registry.attachment_lock(KEY, never, strict=True):
        registry.remember(KEY, MASTER, WITNESS)
    assert directory.exists()
    with registry.attachment_lock(KEY, never, strict=True):
        registry.forget(KEY)
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


def test_mode_lock_is_held_by_one_at_a_time(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.1)
    holder = process(
        f"""
        with registry.attachment_lock({OTHER_KEY!r}, lambda: None, strict=True):
            with registry.mode_lock(lambda: None):
                say("held")
                sys.stdin.readline()
        """,
        directory,
    )
    assert line(holder) == "held"
    with registry.attachment_lock(KEY, never, strict=True):
        with pytest.raises(BusyError), registry.mode_lock(never):
            pass
        holder.communicate("\n")
        with registry.mode_lock(never):
            pass


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
def remembering(registry: Registry, directory: Path) -> Registry:
    """A registry that remembers three attachments on two masters."""
    directory.mkdir()
    registry.remember(KEY, MASTER, WITNESS)
    registry.remember(OTHER_KEY, MASTER, WITNESS._replace(ifname="net2", mode="l2"))
    registry.remember(FOREIGN_KEY, (MASTER[0], 22), WITNESS._replace(container_id="other"))
    return registry


def test_witnesses_of_a_master_are_found(remembering: Registry) -> None:
    found = sorted(remembering.witnesses(MASTER), key=lambda witness: witness.ifname)
    assert [witness._replace(file="") for witness in found] == [
        WITNESS,
        WITNESS._replace(ifname="net2", mode="l2"),
    ]
    assert found[0].file == f"mode-4026531840.2.l3.vepa-{KEY}"
    assert [each.container_id for each in remembering.witnesses((MASTER[0], 22))] == ["other"]
    assert list(remembering.witnesses((1, 2))) == []


def test_witness_is_roots_alone(remembering: Registry, directory: Path) -> None:
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_master_of_an_attachment_is_remembered(remembering: Registry) -> None:
    assert remembering.master_index(KEY) == 2
    assert remembering.master_index(FOREIGN_KEY) == 22
    assert remembering.master_index(attachment_key("net", "nobody", "net1")) is None


def test_container_of_an_interface_is_found(remembering: Registry) -> None:
    found = remembering.containers()
    assert found["net2", WITNESS.netns_identity] == "container"
    assert ("net2", (4, 5)) not in found
    assert ("net3", WITNESS.netns_identity) not in found


def test_forgetting_one_attachment_keeps_the_others(remembering: Registry) -> None:
    remembering.forget(KEY)
    remembering.forget(KEY)
    assert [each.ifname for each in remembering.witnesses(MASTER)] == ["net2"]


def test_forgetting_one_witness(remembering: Registry) -> None:
    remembering.forget_file(f"mode-4026531840.2.l3.vepa-{KEY}")
    remembering.forget_file("mode-that-is-gone")
    assert remembering.master_index(KEY) is None
    assert remembering.master_index(OTHER_KEY) == 2


def test_remembering_again_replaces(remembering: Registry) -> None:
    remembering.remember(KEY, MASTER, WITNESS._replace(netns="/n"))
    assert {each.netns for each in remembering.witnesses(MASTER) if each.ifname == "net1"} == {"/n"}


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
        json.dumps({**WITNESS._asdict(), "more": 1}),
        json.dumps(WITNESS._asdict())[:-9],
        "\udcff",
    ],
)
def test_witness_that_a_killed_call_wrote_by_half_says_nothing_and_can_be_forgotten(
    remembering: Registry, directory: Path, content: str
) -> None:
    file = directory / f"mode-4026531840.2.l3.vepa-{KEY}"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert [each.ifname for each in remembering.witnesses(MASTER)] == ["net2"]
    assert remembering.containers()["net1", WITNESS.netns_identity] == "other"
    remembering.forget(KEY)
    assert not file.exists()


def test_nothing_is_remembered_where_there_is_no_directory(registry: Registry) -> None:
    assert list(registry.witnesses(MASTER)) == []
    assert registry.master_index(KEY) is None
    assert registry.containers() == {}
    assert registry.stale("net", set(), lambda _witness: True) == []
    registry.forget(KEY)
    registry.discard(KEY)


def test_attachments_of_a_network_that_are_not_valid_are_stale(remembering: Registry) -> None:
    assert remembering.stale("net", {KEY}, lambda _witness: True) == [OTHER_KEY]
    assert remembering.stale("net", {KEY, OTHER_KEY}, lambda _witness: True) == []
    assert remembering.stale("other", set(), lambda _witness: True) == [FOREIGN_KEY]


def test_witness_whose_namespace_is_gone_is_stale_whatever_its_network(
    remembering: Registry,
) -> None:
    def exists(witness: Witness) -> bool:
        return witness.container_id != "other"

    assert remembering.stale("net", {KEY, OTHER_KEY}, exists) == [FOREIGN_KEY]


def test_attachment_that_is_worked_on_is_not_stale(remembering: Registry, directory: Path) -> None:
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    assert remembering.stale("net", set(), lambda _witness: True) == [OTHER_KEY]
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    stale = remembering.stale("net", set(), lambda _witness: True)
    assert stale == sorted([KEY, OTHER_KEY])


def test_discarding_leaves_nothing_of_an_attachment(remembering: Registry, directory: Path) -> None:
    (directory / f"lock-{KEY}").write_text("")
    for key in (KEY, OTHER_KEY, FOREIGN_KEY):
        assert directory.exists()
        remembering.discard(key)
    assert not directory.exists()


def test_discarding_leaves_a_live_attachment_alone(remembering: Registry, directory: Path) -> None:
    holder = process(HOLD, directory)
    assert line(holder) == "held"
    before = sorted(directory.iterdir())
    remembering.discard(KEY)
    assert sorted(directory.iterdir()) == before
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
        monkeypatch.setattr("cni_ipvlan.registry.os.unlink", refuse)
    assert not registry.is_live(KEY)


def test_who_only_reads_changes_nothing(remembering: Registry, directory: Path) -> None:
    reader = ReadOnlyRegistry(str(directory))
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with reader.attachment_lock(KEY, never, strict=True), reader.mode_lock(never):
        reader.remember(KEY, MASTER, WITNESS._replace(netns="/n"))
        reader.forget(KEY)
        reader.forget_file(next(iter(before)))
        reader.discard(OTHER_KEY)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert len(list(reader.witnesses(MASTER))) == 2


def test_who_only_reads_needs_no_directory(directory: Path) -> None:
    reader = ReadOnlyRegistry(str(directory))
    with reader.attachment_lock(KEY, never, strict=True), reader.mode_lock(never):
        pass
    assert list(reader.witnesses(MASTER)) == []
    assert not directory.exists()
