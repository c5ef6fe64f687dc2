"""scripts/install-node on a node whose runtime goes on attaching and detaching containers."""

import shutil
import threading
from pathlib import Path

from executable import Executable
from installing import CHECKOUT, installer, needs_system_packages, places, plugin
from lab import Node, run, wait_until
from person import Person
from runtime import PLUGINS, Answer, Runtime, host_local, network

pytestmark = needs_system_packages  # a lab has no network for others


def test_no_container_notices_that_the_go_plugin_is_replaced_upgraded_and_put_back(
    node: Node, tmp_path: Path
) -> None:
    node.master()
    container = node.container()
    installed, go_plugin = plugin(tmp_path), Path(f"{PLUGINS}/ipvlan")
    runtime = Runtime(Executable(str(installed)))
    conf = network(ipam=host_local("10.1.0.0/24"))
    installed.parent.mkdir(parents=True)
    shutil.copy(go_plugin, installed)
    runtime.add(container, conf).result()

    install(tmp_path)
    assert "net1" in container.links()
    runtime.delete(container, conf).succeeds()
    assert "net1" not in container.links()
    assert node.leases() == []
    assert [each for each in answers_meanwhile(runtime, node, tmp_path) if each.status] == []
    assert node.leases() == []
    the_documents_network_works(node, tmp_path)

    runtime.add(container, conf).result()
    assert container.links()["net1"]["ifalias"].startswith("cni-ipvlan/")
    install(tmp_path, "--uninstall")
    assert installed.read_bytes() == go_plugin.read_bytes()
    runtime.delete(container, conf).succeeds()
    assert "net1" not in container.links()
    assert node.leases() == []
    assert not (tmp_path / "prefix").exists()


def install(place: Path, how: str = "--system-packages") -> None:
    run(str(installer(CHECKOUT)), *places(place), how)


def answers_meanwhile(runtime: Runtime, node: Node, place: Path) -> list[Answer]:
    """Attach and detach a container until an upgrade is over."""
    container, conf = node.container(), network(ipam=host_local("10.1.0.0/24"))
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
        install(place)
        attached = len(answers)
        wait_until(lambda: len(answers) > attached + 1)
    finally:
        ended.set()
        caller.join()
    return answers


def the_documents_network_works(node: Node, place: Path) -> None:
    """Only install-node has put IPAM plugins beside ipvlan, and a link for people on PATH."""
    node.master("eth1000")
    container = node.namespace("web")
    person = Person(Executable(f"{place}/command/ipvlan"), CHECKOUT)
    about = f"-c examples/ipvlan0.yaml --netns web --cni-path {plugin(place).parent}"

    person.succeeds(f"ipvlan add {about} --container-id one")

    assert container.addresses("net1") == ["10.10.10.2/24"]
    person.succeeds(f"ipvlan del {about} --container-id one")
    assert "net1" not in container.links()
