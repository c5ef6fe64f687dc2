"""Real containers: containerd and runc, which find the plugin where install-node puts it."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import lab
import pytest
from executable import Executable

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
BIN_DIR = Path("/opt/cni/bin")
CONFIGURATION = Path("/etc/cni/net.d/10-net.conflist")
HOME = Path("/run/containerd-lab")
SOCKET = HOME / "containerd.sock"
SETTINGS = f"""
version = 2
root = "{HOME}/root"
state = "{HOME}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{SOCKET}"
"""
NETWORK = {
    "cniVersion": "1.0.0",
    "name": "net",
    "plugins": [
        {
            "type": "ipvlan",
            "master": "eth0",
            "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"},
        }
    ],
}


class Container(NamedTuple):
    name: str
    address: str
    ctr: subprocess.Popen[str]


@pytest.fixture(scope="module")
def node(own_directories: None) -> Iterator[lab.Node]:
    with lab.node() as made:
        made.master("eth0")
        yield made


@pytest.fixture(scope="module")
def containerd(node: lab.Node) -> Iterator[None]:
    """Have a node with the plugin, a network and containerd; it is left without containers."""
    options = ["--system-packages", "--share-dir", "/opt/share", "--command-dir", "/opt/bin"]
    lab.run(str(CHECKOUT / "scripts/install-node"), *options)
    shutil.copy("/usr/lib/cni/loopback", BIN_DIR)
    CONFIGURATION.parent.mkdir(parents=True)
    CONFIGURATION.write_text(json.dumps(NETWORK))
    HOME.mkdir()
    (HOME / "config.toml").write_text(SETTINGS)
    with subprocess.Popen(
        ["containerd", "--config", HOME / "config.toml", "--log-level", "error"]
    ) as daemon:
        lab.wait_until(lambda: SOCKET.exists() or daemon.poll() is not None)
        assert daemon.poll() is None
        yield
        daemon.terminate()
    lab.run(str(CHECKOUT / "scripts/install-node"), "--uninstall")
    shutil.rmtree(BIN_DIR.parent)
    shutil.rmtree("/etc/cni")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a container's root directory, which gets the machine's programs at /usr."""
    for name in ("proc", "sys", "dev", "usr", "run", "tmp", "etc"):
        (tmp_path / name).mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (tmp_path / name).symlink_to(f"usr/{name}")
    return tmp_path


def test_containers_have_addresses_and_reach_each_other(
    containerd: None, node: lab.Node, root: Path
) -> None:
    with container("c1", root) as first, container("c2", root) as second:
        assert (first.address, second.address) == ("10.1.0.2/24", "10.1.0.3/24")
        assert leases() == {"10.1.0.2", "10.1.0.3"}
        ping = ("ping", "-c", "1", "-W", "5", "10.1.0.3")
        lab.run(*CTR, "task", "exec", "--exec-id", "ping", "c1", *in_container(*ping))
    assert_nothing_is_left(node)


def test_ten_containers_at_once(containerd: None, node: lab.Node, root: Path) -> None:
    names = [f"c{number}" for number in range(10)]
    with ThreadPoolExecutor(len(names)) as pool, ExitStack() as stack:
        started = list(pool.map(lambda name: stack.enter_context(container(name, root)), names))
        assert len({each.address for each in started}) == len(names)
        assert len(leases()) == len(names)
        list(pool.map(stop, started))
    assert_nothing_is_left(node)


def test_nothing_is_left_when_the_network_fails(
    containerd: None, node: lab.Node, root: Path
) -> None:
    node.host.ip("link set dev eth0 name gone")
    try:
        done = subprocess.run(
            [*CTR, "run", "--rm", "--cni", *options(root), "c1", *in_container("true")],
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        node.host.ip("link set dev gone name eth0")
    assert done.returncode
    assert "eth0" in done.stderr
    for words in ("task delete --force c1", "container delete c1"):  # which ctr forgets
        lab.run(*CTR, *words.split())
    assert_nothing_is_left(node)


def test_address_of_a_detached_container_stays_when_it_ends(
    containerd: None, node: lab.Node, root: Path
) -> None:
    lab.run(*CTR, "run", "--detach", "--cni", *options(root), "c1", *in_container("true"))
    lab.wait_until(lambda: "STOPPED" in lab.run(*CTR, "task", "list"))
    for words in ("task delete c1", "container delete c1"):
        lab.run(*CTR, *words.split())
    assert len(leases()) == 1
    (leftover,) = json.loads(lab.run(Executable().path, "show", "--json"))["leftovers"]
    assert (leftover["kind"], leftover["interface"]) == ("record", "eth0")


@contextmanager
def container(name: str, root: Path) -> Iterator[Container]:
    """Start a container whose process prints its address, and ends when it reads a line."""
    script = "ip -4 -o address show dev eth0; read _"
    with subprocess.Popen(
        [*CTR, "run", "--rm", "--cni", *options(root), name, *in_container("sh", "-c", script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as ctr:
        assert ctr.stdout is not None
        words = ctr.stdout.readline().split()
        assert "inet" in words, f"{name} has no address: {ctr.communicate()[1]}"
        made = Container(name, words[words.index("inet") + 1], ctr)
        try:
            yield made
        finally:
            stop(made)


def stop(made: Container) -> None:
    if made.ctr.poll() is None:
        made.ctr.communicate("\n", timeout=60)


def leases() -> set[str]:
    return {path.name for path in (lab.LEASES / "networks/net").glob("10.*")}


CTR = ("ctr", "--address", str(SOCKET))


def options(root: Path) -> list[str]:
    return ["--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro", "--rootfs", str(root)]


def in_container(*argv: str) -> list[str]:
    return ["/usr/bin/env", "PATH=/usr/sbin:/usr/bin", *argv]


def assert_nothing_is_left(node: lab.Node) -> None:
    assert leases() == set()
    assert list((lab.LEASES / "results").iterdir()) == []  # the runtime's notes
    assert list(node.host.links()) == ["lo", "eth0"]
    assert not lab.MEMORY.exists() or list(lab.MEMORY.iterdir()) == []
    assert lab.run(*CTR, "container", "list", "--quiet") == ""
