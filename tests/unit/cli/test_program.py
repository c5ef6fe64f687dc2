"""The command line itself: usage, what becomes a call, a runtime's call replayed."""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import ipvlan, options
from runtime import call_environment

from cni_ipvlan import __version__
from cni_ipvlan.cli import calls, program
from cni_ipvlan.cni.request import parse, read

CONF = {"cniVersion": "1.0.0", "name": "net", "type": "ipvlan", "ipam": {"type": "static"}}
HERE = "/proc/self/ns/net"


@pytest.fixture
def conf(tmp_path: Path) -> str:
    file = tmp_path / "net.conf"
    file.write_text(json.dumps(CONF))
    return str(file)


class Recorder:
    """Stands in for calls.make: keeps what it was given."""

    environment: dict[str, str]
    config: dict[str, Any]
    options: Any

    def __call__(self, call: Any) -> int:
        self.environment, self.config = dict(call.environment), json.loads(call.stdin)
        self.options = call
        parse(call.environment, read(call.stdin))
        return 0


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    stand_in = Recorder()
    monkeypatch.setattr(calls, "make", stand_in)
    return stand_in


def test_main_help_and_version() -> None:
    text = ipvlan("-h").check_output()
    assert all(f"\n  {command} " in text for command in program.ipvlan.commands)
    assert "\n          CNI_PATH=/opt/cni/bin ipvlan --dry-run < net.conf\n" in text
    assert ipvlan("--version").check_output() == f"ipvlan, version {__version__}\n"
    document = json.loads(ipvlan("--version", "--json").check_output())
    assert (document["version"], document["commit"]) == (__version__, None)
    assert "1.1.0" in document["supportedVersions"]


ADD = "add -c CONF --netns HERE"


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("add -c WRONG --netns HERE", 'mode is "l9"'),
        ("xyzzy", "No such command 'xyzzy'"),
        ("add", "Missing option '-c'"),
        ("add -c CONF --netns nowhere", "'nowhere' is not a path, a name under"),
        (f"{ADD} --network x", "has no network 'x'; it has"),
        ("add --dry-run -c CONF --netns /etc/passwd", "it is not a namespace"),
        (f"{ADD} --dry-run", "the namespace the plugin itself runs in"),
        (f"{ADD} --dry-run --prev-result CONF", ""),
        (f"{ADD} --ipam-result CONF", "only be used with --dry-run"),
        ("check -c CONF --netns HERE", "with --prev-result FILE"),
        ("del -c CONF --netns HERE", "give its container ID with --container-id"),
        ("del -c CONF --netns /gone", "namespace '/gone', network 'net', ifname 'net1' is re"),
        ("gc --keep-none", "give the network's file with -c"),
        ("gc --keep-existing --network net", "give only --keep-existing, no --json, which is"),
        ("gc -c CONF", "give one of: the valid attachments as ID/IFNAME, --keep-existing, or "),
        ("gc -c CONF a/b --keep-none", "give one of: the valid attachments as ID/IFNAME"),
        ("gc -c CONF --keep-existing --keep-none", "give one of: the valid attachments"),
        ("show c1", "Got unexpected extra argument (c1)"),
        ("-v", "give a command, such as ipvlan show -j; or"),
        ("--dry-run", "set CNI_COMMAND and its variables"),
        ("--dry-run add -c CONF", "options go after the command"),
    ],
)
def test_bad_usage_is_reported_in_a_sentence(line: str, printed: str, conf: str) -> None:
    wrong_file = conf.replace("net.conf", "wrong.conf")
    Path(wrong_file).write_text(json.dumps({**CONF, "mode": "l9"}))
    words = {"CONF": conf, "HERE": HERE, "WRONG": wrong_file}
    result = ipvlan(*(words.get(word, word) for word in line.split()))
    assert (result.status, result.out) == (2, "")
    first = result.err.splitlines()[0]
    assert first.startswith("ipvlan: ")
    assert printed in first


