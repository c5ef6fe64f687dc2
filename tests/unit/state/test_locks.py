"""registry: locks between processes, and a directory that leaves no trace."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from holder import (
    HOLD,
    HOLD_IN_A_CHILD,
    HOLD_MASTER,
    KEY,
    MASTER,
    OTHER_KEY,
    line,
    never,
    process,
)
from lab import wait_until

from cni_ipvlan.state import locks
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry


def test_directory_is_readable_by_root_only_and_gone_afterwards(
    registry: Registry, directory: Path
) -> None:
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


def test_many_waiting_calls_take_turns_and_use_little_processor_time(
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
    wait_until(lambda: not registry.is_live(KEY))
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


def stops_only_the_strict(registry: Registry, reason: str) -> None:
    """Check that a strict lock fails for this reason, and that a call without one goes on."""
    with (
        pytest.raises(OSError, match=reason),
        registry.attachment_lock(KEY, never, strict=True),
    ):
        pass
    went_on = False
    with registry.attachment_lock(KEY, never, strict=False):
        went_on = True
    assert went_on


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

    with pytest.raises(OSError, match="another user"), registry.master_lock(MASTER, never):
        pass
    stops_only_the_strict(registry, "another user")


@pytest.mark.parametrize("obstacle", ["file", "no parent"])
def test_unusable_directory_stops_only_the_strict(tmp_path: Path, obstacle: str) -> None:
    place = tmp_path / "run" / "cni-ipvlan"
    if obstacle == "file":
        place.parent.mkdir()
        place.write_text("")
    stops_only_the_strict(Registry(str(place)), "cni-ipvlan")


def test_idle_attachment_is_locked_and_a_live_one_is_not(
    registry: Registry, directory: Path
) -> None:
    with registry.idle(KEY) as is_idle:
        assert is_idle
        assert registry.is_live(KEY)
        with registry.idle(KEY) as is_idle_again:
            assert not is_idle_again
    assert not directory.exists()


def test_lock_that_cannot_be_removed_fails_no_call(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str) -> None:
        raise OSError(errno.EIO, "injected")

    with registry.attachment_lock(KEY, never, strict=True):
        monkeypatch.setattr("cni_ipvlan.state.registry.os.unlink", refuse)
    assert not registry.is_live(KEY)
