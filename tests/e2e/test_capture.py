"""Calls of a runtime are captured and logged if that is asked for, and can be made again."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import User
from executable import Executable
from lab import LOGS, RECORDS, wait_until
from runtime import PLUGINS, Conf, call_environment, host_local, network, static, stdin_of
from setup import Setup

PATH: Conf = {"PATH": os.environ["PATH"]}
ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"
NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-(\w+)-\d+\.jsonl")


@pytest.fixture
def calls(setup: Setup) -> Path:
    """Make the directory of captures that the networks of these tests name."""
    directory = LOGS / "calls"
    directory.mkdir(0o700)
    return directory


def list_captures(directory: Path) -> list[dict[str, Any]]:
    """Return the captured calls, each as the request's members, its commands, and its outcome's."""
    entries = []
    for path in sorted(directory.iterdir()):
        request, *lines = map(json.loads, path.read_text("ascii").splitlines())
        commands = [each["command"] for each in lines if "command" in each]
        outcome = lines[-1].get("outcome", {}) if lines else {}
        entries.append({**request, "commands": commands, **outcome})
    return entries


def capture_conf(**options: Any) -> Conf:
    return network(captureDir="calls", **options)


def test_each_call_leaves_a_file(setup: Setup, calls: Path) -> None:
    conf = capture_conf(ipam=host_local("10.1.0.0/24"), args={"key": "ü\udcff\x1b"})
    added = setup.add(conf, **{**PATH, "CNI_ARGS": ARGS, "TOKEN": "secret"})
    added.check()
    added.delete()

    files = sorted(calls.iterdir())
    verbs = [match[1] for match in (NAME.fullmatch(file.name) for file in files) if match]
    assert verbs == ["ADD", "CHECK", "DEL"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    texts = [file.read_text() for file in files]
    assert not [text for text in texts if "\x1b" in text or "secret" in text]
    add, check, delete = list_captures(calls)
    path = {"CNI_PATH": setup.fake.path}
    assert add["environment"] == call_environment("ADD", setup.container, CNI_ARGS=ARGS, **path)
    assert json.loads(add["stdin"]) == json.loads(stdin_of(conf))
    assert (add["status"], json.loads(add["answer"])) == (0, added.result)
    assert (check["status"], check["answer"]) == (delete["status"], delete["answer"]) == (0, "")
    commands = add["commands"]
    creating = next(each for each in commands if "ipvlan" in each["argv"] and each["purpose"])
    assert creating["purpose"] == "create an ipvlan interface of eth0"
    assert creating["status"] == 0
    assert 0 < creating["seconds"] <= creating["ended"] <= add["seconds"] < 60
    ipam = next(each for each in commands if each["argv"][-1] == f"{PLUGINS}/host-local")
    assert "CNI_COMMAND=ADD" in ipam["argv"]
    assert json.loads(ipam["stdout"])["ips"][0]["address"] == "10.1.0.2/24"
    assert ipam["stdin"].encode() == stdin_of(conf)  # as it came
    assert any(json.loads(each["stdout"]) for each in commands if "show" in each["argv"])


def test_input_that_is_no_json_is_captured_for_the_administrator(setup: Setup) -> None:
    directory = RECORDS.with_name("captures")  # where every directory is root's
    directory.mkdir()
    environment = call_environment("ADD", setup.container, **PATH)
    stdin = b'{"\xff\x80\xed\xa0\x80"'
    setup.runtime.call_raw(stdin, {**environment, "CNI_IPVLAN_CAPTURE": str(directory)})
    (capture,) = list_captures(directory)
    assert capture["stdin"].encode("utf-8", "surrogateescape") == stdin
    assert json.loads(capture["answer"])["code"] == 6
    assert "CNI_IPVLAN_CAPTURE" not in capture["environment"]
    shutil.rmtree(directory)


def test_calls_that_are_stopped_are_captured(
    setup: Setup, ipvlan: Executable, calls: Path, user: User
) -> None:
    conf = capture_conf(ipam=setup.ipam(script="echo $$ >new; mv new process; exec sleep 60"))
    process = setup.fake.directory / "process"
    environment = call_environment("ADD", setup.container, CNI_PATH=setup.fake.path, **PATH)
    answers, plugins = [], []
    for number in (signal.SIGTERM, signal.SIGKILL):
        call = ipvlan.start(environment, stdin_of(conf))
        wait_until(process.exists)
        call.process.send_signal(number)
        answers.append(call.end())
        plugins.append(int(process.read_text()))
        process.unlink()
    os.kill(plugins[-1], signal.SIGKILL)  # which the killed call has left

    ended, killed = list_captures(calls)

    for capture in (ended, killed):
        assert any("create an ipvlan" in each["purpose"] for each in capture["commands"])
    assert (ended["status"], ended["answer"]) == (1, answers[0].stdout.decode())
    assert json.loads(ended["answer"])["code"] == 111
    assert killed.keys().isdisjoint({"status", "answer"})
    setup.ipam(script="exit 1")
    file = sorted(calls.iterdir())[1]
    _, out, err = user.run(f"ipvlan replay {file} --cni-path {setup.fake.path}")
    assert out.startswith("status 1; the recorded call was killed\n"), err


def test_an_answer_that_got_lost_is_left_out(setup: Setup, ipvlan: Executable, calls: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        subprocess.run(
            [ipvlan.path],
            input=stdin_of(capture_conf(ipam=static("10.1.0.2/24"))),
            stdout=full,
            env=call_environment("ADD", setup.container, **PATH),
            check=False,
        )
    (capture,) = list_captures(calls)
    assert (capture["status"], capture["answer"]) == (1, "")


def test_the_oldest_files_are_removed(setup: Setup, calls: Path) -> None:
    for number in range(150):
        (calls / f"20250101T000000.{number:03}Z-ADD-1.jsonl").write_text("{}")
    (calls / "notes.txt").write_text("kept")
    setup.runtime.delete("", capture_conf(), **PATH).succeeds()

    names = sorted(path.name for path in calls.iterdir())

    assert len(names) == 101
    assert names[0].startswith("20250101T000000.051Z")
    assert "notes.txt" in names
    big = calls / "20250101T000000.149Z-ADD-1.jsonl"
    os.truncate(big, 65 << 20)
    setup.runtime.delete("", capture_conf(), **PATH).succeeds()
    assert len(list(calls.iterdir())) == 3


def test_a_network_can_not_have_files_written_elsewhere(setup: Setup, calls: Path) -> None:
    """The same holds for logFile; tests/unit has every spelling and obstacle of it."""
    (LOGS / "l").symlink_to("/etc")
    before = sorted(Path("/etc").iterdir())
    for directory, reason in (
        ("/etc", "may only name what lies directly in"),
        ("l", "only root may be able to write to it"),
    ):
        (warning,) = setup.add(captureDir=directory, **PATH).stderr.splitlines()
        assert warning.startswith(f"one net1: cannot capture the call in {directory!r}: ")
        assert reason in warning
        setup.container.ip("link delete dev net1")
    assert sorted(Path("/etc").iterdir()) == before
    assert not [path for path in LOGS.rglob("*") if path.is_file()]


def test_the_administrators_directory_is_first(setup: Setup, calls: Path, tmp_path: Path) -> None:
    added = setup.add(capture_conf(), CNI_IPVLAN_CAPTURE=str(tmp_path / "none"), **PATH)
    assert added.stderr.count("cannot capture the call in ") == 1
    assert list(calls.iterdir()) == []  # nor is it where the network wants it


def copy_capture(calls: Path, user: User) -> str:
    (file,) = calls.iterdir()
    shutil.copy(file, user.directory / "call.jsonl")
    return "call.jsonl"


def test_a_call_is_made_again(setup: Setup, calls: Path, user: User) -> None:
    container, conf = setup.container, capture_conf(ipam=host_local("10.1.0.0/24"))
    assert "no problems" in user.check_output(f"ipvlan validate {user.write_conf(conf)}")
    added = setup.add(conf, CNI_ARGS=ARGS, **PATH)
    file = copy_capture(calls, user)
    added.delete(captureDir="")

    planned = user.check_output(f"ipvlan replay {file} --dry-run")
    assert "ip link add link eth0" in planned
    assert "net1" not in container.links()

    status, out, err = user.run(f"ipvlan replay {file}")
    assert status == 0
    assert container.addresses("net1") == ["10.1.0.3/24"]  # host-local goes on
    lines = err.splitlines()
    assert re.fullmatch(
        r"replaying ADD of \S+Z, container one, interface net1, "
        rf"namespace {container.path}, pod default/web-0",
        lines[0],
    )
    assert lines[1:] == [f"IPAM plugin of CNI_PATH {PLUGINS}: {PLUGINS}/host-local"]
    assert out.startswith("status 0, as recorded\nthe answer differs from the recorded one:\n")
    changes = [line.strip() for line in out.splitlines()[4:] if line[0] in "+-"]
    assert [re.sub(" +", " ", line).rstrip(",") for line in changes] == [
        '- "address": "10.1.0.2/24"',
        '+ "address": "10.1.0.3/24"',
    ]
    status, out, err = user.run(f"ipvlan replay {file}")
    assert status == 1
    assert out.startswith("status 1; recorded was 0\nthe answer differs from the recorded one:\n")
    assert len(list(calls.iterdir())) == 1  # a replay is no call of the runtime


def test_a_failure_is_captured_and_reproduced(setup: Setup, calls: Path, user: User) -> None:
    routes = [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}]
    conf = capture_conf(ipam=static("10.1.0.2/24", routes=routes))
    answer = setup.runtime.add(setup.container, conf, **PATH)
    assert answer.error()["code"] == 107
    (capture,) = list_captures(calls)
    assert (capture["status"], capture["answer"]) == (1, answer.stdout.decode())
    assert [each["stderr"] for each in capture["commands"] if each["status"]]
    undo = capture["commands"][-1]["argv"]
    assert "CNI_COMMAND=DEL" in undo  # what was undone is there, too

    file = copy_capture(calls, user)
    status, out, err = user.run(f"ipvlan replay {file} -v")
    assert status == 1
    assert out.startswith("status 1, as recorded\nthe answer is as recorded:\n{\n")
    assert "cannot add the route" in out
    assert re.search(r"^\[\d+\] \+ ip link add link eth0 ", err, re.MULTILINE), err
    status, out, err = user.run(f"ipvlan replay {file} --json")
    document = json.loads(out)
    assert status == document["status"] == document["recorded"]["status"] == 1
    assert document["answer"] == document["recorded"]["answer"]
    assert json.loads(document["answer"])["code"] == 107


def test_another_container_can_be_named(setup: Setup, calls: Path, user: User) -> None:
    conf = capture_conf(ipam=setup.ipam(ips=["10.1.0.9/24"]))
    setup.runtime.add(setup.container, conf, **PATH).error()  # without CNI_PATH to it
    file = copy_capture(calls, user)
    options = f"--netns {setup.container2.path} --cni-path {setup.fake.directory}"
    out = user.check_output(f"ipvlan replay {file} {options}", CNI_NETNS="/x", CNI_ARGS="A=b")
    assert out.startswith("status 0; recorded was 1\n")
    assert setup.container2.addresses("net1") == ["10.1.0.9/24"]
    assert "net1" not in setup.container.links()
    assert "CNI_ARGS" not in setup.fake.environment("ADD")


CALLS = 6
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \w+ (\w+ net1) \S+( \S+)?: .+\n")


def test_calls_at_once_mix_no_lines_and_are_each_captured(setup: Setup, ipvlan: Executable) -> None:
    (LOGS / "calls").mkdir(0o700)
    # No call finds its container, but each is logged.
    secret = {"HOME": "/secret", "TOKEN": "secret", "CNI_ARGS": "A=fine", **PATH}
    options = {"args": {"key": "secret"}, "dns": {"domain": "x"}, "captureDir": "calls"}
    conf = network(logFile="log", logLevel="debug", **options)

    def call(number: int) -> int:
        environment = call_environment("DEL", setup.host, CNI_CONTAINERID=f"c{number}", **secret)
        return ipvlan(environment, stdin_of(conf)).status

    with ThreadPoolExecutor(CALLS) as pool:
        assert set(pool.map(call, range(CALLS))) == {0}

    text = (LOGS / "log").read_text()
    matches = [LINE.fullmatch(line) for line in text.splitlines(keepends=True)]
    assert all(matches), text
    assert {match[1] for match in matches if match} == {f"c{n} net1" for n in range(CALLS)}
    assert "secret" not in text
    requests = [each.read_text().split("\n")[0] for each in (LOGS / "calls").iterdir()]
    contents = [json.loads(each) for each in requests]
    assert {f"c{n}" for n in range(CALLS)} == {
        each["environment"]["CNI_CONTAINERID"] for each in contents
    }


def test_a_log_tells_the_story_of_a_call(setup: Setup) -> None:
    container, runtime = setup.container, setup.runtime
    log = LOGS / "log"
    conf = network(ipam=host_local("10.1.0.0/24"), logFile=str(log), logLevel="verbose")
    environment = {**PATH, "TOKEN": "secret", "CNI_ARGS": ARGS}
    runtime.add(container, conf, **environment).result()
    runtime.add(container, conf, **environment).error()

    lines = log.read_text().splitlines(keepends=True)

    assert all(LINE.fullmatch(line) for line in lines), lines
    entries = [line.partition(f" one net1 {container.path} default/web-0: ")[2] for line in lines]
    assert entries[0].startswith("ip link add link eth0 name iv")
    assert "(create an ipvlan interface of eth0)" in entries[0]
    assert any(f"{PLUGINS}/host-local # " in line for line in entries)
    assert any("address add 10.1.0.2/24 dev net1" in line for line in entries)
    assert entries[-1].startswith("failed: the container already has an interface 'net1'")
    assert "secret" not in "".join(lines)
    runtime.delete("", conf, **PATH).succeeds()
    calls = {line.partition("] ")[2].partition(": ")[0] for line in log.read_text().splitlines()}
    assert calls == {f"ADD one net1 {container.path} default/web-0", "DEL one net1"}
    call_log = LOGS / "one-call"  # which one call's environment asks for
    quiet = network(logFile=f"{LOGS}/nowhere/log", ipam=None)
    runtime.delete(container, quiet, CNI_IPVLAN_LOG=str(call_log), **environment).succeeds()
    assert "ip -j -d link show" in call_log.read_text()
