"""log: what is logged at which level, and that logging never fails a call."""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from runtime import call_environment

from cni_ipvlan import log_file
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log, describe, one_line

QUERY = (Command(("ip", "link", "show")), Completed(0, b"[]", b"", 0.0123))
UP = Command(("ip", "link", "set", "dev", "it's", "up"), "bring it up")
CHANGE = (UP, Completed(0, b"", b"", 0.002))
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] "
    r"ADD c1 net1 /run/netns/c1 default/web-0: (.*)\Z"
)


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which networks may name files."""
    directory = tmp_path / "logs"
    directory.mkdir(0o700)
    monkeypatch.setattr(log_file, "DIRECTORY", str(directory))
    return directory


class LogTester:
    def __init__(self, log: Path, config: dict[str, Any], **environment: str) -> None:
        self.messages: list[str] = []
        self.log = log
        pod = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"
        variables = {"CNI_CONTAINERID": "c1", "CNI_ARGS": pod, **environment}
        call = call_environment("ADD", "/run/netns/c1", **variables)
        self.call_log = Log(self.messages.append, call)
        self.call_log.open(config)

    def log_everything(self) -> list[str]:
        for command, completed in (QUERY, CHANGE):
            self.call_log.command(command, None)
            self.call_log.command(command, completed)
        self.call_log.wait("waiting for it")
        self.call_log.warn("odd")
        self.call_log.fail("cannot do it")
        if not self.log.exists():
            return []
        matches = [LINE.match(line) for line in self.log.read_text().splitlines()]
        assert all(matches)
        return [match[1] for match in matches if match]


EVERYTHING = [
    "ip link show # 12.3 ms, status 0",
    """ip link set dev 'it'"'"'s' up # 2.0 ms, status 0 (bring it up)""",
    "waiting for it",
    "warning: odd",
    "failed: cannot do it",
]


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", EVERYTHING),
        ("verbose", EVERYTHING[1:]),
        ("error", EVERYTHING[3:]),
        ("panic", []),
        (None, EVERYTHING[1:]),
        ("unheard of", EVERYTHING[1:]),
    ],
)
def test_level_sets_how_much_is_logged(logs: Path, level: str | None, logged: list[str]) -> None:
    tester = LogTester(logs / "log", {"logFile": "log", "logLevel": level})
    assert tester.log_everything() == logged
    assert tester.messages == ["c1 net1: odd"]


@pytest.mark.parametrize("config", [{}, {"logFile": ""}, {"logFile": 5}])
def test_nothing_is_logged_unless_asked_for(tmp_path: Path, config: dict[str, Any]) -> None:
    tester = LogTester(tmp_path / "log", config)
    tester.log_everything()
    assert [*tmp_path.iterdir()] == []
    assert tester.messages == ["c1 net1: odd"]


def test_file_is_readable_by_its_owner_only_and_appended_to(logs: Path) -> None:
    log = logs / "log"
    for name in (str(log), "log"):
        LogTester(log, {"logFile": name}).log_everything()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert len(log.read_text().splitlines()) == 8


def test_a_line_is_printable_whatever_it_is_made_of() -> None:
    for text, line in (
        ("plain – ü", "plain – ü"),
        ("a\r\nb\n", "a\\r | b"),
        ("\x1b[2J\x9b\0\u2028", "\\x1b[2J\\x9b\\x00\\u2028"),
        ("\x85\u202e\ud800", "\\x85\\u202e\\ud800"),
        ("x" * 4036, "x" * 4036),
    ):
        assert one_line(text) == line


@pytest.mark.parametrize("text", ["x" * 4097, "ü" * 2049, "\x1b" * 1_000_000, "a" + "\n" * 5000])
def test_of_a_line_that_is_too_long_the_middle_is_left_out(text: str) -> None:
    line = one_line(f"start{text}end")
    assert len(line.encode()) <= 4096
    match = re.fullmatch(r"start(.*) … (\d+) characters left out … (.*)end", line)
    assert match
    ends = one_line(text[0]), one_line(text[-1] + "!")[:-1]
    length = sum(len(match[part]) for part in (1, 3))
    assert int(match[2]) >= len(text) - length
    assert not text.isascii() or not text.isprintable() or length > 4000  # as much as fits
    assert match[1].startswith(ends[0])
    assert match[3].endswith(ends[1])


def test_every_line_on_stderr_names_its_attachment(logs: Path) -> None:
    tester = LogTester(logs / "log", {"logFile": "log"})
    tester.call_log.warn("one\ntwo\x1b[2J\n")
    # In one piece: a signal gives up what is being written, but only that.
    assert tester.messages == ["c1 net1: one\nc1 net1: two\\x1b[2J"]
    tester.call_log.fail("one\ntwo\udcff")
    assert (logs / "log").read_text().endswith("failed: one | two\\udcff\n")
    tester.call_log.fail("no master\neth1 is there", "eth1 is there")
    assert tester.messages[1:] == ["c1 net1: eth1 is there"]
    assert (logs / "log").read_text().count("eth1") == 1


