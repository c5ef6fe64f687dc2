"""What the installed command writes into log files."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from executable import Executable
from lab import LOGS, Node
from person import Person
from runtime import PLUGINS, Runtime, call_environment, host_local, network

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \w+ (\w+ net1) \S+: .+\n")


def test_fifty_calls_at_once_do_not_mix_their_lines_in_the_log(
    node: Node, ipvlan: Executable
) -> None:
    node.master()
    log = LOGS / "ipvlan.log"
    # None finds its container: what is meant here is the log.
    secret = {"HOME": "/secret", "TOKEN": "secret", "CNI_ARGS": "A=fine"}
    conf = network(
        logFile="ipvlan.log", logLevel="debug", args={"key": "secret"}, dns={"domain": "x"}
    )

    def call(number: int) -> int:
        environment = call_environment("DEL", node.host, CNI_CONTAINERID=f"c{number}", **secret)
        return ipvlan({**environment, "PATH": os.environ["PATH"]}, json.dumps(conf).encode()).status

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(call, range(50))) == {0}

    text = log.read_text()
    lines = text.splitlines(keepends=True)
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), lines
    assert {match[1] for match in matches if match} == {f"c{number} net1" for number in range(50)}
    assert len(lines) >= 50
    assert "secret" not in text


def test_a_log_tells_the_story_of_a_call(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    log = LOGS / "log"
    conf = network(ipam=host_local("10.1.0.0/24"), logFile=str(log), logLevel="verbose")
    environment = {"PATH": os.environ["PATH"], "TOKEN": "secret"}
    runtime.add(container, conf, **environment).result()
    runtime.add(container, conf, **environment).error()

    lines = log.read_text().splitlines(keepends=True)

    assert all(LINE.fullmatch(line) for line in lines), lines
    entries = [line.partition(f" net1 {container.path}: ")[2] for line in lines]
    assert entries[0].startswith("ip link add link eth0 name iv")
    assert "(create an ipvlan interface of eth0)" in entries[0]
    assert any(f"{PLUGINS}/host-local # " in line for line in entries)
    assert any("address add 10.1.0.2/24 dev net1" in line for line in entries)
    assert entries[-1].startswith("failed: the container already has an interface 'net1'")
    assert "secret" not in "".join(lines)
    quiet = network(logFile=f"{LOGS}/nowhere/log", ipam=None)
    answer = runtime.delete(container, quiet, **environment)
    assert answer.status == 0
    assert f"cannot log to '{LOGS}/nowhere/log': No such file" in answer.stderr


def test_one_calls_log_is_asked_for_in_its_environment(node: Node, runtime: Runtime) -> None:
    node.master()
    log = LOGS / "one-call"
    environment = {"PATH": os.environ["PATH"], "CNI_IPVLAN_LOG": str(log)}
    runtime.add(node.container(), network(), **environment).result()
    assert "ip -j -d link show # " in log.read_text()


@pytest.mark.parametrize(
    ("file", "status", "said", "is_written"),
    [
        ("x.log", 0, "no problems", True),
        ("deep/x.log", 0, f"'deep/x.log'; the directory {LOGS}/deep must exist", False),
        ("./x.log", 1, "with letters, digits, . _ - in its path", False),
        ("../x.log", 1, "with letters, digits, . _ - in its path", False),
        ("/tmp/x.log", 1, f"a network may only name a file or directory below {LOGS}", False),
    ],
)
def test_log_file_is_where_validate_allows_it(
    node: Node, person: Person, file: str, status: int, said: str, *, is_written: bool
) -> None:
    conf = person.writes(network(logFile=file))
    found, out, _ = person.types(f"ipvlan validate {conf}")
    assert (found, said in out) == (status, True)
    node.master()
    node.container()
    _, _, err = person.types(f"ipvlan add -c {conf} --netns container1")
    assert ("cannot log to" not in err) == is_written
    assert (LOGS / "x.log").exists() == is_written


def test_each_line_names_verb_container_namespace_and_pod(node: Node, runtime: Runtime) -> None:
    node.master()
    conf = network(logFile="log", logLevel="debug")
    container = node.container()
    pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"
    about = {"CNI_CONTAINERID": "web", "PATH": os.environ["PATH"]}
    runtime.add(container, conf, CNI_ARGS=pod, **about).result()
    runtime.delete("", conf, **about).succeeds()

    lines = (LOGS / "log").read_text().splitlines()

    calls = {line.partition("] ")[2].partition(": ")[0] for line in lines}
    assert calls == {f"ADD web net1 {container.path} default/web-0", "DEL web net1"}
    assert any(f": {PLUGINS}/static # " in line for line in lines)
