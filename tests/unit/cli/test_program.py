"""The command line itself: help, errors, exit statuses, a runtime's call replayed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cni_ipvlan.cli import calls, program
from cni_ipvlan.cni.request import parse, read
from cni_ipvlan.plugin import add

CONF = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
COMMANDS = sorted(program.ipvlan.commands)
HERE = "/proc/self/ns/net"


@pytest.fixture
def conf(tmp_path: Path) -> str:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps(CONF))
    return str(file)


class Made:
    """Stands in for calls.make: keeps what it was given."""

    def __init__(self) -> None:
        self.environment: dict[str, str] = {}
        self.config: dict[str, Any] = {}
        self.options: Any = None

    def __call__(self, call: Any, options: Any) -> int:
        self.environment, self.config = dict(call.environment), json.loads(call.stdin)
        self.options = options
        parse(call.environment, read(call.stdin))
        return 0


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    stand_in = Made()
    monkeypatch.setattr(calls, "make", stand_in)
    return stand_in


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"\n  ipvlan {command} " in text.partition("\nExample:")[2]
    assert all(len(line) <= 100 for line in text.splitlines())


def test_main_help_shows_each_command_and_how_to_replay_a_call(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["-h"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)
    assert "CNI_IFNAME=eth0 \\\n" in text
    assert "\n          CNI_PATH=/opt/cni/bin ipvlan --dry-run < net.conf\n" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_files_of_each_example_are_there(command: str) -> None:
    root = Path(__file__).parents[3]
    for word in program.ipvlan.commands[command].example.split():  # type: ignore[attr-defined]
        if word.startswith("examples/"):
            assert list(root.glob(word)), word


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["ad"], "there is no command 'ad'; did you mean add?"),
        (["xyzzy"], "there is no command 'xyzzy'; there are "),
        (["add"], "Missing option '-c'"),
        (["add", "-c", "CONF"], "Missing option '--netns'"),
        (["add", "-c", "CONF", "--netns", "nowhere"], "'nowhere' is not a path, a name under"),
        (["add", "-c", "CONF", "--netns", "99999999"], "or a process ID"),
        (["add", "-c", "CONF", "--netns", ""], "'' is not a path, a name under"),
        (["add", "-c", "/gone", "--netns", HERE], "cannot read /gone: No such file or directory"),
        (["add", "-c", "CONF", "--netns", HERE, "--network", "x"], "has no network 'x'; it has"),
        (["add", "-c", "CONF", "--netns", HERE, "--ifname", "a/b"], "for '--ifname': 'a/b' is"),
        (["add", "-c", "CONF", "--netns", HERE, "--container-id", "-"], "for '--container-id'"),
        (["add", "-c", "CONF", "--netns", HERE, "--format", "json"], "No such option"),
        (["add", "--dry-run", "-c", "CONF", "--netns", "/etc/passwd"], "it is not a namespace"),
        (
            ["add", "--dry-run", "-c", "CONF", "--netns", HERE],
            "the namespace the plugin itself runs in",
        ),
        (["add", "-c", "CONF", "--netns", HERE, "--prev-result", "/gone"], "cannot read /gone"),
        (["add", "--dry-run", "-c", "CONF", "--netns", HERE, "--prev-result", "CONF"], None),
        (
            ["add", "-c", "CONF", "--netns", HERE, "--ipam-result", "CONF"],
            "only be used with --dry-run",
        ),
        (["del", "-c", "CONF", "--netns", HERE], "give its container ID with --container-id"),
        (
            ["del", "-c", "CONF", "--netns", "/gone"],
            "no attachment 'net1' of the network 'net' in /gone is known",
        ),
        (["gc", "-c", "CONF", "--keep", "abc"], "'abc' is not ID/IFNAME"),
        (["gc", "-c", "CONF", "a/b"], "must follow --keep"),
        (["gc", "-c", "CONF"], "give either --keep with the valid attachments, or --keep-none"),
        (["gc", "-c", "CONF", "--keep", "a/b", "--keep-none"], "give either --keep"),
        (["--dry-run"], "set CNI_COMMAND and its variables"),
        (["--dry-run", "add", "-c", "CONF"], "options go after the command"),
        (["-v", "show"], "options go after the command"),
        (["--version", "x"], "there is no command 'x'"),
        (["validate"], "Missing argument 'FILE"),
    ],
)
def test_bad_usage_is_reported_in_a_sentence(
    arguments: list[str],
    printed: str | None,
    conf: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = program.main([conf if word == "CONF" else word for word in arguments])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert captured.err.startswith("ipvlan: ")
    assert printed is None or printed in captured.err.splitlines()[0]


@pytest.mark.parametrize("change", [{"mode": "l9"}, {"cniVersion": "7.0.0"}, {"name": "/"}])
def test_a_configuration_that_is_wrong_is_bad_input(
    change: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps({**CONF, **change}))
    assert program.main(["add", "-c", str(file), "--netns", HERE]) == 2
    assert next(iter(change.values())) in capsys.readouterr().err


def test_a_failure_is_a_sentence_with_details_below_it(
    conf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["status", "-c", conf, "--cni-path", "/nowhere"]) == 1
    first, *details = capsys.readouterr().err.splitlines()[1:]
    assert first.startswith("ipvlan: ")
    assert all(line.startswith("    ") for line in details)


def test_a_bug_is_a_sentence_too(
    conf: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(calls, "make", fail)
    assert program.main(["status", "-c", conf]) == 1
    assert "internal error at test_program.py:" in capsys.readouterr().err


def test_defaults_fit(conf: str, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNI_PATH", raising=False)
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", ("/nowhere", "/", "/tmp"))
    assert program.main(["add", "-c", conf, "--netns", HERE]) == 0
    assert made.config == CONF
    environment = made.environment
    assert environment["CNI_COMMAND"] == "ADD"
    assert environment["CNI_IFNAME"] == "net1"
    assert environment["CNI_PATH"] == "/:/tmp"
    assert environment["CNI_NETNS"] == HERE
    first = environment["CNI_CONTAINERID"]
    program.main(["add", "-c", conf, "--netns", HERE])
    assert made.environment["CNI_CONTAINERID"] != first


def test_cni_path_comes_from_the_environment_or_the_option(
    conf: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", "/a:/b")
    program.main(["add", "-c", conf, "--netns", HERE])
    assert made.environment["CNI_PATH"] == "/a:/b"
    program.main(["add", "-c", conf, "--netns", HERE, "--cni-path", "here:/c"])
    assert made.environment["CNI_PATH"] == f"{Path.cwd()}/here:/c"


def test_what_is_given_reaches_the_call(conf: str, made: Made, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text('{"cniVersion": "1.0.0", "ips": [], "interfaces": []}')
    options = ["--netns", f"/proc/{os.getpid()}/ns/../ns/net", "--ifname", "eth7"]
    options += ["--container-id", "abc", "--args", "A=1;B=2", "--prev-result", str(result)]
    for command in ("add", "del", "check"):
        dry = ["--dry-run"] if command == "del" else []  # there is nothing to delete
        assert program.main([command, "-c", conf, *options, *dry]) == 0
        environment = made.environment
        assert environment["CNI_COMMAND"] == command.upper()
        assert environment["CNI_NETNS"] == f"/proc/{os.getpid()}/ns/net"
        assert environment["CNI_IFNAME"] == "eth7"
        assert environment["CNI_CONTAINERID"] == "abc"
        assert environment["CNI_ARGS"] == "A=1;B=2"
        assert made.config["prevResult"] == {"cniVersion": "1.0.0", "ips": [], "interfaces": []}


@pytest.mark.parametrize("netns", [str(os.getpid()), "1"])
def test_a_namespace_may_be_a_process_id(conf: str, made: Made, netns: str) -> None:
    assert program.main(["add", "-c", conf, "--netns", netns]) == 0
    assert made.environment["CNI_NETNS"] == f"/proc/{netns}/ns/net"


def test_what_is_to_be_kept_reaches_gc(
    conf: str, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    for given in (["--keep", "a/net1", "--keep", "b/net2"], ["--keep", "a/net1", "b/net2"]):
        assert program.main(["gc", "-c", conf, *given]) == 0
    assert made.config["cni.dev/valid-attachments"] == [
        {"containerID": "a", "ifname": "net1"},
        {"containerID": "b", "ifname": "net2"},
    ]
    # The verb is newer than the configuration, so its IPAM plugin may not know it.
    assert (made.config["cniVersion"], "ipam" in made.config) == ("1.1.0", False)
    assert "skipping the IPAM plugin static, which may not know GC" in capsys.readouterr().err


def test_a_verb_is_used_in_the_version_that_introduced_it(
    tmp_path: Path, made: Made, conf: str
) -> None:
    old, result = tmp_path / "old.conf", tmp_path / "result.json"
    old.write_text(json.dumps({**CONF, "cniVersion": "0.2.0"}))
    result.write_text('{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24"}}')
    about = ["--netns", HERE, "--container-id", "a", "--prev-result", str(result)]
    assert program.main(["check", "-c", str(old), *about]) == 0
    assert (made.config["cniVersion"], made.config["ipam"]) == ("0.4.0", CONF["ipam"])
    assert made.config["prevResult"]["ips"] == [{"version": "4", "address": "10.1.0.2/24"}]
    assert program.main(["check", "-c", conf, *about]) == 0
    assert made.config["cniVersion"] == "1.0.0"


def test_a_configuration_that_knows_the_verb_is_passed_on_whole(
    tmp_path: Path, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps({**CONF, "cniVersion": "1.1.0"}))
    assert program.main(["status", "-c", str(file)]) == 0
    assert made.config == {**CONF, "cniVersion": "1.1.0"}
    assert capsys.readouterr().err == ""


@pytest.fixture
def call_of_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": HERE,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CONF).encode())))


@pytest.mark.usefixtures("call_of_a_runtime")
@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--dry-run"], (True, False, False)),
        (["--dry-run", "--json"], (True, True, False)),
        (["-v"], (False, False, True)),
    ],
)
def test_a_runtimes_call_is_replayed(
    words: list[str], options: tuple[bool, bool, bool], made: Made
) -> None:
    assert program.main(words) == 0
    assert made.config == CONF
    assert made.environment["CNI_IFNAME"] == "eth0"
    assert (made.options.is_dry, made.options.as_json, made.options.is_verbose) == options


@pytest.mark.usefixtures("call_of_a_runtime")
@pytest.mark.parametrize("command", ["VERSION", "STATUS", "add", "x"])
def test_what_has_no_dry_run_is_not_replayed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CNI_COMMAND", command)
    assert program.main(["--dry-run"]) == 2
    assert f"cannot replay '{command}'" in capsys.readouterr().err


@pytest.mark.usefixtures("call_of_a_runtime")
def test_a_call_is_not_made_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 2
    assert "give --dry-run or -v" in capsys.readouterr().err


def test_the_plugin_needs_nothing_of_this() -> None:
    assert "click" not in vars(add)
