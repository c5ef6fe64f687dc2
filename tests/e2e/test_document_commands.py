"""The commands of the documents that need a kernel with ipvlan, typed one after the other."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import User
from document_commands import BASH, PLACEHOLDER_VALUES, find_commands_of_tier
from lab import LOGS, Node, hide_directory
from runtime import Runtime, network, static

PLUGINS = Path("/opt/cni/bin")
NETWORKS = Path("/etc/cni/net.d")


@pytest.fixture
def machine(node: Node, runtime: Runtime, user: User) -> Iterator[None]:
    """Have all that the commands name but NAME: a container, networks, the capture of a call."""
    master, address, other = (PLACEHOLDER_VALUES[word] for word in ("MASTER", "ADDRESS", "OTHER"))
    node.make_connected_master(master).ip(f"address add {address}/24 dev eth0")
    with hide_directory(PLUGINS), hide_directory(NETWORKS):
        front, back = (
            network(name=name, master=master, ipam=static(ip))
            for name, ip in (("front", "10.10.10.20/24"), ("back", "10.10.10.21/24"))
        )
        shutil.copy(user.write_conf(front, "front.conf"), NETWORKS)
        (LOGS / "calls").mkdir(0o700)
        pod = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
        container = node.make_container()
        for call in (runtime.add, runtime.delete):
            call(container, {**front, "captureDir": "calls"}, **pod)
        runtime.add(node.make_namespace(other), back, CNI_CONTAINERID=other).result()
        user.write_conf(back, "back.conf")
        yield


@pytest.mark.slow
def test_commands_of_the_documents_succeed(machine: None, node: Node, user: User) -> None:
    for commands in find_commands_of_tier("e2e").values():
        container = node.make_namespace(PLACEHOLDER_VALUES["NAME"])
        for command in commands:
            user.check_output(shlex.join([*BASH, command.line]))
        node.remove(container)
