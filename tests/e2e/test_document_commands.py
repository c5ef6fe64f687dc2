"""The commands of the documents that need a kernel with ipvlan, typed one after the other."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_commands import BASH, VALUES, typed_in
from lab import LOGS, Node, own
from people import Person
from runtime import Runtime, network, static

PLUGINS = Path("/opt/cni/bin")
NETWORKS = Path("/etc/cni/net.d")


@pytest.fixture
def machine(node: Node, runtime: Runtime, person: Person) -> Iterator[None]:
    """Have all that the commands name but NAME: a container, networks, the capture of a call."""
    node.master_on_a_wire(VALUES["MASTER"]).ip(f"address add {VALUES['ADDRESS']}/24 dev eth0")
    with own(PLUGINS), own(NETWORKS):
        front, back = (
            network(name=name, master=VALUES["MASTER"], ipam=static(address))
            for name, address in (("front", "10.10.10.20/24"), ("back", "10.10.10.21/24"))
        )
        shutil.copy(person.writes(front, "front.conf"), NETWORKS)
        (LOGS / "calls").mkdir(0o700)
        pod = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
        container = node.container()
        for call in (runtime.add, runtime.delete):
            call(container, {**front, "captureDir": "calls"}, **pod)
        runtime.add(node.namespace(VALUES["OTHER"]), back, CNI_CONTAINERID=VALUES["OTHER"]).result()
        person.writes(back, "back.conf")
        yield


@pytest.mark.slow
def test_commands_of_the_documents_succeed(machine: None, node: Node, person: Person) -> None:
    for commands in typed_in("e2e").values():
        container = node.namespace(VALUES["NAME"])
        for command in commands:
            person.succeeds(shlex.join([*BASH, command.line]))
        node.remove(container)
