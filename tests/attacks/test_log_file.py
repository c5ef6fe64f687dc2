"""A network's logFile must not have root write where its author could not, or what he likes."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam
from lab import LEASES, LOGS, MEMORY, Node, run
from person import Person
from runtime import Answer, Conf, Runtime, host_local, network, static

NOBODY = 65534
EVIL = " /path/evil.so "  # what the loader finds in a line with any other words
RULE = f"a network may only name a file or directory below {LOGS}"
# A terminal's, and what some reader or other takes for the end of a line.
INJECTION = "\nforged\r\x1b[2J\x1b]0;owned\x07\u2028forged\u2029forged\x85forged\x9b2Jforged\u202e"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \S")


def attack(node: Node, runtime: Runtime, file: str, **options: Any) -> Answer:
    """Log a failure that quotes the attacker's words."""
    return runtime.add(node.container(), network(mode=EVIL, logFile=file, **options))


def refused(answer: Answer, file: str) -> None:
    """The call failed because of its mode, not its log; that was reported once, on stderr."""
    assert answer.error()["msg"].startswith(f'mode is "{EVIL}"')
    assert answer.stderr.count("cannot log to") == 1
    assert f"cannot log to {file!r}: " in answer.stderr


@contextmanager
def stand_in(path: str, text: str | None) -> Iterator[Path]:
    """A file below /etc, which only this kernel's machine has; None for one that is not there."""
    file = Path("/etc/stand-in") / path
    file.parent.mkdir(parents=True)
    if text is not None:
        file.write_text(text)
    try:
        yield file
    finally:
        shutil.rmtree("/etc/stand-in")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ld.so.preload", None),
        ("ld.so.preload", "/usr/lib/theirs.so\n"),
        ("profile.d/x.sh", None),
        ("sudoers", "root ALL=(ALL) ALL\n"),
    ],
)
def test_root_appends_nothing_to_the_systems_files(
    node: Node, runtime: Runtime, path: str, text: str | None
) -> None:
    node.master()
    with stand_in(path, text) as file:
        answer = attack(node, runtime, str(file))

        assert (file.read_text() if file.exists() else None) == text
        refused(answer, str(file))
        assert answer.stderr.rstrip().endswith(RULE)


def test_kernel_parameters_are_not_logged_to(node: Node, runtime: Runtime) -> None:
    node.master()
    pattern = Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    try:
        answer = attack(node, runtime, str(pattern))
        assert pattern.read_text() == before
        refused(answer, str(pattern))
    finally:
        pattern.write_text(before)


def test_a_lease_of_another_tenant_stays_as_it_is(node: Node, runtime: Runtime) -> None:
    node.master()
    victim = network(name="victim", ipam=host_local("10.1.0.0/24"))
    container = node.container()
    runtime.add(container, victim, CNI_CONTAINERID="victim").result()
    lease = LEASES / "networks/victim/10.1.0.2"
    before = lease.read_bytes()

    answer = attack(node, runtime, str(lease))

    assert lease.read_bytes() == before
    refused(answer, str(lease))
    runtime.delete(container, victim, CNI_CONTAINERID="victim").succeeds()
    assert node.leases() == []


def test_records_of_another_tenant_stay_as_they_are(node: Node, runtime: Runtime) -> None:
    node.master()
    runtime.add(node.container(), network(), CNI_CONTAINERID="victim").result()
    hint = next(MEMORY.glob("on-*/*"))
    before = hint.read_bytes()

    answer = attack(node, runtime, str(hint))

    assert hint.read_bytes() == before
    refused(answer, str(hint))


