"""CNI_NETNS: which files lead to a container, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import Node, Space, run
from runtime import Runtime, network


def test_a_namespace_that_only_a_process_keeps_is_a_container(node: Node, runtime: Runtime) -> None:
    node.master()
    live_and_die(node, runtime, node.container_of_a_process())


@pytest.mark.parametrize("name", ["sandbox", "with space", "-x", "it's $HOME"])
def test_a_namespace_mounted_elsewhere_is_a_container(
    node: Node, runtime: Runtime, tmp_path: Path, name: str
) -> None:
    node.master()
    live_and_die(node, runtime, node.container_mounted_at(tmp_path / name))


@pytest.mark.parametrize("name", ["cni-8d7c", "-x", "with space", "123"])
def test_a_named_namespace_is_a_container(node: Node, runtime: Runtime, name: str) -> None:
    node.master()
    live_and_die(node, runtime, node.namespace(name))


def test_a_link_to_a_namespace_is_a_container(node: Node, runtime: Runtime, tmp_path: Path) -> None:
    node.master()
    container = node.container()
    link = tmp_path / "link"
    link.symlink_to(container.path)

    assert runtime.add(str(link), network()).result()["interfaces"][0]["sandbox"] == str(link)

    assert container.ipvlan("net1")["up"]


@pytest.mark.parametrize(
    "kind", ["missing", "below a file", "file", "directory", "pipe", "namespace of another kind"]
)
def test_what_is_no_network_namespace_is_refused(
    node: Node, runtime: Runtime, tmp_path: Path, kind: str
) -> None:
    node.master()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    path = {
        "missing": str(tmp_path / "missing"),
        "below a file": str(tmp_path / "file" / "below"),
        "file": str(tmp_path / "file"),
        "directory": str(tmp_path),
        "pipe": str(tmp_path / "pipe"),
        "namespace of another kind": "/proc/self/ns/mnt",
    }[kind]
    before = node.snapshot()

    error = runtime.add(path, network()).error()

    assert error["code"] == 4
    assert "CNI_NETNS" in error["msg"]
    assert path in error["msg"]
    assert node.snapshot() == before
    runtime.delete(path, network()).succeeds()


@pytest.mark.parametrize("path", ["/run/netns/host", "/proc/self/ns/net"])
def test_the_plugins_own_namespace_is_refused_unless_that_is_overridden(
    node: Node, runtime: Runtime, path: str
) -> None:
    node.master()
    before = node.snapshot()

    error = runtime.add(path, network()).error()

    assert error["code"] == 4
    assert "CNI_NETNS" in error["msg"]
    assert node.snapshot() == before
    runtime.add(path, network(), CNI_NETNS_OVERRIDE="true").result()
    assert node.host.addresses("net1") == ["10.1.0.2/24"]
    runtime.delete(path, network(), CNI_NETNS_OVERRIDE="1").succeeds()
    assert node.snapshot() == before


def test_delete_does_not_look_for_a_container_in_the_plugins_own_namespace(
    node: Node, runtime: Runtime
) -> None:
    node.master()
    run("ip", "link", "add", "link", "eth0", "name", "net1", "type", "ipvlan")
    before = node.snapshot()

    runtime.delete(node.host, network()).succeeds()

    assert node.snapshot() == before


def live_and_die(node: Node, runtime: Runtime, container: Space) -> None:
    before = node.snapshot()

    result = runtime.add(container, network()).result()

    assert result["interfaces"][0]["sandbox"] == container.path
    assert container.ipvlan("net1")["up"]
    assert container.addresses("net1") == ["10.1.0.2/24"]
    runtime.check(container, network(), result).succeeds()
    runtime.delete(container, network()).succeeds()
    assert node.snapshot() == before
