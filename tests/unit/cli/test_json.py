"""--json: one document on stdout from every command there is, in success and in failure."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from cni_ipvlan import __version__
from cni_ipvlan.cli import program
from cni_ipvlan.cni import errors
from cni_ipvlan.cni.errors import CniError
from cni_ipvlan.iproute.interrupts import InterruptedBySignalError
from cni_ipvlan.plugin import codes

DOCUMENT = Path(__file__).parents[3] / "docs" / "json.md"
CONF = {"cniVersion": "1.1.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
HERE = "/proc/self/ns/net"
CAPTURE = {"capture": 1, "time": "", "environment": {"CNI_COMMAND": "STATUS"}, "stdin": "{}"}


class Sample(NamedTuple):
    """A call of a command: where in the command line's package its work is done, its arguments."""

    work: str
    arguments: tuple[str, ...] = ()


ATTACHMENT = ("-c", "CONF", "--netns", HERE, "--container-id", "one")
SAMPLES = {
    "add": Sample("calls.make", ATTACHMENT),
    "del": Sample("calls.make", (*ATTACHMENT, "--dry-run")),
    "check": Sample("calls.make", (*ATTACHMENT, "--prev-result", "RESULT")),
    "status": Sample("calls.make", ("-c", "CONF")),
    "gc": Sample("calls.make", ("-c", "CONF", "--keep-none")),
    "validate": Sample("configs.read", ("CONF",)),
    "show": Sample("show.tree.look"),
    "doctor": Sample("doctor.examine"),
    "probe": Sample("reach.probe.find", ("--netns", HERE)),
    "trace": Sample("reach.trace.Map", ("host", "10.1.0.1")),
    "replay": Sample("calls.answered", ("CAPTURE",)),
    "ipam-answer": Sample(
        "dry_run.answer._stdin", ("--plugin", "p", "--cni-version", "1.0.0", "--mtu", "9")
    ),
}
FAILURES = {
    "bug": (ZeroDivisionError("oh"), errors.INTERNAL, 1),
    "failure": (CniError(codes.NOT_PERMITTED, "no", "because", "of net7"), codes.NOT_PERMITTED, 1),
    "bad input": (CniError(errors.INVALID_CONFIGURATION, "no"), errors.INVALID_CONFIGURATION, 2),
    "^C": (KeyboardInterrupt(), codes.INTERRUPTED, 130),
    "signal": (InterruptedBySignalError(15), codes.INTERRUPTED, 1),
}


def walk(group: click.Group, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its words, the whole program first."""
    yield names, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from walk(command, *names, name)
        else:
            yield (*names, name), command


TREE = dict(walk(program.ipvlan))
COMMANDS = [names for names in TREE if names]


def named(names: tuple[str, ...]) -> str:
    return " ".join(names) or "ipvlan"


every_command = pytest.mark.parametrize("names", TREE, ids=named)


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps(CONF))
    (tmp_path / "call.json").write_text(json.dumps(CAPTURE))
    (tmp_path / "result.json").write_text('{"cniVersion": "1.0.0"}')
    monkeypatch.delenv("CNI_COMMAND", raising=False)
    return file


def printed(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    """Return the one document on stdout, and stderr."""
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert isinstance(document, dict)
    return document, captured.err


@every_command
def test_every_command_has_the_option_and_no_other_for_formats(names: tuple[str, ...]) -> None:
    options = {word for each in TREE[names].params for word in each.opts}
    assert "--json" in options
    assert not {"--format", "--output", "-o"} & options


@every_command
@pytest.mark.parametrize("wrong", [("--no-such-option",), ("--json=x",), ("a", "b", "c", "--x")])
def test_wrong_usage_of_every_command_is_one_document(
    names: tuple[str, ...], wrong: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([*names, "--json", *wrong]) == 2
    document, err = printed(capsys)
    assert document.keys() == {"code", "msg", "details"}
    assert document["code"] == errors.INVALID_ENVIRONMENT
    assert document["msg"]
    assert document["details"] in ("", f"try: {' '.join(('ipvlan', *names))} --help")
    assert err == ""


@pytest.mark.parametrize("command", [each for each in SAMPLES if SAMPLES[each].arguments])
def test_a_missing_argument_is_one_document(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([*command.split(), "--json"]) == 2
    document, err = printed(capsys)
    assert document["msg"].startswith("Missing ")
    assert (document["code"], err) == (errors.INVALID_ENVIRONMENT, "")


def test_every_command_has_a_sample() -> None:
    assert list(SAMPLES) == list(map(named, COMMANDS))


@pytest.mark.parametrize("command", SAMPLES)
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_in_any_command_is_one_document(
    command: str,
    kind: str,
    conf: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raised, code, wanted = FAILURES[kind]
    sample = SAMPLES[command]

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(f"cni_ipvlan.cli.{sample.work}", fail)
    files = {"CONF": conf.name, "CAPTURE": "call.json", "RESULT": "result.json"}
    words = [str(conf.with_name(files[w])) if w in files else w for w in sample.arguments]
    status = program.main([*command.split(), "--json", *words])
    document, _ = printed(capsys)
    assert (status, document["code"]) == (wanted, code)
    assert document.keys() == {"code", "msg", "details"}
    if kind == "failure":
        assert document["details"] == "because\nof net7"  # who types this may know


def test_an_unknown_command_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["ad", "--json"]) == 2
    document, err = printed(capsys)
    assert (document["msg"], err) == ("there is no command 'ad'; did you mean add?", "")


@pytest.mark.parametrize("command", ["add", "status", "doctor"])
def test_a_file_that_is_missing_is_one_document(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    netns = ("--netns", HERE) if command == "add" else ()
    assert program.main([command, "--json", "-c", "/gone", *netns]) == 2
    assert printed(capsys) == (
        {
            "code": 4,
            "msg": "Invalid value for '-c' / '--config': cannot read /gone: "
            "No such file or directory",
            "details": f"try: ipvlan {command} --help",
        },
        "",
    )


@pytest.mark.parametrize("line", ["add", "add --ifname", "status -c /gone", "show -- --json"])
def test_without_the_option_errors_are_text(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ipvlan: ")


def test_json_is_printed_once_so_it_can_not_be_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["show", "--json", "--watch"]) == 2
    assert "--watch needs a terminal, and no --json" in printed(capsys)[0]["msg"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ipvlan, version {__version__}\n"
    assert program.main(["--version", "--json"]) == 0
    document, _ = printed(capsys)
    assert document["version"] == __version__
    assert "1.1.0" in document["supportedVersions"]


def test_a_replayed_call_that_fails_is_one_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program.main(["--json"]) == 2
    assert "set CNI_COMMAND" in printed(capsys)[0]["msg"]
    monkeypatch.setenv("CNI_COMMAND", "ADD")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{")))
    assert program.main(["--dry-run", "--json"]) == 2
    document, err = printed(capsys)
    assert (document["code"] in (4, 6), err) == (True, "")


def test_the_document_lists_every_command_and_each_dry_run() -> None:
    rows = [row for row in DOCUMENT.read_text().splitlines() if row.startswith("| `")]
    listed = [word for row in rows for word in re.findall(r"`(.*?)`", row.split("|")[1])]
    dry = [
        named(n)
        for n, c in TREE.items()
        if n and "--dry-run" in (o for p in c.params for o in p.opts)
    ]
    wanted = [
        *map(named, COMMANDS),
        *(f"{each} --dry-run" for each in dry),
        "--dry-run",
        "--version",
    ]
    assert sorted(listed) == sorted([*wanted, "code", "msg", "details"])
