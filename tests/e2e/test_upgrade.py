"""scripts/install-node on a node whose runtime goes on attaching and detaching containers."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from executable import Executable
from installing import CHECKOUT, installer, needs_system_packages, places, plugin
from lab import Node, run, wait_until
from person import Person
from runtime import PLUGINS, Answer, Runtime, host_local, network

pytestmark = needs_system_packages  # a lab has no network for others
INSTALLER = str(installer(CHECKOUT))


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    yield plugin(tmp_path)
    run(INSTALLER, *places(tmp_path), "--uninstall")
    assert not (tmp_path / "cni").exists()
    assert not (tmp_path / "prefix").exists()


def install(installed: Path) -> None:
    run(INSTALLER, *places(installed.parents[2]), "--system-packages")


def test_no_call_fails_while_the_plugin_is_upgraded(node: Node, installed: Path) -> None:
    node.master()
    container = node.container()
    install(installed)
    runtime = Runtime(Executable(str(installed)))
    conf = network(ipam=host_local("10.1.0.0/24"))
    ended = threading.Event()
    answers: list[Answer] = []

    def attach_and_detach() -> None:
        while not ended.is_set():
            answers.append(runtime.add(container, conf))
            answers.append(runtime.delete(container, conf))

    caller = threading.Thread(target=attach_and_detach)
    caller.start()
    try:
        wait_until(lambda: len(answers) > 1)
        install(installed)
        attached = len(answers)
        wait_until(lambda: len(answers) > attached + 1)
    finally:
        ended.set()
        caller.join()
    assert [answer for answer in answers if answer.status] == []
    assert node.leases() == []


def test_the_documents_network_works_with_nothing_else(
    node: Node, tmp_path: Path, installed: Path
) -> None:
    node.master("eth1000")
    container = node.container()
    install(installed)
    # PATH has the link for people. Nothing but install-node has put IPAM plugins beside ipvlan.
    person = Person(Executable(f"{tmp_path}/command/ipvlan"), tmp_path)
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples")
    on = f"-c examples/ipvlan0.yaml --netns container1 --cni-path {installed.parent}"

    person.succeeds(f"ipvlan add {on} --container-id one")

    assert container.addresses("net1") == ["10.10.10.2/24"]
    person.succeeds(f"ipvlan del {on} --container-id one")
    assert "net1" not in container.links()


def test_the_go_plugins_containers_stay_and_can_be_deleted_and_so_can_its_successors(
    node: Node, installed: Path
) -> None:
    node.master()
    container = node.container()
    conf = network(ipam=host_local("10.1.0.0/24"))
    runtime = Runtime(Executable(str(installed)))
    installed.parent.mkdir(parents=True)
    shutil.copy(f"{PLUGINS}/ipvlan", installed)
    runtime.add(container, conf).result()
    install(installed)
    try:
        assert "net1" in container.links()
        runtime.delete(container, conf).succeeds()
        assert "net1" not in container.links()
        assert node.leases() == []
        runtime.add(container, conf).result()
        assert container.links()["net1"]["ifalias"].startswith("cni-ipvlan/")
    finally:
        run(INSTALLER, *places(installed.parents[2]), "--uninstall")
    assert installed.read_bytes() == Path(f"{PLUGINS}/ipvlan").read_bytes()
    runtime.delete(container, conf).succeeds()
    assert "net1" not in container.links()
    assert node.leases() == []
    shutil.rmtree(installed.parents[1])