def test_a_bug_is_reported_with_its_place(conf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(calls, "make", fail)
    result = ipvlan("status", "-c", conf)
    assert result.status == 1
    assert "internal error at test_program.py:" in result.err


def test_defaults_fit(conf: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CNI_PATH", raising=False)
    monkeypatch.setattr(calls, "USUAL_DIRECTORIES", ("/nowhere", "/", "/tmp"))
    ipvlan("add", "-c", conf, "--netns", "1").check_output()
    assert recorder.config == CONF
    first = recorder.environment
    expected = {"CNI_COMMAND": "ADD", "CNI_IFNAME": "net1", "CNI_PATH": "/:/tmp"}
    assert first.items() >= {**expected, "CNI_NETNS": "/proc/1/ns/net"}.items()
    monkeypatch.setenv("CNI_PATH", "/a:/b")
    ipvlan("add", "-c", conf, "--netns", HERE).check_output()
    assert recorder.environment["CNI_CONTAINERID"] != first["CNI_CONTAINERID"]
    assert recorder.environment["CNI_PATH"] == "/a:/b"


def test_what_is_given_reaches_the_call(conf: str, recorder: Recorder, tmp_path: Path) -> None:
    result = {"cniVersion": "1.0.0", "ips": [], "interfaces": []}
    (tmp_path / "result.json").write_text(json.dumps(result))
    netns = f"/proc/{os.getpid()}/ns/net"
    words = options(netns=netns.replace("ns/net", "ns/../ns/net"), ifname="eth7")
    words += options(cni_path="here:/c", container_id="abc", args="A=1;B=2")
    words += options(prev_result=str(tmp_path / "result.json"))
    expected = {"CNI_NETNS": netns, "CNI_IFNAME": "eth7", "CNI_PATH": f"{Path.cwd()}/here:/c"}
    expected |= {"CNI_CONTAINERID": "abc", "CNI_ARGS": "A=1;B=2"}
    for command in ("add", "del", "check"):
        dry = ["--dry-run"] if command == "del" else []  # there is nothing to delete
        ipvlan(command, "-c", conf, *words, *dry).check_output()
        assert recorder.environment.items() >= {**expected, "CNI_COMMAND": command.upper()}.items()
        assert recorder.config["prevResult"] == result


def test_what_is_to_be_kept_reaches_gc(conf: str, recorder: Recorder) -> None:
    result = ipvlan("gc", "a/n", "-c", conf, "b/n", "c/n")
    assert result.status == 0
    attachments = [{"containerID": name, "ifname": "n"} for name in "abc"]
    assert recorder.config["cni.dev/valid-attachments"] == attachments
    # The verb is newer than the configuration; GC bears an IPAM plugin that does not know it.
    assert (recorder.config["cniVersion"], recorder.config["ipam"], result.err) == (
        "1.1.0",
        CONF["ipam"],
        "",
    )


def test_a_verb_is_used_in_its_first_version(tmp_path: Path, recorder: Recorder, conf: str) -> None:
    result = tmp_path / "result.json"
    result.write_text('{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/24"}}')
    options = ["--netns", HERE, "--container-id", "a", "--prev-result", str(result)]
    ipvlan("check", "-c", conf, *options).check_output()
    assert recorder.config["cniVersion"] == "1.0.0"
    Path(conf).write_text(json.dumps({**CONF, "cniVersion": "0.2.0"}))
    ipvlan("check", "-c", conf, *options).check_output()
    assert (recorder.config["cniVersion"], recorder.config["ipam"]) == ("0.4.0", CONF["ipam"])
    address = {"version": "4", "interface": 0, "address": "10.1.0.2/24"}
    assert recorder.config["prevResult"]["ips"] == [address]  # 0.2.0 names no interface
    Path(conf).write_text(json.dumps({**CONF, "cniVersion": "1.1.0"}))
    assert ipvlan("status", "-c", conf) == (0, "ready\n", "")
    assert recorder.config == {**CONF, "cniVersion": "1.1.0"}


@pytest.fixture
def call_of_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in call_environment("ADD", HERE, CNI_IFNAME="eth0").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CONF).encode())))


@pytest.mark.usefixtures("call_of_a_runtime")
@pytest.mark.parametrize("words", [("--dry-run",), ("--dry-run", "--json"), ("-v",)])
def test_a_runtimes_call_is_replayed(words: tuple[str, ...], recorder: Recorder) -> None:
    ipvlan(*words).check_output()
    assert recorder.config == CONF
    assert recorder.environment["CNI_IFNAME"] == "eth0"
    flags = {"--dry-run": recorder.options.is_dry, "--json": recorder.options.as_json}
    flags["-v"] = recorder.options.is_verbose
    assert flags == {word: word in words for word in flags}


@pytest.mark.usefixtures("call_of_a_runtime")
@pytest.mark.parametrize(
    ("command", "words", "text"),
    [
        *((verb, ["--dry-run"], f"cannot replay '{verb}'") for verb in ("VERSION", "x")),
        ("x", ["-v"], "cannot replay 'x', only ADD, DEL, CHECK, GC, STATUS"),
        ("ADD", [], "give --dry-run or -v"),
        ("ADD", ["--dry-run", "--json"], '"code": 6'),
    ],
)
def test_other_calls_are_not_replayed(
    command: str, words: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_COMMAND", command)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{")))
    output = ipvlan(*words)
    assert output.status == 2
    assert text in output.out + output.err
