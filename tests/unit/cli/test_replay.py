"""ipvlan replay refuses a file that is no capture, or a forged one, with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandResult, ipvlan
from runtime import call_environment

CONF = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
VARIABLES = call_environment("ADD", "/nonexistent", CNI_PATH="/")
CAPTURE = {"capture": 1, "time": "2026", "environment": VARIABLES, "stdin": json.dumps(CONF)}
OUTCOME = {"status": 0, "answer": "{}"}


def replay(tmp_path: Path, request: Any, *options: str, outcome: Any = OUTCOME) -> CommandResult:
    lines = [request, {"command": {"argv": ["ip"]}}, {"outcome": outcome}]
    file = tmp_path / "call.jsonl"
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    file.write_text("\n".join(texts))
    return ipvlan("replay", str(file), *options)


def variables(**overrides: Any) -> dict[str, Any]:
    return {**CAPTURE, "environment": {**VARIABLES, **overrides}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a capture, whose first line is a call's request of form 1"),
        ("[]", "is not a capture, "),
        ("[" * 100_000, "is not a capture, "),
        (json.dumps(CAPTURE, indent=4), "is not a capture, "),
        ({**CAPTURE, "capture": "\x1b[2J"}, "is not a capture, "),
        ({**CAPTURE, "environment": []}, "is not a capture, "),
        ({**CAPTURE, "time": None}, "time must be a string"),
        ({**CAPTURE, "stdin": "\ud800"}, "stdin must be a string"),
        (variables(CNI_IPVLAN_LOG="/x"), "'CNI_IPVLAN_LOG' is no variable of CNI"),
        ({**CAPTURE, "environment": {"CNI_A=B\n": ""}}, r"'CNI_A=B\n' is no variable"),
        (variables(PATH="/"), "'PATH' is no variable of CNI"),
        (variables(CNI_ARGS="a\0b"), "CNI_ARGS must be a string without NUL"),
        (variables(CNI_ARGS="\ud800"), "CNI_ARGS must be a string without NUL"),
        (variables(CNI_ARGS=5), "CNI_ARGS must be a string without NUL"),
    ],
)
def test_what_is_no_capture_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    result = replay(tmp_path, content)
    assert (result.status, result.out) == (2, "")
    assert message in result.err
    assert all(line.isprintable() for line in result.err.split("\n"))
    result = replay(tmp_path, CAPTURE, outcome={"status": 0, "answer": 5})
    assert (result.status, "answer must be a string" in result.err) == (2, True)


def test_a_call_that_was_killed_has_no_outcome_or_half_of_one(tmp_path: Path) -> None:
    lines = [json.dumps(each) for each in (variables(CNI_COMMAND="SING"), {"outcome": OUTCOME})]
    file = tmp_path / "call.jsonl"
    for end in ("", f"\n{lines[1][:-20]}", "\n[]", '\n{"outcome": 5}'):
        file.write_text(text := lines[0] + end)
        status, out, _ = ipvlan("replay", str(file))
        assert status == 1
        assert out.startswith("status 1; the recorded call was killed\n{\n"), text
        assert "SING" in out


def test_options_that_do_not_fit_the_call_are_refused(tmp_path: Path) -> None:
    result = replay(tmp_path, variables(CNI_COMMAND="STATUS"), "--dry-run")
    assert (result.status, "STATUS changes nothing" in result.err) == (2, True)
    result = replay(tmp_path, variables(CNI_COMMAND="GC"), "--netns", "/x")
    assert (result.status, "GC is about no container" in result.err) == (2, True)
    # An old GC is announced with what it does.
    result = replay(tmp_path, {**variables(CNI_COMMAND="GC"), "stdin": "{}"}, "--dry-run")
    assert "it releases the addresses of attachments that have been added since\n" in result.err


@pytest.mark.parametrize("option", [[], ["--dry-run"]])
def test_a_strangers_words_do_not_reach_the_terminal(option: list[str], tmp_path: Path) -> None:
    escapes = "\x1b[2J\x9b\u202e"
    content = {**variables(CNI_IFNAME=f"net1{escapes}"), "time": escapes, "stdin": escapes}
    _, out, err = replay(tmp_path, content, *option, outcome={"status": escapes, "answer": escapes})
    assert "replaying ADD of \\x1b[2J\\x9b\\u202e, container one, interface net1\\x1b" in err
    assert all(line.isprintable() for line in (out + err).split("\n"))
