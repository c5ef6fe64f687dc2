"""Too much: endless output of an IPAM plugin, megabytes on stderr, a huge configuration."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from attacker import end_of, end_within
from doubles import FakeIpam
from executable import Call, Executable
from lab import Node
from patience import patient
from runtime import Runtime, call_environment, network, stdin_of

MIB = 1 << 20
ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
FLOODS = ["cat /dev/zero", "yes"]


def available_memory() -> int:
    words = Path("/proc/meminfo").read_text().split()
    return int(words[words.index("MemAvailable:") + 1]) * 1024


def memory_taken(call: Call, bound: int) -> int:
    """Return by how much memory has shrunk at most until a call ended; too much ends it."""
    before = available_memory()
    deadline = time.monotonic() + patient(60)
    taken = 0
    while call.process.poll() is None:
        taken = max(taken, before - available_memory())
        if taken > bound or time.monotonic() > deadline:
            call.kill()
            return taken
        time.sleep(0.005)
    return taken


@pytest.mark.parametrize("flood", FLOODS)
def test_endless_output_of_ipam_is_cut_off(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, flood: str
) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", f"sh -c 'echo $$ >child; exec {flood}'")
    before = node.snapshot()
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=fake_ipam.conf)))

    taken = memory_taken(call, bound=100 * MIB)

    end_of(fake_ipam.directory / "child")
    assert taken < 100 * MIB
    assert call.end().error()["code"] == 109
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert node.snapshot() == before


def test_megabytes_on_stderr_are_cut_off(node: Node, runtime: Runtime, fake_ipam: FakeIpam) -> None:
    node.master()
    flood = f"head -c {32 * MIB} /dev/zero | tr '\\0' x >&2"
    fake_ipam.on("ADD", f"{flood}\necho '{json.dumps(ADDRESSES)}'")

    conf = network(ipam=fake_ipam.conf)
    answer = runtime.add(node.container(), conf, CNI_PATH=fake_ipam.path)

    answer.result()
    assert "(the rest was dropped)" in answer.stderr
    assert len(answer.stderr) <= MIB


def test_a_signal_ends_writing_megabytes_to_a_slow_reader(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", f"yes | head -c {16 * MIB} >&2\necho '{json.dumps(ADDRESSES)}'")
    before = node.snapshot()
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=fake_ipam.conf)))
    flows = threading.Event()
    ended = threading.Event()

    def read_slowly(descriptor: int) -> None:
        while not ended.wait(0.1) and os.read(descriptor, 4096):
            flows.set()

    assert call.process.stderr is not None
    reader = threading.Thread(target=read_slowly, args=(call.process.stderr.fileno(),))
    reader.start()
    try:
        assert flows.wait(30)
        call.process.send_signal(signal.SIGTERM)
        answer = end_within(call, 15)
    finally:
        ended.set()
        reader.join()

    assert "SIGTERM" in answer.error()["msg"]
    assert node.snapshot() == before


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_a_configuration_over_1_mib_is_refused(node: Node, ipvlan: Executable, verb: str) -> None:
    node.master()
    container, before = node.container(), node.snapshot()
    keys = {f"key{number:060}": number for number in range(MIB // 64)}
    conf: dict[str, Any] = network(cniVersion="1.1.0", **keys)
    assert MIB < len(stdin_of(conf)) < 2 * MIB

    call = ipvlan.start(call_environment(verb, container), stdin_of(conf))

    error = end_within(call, 10).error()
    assert error["code"] == 5
    assert f"more than {MIB} bytes" in error["msg"]
    assert node.snapshot() == before


def test_a_configuration_under_1_mib_is_accepted(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    runtime.add(container, network(args={"note": "x" * (MIB - 4096)})).result()
    assert container.addresses("net1") == ["10.1.0.2/24"]
