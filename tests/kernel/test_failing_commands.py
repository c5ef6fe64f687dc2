"""Every command of an ADD fails once: nothing may be left, and the first failure is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import FakeIpam, Steps
from injection import IPAM, disturb
from lab import MEMORY, Node
from runtime import PLUGINS, Runtime, host_local, network, refusal

FAILURES = {
    "before its work": "echo injected >&2; exit 1",
    "after its work": 'real "$@" 2>/dev/null; echo injected >&2; exit 1',
    "killed after its work": 'real "$@" 2>/dev/null; echo injected >&2; kill -KILL $$',
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

    assert wrong == {}


UNUSABLE = {
    "of another machine": (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xff\xff", "Exec format error"),
    "without its interpreter": (b"#!/no/such/interpreter\n", "No such file or directory"),
}


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_ipam_plugin_that_cannot_be_executed_is_named_and_not_undone(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, kind: str
) -> None:
    node.master()
    content, reason = UNUSABLE[kind]
    Path(fake_ipam.program).write_bytes(content)

    error = refusal(node, runtime, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert error["code"] == 109
    assert error["msg"] == f"cannot execute {fake_ipam.program}: {reason}"
    assert error["details"].splitlines()[-1].startswith("try: ")
    assert "undone" not in error["details"] + error["private"]


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.parametrize("verb", ["DEL", "CHECK", "STATUS"])
def test_every_verb_names_an_ipam_plugin_that_cannot_be_executed(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, kind: str, verb: str
) -> None:
    node.master()
    container = node.container()
    fake_ipam.answers("ADD", {"ips": [{"address": "10.1.0.2/24"}]})
    conf = network(cniVersion="1.1.0", ipam=fake_ipam.conf)
    result = runtime.add(container, conf, CNI_PATH=fake_ipam.path).result()
    content, reason = UNUSABLE[kind]
    Path(fake_ipam.program).write_bytes(content)
    conf = {**conf, "prevResult": result}

    error = runtime.call(verb, container, conf, CNI_PATH=fake_ipam.path).error()

    assert error["code"] == (50 if verb == "STATUS" else 109)
    assert error["msg"] == f"cannot execute {fake_ipam.program}: {reason}"
    assert ("net1" in container.links()) is (verb != "DEL")


def test_an_ipam_plugin_that_itself_exits_with_127_is_reported_and_undone(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master()
    fake_ipam.on("ADD", "exit 127")

    error = refusal(node, runtime, network(ipam=fake_ipam.conf), CNI_PATH=fake_ipam.path)

    assert error["msg"] == "the plugin 'fake' exited with status 127 and printed no CNI error"
    assert fake_ipam.calls == ["ADD", "DEL"]


def test_add_undoes_in_reverse_but_releases_last(
    node: Node, runtime: Runtime, tmp_path: Path
) -> None:
    node.master()
    steps = Steps(tmp_path, f"{PLUGINS}/{IPAM}")
    routes = [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}]
    conf = network(ipam=host_local("10.1.0.0/24", routes=routes))

    assert runtime.add(node.container(), conf, **steps.environment).error()["code"] == 107

    words = [step.words for step in steps.taken]
    for beside in ("link set", f"{IPAM} ADD"):  # the two run at the same time
        order = ("link add", beside, "link delete", f"{IPAM} DEL")
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
