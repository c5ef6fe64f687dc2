"""What the installed command writes into log files."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

from executable import Executable
from lab import LOGS
from runtime import PLUGINS, call_environment, host_local, network, stdin_of
from scene import Scene

CALLS = 6
PATH = os.environ["PATH"]
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[\d+\] \w+ (\w+ net1) \S+( \S+)?: .+\n")


def test_calls_at_once_do_not_mix_lines_and_are_each_captured(
    scene: Scene, ipvlan: Executable
) -> None:
    (LOGS / "calls").mkdir(0o700)
    # None finds its container: what is meant here is the log.
    secret = {"HOME": "/secret", "TOKEN": "secret", "CNI_ARGS": "A=fine", "PATH": PATH}
    more = {"args": {"key": "secret"}, "dns": {"domain": "x"}, "captureDir": "calls"}
    conf = network(logFile="log", logLevel="debug", **more)

    def call(number: int) -> int:
        environment = call_environment("DEL", scene.host, CNI_CONTAINERID=f"c{number}", **secret)
        return ipvlan(environment, stdin_of(conf)).status

    with ThreadPoolExecutor(CALLS) as pool:
        assert set(pool.map(call, range(CALLS))) == {0}

    text = (LOGS / "log").read_text()
    matches = [LINE.fullmatch(line) for line in text.splitlines(keepends=True)]
    assert all(matches), text
    assert {match[1] for match in matches if match} == {f"c{n} net1" for n in range(CALLS)}
    assert "secret" not in text
    requests = [each.read_text().split("\n")[0] for each in (LOGS / "calls").iterdir()]
    captures = [json.loads(each) for each in requests]
    assert {f"c{n}" for n in range(CALLS)} == {
        each["environment"]["CNI_CONTAINERID"] for each in captures
    }


def test_a_log_tells_the_story_of_a_call(scene: Scene) -> None:
    container, runtime = scene.one, scene.runtime
    log = LOGS / "log"
    conf = network(ipam=host_local("10.1.0.0/24"), logFile=str(log), logLevel="verbose")
    pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"
    environment = {"PATH": PATH, "TOKEN": "secret", "CNI_ARGS": pod}
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
    runtime.delete("", conf, PATH=PATH).succeeds()
    calls = {line.partition("] ")[2].partition(": ")[0] for line in log.read_text().splitlines()}
    assert calls == {f"ADD one net1 {container.path} default/web-0", "DEL one net1"}
    once = LOGS / "one-call"  # which one call's environment asks for
    quiet = network(logFile=f"{LOGS}/nowhere/log", ipam=None)
    runtime.delete(container, quiet, CNI_IPVLAN_LOG=str(once), **environment).succeeds()
    assert "ip -j -d link show" in once.read_text()
