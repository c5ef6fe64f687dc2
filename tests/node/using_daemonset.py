"""Run the image as its DaemonSet describes it, with containerd, and print what came of it as JSON.

Usage: using_daemonset.py MANIFEST MANIFEST ARCHIVE ARCHIVE

The MANIFESTs are the DaemonSet, without and with the component first-network, as JSON; the ARCHIVEs
are two versions of the image. Runs in the lab: it writes to /opt, /var, /run and /etc/cni.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lab
from containerd import CTR, DIRECTORY, SOCKET, Containerd
from executable import Executable
from installing import call_plugin, list_tree
from runtime import Runtime, host_local, network

SETTINGS = f"""
version = 2
root = "{DIRECTORY}/root"
state = "{DIRECTORY}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{SOCKET}"
"""
ENTRY = "/usr/lib/cni-ipvlan/scripts/lib/image-entry"  # the image's
PLUGIN = Path("/opt/cni/bin/ipvlan")
FOREIGN = "#!/bin/sh\necho 'this is another program'\n"
BUILDER = (1001, 127)  # another user, as in the archives of containernetworking/plugins 1.5.0
PODS = 100  # at most
CONFIG_MAP, CONFIGURATIONS = Path("/run/config-map"), Path("/etc/cni/net.d")
# All that containerd gives a container.
CAPABILITIES = {
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
}


def main() -> None:
    """Have the plugin installed, upgraded, rolled back and removed by containers of the image."""
    daemonset, with_network = (
        json.loads(Path(each).read_text())["spec"]["template"]["spec"] for each in sys.argv[1:3]
    )
    lab.isolate_process()
    lab.LOGS.rmdir()
    DIRECTORY.mkdir()
    (DIRECTORY / "config.toml").write_text(SETTINGS)
    with lab.make_node() as node:
        daemon = Containerd(node)
        node.make_master()
        first, second = (Image(archive, daemonset) for archive in sys.argv[3:])
        report = use(node, first, second)
        first.describe(with_network)
        report["first network"] = bring_network(node, first)
        daemon.stop()
    json.dump(report, sys.stdout)


def use(node: lab.Node, first: Image, second: Image) -> dict[str, object]:
    """Replace a program of another user, upgrade, roll back, and have that program come back."""
    PLUGIN.write_text(FOREIGN)
    PLUGIN.chmod(0o755)
    for path in (PLUGIN, PLUGIN.parent):
        os.chown(path, *BUILDER)
    before = list_tree(Path("/opt"))
    report: dict[str, object] = {"foreign": first.run_once("--once")}
    report["not allowed"] = first.run_once("--once", "--force", capabilities=set())
    report["foreign, changed"] = list_tree(Path("/opt")) != before
    report |= replace(first) | upgrade(node, first, second)
    report["removed, changed"] = list_tree(Path("/opt")) != before
    report["removed, owner"] = [PLUGIN.stat().st_uid, PLUGIN.stat().st_gid]
    return report


def replace(first: Image) -> dict[str, object]:
    """Install in place of another program; return the outcomes."""
    report: dict[str, object] = {}
    with first.running("--force") as installed:
        installed.wait_for("waiting")
        report["forced"] = call_plugin(PLUGIN, "", "/", {"CNI_COMMAND": "VERSION"})[
            "supportedVersions"
        ]
        report["installed"] = number()
        report["ready"] = installed.is_ready()
        report["doctor"] = first.examine_node()
        PLUGIN.rename("/opt/cni/bin/gone")
        report["ready, without it"] = installed.is_ready()
        Path("/opt/cni/bin/gone").rename(PLUGIN)
    return report | {"warning": installed.stderr, "status": installed.status}


def upgrade(node: lab.Node, first: Image, second: Image) -> dict[str, object]:
    """Upgrade while pods are attached, roll back, and remove; return what became of the pods."""
    os.chown(PLUGIN.parent, 0, 0)  # what is root's takes no capabilities
    report: dict[str, object] = {}
    namespaces: list[lab.NetNS] = []
    runtime = Runtime(Executable(str(PLUGIN)))
    conf = network(ipam=host_local("10.1.0.0/24"), logFile="net.log")

    def add(count: int) -> tuple[int, int, str]:
        start, failure = time.time_ns(), ""
        try:
            runtime.add(namespaces[count], conf, CNI_CONTAINERID=f"pod{count}").result()
        except (AssertionError, OSError) as error:
            failure = repr(error)
        return start, time.time_ns(), failure

    with second.running(capabilities=set()) as upgraded:
        upgraded.wait_for("copying")
        former = switched = PLUGIN.stat().st_ctime_ns
        added: list[tuple[int, int, str]] = []
        with ThreadPoolExecutor(3) as pool:
            early = pool.submit(lambda: upgraded.is_ready() and number() == "0.1.0")
            while len(namespaces) < PODS and not any(each[0] > switched > former for each in added):
                namespaces += [node.make_container() for _ in range(4)]
                added += pool.map(add, range(len(added), len(namespaces)))
                switched = PLUGIN.stat().st_ctime_ns
        report["ready, too early"] = early.result()
        upgraded.wait_for("waiting")
        report["upgraded"], report["ready, upgraded"] = number(), upgraded.is_ready()
        report["ended before"] = sum(end < switched for _, end, _ in added)
        report["started after"] = sum(start > switched for start, _, _ in added)
        report["failed"] = [failure for _, _, failure in added if failure]
        report["log"] = upgraded.execute("grep", "pod0", "/var/log/cni-ipvlan/net.log")
    report["not attached"] = sum("net1" not in namespace.links() for namespace in namespaces)
    with first.running("--on-stop", "remove") as rolled_back:
        rolled_back.wait_for("waiting")
        report["rolled back"] = number()
        runtime.delete(namespaces[0], conf, CNI_CONTAINERID="pod0").succeeds()
        report["attached after DEL"] = "net1" in namespaces[0].links()
    report["statuses"] = [each.status for each in (upgraded, rolled_back)]
    return report


def bring_network(node: lab.Node, image: Image) -> list[object]:
    """Install a cluster's only network; return what a runtime found there, and what stayed."""
    conf = network(ipam=host_local("10.1.0.0/24"))
    CONFIG_MAP.mkdir()
    (CONFIG_MAP / "10-net.conf").write_text(json.dumps(conf))
    with image.running("--force", "--on-stop", "remove") as brought:
        brought.wait_for("waiting")
        (file,) = CONFIGURATIONS.iterdir()
        brings = json.loads(file.read_text())
        added = Runtime(Executable(str(PLUGIN))).add(node.make_container(), brings)
        report = [brought.is_ready(), file.name, added.status]
    return [*report, brought.status, [each.name for each in CONFIGURATIONS.iterdir()]]