@pytest.mark.parametrize(
    "file",
    [
        f"{LOGS}/../x",
        f"{LOGS}/./../x",
        f"{LOGS}/sub/../../x",
        f"{LOGS}//../x",
        "../x",
        "../../../etc/x",
        f"{LOGS}-x",
        f"/{LOGS}/x",
        "/proc/self/root/var/log/x",
        str(LOGS),
        f"{LOGS}/",
        "x\0y",
        "x\ud800",
        "x\nforged",
        "-rf",
        "--checkpoint-action=exec=sh",
        "sub/-x",
        ".hidden",
        "sub/.x",
        "a b",
        "a;b",
        "ü",
        "sub/call.json",
    ],
)
def test_no_spelling_leads_out_of_the_directory(node: Node, runtime: Runtime, file: str) -> None:
    node.master()
    (LOGS / "sub").mkdir()

    answer = attack(node, runtime, file)

    assert [path.name for path in LOGS.parent.iterdir()] == [LOGS.name]
    assert [path.name for path in LOGS.iterdir()] == ["sub"]
    refused(answer, file)
    assert RULE in answer.stderr


@pytest.mark.parametrize("way", ["link", "directory", "hard link", "pipe", "owner", "writable"])
def test_no_symlink_or_hard_link_below_is_followed(
    node: Node, runtime: Runtime, tmp_path: Path, way: str
) -> None:
    node.master()
    precious = LOGS.parent / "precious"  # on the same file system, for the hard link
    precious.write_text("precious")
    file = "log"
    if way == "link":
        (LOGS / "log").symlink_to(precious)
    elif way == "directory":
        (LOGS / "team").symlink_to(tmp_path)
        file = "team/log"
    elif way == "hard link":
        (LOGS / "log").hardlink_to(precious)
    elif way == "pipe":
        os.mkfifo(LOGS / "log")
    else:
        (LOGS / "team").mkdir(0o700)
        os.chown(LOGS / "team", *((NOBODY, NOBODY) if way == "owner" else (0, NOBODY)))
        (LOGS / "team").chmod(0o770)
        file = "team/log"

    answer = attack(node, runtime, file)

    assert precious.read_text() == "precious"
    assert not (tmp_path / "log").exists()
    assert not (LOGS / "team" / "log").exists()
    refused(answer, file)
    precious.unlink()


def test_the_log_directory_must_belong_to_root(node: Node, runtime: Runtime) -> None:
    node.master()
    os.chown(LOGS, NOBODY, NOBODY)

    refused(attack(node, runtime, "log"), "log")
    assert list(LOGS.iterdir()) == []


def test_the_log_directory_is_not_created(node: Node, runtime: Runtime) -> None:
    node.master()
    LOGS.rmdir()

    answer = attack(node, runtime, "log")

    refused(answer, "log")
    assert f"install -d -m 0700 {LOGS}" in answer.stderr
    assert not LOGS.exists()


def test_a_log_file_may_be_named_relatively_or_absolutely(node: Node, runtime: Runtime) -> None:
    node.master()
    attack(node, runtime, "mine").error()
    attack(node, runtime, f"{LOGS}/mine").error()

    assert (LOGS / "mine").read_text().count("failed: mode is") == 2
    assert (LOGS / "mine").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "way", ["a directory", "a directory behind a link", "a link", "a link that others made"]
)
def test_an_administrators_file_is_only_reached_through_roots_directories(
    node: Node, runtime: Runtime, tmp_path: Path, way: str
) -> None:
    node.master()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "ours").mkdir()
    log = theirs / "log"
    if way == "a directory behind a link":
        (tmp_path / "way").symlink_to(theirs / "deeper")
        (theirs / "deeper").mkdir()
        log = tmp_path / "way" / "log"
    elif way == "a link":
        log.symlink_to(tmp_path / "ours" / "log")
    elif way == "a link that others made":
        (tmp_path / "way").symlink_to(tmp_path / "ours")
        os.chown(tmp_path / "way", NOBODY, NOBODY, follow_symlinks=False)
        log = tmp_path / "way" / "log"
    os.chown(theirs, NOBODY, NOBODY)

    answer = runtime.add(node.container(), network(), CNI_IPVLAN_LOG=str(log))

    answer.result()
    assert f"cannot log to {str(log)!r}: " in answer.stderr
    assert list((tmp_path / "ours").iterdir()) == []
    assert [path for path in theirs.rglob("log") if not path.is_symlink()] == []


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({"mode": INJECTION}, {}),
        ({"master": INJECTION}, {}),
        ({"ipam": {"type": f"x{INJECTION}"}}, {}),
        ({"cniVersion": INJECTION}, {}),
        ({f"mod{INJECTION}": 1, "Mode\x1b": 1}, {}),
        ({"ipam": static("10.1.0.2/24"), "mode": "l3"}, {"CNI_ARGS": f"A={INJECTION}"}),
        ({}, {"CNI_CONTAINERID": f"one{INJECTION}"}),
        ({}, {"CNI_NETNS": f"/run/netns/{INJECTION}"}),
    ],
    ids=["mode", "master", "IPAM type", "version", "keys", "CNI_ARGS", "container ID", "namespace"],
)
def test_no_value_adds_a_line_or_an_escape_sequence(
    node: Node, runtime: Runtime, options: Conf, environment: dict[str, str]
) -> None:
    node.master()
    conf = network(logFile=f"{LOGS}/log", logLevel="debug", **options)

    answer = runtime.add(node.container(), conf, **environment)

    is_printable_line_by_line((LOGS / "log").read_text(), answer.stderr)