def test_several_commands_in_one_ip_and_the_output_of_a_failed_one_are_described() -> None:
    command = Command(("ip", "-batch", "-"), "a; b", stdin=b"link show\nx y\n")
    assert describe(command, Completed(0, b"", b"", 0.0)) == (
        "ip -batch - <<< 'link show; x y' # 0.0 ms, status 0 (a; b)"
    )
    failure = Completed(2, b"", b"RTNETLINK\nanswers: no\n", 0.0)
    assert describe(QUERY[0], failure).endswith(" printed: RTNETLINK\nanswers: no")


@pytest.mark.parametrize(
    "path",
    [
        *("DIR/pipe", "DIR/read", "DIR/round/log", "DIR/no/such/directory", "DIR"),
        *("/dev/full", "/dev/null/log"),
    ],
)
def test_unusable_log_file_is_reported_once_and_fails_nothing(tmp_path: Path, path: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "read")
    (tmp_path / "round").symlink_to("round")
    reader = os.open(tmp_path / "read", os.O_RDONLY | os.O_NONBLOCK)
    path = path.replace("DIR", str(tmp_path))
    tester = LogTester(tmp_path / "nothing", {}, CNI_IPVLAN_LOG=path)
    tester.log_everything()
    problem, warning = tester.messages
    assert problem.startswith(f"c1 net1: cannot log to {path!r}: ")
    assert problem.endswith("it must be a regular file")
    assert warning == "c1 net1: odd"
    os.close(reader)


def test_administrators_may_have_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "way").symlink_to("a")
    (tmp_path / "a" / "link").symlink_to("log")
    tester = LogTester(tmp_path / "a" / "log", {}, CNI_IPVLAN_LOG=str(tmp_path / "way" / "link"))
    assert tester.log_everything() == EVERYTHING


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/x", "{logs}", "{logs}x/y", "{logs}/../x", "../x", "{logs}//x", "a/", ".", "a/.."),
        *("\0", "a\nb", "a\udcffb", "-rf", "a/x", ".hidden", "a b", "ü", "b.json", "b.jsonl"),
        *("..", "{logs}/", "{logs}/a/x", "{logs}/{logs}", "/", "//etc/x", "{logs}/{logs}/x"),
    ],
)
def test_network_may_name_no_file_elsewhere(logs: Path, name: str) -> None:
    name = name.format(logs=logs)
    (logs / "a").mkdir()
    tester = LogTester(logs / "log", {"logFile": name})
    assert tester.log_everything() == []
    problem, _ = tester.messages
    start = f"c1 net1: cannot log to {name!r}: a network may only name what lies directly in {logs}"
    assert problem.startswith(start)
    assert list(logs.parent.iterdir()) == [logs]
    assert list(logs.rglob("*")) == [logs / "a"]


FILE = "it must be a regular file that belongs to root and has one link"
LOGS = "only root may be able to write to LOGS; try: install -d -m 0700 LOGS"


@pytest.mark.parametrize(
    ("problem", "prepare"),
    [
        (FILE, "ln -s ../target logs/log"),
        (FILE, "touch elsewhere; ln elsewhere logs/log"),
        (FILE, "mkfifo logs/log"),
        (FILE, "mkdir logs/log"),
        (LOGS, "mv logs elsewhere; ln -s elsewhere logs"),
        (LOGS, "chmod 770 logs"),
        (LOGS, "chmod 707 logs"),
        (LOGS, "rmdir logs"),
        (LOGS, "rmdir logs; touch logs"),
    ],
)
def test_network_log_file_follows_no_symlink(logs: Path, problem: str, prepare: str) -> None:
    subprocess.run(["sh", "-c", prepare], check=True, cwd=logs.parent)
    tester = LogTester(logs / "nothing", {"logFile": "log"})
    (message,) = tester.messages
    assert message.startswith("c1 net1: cannot log to 'log': ")
    assert message.endswith(problem.replace("LOGS", str(logs)))
    assert not (logs.parent / "target").exists()
    directory = logs.parent / "elsewhere"
    assert not directory.is_dir() or list(directory.iterdir()) == []


def test_no_descriptor_but_the_files_is_left_open(logs: Path) -> None:
    (logs / "directory").mkdir()
    before = [*Path("/proc/self/fd").iterdir()]
    for name in ("log", "directory", "../log"):
        LogTester(logs / "log", {"logFile": name})
    assert len([*Path("/proc/self/fd").iterdir()]) == len(before) + 1


def test_log_write_error_is_reported_once(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tester = LogTester(logs / "log", {"logFile": "log", "logLevel": "debug"})

    def refuse(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    tester.log_everything()
    assert tester.messages == ["c1 net1: cannot log: No space left on device", "c1 net1: odd"]
