"""An IPAM plugin that never ends is killed after a while, whatever the verb."""

from __future__ import annotations

import pytest
from doubles import FakeDhcp, FakeIpam
from lab import Node
from runtime import Runtime, network

from cni_ipvlan.plugin import ipam

ADDRESSES = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.2/24"}]}
NEVER_ENDS = "trap '' TERM; exec sleep 300"


@pytest.fixture(params=[FakeIpam, FakeDhcp])
def plugin(request: pytest.FixtureRequest, fake_ipam: FakeIpam) -> FakeIpam:
    made: FakeIpam = request.param(fake_ipam.directory)
    made.answers("ADD", ADDRESSES)
    return made


def test_the_time_leaves_room_for_an_undo() -> None:
    assert ipam.MOST_SECONDS + 10 < 120  # as long as the kubelet waits


def test_an_add_without_end_is_ended_and_undone(
    node: Node, runtime: Runtime, plugin: FakeIpam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipam, "MOST_SECONDS", 1.0)
    node.master()
    container = node.container()
    plugin.on("ADD", NEVER_ENDS)
    before = node.snapshot()

    error = runtime.add(container, network(ipam=plugin.conf), CNI_PATH=plugin.path).error()

    assert error["code"] == 109
    assert error["msg"].endswith("was killed: it had not ended after 1 s")
    assert plugin.calls == ["ADD", "DEL"]
    assert node.snapshot() == before


def test_a_delete_without_end_is_ended_and_removes_the_link(
    node: Node, runtime: Runtime, plugin: FakeIpam, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipam, "MOST_SECONDS", 1.0)
    node.master()
    container = node.container()
    conf = network(ipam=plugin.conf)
    runtime.add(container, conf, CNI_PATH=plugin.path).result()
    plugin.on("DEL", NEVER_ENDS)

    error = runtime.delete(container, conf, CNI_PATH=plugin.path).error()

    assert error["code"] == 109
    assert "it had not ended after 1 s" in error["msg"]
    assert container.links().keys() == {"lo"}
