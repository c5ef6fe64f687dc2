"""capture: a file written as things happen, and bounded whatever the call does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_ipvlan import capture
from cni_ipvlan.cni.request import read
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log

if TYPE_CHECKING:
    from cni_ipvlan.log import Listener

Write = Callable[[bytes], None]

QUERY = Command(("ip", "link", "show"))
DONE = Completed(0, b"[]", b"", 0.01)


class Call:
    """A call that is captured in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []
        self.written: list[bytes] = []
        self.write: Write = self.written.append

    def make(self, answer: Callable[[Listener, Write], int], stdin: bytes = b"{}") -> int:
        environment = {"CNI_COMMAND": "ADD", "CNI_IPVLAN_CAPTURE": str(self.directory)}
        log = Log(self.warnings.append, environment)
        return capture.captured(answer, environment, read(stdin), log, self.write)

    def captured(self) -> list[Any]:
        (file,) = self.directory.iterdir()
        return [json.loads(line) for line in file.read_text("ascii").splitlines()]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    directory = tmp_path / "captures"
    directory.mkdir()
    return Call(directory)


def test_each_thing_is_written_when_it_has_happened(call: Call) -> None:
    def answer(listener: Listener, write: Write) -> int:
        for number in range(4):
            request, *commands = call.captured()
            assert request["stdin"] == "{}"
            assert [each["command"]["stdout"] for each in commands] == ["[]"] * number
            listener.command(QUERY, DONE)
        write(b'{"ips": []}')
        return 0

    assert call.make(answer) == 0

    outcome = call.captured()[-1]["outcome"]
    assert (outcome["status"], outcome["answer"]) == (0, '{"ips": []}')
    assert outcome["commandsLeftOut"] == 0
    assert call.written == [b'{"ips": []}']


def test_a_call_of_many_commands_leaves_a_bounded_file(call: Call) -> None:
    long = Completed(0, b"\x1b" * 1_000_000, b"\xff" * 1_000_000, 0.01)

    def answer(listener: Listener, write: Write) -> int:
        for _ in range(100):
            listener.command(QUERY, long)
        write(b"x" * 3_000_000)
        return 1

    stdin = json.dumps({"name": "x" * 900_000}).encode()
    assert call.make(answer, stdin) == 1

    request, *commands, last = call.captured()
    assert request["stdin"].encode() == stdin  # which is never cut
    assert len(commands) + last["outcome"]["commandsLeftOut"] == 100
    assert last["outcome"]["commandsLeftOut"] > 0
    assert " … 983616 characters left out … " in commands[0]["command"]["stdout"]
    assert len(last["outcome"]["answer"]) < 1_100_000
    (file,) = call.directory.iterdir()
    assert file.stat().st_size < 3 << 20


def test_an_answer_that_the_runtime_did_not_get_is_not_captured(call: Call) -> None:
    def answer(_listener: Listener, write: Write) -> int:
        write(b"result")
        return 0

    def fail(_document: bytes) -> None:
        raise BrokenPipeError

    call.write = fail
    with pytest.raises(BrokenPipeError):
        call.make(answer)
    outcome = call.captured()[-1]["outcome"]
    assert (outcome["status"], outcome["answer"]) == (1, "")


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_a_capture_that_fails_is_reported_once(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def answer(listener: Listener, write: Write) -> int:
        def fail(*_: Any) -> int:
            raise error

        monkeypatch.setattr("os.write", fail)
        listener.command(QUERY, DONE)
        listener.command(QUERY, DONE)
        write(b"result")
        return 0

    assert call.make(answer) == 0
    assert call.written == [b"result"]
    assert len(call.warnings) == 1
    assert call.warnings[0].startswith("cannot capture the call: ")
    assert call.warnings[0].endswith(("out of memory", "No space left on device"))
