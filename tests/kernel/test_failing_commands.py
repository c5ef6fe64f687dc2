"""Every command of an ADD fails once: nothing may be left, and the first failure is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from doubles import Steps
from injection import IPAM, disturb
from lab import MEMORY
from runtime import PLUGINS, host_local, network

if TYPE_CHECKING:
    from pathlib import Path

    from doubles import FakeIpam
    from lab import Node
    from runtime import Runtime

FAILURES = {
    "before its work": "echo injected >&2; exit 1",
    "after its work": 'real "$@" >/dev/null 2>&1; echo injected >&2; exit 1',
    "killed after its work": 'real "$@" >/dev/null 2>&1; echo injected >&2; kill -KILL $$',
}


@pytest.mark.parametrize("failure", FAILURES)
def test_add_undoes_everything_when_any_command_fails(
    node: Node, runtime: Runtime, tmp_path: Path, failure: str
) -> None:
    node.master()
    # The two ways to enter a namespace take turns.
    named = failure == "after its work"
    container = node.container() if named else node.container_of_a_process()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")

    wrong = disturb(node, runtime, container, steps, FAILURES[failure], expected="injected")

    # A container works even if its addresses are not announced.
    expected = {words: "succeeded" for words in wrong if "_notify" in words}
    assert wrong == expected
    assert len(expected) > 0


def test_add_undoes_in_reverse_but_releases_last(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")
    routes = [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}]
    conf = network(ipam=host_local("10.1.0.0/24", routes=routes))

    assert runtime.add(node.container(), conf, **steps.environment).error()["code"] == 107

    words = [step.words for step in steps.taken]
    order = ("link add", "link set", f"{IPAM} ADD", "link delete", f"{IPAM} DEL")
    places = [next(i for i, each in enumerate(words) if part in each) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", ["'fake'", "status 3"]),
        ("kill -SEGV $$", ["'fake'", "SIGSEGV"]),
        ("echo garbage; echo why >&2", ["'fake'", "garbage", "why"]),
        ("true", ["'fake'", "empty"]),
        ("echo '[]'", ["'fake'"]),
        ("""echo '{"ips": []}'""", ["'fake'", "no address"]),
        ("""echo '{"ips": [{"address": "10.1.0.2"}]}'""", ["'fake'", "10.1.0.2"]),
        ("""echo '{"cniVersion": "9.0.0"}'""", ["'fake'", "9.0.0"]),
        ("""echo '{"code": 11, "msg": "not now"}'; exit 1""", ["not now"]),
        ("printf '\\377'", ["'fake'"]),
    ],
)
def test_add_undoes_everything_when_ipam_fails(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, script: str, words: list[str]
) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", script)
    before = node.snapshot()

    conf = network(ipam=fake_ipam.conf)
    error = runtime.add(container, conf, CNI_PATH=fake_ipam.path).error()

    assert [word for word in words if word not in f"{error}"] == []
    assert fake_ipam.calls == ["ADD", "DEL"]
    assert node.snapshot() == before


@pytest.mark.parametrize(
    ("ipam_type", "code"), [("nosuch", 108), ("../static", 7), ("/bin/true", 7)]
)
def test_add_changes_nothing_when_there_is_no_such_ipam_plugin(
    node: Node, runtime: Runtime, ipam_type: str, code: int
) -> None:
    node.master()
    container = node.container()
    before = node.snapshot()

    error = runtime.add(container, network(ipam={"type": ipam_type})).error()

    assert error["code"] == code
    assert ipam_type in error["msg"]
    assert node.snapshot() == before


def test_failed_undos_are_reported_and_the_rest_is_undone(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    container = node.container()
    fake_ipam.answers("ADD", {"code": 11, "msg": "the first failure"}, status=1)
    fake_ipam.answers("DEL", {"code": 5, "msg": "the second failure"}, status=1)
    before = node.snapshot()

    conf = network(ipam=fake_ipam.conf)
    error = runtime.add(container, conf, CNI_PATH=fake_ipam.path).error()

    assert (error["code"], error["msg"]) == (11, "the first failure")
    assert "the second failure" in error["details"]
    assert node.snapshot() == before
    assert not MEMORY.exists()
