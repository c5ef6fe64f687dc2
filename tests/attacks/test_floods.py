"""Too much: endless output of an IPAM plugin, megabytes on stderr, a huge configuration."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from attacker import end_of, end_within
from executable import Call, Executable
from patience import patient
from runtime import call_environment, network, stdin_of
from scene import Scene

MIB = 1 << 20
SAYS_ADDRESSES = """echo '{"ips": [{"address": "10.1.0.2/24"}]}'"""


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


@pytest.mark.parametrize("flood", ["cat /dev/zero", "yes"])
def test_endless_output_of_ipam_is_cut_off(scene: Scene, ipvlan: Executable, flood: str) -> None:
    ipam = scene.ipam(script=f"sh -c 'echo $$ >child; exec {flood}'")
    environment = call_environment("ADD", scene.one, CNI_PATH=scene.fake.path)
    with scene.unchanged():
        call = ipvlan.start(environment, stdin_of(network(ipam=ipam)))
        taken = memory_taken(call, bound=100 * MIB)

        end_of(scene.fake.directory / "child")
    assert taken < 100 * MIB
    assert call.end().error()["code"] == 109
    assert scene.fake.calls == ["ADD", "DEL"]


def test_a_signal_ends_writing_megabytes_to_a_slow_reader(scene: Scene, ipvlan: Executable) -> None:
    ipam = scene.ipam(script=f"yes | head -c {16 * MIB} >&2\n{SAYS_ADDRESSES}")
    before = scene.node.snapshot()
    environment = call_environment("ADD", scene.one, CNI_PATH=scene.fake.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=ipam)))
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
    assert scene.node.snapshot() == before


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_a_configuration_over_1_mib_is_refused(scene: Scene, ipvlan: Executable, verb: str) -> None:
    keys = {f"key{number:060}": number for number in range(MIB // 64)}
    conf = stdin_of(network(cniVersion="1.1.0", **keys))
    assert MIB < len(conf) < 2 * MIB

    with scene.unchanged():
        error = end_within(ipvlan.start(call_environment(verb, scene.one), conf), 10).error()

    assert error["code"] == 5
    assert f"more than {MIB} bytes" in error["msg"]


def test_a_configuration_under_1_mib_is_accepted(scene: Scene) -> None:
    scene.add(args={"note": "x" * (MIB - 4096)})
    assert scene.one.addresses("net1") == ["10.1.0.2/24"]
