"""scripts/install-node on a node whose containers the Go plugin attached, and back.

tests/node/test_deploy.py has ADDs that meet an upgrade.
"""

import shutil
from pathlib import Path

import pytest
from executable import Executable
from installing import CHECKOUT, installer, needs_system_packages, places, plugin
from lab import Node, run
from person import Person
from runtime import PLUGINS, Runtime, host_local, network

pytestmark = needs_system_packages  # a lab has no network for others


@pytest.mark.slow
def test_no_container_notices_when_the_go_plugin_is_replaced(node: Node, tmp_path: Path) -> None:
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