def test_an_ipam_plugins_stderr_adds_no_line_and_no_escape_sequence(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    printed = f"odd{INJECTION}"
    (fake_ipam.directory / "words").write_text(printed)
    document = json.dumps({"cniVersion": "1.0.0", "code": 100, "msg": printed, "details": printed})
    (fake_ipam.directory / "answer").write_text(document)
    fake_ipam.on("ADD", "cat words >&2; cat answer; exit 1")
    conf = network(ipam=fake_ipam.conf, logFile=f"{LOGS}/log", logLevel="debug")

    answer = runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path, CNI_ARGS=f"A={INJECTION}")

    assert answer.error()["msg"] == printed
    text = (LOGS / "log").read_text()
    assert text.count("warning: odd | forged") == 1
    assert text.count("failed: odd | forged") == 1
    is_printable_line_by_line(text, answer.stderr)


def is_printable_line_by_line(log: str, stderr: str) -> None:
    """Each line starts as the plugin wrote it; lines and stderr have no escape sequences."""
    lines = log.removesuffix("\n").split("\n")
    assert all(LINE.match(line) for line in lines), lines
    assert all(line.isprintable() for line in lines), lines
    printed = stderr.rstrip("\n").split("\n")
    assert all(line.isprintable() and not line.startswith("forged") for line in printed), printed


@pytest.mark.parametrize("unit", ["x", "\x1b", "\n", "ü"])
def test_a_line_is_bounded(node: Node, runtime: Runtime, unit: str) -> None:
    node.master()

    runtime.add(
        node.container(), network(mode="start" + unit * 500_000, logFile=f"{LOGS}/log")
    ).error()
    runtime.add(
        node.container(), network(logFile=f"{LOGS}/log", mode="l9"), CNI_NETNS=f"/{unit * 20_000}"
    ).error()
    answer = runtime.add(node.container(), network(logFile="x" * 100_000))

    lines = (LOGS / "log").read_bytes().removesuffix(b"\n").split(b"\n")
    assert max(map(len, lines)) <= 4096
    assert " characters left out " in answer.stderr
    assert len(answer.stderr) <= 4096


def test_the_command_line_prints_no_control_characters(node: Node, person: Person) -> None:
    node.master()
    node.namespace("c1")
    file = person.writes(network(ipam={"type": f"x{INJECTION}"}))

    status, out, err = person.types(f"ipvlan add -c {file} --netns c1")

    assert status == 1
    assert "forged" in err
    assert all(line.isprintable() for line in (out + err).split("\n"))


def test_only_root_can_read_the_log(node: Node, runtime: Runtime) -> None:
    node.master()
    attack(node, runtime, "log").error()
    argv = ("setpriv", "--reuid", str(NOBODY), "--clear-groups", "cat", str(LOGS / "log"))
    with pytest.raises(AssertionError, match="Permission denied"):
        run(*argv)
