"""containerd and runc on a node that has the plugin where install-node puts it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lab
from executable import Executable
from runtime import PLUGINS, host_local

BIN_DIR = Path("/opt/cni/bin")
CONFIGURATION = Path("/etc/cni/net.d/10-net.conflist")
IPVLAN = {"type": "ipvlan", "master": "eth0", "ipam": host_local("10.1.0.0/24")}
NETWORK: dict[str, Any] = {"cniVersion": "1.0.0", "name": "net", "plugins": [IPVLAN]}
SANDBOX_IMAGE = "lab.invalid/pod:1"
DIRECTORY = Path("/run/containerd-lab")
SOCKET = DIRECTORY / "containerd.sock"
KUBERNETES = "k8s.io"  # containerd's namespace for what the kubelet has it make
CTR = ("ctr", "--address", str(SOCKET))

_SETTINGS = f"""
version = 2
root = "{DIRECTORY}/root"
state = "{DIRECTORY}/state"
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX_IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{BIN_DIR}"
"""


class Containerd:
    """The daemon on ``node``; containers outlive it."""

    def __init__(self, node: lab.Node) -> None:
        self.node = node
        self.start()

    def start(self) -> None:
        command = ("containerd", "--config", str(DIRECTORY / "config.toml"), "--log-level", "error")
        self._daemon = subprocess.Popen(command)
        lab.wait_until(self._has_answered_or_ended)
        assert self._daemon.poll() is None

    def stop(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()

    def lose(self, sandbox: str) -> None:
        """Take from a sandbox what a machine's restart takes: its processes and its namespace."""
        task = DIRECTORY / "state/io.containerd.runtime.v2.task" / KUBERNETES / sandbox
        process = int((task / "init.pid").read_text())
        paths = lab.NETNS_DIRECTORY.iterdir()
        namespace = next(each for each in paths if each.samefile(f"/proc/{process}/ns/net"))
        os.kill(process, signal.SIGKILL)
        self.node.remove(lab.NetNS(str(namespace)))

    def _has_answered_or_ended(self) -> bool:
        version = subprocess.run([*CTR, "version"], check=False, capture_output=True)
        return version.returncode == 0 or self._daemon.poll() is not None


@contextmanager
def run_containerd() -> Iterator[Containerd]:
    """Have containerd on a node with the plugin and a network; leave it without containers."""
    with (
        lab.hide_directory(BIN_DIR.parent),
        lab.hide_directory(CONFIGURATION.parent),
        lab.make_node() as node,
    ):
        node.make_master("eth0")
        BIN_DIR.mkdir()
        (BIN_DIR / "ipvlan").symlink_to(Executable().path)
        for name in ("host-local", "loopback"):
            shutil.copy(f"{PLUGINS}/{name}", BIN_DIR)
        CONFIGURATION.write_text(json.dumps(NETWORK))
        DIRECTORY.mkdir()
        (DIRECTORY / "config.toml").write_text(_SETTINGS)
        daemon = Containerd(node)
        yield daemon
        daemon.stop()
        shutil.rmtree(DIRECTORY)


def leases() -> set[str]:
    return {path.name for path in (lab.LEASES / "networks/net").glob("10.*")}


def assert_nothing_is_left(node: lab.Node) -> None:
    assert leases() == set()
    assert list((lab.LEASES / "results").iterdir()) == []  # the runtime's notes
    assert list(node.host.links()) == ["lo", "eth0"]
    assert [path.name for path in lab.NETNS_DIRECTORY.iterdir()] == ["host"]
    assert lab.find_records() == []
    for namespace in ("default", KUBERNETES):
        assert lab.run(*CTR, "--namespace", namespace, "container", "list", "--quiet") == ""
