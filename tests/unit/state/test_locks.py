"""registry: locks between processes."""

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from attachments import KEY, MASTER, OTHER_KEY, never

from cni_ipvlan.state import locks
from cni_ipvlan.state.locks import BusyError
from cni_ipvlan.state.registry import Registry

ATTACHMENTS_LOCK = f"attachment_lock({KEY!r}, lambda: None, strict=True)"
MASTERS_LOCK = f"master_lock({MASTER!r}, lambda: None)"
USER = """
import os, sys
from cni_ipvlan.state.registry import Registry
registry = Registry(sys.argv[1])
"""
HOLD = f"""
with registry.{ATTACHMENTS_LOCK}:
    print("held", flush=True)
    sys.stdin.readline()
"""


def process(body: str, directory: Path) -> subprocess.Popen[str]:
    """Start a process that uses the registry in ``directory``."""
    return subprocess.Popen(
        [sys.executable, "-c", USER + textwrap.dedent(body), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",  # or Python would import from here what is not installed
    )


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


@pytest.mark.parametrize("strict", [True, False])
def test_wait_can_be_interrupted(
    registry: Registry, directory: Path, monkeypatch: pytest.MonkeyPatch, *, strict: bool
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with process(HOLD, directory) as holder:  # which ends when its standard input is closed
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(KeyboardInterrupt),
            registry.attachment_lock(KEY, interrupt, strict=strict),
        ):
            pass
        monkeypatch.setattr(locks, "_CALL_SECONDS", 0.1)
        monkeypatch.setattr(locks, "_ORPHAN_SECONDS", 0.0)
        with (
            pytest.raises(BusyError, match="this container"),
            registry.attachment_lock(KEY, never, strict=strict),
        ):
            pass
        assert registry.is_live(KEY)


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
