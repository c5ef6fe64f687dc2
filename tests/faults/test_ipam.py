"""IPAM plugins that misbehave: ADD works or undoes everything, and waits for nothing that ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, Space, run
from runtime import call_environment, network, stdin_of

ADDRESS = "10.1.0.2/24"
GOOD: dict[str, Any] = {"cniVersion": "1.0.0", "ips": [{"address": ADDRESS}]}


def add(node: Node, ipvlan: Executable, ipam: FakeIpam) -> tuple[Space, Any]:
    node.master()
    container = node.container()
    environment = call_environment("ADD", container, CNI_PATH=ipam.path)
    return container, ipvlan(environment, stdin_of(network(ipam=ipam.conf)))


@pytest.mark.parametrize(
    "script",
    {
        "slow": "sleep 3",
        "leaves a child that holds its streams": "sleep 100 &",
        "leaves a child that goes on printing": "(sleep 0.3; echo late) & sleep 0.1",
        "closes its streams": "exec 0<&-",
        "has another working directory": "cd /",
        "ignores signals": "trap '' TERM INT HUP",
    }.values(),
)
def test_add_works_when_ipam(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, script: str
) -> None:
    fake_ipam.on("ADD", f"{script}\necho '{json.dumps(GOOD)}'")
    began = time.monotonic()

    container, answer = add(node, ipvlan, fake_ipam)

    assert answer.result()["ips"][0]["address"] == ADDRESS
    assert container.addresses("net1") == [ADDRESS]
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "script",
    [
        "head -c 900000 /dev/zero | tr '\\0' x >&2; echo the end >&2",
        "yes 'a line of many' | head -n 50000 >&2; echo the end >&2",
        "echo the end >&2; yes 'more than is passed on' | head -n 200000 >&2",
        "printf '\\377\\376\\0 the end' >&2",
    ],
)
@pytest.mark.parametrize("status", [0, 1])
def test_the_stderr_of_ipam_is_passed_on(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, script: str, status: int
) -> None:
    fake_ipam.on("ADD", f"{script}\necho '{json.dumps(GOOD)}'; exit {status}")

    container, answer = add(node, ipvlan, fake_ipam)

    assert answer.status == status
    assert "the end" in answer.stderr
    assert len(answer.stdout) < 1 << 16
    assert ("net1" in container.links()) == (status == 0)


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", None])
def test_add_takes_the_result_of_any_version(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, version: str | None
) -> None:
    document: dict[str, Any] = {"ips": [{"version": "4", "address": ADDRESS}]}
    if version == "0.2.0":
        document = {"ip4": {"ip": ADDRESS}}
    fake_ipam.answers("ADD", {**document, **({"cniVersion": version} if version else {})})

    container, answer = add(node, ipvlan, fake_ipam)

    assert answer.result()["cniVersion"] == "1.0.0"
    assert container.addresses("net1") == [ADDRESS]


@pytest.mark.parametrize(
    "extra",
    [
        {"unknown": {"a": [1]}, "cniVersion": "1.0.0"},
        {"ips": [{"address": ADDRESS, "interface": 7, "unknown": None}]},
        {"ips": [{"address": ADDRESS, "interface": 0}], "interfaces": [{"name": "eth9"}]},
        {"dns": {"nameservers": ["10.1.0.1"], "unknown": 1}},
        {"routes": []},
        {"routes": None, "dns": None, "interfaces": None},
    ],
)
def test_add_ignores_other_keys_in_the_ipam_result(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, extra: dict[str, Any]
) -> None:
    fake_ipam.answers("ADD", {**GOOD, **extra})

    container, answer = add(node, ipvlan, fake_ipam)

    result = answer.result()
    assert result["ips"] == [{"interface": 0, "address": ADDRESS}]
    assert [each["name"] for each in result["interfaces"]] == ["net1"]
    assert container.addresses("net1") == [ADDRESS]


NOT_ADDRESSES: tuple[Any, ...] = (
    "10.1.0.2", "10.1.0.2/33", "10.1.0.300/24", "10.1.0.2/24 dev lo", "-6", "", "fe80::1%lo/64",
    "10.1.0.2/24\n", 7, None, [], {"a": 1}, "all", "x" * 100_000, "\ud800",
)  # fmt: skip
WRONG: list[dict[str, Any]] = [
    *({"ips": [{"address": each}]} for each in NOT_ADDRESSES),
    {"ips": []},
    {"ips": {}},
    {"ips": [{"address": ADDRESS, "gateway": "nowhere"}]},
    {"ips": [{"address": ADDRESS, "interface": -1}]},
    {"ips": [{"address": "127.0.0.1/8"}, {"address": ADDRESS}], "routes": [{"dst": "x"}]},
    {"routes": [{"dst": "10.9.0.0/16", "gw": "192.0.2.1"}]},
    {"routes": [{"dst": "10.9.0.0/16", "gw": "fd00::1"}]},
    {"routes": [{"dst": "0.0.0.0/0", "table": 10**12}]},
    {"routes": [{"dst": "10.9.0.0/16"}, {"dst": "10.9.0.0/16", "priority": 1, "scope": 300}]},
    {"cniVersion": "2.0.0"},
    {"cniVersion": 1},
]


@pytest.mark.parametrize("half", [0, 1])
def test_add_undoes_everything_when_ipam_answers_nonsense(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, half: int
) -> None:
    node.master()
    container = node.container()
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    before = node.snapshot()
    wrong: dict[str, Any] = {}
    for document in WRONG[half::2]:
        fake_ipam.answers("ADD", {**GOOD, **document})

        answer = ipvlan(environment, stdin_of(network(ipam=fake_ipam.conf)))

        if answer.status == 0 or answer.error()["code"] == 199 or node.snapshot() != before:
            wrong[f"{document}"[:200]] = answer
            run("rm", "-rf", "/run/cni-ipvlan")
    assert wrong == {}
    assert fake_ipam.calls.count("ADD") == fake_ipam.calls.count("DEL")


@pytest.mark.parametrize("verb", ["DEL", "CHECK"])
@pytest.mark.parametrize(
    "script", ["echo garbage", "head -c 1000000 /dev/zero", "sleep 100 &", "echo '{}'"]
)
def test_what_ipam_prints_besides_errors_counts_at_add_alone(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, verb: str, script: str
) -> None:
    fake_ipam.answers("ADD", GOOD)
    container, answer = add(node, ipvlan, fake_ipam)
    fake_ipam.on(verb, script)
    environment = call_environment(verb, container, CNI_PATH=fake_ipam.path)
    conf = network(ipam=fake_ipam.conf, prevResult=answer.result())

    ipvlan(environment, stdin_of(conf)).succeeds()


def test_delete_removes_the_link_when_ipam_does_not_release(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam
) -> None:
    fake_ipam.answers("ADD", GOOD)
    container, _ = add(node, ipvlan, fake_ipam)
    fake_ipam.on("DEL", "head -c 2000000 /dev/zero >&2; exit 3")
    environment = call_environment("DEL", container, CNI_PATH=fake_ipam.path)

    error = ipvlan(environment, stdin_of(network(ipam=fake_ipam.conf))).error()

    assert "'fake' exited with status 3" in error["msg"]
    assert container.links().keys() == {"lo"}


def test_an_ipam_plugin_that_vanishes_between_add_and_its_undoing_is_named(
    node: Node, ipvlan: Executable, fake_ipam: FakeIpam, tmp_path: Path
) -> None:
    fake_ipam.on("ADD", f"rm {fake_ipam.program}; exit 3")

    container, answer = add(node, ipvlan, fake_ipam)

    error = answer.error()
    assert "could not be undone" in error["details"]
    assert fake_ipam.program in error["details"]
    assert container.links().keys() == {"lo"}
