"""What README.md says of the Go plugin, tried with the one that Debian has."""

from __future__ import annotations

import re
import signal

import documents
import pytest
from doubles import FakeIpam
from executable import Executable
from lab import Node, run
from runtime import PLUGINS, Conf, Runtime, call_environment, host_local, network, stdin_of

GO = Executable(f"{PLUGINS}/ipvlan")


@pytest.fixture
def go() -> Runtime:
    return Runtime(GO)


def test_documents_name_its_version() -> None:
    shown = run("dpkg-query", "--show", "--showformat", "${Version}", "containernetworking-plugins")
    version = re.match(r"[0-9.]+", shown)
    assert version
    for name in ("README.md", "docs/performance.md"):
        text = " ".join((documents.ROOT / name).read_text(encoding="utf-8").split())
        assert f"Debian's containernetworking-plugins {version[0]}" in text


@pytest.mark.parametrize("conf", [network(ipam={"type": "none"}), network(ipam=host_local("x"))])
def test_it_leaves_its_interface_if_the_ipam_plugin_fails(
    node: Node, go: Runtime, conf: Conf
) -> None:
    node.master()
    container = node.container()
    assert go.add(container, conf).status == 1
    assert "net1" in container.links()


def test_it_leaves_its_interface_if_the_address_is_in_use(node: Node, go: Runtime) -> None:
    node.master()
    go.add(node.container(), network()).result()
    container = node.container()
    assert go.add(container, network(), CNI_CONTAINERID="two").status == 1
    assert "net1" in container.links()


def test_it_leaves_its_interface_if_it_gets_sigterm(node: Node, fake_ipam: FakeIpam) -> None:
    node.master()
    container = node.container()
    fake_ipam.on("ADD", "exec sleep 2")
    environment = call_environment("ADD", container, CNI_PATH=fake_ipam.path)
    call = GO.start(environment, stdin_of(network(ipam=fake_ipam.conf)))
    fake_ipam.wait_for("ADD")
    call.process.send_signal(signal.SIGTERM)
    assert call.end().status == -signal.SIGTERM
    assert "net1" in container.links()


def test_its_delete_fails_without_a_default_route_if_no_master_is_configured(
    node: Node, go: Runtime
) -> None:
    node.master()
    container = node.container()
    # Debian's does not find a default route that is there, so that ADD needs a master.
    go.add(container, network()).result()
    assert go.delete(container, network(master=None)).status == 1
    assert "net1" in container.links()


def test_it_changes_the_mode_of_a_running_container(node: Node, go: Runtime) -> None:
    node.master()
    first = node.container()
    go.add(first, network(ipam=host_local("10.1.0.0/24"))).result()
    other = network(name="other", mode="l3", ipam=host_local("10.2.0.0/24"))
    go.add(node.container(), other, CNI_CONTAINERID="two").result()
    assert first.ipvlan("net1")["mode"] == "l3"
