"""registry: locks between processes."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attachments import KEY, MASTER, OTHER_KEY, never
from lab import wait_until

from cni_ipvlan.state import locks
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry

ATTACHMENTS_LOCK = f"attachment_lock({KEY!r}, lambda: None, strict=True)"
MASTERS_LOCK = f"master_lock({MASTER!r}, lambda: None)"
HOLDER = """
import os, subprocess, sys
from cni_ipvlan.state.registry import Registry
registry = Registry(sys.argv[1])

def say(*words):
    print(*words, flush=True)
"""
HOLD = f"""
with registry.{ATTACHMENTS_LOCK}:
    say("held")
    sys.stdin.readline()
"""
HOLD_IN_A_CHILD = f"""
with registry.{ATTACHMENTS_LOCK}:
    child = subprocess.Popen(["sleep", "30"], close_fds=False, stdout=subprocess.DEVNULL)
    say(child.pid)
    sys.stdin.readline()
"""


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
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the attachment's lock, until it is written to."""
    with process(HOLD, directory) as running:
        assert line(running) == "held"
        yield running
        if running.returncode is None:
            running.communicate("\n")


def test_directory_is_roots_with_one_file_for_all(registry: Registry, directory: Path) -> None:
    with registry.attachment_lock(KEY, never, strict=True):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == ["locks"]
        assert stat.S_IMODE((directory / "locks").stat().st_mode) == 0o600
        with registry.attachment_lock(OTHER_KEY, never, strict=True):
            pass
        assert registry.is_live(KEY)
    with pytest.raises(ZeroDivisionError), registry.attachment_lock(KEY, never, strict=True):
        raise ZeroDivisionError
    assert not registry.is_live(KEY)


def test_second_call_waits_for_the_first(registry: Registry, holder: subprocess.Popen[str]) -> None:
    calls = []
    start = time.monotonic()

    def release_after_a_while() -> None:
        calls.append(time.monotonic() - start)
        if len(calls) >= 3 and calls[-1] > 0.3 and holder.returncode is None:
            holder.communicate("\n")

    with registry.attachment_lock(OTHER_KEY, pytest.fail, strict=True):
        pass  # another's, for which it need not wait
    with registry.attachment_lock(KEY, release_after_a_while, strict=True):
        assert (holder.returncode, registry.is_live(OTHER_KEY)) == (0, False)
    assert 3 <= len(calls) <= 4 + calls[-1] / 0.04


@pytest.mark.usefixtures("holder")
@pytest.mark.parametrize("strict", [True, False])
def test_wait_can_be_interrupted(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, *, strict: bool
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), registry.attachment_lock(KEY, interrupt, strict=strict):
        pass
    monkeypatch.setattr(locks, "_CALL_SECONDS", 0.1)
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.0)
    with (
        pytest.raises(BusyError, match="this container"),
        registry.attachment_lock(KEY, never, strict=strict),
    ):
        pass
    assert registry.is_live(KEY)


def test_wait_for_what_a_killed_call_left_running_ends_sooner(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.1)
    holder = process(HOLD_IN_A_CHILD, directory)
    child = int(line(holder))
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert registry.is_live(KEY)
    with pytest.raises(BusyError), registry.attachment_lock(KEY, never, strict=True):
        pass
    with registry.attachment_lock(KEY, never, strict=False):
        assert registry.is_live(KEY)
    assert (directory / "locks").exists()
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not registry.is_live(KEY))
    holder.communicate()


@pytest.mark.parametrize("lock", [ATTACHMENTS_LOCK, MASTERS_LOCK])
def test_one_process_at_a_time_has_the_lock(directory: Path, tmp_path: Path, lock: str) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    body = f"""
    for _ in range(25):
        with registry.{lock}:
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


@pytest.mark.parametrize("what", ["link", "another user's", "file", "no parent"])
def test_unusable_directory_is_refused_at_once_and_stops_only_the_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    message = "another user" if what in ("link", "another user's") else "cni-ipvlan"
    path = tmp_path / "run" / "cni-ipvlan"
    if what != "no parent":
        path.parent.mkdir()
    if what == "file":
        path.write_text("")
    elif what == "another user's":
        path.mkdir(0o700)
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    elif what == "link":
        path.symlink_to(tmp_path)
    registry = Registry(str(path))
    kind = PermissionError if what == "another user's" else OSError  # which has "run as root"

    with pytest.raises(kind, match=message), registry.master_lock(MASTER, never):
        pass
    with pytest.raises(OSError, match=message), registry.attachment_lock(KEY, never, strict=True):
        pass
    with registry.attachment_lock(KEY, never, strict=False):
        pass


def test_idle_attachment_is_locked_and_a_live_one_is_not(registry: Registry) -> None:
    with registry.try_attachment_lock(KEY) as is_idle:
        assert is_idle
        assert registry.is_live(KEY)
        with registry.try_attachment_lock(KEY) as is_idle_again:
            assert not is_idle_again
    assert not registry.is_live(KEY)
