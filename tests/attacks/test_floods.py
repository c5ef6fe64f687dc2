"""Too much output, configuration, attachments, namespaces: one call's failure delays no other."""

import os
import signal
import threading
from pathlib import Path

import pytest
from attacker import start_user_namespaces
from doubles import Steps
from executable import Executable
from lab import RECORDS, wait_until
from patience import extend
from runtime import call_environment, network, static, stdin_of
from setup import Setup

from cni_ipvlan.iproute import namespace
from cni_ipvlan.plugin import modes

MIB = 1 << 20
PRINT_ADDRESSES = """echo '{"ips": [{"address": "10.1.0.2/24"}]}'"""


def test_a_signal_ends_writing_megabytes_to_a_slow_reader(setup: Setup, ipvlan: Executable) -> None:
    ipam = setup.ipam(script=f"yes | head -c {16 * MIB} >&2\n{PRINT_ADDRESSES}")
    before = setup.node.snapshot()
    environment = call_environment("ADD", setup.container, CNI_PATH=setup.fake.path)
    call = ipvlan.start(environment, stdin_of(network(ipam=ipam)))
    started, stop = threading.Event(), threading.Event()

    def read_slowly(descriptor: int) -> None:
        while not stop.wait(0.1) and os.read(descriptor, 4096):
            started.set()

    assert call.process.stderr is not None
    reader = threading.Thread(target=read_slowly, args=(call.process.stderr.fileno(),))
    reader.start()
    try:
        assert started.wait(30)
        call.process.send_signal(signal.SIGTERM)
        call.process.wait(extend(15))
        answer = call.end()
    finally:
        stop.set()
        reader.join()
        call.kill()

    assert "SIGTERM" in answer.error()["msg"]
    assert setup.node.snapshot() == before


def test_a_configuration_of_more_than_1_mib_is_refused(setup: Setup, ipvlan: Executable) -> None:
    keys = {f"key{number:060}": number for number in range(MIB // 64)}
    conf = stdin_of(network(cniVersion="1.1.0", **keys))
    assert MIB < len(conf) < 2 * MIB
    with setup.unchanged():
        error = ipvlan.start(call_environment("ADD", setup.container), conf).end(10).error()
    assert error["code"] == 5
    assert "more than 1 MiB" in error["msg"]
    added = setup.add(args={"note": "x" * (MIB - 4096)})
    assert setup.container.addresses("net1") == ["10.1.0.2/24"]
    conf = stdin_of({**added.conf, "prevResult": {**added.result, "dns": {"domain": "x" * 4096}}})
    for verb in ("CHECK", "DEL"):
        ipvlan.start(call_environment(verb, setup.container), conf).end(10).succeeds()
    domain = f"$(head -c {4 * MIB} /dev/zero | tr '\\0' x)"
    script = """printf '{"ips": [{"address": "10.1.0.2/24"}], "dns": {"domain": "%s"}}' """
    setup.expect_error(5, "the result has more than 4 MiB", ipam=setup.ipam(script=script + domain))


FEW, MANY = 2, 6
SEARCH = {"ip", "-n", "-batch"}  # in another container's namespace


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path)


def attach(setup: Setup, numbers: range) -> None:
    for number in numbers:
        ipam = static(f"10.1.0.{number + 10}/24")
        setup.add(at=setup.make_container(), ipam=ipam, CNI_CONTAINERID=f"c{number}")


def test_a_mode_conflict_takes_as_many_commands_on_a_full_node(setup: Setup, steps: Steps) -> None:
    counts = []
    for numbers in (range(FEW), range(FEW, MANY)):
        attach(setup, numbers)
        steps.reset()
        setup.expect_error(104, mode="l3", **steps.environment)
        counts.append(len(steps.records))
    assert counts[0] == counts[1]


def test_no_other_add_waits_while_the_reason_of_a_refusal_is_searched_for(
    setup: Setup, ipvlan: Executable, steps: Steps, tmp_path: Path
) -> None:
    attach(setup, range(FEW))
    environment = {**call_environment("ADD", setup.container2), **steps.environment}
    stdin = stdin_of(network(mode="l3"))
    assert ipvlan(environment, stdin).error()["code"] == 104
    search_step = steps.records[-1].number
    steps.reset()
    wait = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    steps.plan(search_step, f"touch {tmp_path}/searches; {wait}")

    call = ipvlan.start(environment, stdin)
    wait_until((tmp_path / "searches").exists)
    setup.add(CNI_CONTAINERID="honest")
    assert call.process.poll() is None
    (tmp_path / "go").touch()

    assert call.end().error()["code"] == 104


def test_an_address_conflict_is_searched_for_after_the_release(setup: Setup, steps: Steps) -> None:
    attach(setup, range(1))
    counts = []
    for additions in (0, MANY):
        for _ in range(additions):
            setup.make_container()
        steps.reset()
        setup.expect_error(106, ipam=static("10.1.0.10/24"), **steps.environment)
        before_release, after_release = split_steps_at_release(steps)
        assert not any(words >= SEARCH for words in before_release)
        assert any(words >= SEARCH for words in after_release)
        counts.append(len(before_release))

    assert counts[0] == counts[1]


def split_steps_at_release(steps: Steps) -> tuple[list[set[str]], list[set[str]]]:
    words = [set(step.words.split()) for step in steps.records]
    first = next(number for number, each in enumerate(words) if {"link", "add"} <= each)
    last = max(number for number, each in enumerate(words) if {"link", "delete"} <= each)
    return words[first:last], words[last:]


def test_an_add_starts_as_many_commands_beside_users_namespaces(setup: Setup, steps: Steps) -> None:
    setup.add(CNI_CONTAINERID="hides")
    ipam, counts = static("10.1.0.3/24"), list[int]()
    with start_user_namespaces(1) as [process]:
        setup.container.ip(f"link set dev net1 netns {process}")  # to where no search enters
        for users in (0, MANY):
            with start_user_namespaces(users):
                steps.reset()
                added = setup.add(at=setup.container2, ipam=ipam, **steps.environment)
                counts.append(len(steps.records))
            added.delete()
            note = next(RECORDS.rglob("mode.searched"))
            note.rename(note.with_name("mode"))
    assert counts[0] == counts[1]


def test_no_open_file_is_looked_at_too_late(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have a million open files."""
    setup.add()
    setup.container.rename("net1", "hidden")
    monkeypatch.setattr(modes, "_SEARCH_SECONDS", 0.0)
    monkeypatch.setattr(namespace, "_may_be_namespace", pytest.fail)
    attach(setup, range(1))
