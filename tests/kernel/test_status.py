"""STATUS: whether an ADD could succeed now, and if not, why."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles import FakeIpam, Steps
from lab import Node
from runtime import Conf, Runtime, network


def conf_with(fake_ipam: FakeIpam, master: str | None = "eth0") -> Conf:
    return network(cniVersion="1.1.0", master=master, ipam=fake_ipam.conf)


@pytest.mark.parametrize("master", ["eth0", None])
def test_status_is_good_when_an_add_could_succeed(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, master: str | None
) -> None:
    node.master()
    node.host.ip("route add default dev eth0")
    before = node.snapshot()

    runtime.status(conf_with(fake_ipam, master), CNI_PATH=fake_ipam.path).succeeds()

    assert fake_ipam.calls == ["STATUS"]
    assert node.snapshot() == before


def test_status_is_good_for_a_chained_plugin_without_ipam(node: Node, runtime: Runtime) -> None:
    node.master()

    runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()


@pytest.mark.parametrize("master", ["eth0", None])
def test_a_master_that_is_not_there_is_the_reason(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, master: str | None
) -> None:
    answer = runtime.status(conf_with(fake_ipam, master), CNI_PATH=fake_ipam.path)

    assert answer.error()["code"] == 50
    assert "master" in answer.error()["msg"]


def test_a_master_that_is_down_limits_running_containers_too(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    node.master(up=False)

    error = runtime.status(conf_with(fake_ipam), CNI_PATH=fake_ipam.path).error()

    assert error["code"] == 51
    assert all(word in error["msg"] for word in ("'eth0'", "down"))


def test_a_kernel_without_ipvlan_is_the_reason(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, tmp_path: Path
) -> None:
    node.master()
    steps = Steps(tmp_path / "steps")
    steps.at("ip-1", "echo 'Error: Unknown device type.' >&2; exit 2")
    environment = {**steps.environment, "CNI_PATH": fake_ipam.path}

    error = runtime.status(conf_with(fake_ipam), **environment).error()

    assert error["code"] == 50
    assert "ipvlan" in error["msg"]
    assert "modprobe ipvlan" in error["details"]


@pytest.mark.parametrize("code", [50, 51])
def test_the_ipam_plugins_error_is_passed_on(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, code: int
) -> None:
    node.master()
    fake_ipam.answers("STATUS", {"code": code, "msg": "the pool is dry"}, status=1)

    error = runtime.status(conf_with(fake_ipam), CNI_PATH=fake_ipam.path).error()

    assert (error["code"], error["msg"]) == (code, "the pool is dry")


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("missing", "cannot find the plugin 'fake'"),
        ("silent", "the plugin 'fake' exited with status 3"),
        ("other error", "unknown CNI_COMMAND: STATUS"),
    ],
)
def test_an_ipam_plugin_in_trouble_is_the_reason(
    node: Node, runtime: Runtime, fake_ipam: FakeIpam, trouble: str, message: str
) -> None:
    node.master()
    if trouble == "silent":
        fake_ipam.on("STATUS", "exit 3")
    elif trouble == "other error":
        fake_ipam.answers("STATUS", {"code": 4, "msg": "unknown CNI_COMMAND: STATUS"}, status=1)
    path = "/nowhere" if trouble == "missing" else fake_ipam.path

    error = runtime.status(conf_with(fake_ipam), CNI_PATH=path).error()

    assert error["code"] == 50
    assert message in error["msg"]