class Image:
    """An image, and the containers of it that a kubelet would make for a DaemonSet's pod."""

    def __init__(self, archive: str, pod: dict[str, Any]) -> None:
        before = names()
        subprocess.run([*CTR, "image", "import", archive], check=True, stdout=sys.stderr)
        (self.name,) = names() - before
        self.count = 0
        self.describe(pod)

    def describe(self, pod: dict[str, Any]) -> None:
        """Have containers be as a pod describes them; the ConfigMap is in a directory."""
        (self.described,) = pod["containers"]
        self.security = {**pod["securityContext"], **self.described["securityContext"]}
        self.is_on_host = bool(pod.get("hostNetwork"))
        config_map = {"path": str(CONFIG_MAP), "type": "DirectoryOrCreate"}
        volumes = pod["volumes"]
        self.directories = {each["name"]: each.get("hostPath", config_map) for each in volumes}
        for each in (each["hostPath"] for each in volumes if "hostPath" in each):
            assert each["type"] == "DirectoryOrCreate"
            Path(each["path"]).mkdir(mode=0o755, parents=True, exist_ok=True)

    def start(self, *arguments: str, capabilities: set[str] | None = None) -> Container:
        """Start a container, with further arguments, and perhaps with fewer capabilities."""
        name = self._next()
        entry = self.described.get("command", [ENTRY])
        argv = [*self.described.get("args", []), *arguments]
        options = [*self._mounts(), *self._permissions(capabilities), *self._limits()]
        options += ["--net-host"] * self.is_on_host
        ready = self.described["readinessProbe"]["exec"]["command"]
        command = [*CTR, "run", "--rm", *options, self.name, name, *entry, *argv]
        return Container(name, command, ready)

    def _next(self) -> str:
        self.count += 1
        return f"c{self.count}-{self.name.rpartition(':')[2]}"

    def _mounts(self) -> Iterator[str]:
        for mount in self.described["volumeMounts"]:
            source = self.directories[mount["name"]]["path"]
            access = "ro" if mount.get("readOnly") else "rw"
            target = mount["mountPath"]
            yield f"--mount=type=bind,src={source},dst={target},options=rbind:{access}"

    def _permissions(self, capabilities: set[str] | None) -> Iterator[str]:
        described = self.security["capabilities"]
        assert described["drop"] == ["ALL"]
        capability_names = set(described["add"]) if capabilities is None else capabilities
        assert capability_names <= CAPABILITIES
        yield from (f"--cap-drop=CAP_{each}" for each in CAPABILITIES - capability_names)
        yield f"--user={self.security['runAsUser']}"
        if self.security["readOnlyRootFilesystem"]:
            yield "--read-only"
        if self.security["allowPrivilegeEscalation"]:
            yield "--allow-new-privs"
        if self.security["seccompProfile"] == {"type": "RuntimeDefault"}:
            yield "--seccomp"

    def _limits(self) -> Iterator[str]:
        memory = self.described["resources"]["limits"]["memory"]
        yield f"--memory-limit={int(memory.removesuffix('Mi')) << 20}"

    def run_once(self, *arguments: str, capabilities: set[str] | None = None) -> list[object]:
        """Run a container to its end; return the status and what it prints to stderr."""
        container = self.start(*arguments, capabilities=capabilities)
        _, stderr = container.process.communicate()
        return [container.process.returncode, stderr]

    @contextmanager
    def running(self, *arguments: str, capabilities: set[str] | None = None) -> Iterator[Container]:
        """Run a container, and stop it as a runtime does."""
        container = self.start(*arguments, capabilities=capabilities)
        yield container
        subprocess.run([*CTR, "task", "kill", "--signal", "SIGTERM", container.name], check=True)
        _, container.stderr = container.process.communicate()
        sys.stderr.write(container.stderr)
        container.status = container.process.returncode

    def examine_node(self) -> str:
        """Return what doctor says in the container of kubectl debug node/…, with its profile."""
        options = ("--privileged", "--net-host", "--mount=type=bind,src=/,dst=/host,options=rbind")
        command = ("chroot", "/host", "/opt/cni-ipvlan/bin/ipvlan", "doctor")
        run = [*CTR, "run", "--rm", *options, self.name, self._next(), *command]
        return subprocess.run(run, check=False, stdout=subprocess.PIPE, text=True).stdout


class Container:
    """A running container; once it has ended, ``status`` and ``stderr`` are its results."""

    def __init__(self, name: str, command: list[str], ready: list[str]) -> None:
        self.name = name
        self.status = -1
        self.stderr = ""
        self.ready = ready
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, word: str) -> None:
        """Wait for a line that begins with a word."""
        assert self.process.stdout is not None
        has_line = any(line.startswith(word) for line in self.process.stdout)
        assert has_line, self.process.communicate()[1]

    def is_ready(self) -> bool:
        return self.execute(*self.ready) == 0

    def execute(self, *command: str) -> int:
        """Run a command in the container; return its status (ctr may lose what it prints)."""
        execute = [*CTR, "task", "exec", "--exec-id", "exec", self.name, *command]
        return subprocess.run(execute, check=False, stdout=sys.stderr).returncode


def names() -> set[str]:
    return set(subprocess.check_output([*CTR, "image", "list", "--quiet"], text=True).split())


def number() -> str:
    return subprocess.check_output([PLUGIN, "--version"], text=True).replace(",", "").split()[2]


if __name__ == "__main__":
    main()
