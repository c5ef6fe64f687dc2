"""capture: a file written as things happen, and bounded whatever the call does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_ipvlan.capture import Capture
from cni_ipvlan.iproute.commands import Command
from cni_ipvlan.iproute.running import Completed
from cni_ipvlan.log import Log

QUERY = Command(("ip", "link", "show"))
DONE = Completed(0, b"[]", b"", 0.01)


class Call:
    """A call that is captured in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.warnings: list[str] = []

    def make(self, happen: Callable[[Log], None], answer: bytes, stdin: bytes = b"{}") -> None:
        environment = {"CNI_COMMAND": "ADD", "CNI_IPVLAN_CAPTURE": str(self.directory)}
        log = Capture(self.warnings.append, environment, stdin)
        log.open({})
        happen(log)
        log.end(0, answer)

    def read(self) -> list[Any]:
        (file,) = self.directory.iterdir()
        return [json.loads(line) for line in file.read_text("ascii").splitlines()]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    directory = tmp_path / "captures"
    directory.mkdir()
    return Call(directory)


def test_a_call_of_many_commands_leaves_a_bounded_file(call: Call) -> None:
    long = Completed(0, b"\x1b" * 1_000_000, b"\xff" * 1_000_000, 0.01)

    def happen(log: Log) -> None:
        for _ in range(100):
            log.command(QUERY, long)

    stdin = json.dumps({"name": "x" * 900_000}).encode()
    call.make(happen, b"x" * 3_000_000, stdin)

    request, *commands, last = call.read()
    assert request["stdin"].encode() == stdin  # which is never cut
    assert len(commands) + last["outcome"]["commandsLeftOut"] == 100
    assert last["outcome"]["commandsLeftOut"] > 0
    assert " … 983616 characters left out … " in commands[0]["command"]["stdout"]
    assert len(last["outcome"]["answer"]) < 1_100_000
    (file,) = call.directory.iterdir()
    assert file.stat().st_size < 3 << 20


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_a_capture_that_fails_is_reported_once(
    call: Call, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def happen(log: Log) -> None:
        def fail(*_: Any) -> int:
            raise error

        monkeypatch.setattr("os.write", fail)
        log.command(QUERY, DONE)
        log.command(QUERY, DONE)

    call.make(happen, b"result")
    assert len(call.warnings) == 1
    assert call.warnings[0].startswith("cannot capture the call: ")
    assert call.warnings[0].endswith(("out of memory", "No space left on device"))
