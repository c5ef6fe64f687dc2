"""Too much output, configuration, attachments, namespaces: one call's failure delays no other."""

import os
import signal
import threading
from pathlib import Path

import pytest
from attacker import ordinary_users
from doubles import Steps
from executable import Executable
from lab import MEMORY, wait_until
from patience import patient
from runtime import call_environment, network, static, stdin_of
from scene import Scene

from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import modes

MIB = 1 << 20
SAYS_ADDRESSES = """echo '{"ips": [{"address": "10.1.0.2/24"}]}'"""


def test_a_signal_ends_writing_megabytes_to_a_slow_reader(scene: Scene, ipvlan: Executable) -> None:
    ipam = scene.ipam(script=f"yes | head -c {16 * MIB} >&2\n{SAYS_ADDRESSES}")
    before = scene.node.snapshot()
    environment = call_environment("ADD", scene.one, CNI_PATH=scene.fake.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=ipam)))
    flows, ended = threading.Event(), threading.Event()

    def read_slowly(descriptor: int) -> None:
        while not ended.wait(0.1) and os.read(descriptor, 4096):
            flows.set()

    assert call.process.stderr is not None
    reader = threading.Thread(target=read_slowly, args=(call.process.stderr.fileno(),))
    reader.start()
    try:
        assert flows.wait(30)
        call.process.send_signal(signal.SIGTERM)
        call.process.wait(patient(15))
        answer = call.end()
    finally:
        ended.set()
        reader.join()
        call.kill()

    assert "SIGTERM" in answer.error()["msg"]
    assert scene.node.snapshot() == before


def test_a_configuration_of_more_than_1_mib_is_refused(scene: Scene, ipvlan: Executable) -> None:
    keys = {f"key{number:060}": number for number in range(MIB // 64)}
    conf = stdin_of(network(cniVersion="1.1.0", **keys))
    assert MIB < len(conf) < 2 * MIB
    with scene.unchanged():
        error = ipvlan.start(call_environment("ADD", scene.one), conf).end(10).error()
    assert error["code"] == 5
    assert f"more than {MIB} bytes" in error["msg"]
    scene.add(args={"note": "x" * (MIB - 4096)})
    assert scene.one.addresses("net1") == ["10.1.0.2/24"]


FEW, MANY = 2, 6
SEARCH = {"ip", "-n", "-batch"}  # in another container's namespace


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def attach(scene: Scene, numbers: range) -> None:
    for number in numbers:
        ipam = static(f"10.1.0.{number + 10}/24")
        scene.add(at=scene.container(), ipam=ipam, CNI_CONTAINERID=f"c{number}")


def test_a_mode_conflict_takes_as_many_commands_on_a_full_node(scene: Scene, steps: Steps) -> None:
    counts = []
    for numbers in (range(FEW), range(FEW, MANY)):
        attach(scene, numbers)
        steps.forget()
        scene.refuses(104, mode="l3", **steps.environment)
        counts.append(len(steps.taken))
    assert counts[0] == counts[1]


def test_no_other_add_waits_while_the_reason_of_a_refusal_is_searched_for(
    scene: Scene, ipvlan: Executable, steps: Steps, tmp_path: Path
) -> None:
    attach(scene, range(FEW))
    environment = {**call_environment("ADD", scene.two), **steps.environment}
    stdin = stdin_of(network(mode="l3"))
    assert ipvlan(environment, stdin).error()["code"] == 104
    searching = steps.taken[-1].number
    steps.forget()
    goes_on = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.at(searching, f"touch {tmp_path}/searches; {goes_on}")

    call = ipvlan.start(environment, stdin)
    wait_until((tmp_path / "searches").exists)
    scene.add(CNI_CONTAINERID="honest")
    assert call.process.poll() is None
    (tmp_path / "go").touch()

    assert call.end().error()["code"] == 104


def test_an_address_conflict_is_searched_for_after_the_release(scene: Scene, steps: Steps) -> None:
    attach(scene, range(1))
    counts = []
    for more in (0, MANY):
        for _ in range(more):
            scene.container()
        steps.forget()
        scene.refuses(106, ipam=static("10.1.0.10/24"), **steps.environment)
        held, afterwards = steps_while_link_is_held_and_afterwards(steps)
        assert not any(words >= SEARCH for words in held)
        assert any(words >= SEARCH for words in afterwards)
        counts.append(len(held))

    assert counts[0] == counts[1]


def steps_while_link_is_held_and_afterwards(steps: Steps) -> tuple[list[set[str]], list[set[str]]]:
    words = [set(step.words.split()) for step in steps.taken]
    first = next(number for number, each in enumerate(words) if {"link", "add"} <= each)
    last = max(number for number, each in enumerate(words) if {"link", "delete"} <= each)
    return words[first:last], words[last:]


def test_an_add_starts_as_many_commands_beside_users_namespaces(scene: Scene, steps: Steps) -> None:
    scene.add(CNI_CONTAINERID="hides")
    other, counts = static("10.1.0.3/24"), list[int]()
    with ordinary_users(1) as [process]:
        scene.one.ip(f"link set dev net1 netns {process}")  # to where no search enters
        for users in (0, MANY):
            with ordinary_users(users):
                steps.forget()
                added = scene.add(at=scene.two, ipam=other, **steps.environment)
                counts.append(len(steps.taken))
            added.delete()
            next(MEMORY.rglob("mode.searched")).unlink()
    assert counts[0] == counts[1]


def test_no_open_file_is_looked_at_too_late(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have a million."""
    scene.add()
    scene.one.rename("net1", "hidden")
    monkeypatch.setattr(modes, "_SEARCH_SECONDS", 0.0)
    monkeypatch.setattr(namespace, "_may_be_namespace", pytest.fail)
    attach(scene, range(1))
