"""journal: what is logged at which level, and that logging never fails a call."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any

import pytest

from cni_ipvlan.iproute.runner import Completed, Event
from cni_ipvlan.journal import Journal, describe

if TYPE_CHECKING:
    from pathlib import Path

QUERY = Event(Completed(("ip", "link", "show"), 0, b"[]", b"", 0.0123), "")
CHANGE = Event(
    Completed(("ip", "link", "set", "dev", "it's", "up"), 0, b"", b"", 0.002), "bring it up"
)
FAILURE = Event(Completed(("ip", "link"), 2, b"", b"RTNETLINK\nanswers: no\n", 0.0), "do it")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] c1 net1: (.*)\Z")


class World:
    def __init__(self, log: Path, config: dict[str, Any], **environment: str) -> None:
        self.said: list[str] = []
        self.log = log
        call = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "net1", **environment}
        self.journal = Journal(self.said.append, call)
        self.journal.open(config)

    def tell_everything(self) -> list[str]:
        """Tell the journal of everything there is, and return what it logged, less the times."""
        self.journal.command(QUERY)
        self.journal.command(CHANGE)
        self.journal.warn("odd")
        self.journal.fail("cannot do it")
        if not self.log.exists():
            return []
        found = []
        for line in self.log.read_text().splitlines():
            match = LINE.match(line)
            assert match, line
            found.append(match[1])
        return found


EVERYTHING = [
    "ip link show # 12.3 ms, status 0",
    """ip link set dev 'it'"'"'s' up # 2.0 ms, status 0 (bring it up)""",
    "warning: odd",
    "failed: cannot do it",
]


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", EVERYTHING),
        ("verbose", EVERYTHING[1:]),
        ("error", EVERYTHING[2:]),
        ("panic", []),
        (None, EVERYTHING[1:]),
        ("unheard of", EVERYTHING[1:]),
    ],
)
def test_level_says_how_much_is_logged(
    tmp_path: Path, level: str | None, logged: list[str]
) -> None:
    log = tmp_path / "log"
    world = World(log, {"logFile": str(log), "logLevel": level})
    assert world.tell_everything() == logged
    assert world.said == ["c1 net1: odd"]


def test_variable_asks_for_everything_and_goes_before_the_configuration(tmp_path: Path) -> None:
    log = tmp_path / "log"
    config = {"logFile": str(tmp_path / "other"), "logLevel": "error"}
    world = World(log, config, CNI_IPVLAN_LOG=str(log))
    assert world.tell_everything() == EVERYTHING
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("config", [{}, {"logFile": None}, {"logFile": ""}, {"logFile": 5}])
def test_nothing_is_logged_unless_asked_for(tmp_path: Path, config: dict[str, Any]) -> None:
    world = World(tmp_path / "log", config)
    world.tell_everything()
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    assert world.said == ["c1 net1: odd"]


def test_file_is_its_owners_alone_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        World(log, {"logFile": str(log)}).tell_everything()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert len(log.read_text().splitlines()) == 6


def test_command_that_failed_is_one_line_with_what_was_said() -> None:
    assert describe(FAILURE).endswith("(do it) said: RTNETLINK\nanswers: no")


def test_text_of_several_lines_is_logged_as_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    world = World(log, {"logFile": str(log)})
    world.journal.fail("one\ntwo\udcff")
    (line,) = log.read_text().splitlines()
    assert line.endswith("failed: one | two\\udcff")


def test_several_commands_in_one_ip_are_all_told() -> None:
    event = Event(
        Completed(("ip", "-batch", "-"), 0, b"", b"", 0.0), "a; b", (), ("link show", "x y")
    )
    assert describe(event) == "ip -batch - <<< 'link show; x y' # 0.0 ms, status 0 (a; b)"


def link(tmp_path: Path) -> str:
    """A link that somebody else could have made, in a directory open to all."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "target")
    return str(tmp_path / "open" / "link")


def link_in_between(tmp_path: Path) -> str:
    """The same, to a directory."""
    (tmp_path / "private").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to(tmp_path / "private")
    return str(tmp_path / "open" / "link" / "log")


def another_name(tmp_path: Path) -> str:
    (tmp_path / "file").touch()
    (tmp_path / "log").hardlink_to(tmp_path / "file")
    return str(tmp_path / "log")


def pipe(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "pipe")
    return str(tmp_path / "pipe")


@pytest.mark.parametrize(
    "obstacle",
    [
        link,
        link_in_between,
        another_name,
        pipe,
        str,
        lambda tmp_path: str(tmp_path / "no" / "such" / "directory"),
        lambda _tmp_path: "relative/path",
        lambda _tmp_path: "/dev/full",
        lambda _tmp_path: "/\0",
    ],
)
def test_file_that_cannot_be_logged_to_is_said_once_and_fails_nothing(
    tmp_path: Path, obstacle: Any
) -> None:
    path = obstacle(tmp_path)
    world = World(tmp_path / "nothing", {"logFile": path})
    world.tell_everything()
    complaint, warning = world.said
    assert complaint.startswith(f"c1 net1: cannot log to {path}: ")
    assert warning == "c1 net1: odd"
    assert not (tmp_path / "target").exists()


def test_log_that_stops_taking_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    world = World(log, {"logFile": str(log), "logLevel": "debug"})

    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    world.tell_everything()
    assert world.said == ["c1 net1: cannot log: [Errno 28] No space left on device", "c1 net1: odd"]
