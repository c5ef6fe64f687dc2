"""Run the image as a DaemonSet would, with containerd, and print what came of it as JSON.

Usage: using_image.py ARCHIVE

Runs in the lab: it writes to /opt and /run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installing import tree
from lab import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

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
CTR = ("ctr", "--address", str(SOCKET))
ENTRY = "/usr/lib/cni-ipvlan/scripts/lib/image-entry"
PLACES = ("/opt/cni-ipvlan", "/opt/cni/bin")
PLUGIN = Path("/opt/cni/bin/ipvlan")
FOREIGN = "#!/bin/sh\necho 'this is another program'\n"
# All that containerd gives a container.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID"),
    *("SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)


def main() -> None:
    """Install, upgrade, look after and remove the plugin by containers of the image."""
    for place in PLACES:
        Path(place).mkdir(parents=True)
    with containerd():
        subprocess.run([*CTR, "image", "import", sys.argv[1]], check=True, stdout=sys.stderr)
        names = subprocess.check_output([*CTR, "image", "list", "--quiet"], text=True).split()
        used = Image(names[0])
        found: dict[str, Any] = {"names": names}
        found["bad input"] = used.once("--on-stop", "never")
        PLUGIN.write_text(FOREIGN)
        PLUGIN.chmod(0o755)
        before = tree(Path("/opt"))
        found["foreign"] = used.once("--once")
        found["foreign, changed"] = tree(Path("/opt")) != before
        with used.waiting("--force", "--on-stop", "remove") as container:
            found["forced"] = versions()
            found["health"] = container.health()
            PLUGIN.rename("/opt/cni/bin/gone")
            found["health, without it"] = container.health()
            Path("/opt/cni/bin/gone").rename(PLUGIN)
        found["removed"] = container.status
        found["removed, changed"] = tree(Path("/opt")) != before
        PLUGIN.unlink()
        found["kept"] = upgrade(used)
        found["kept, answers"] = versions()
    json.dump(found, sys.stdout)


def upgrade(used: Image) -> dict[str, object]:
    """Install twice, the second time under calls; return what became of these."""
    with used.waiting() as first:
        pass
    ended = threading.Event()
    calls: list[list[str]] = []

    def call_until_the_end() -> None:
        while not ended.is_set():
            calls.append(versions())

    caller = threading.Thread(target=call_until_the_end)
    caller.start()
    with used.waiting() as second:
        ended.set()
        caller.join()
    return {"statuses": [first.status, second.status], "calls": len(calls), "all": all(calls)}


class Image:
    """An image, and containers of it as a careful DaemonSet would have them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def start(self, *arguments: str) -> Container:
        """Start a container, without a capability and with a root directory that is read-only."""
        self.count += 1
        name = f"c{self.count}"
        mounts = [f"--mount=type=bind,src={place},dst={place},options=rbind:rw" for place in PLACES]
        drops = [f"--cap-drop=CAP_{each}" for each in CAPABILITIES]
        run = [*CTR, "run", "--rm", "--read-only", *mounts, *drops, self.name, name]
        return Container(name, [*run, *([ENTRY, *arguments] if arguments else [])])

    def once(self, *arguments: str) -> list[object]:
        """Run a container to its end; return the status and what it prints to stderr."""
        container = self.start(*arguments)
        _, stderr = container.process.communicate()
        return [container.process.returncode, stderr]

    @contextmanager
    def waiting(self, *arguments: str) -> Iterator[Container]:
        """Run a container until it waits, and stop it as a runtime does."""
        container = self.start(*arguments)
        assert container.process.stdout is not None
        for line in container.process.stdout:
            if line.startswith("waiting"):
                break
        yield container
        subprocess.run([*CTR, "task", "kill", "--signal", "SIGTERM", container.name], check=True)
        _, stderr = container.process.communicate()
        sys.stderr.write(stderr)
        container.status = container.process.returncode


class Container:
    """A container under way; ``status`` is that of its end."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.status = -1
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def health(self) -> int:
        """Return the status of the image's health check."""
        execute = [*CTR, "task", "exec", "--exec-id", "health", self.name, ENTRY, "--health"]
        return subprocess.run(execute, check=False, stdout=sys.stderr).returncode


def versions() -> list[str]:
    """Return what the plugin answers to the node's runtime."""
    done = subprocess.run(
        [PLUGIN],
        env={"CNI_COMMAND": "VERSION"},
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
    )
    if done.returncode:
        sys.stderr.write(f"{done}\n")
        return []
    found: list[str] = json.loads(done.stdout)["supportedVersions"]
    return found


@contextmanager
def containerd() -> Iterator[None]:
    """Run containerd."""
    HOME.mkdir()
    (HOME / "config.toml").write_text(SETTINGS)
    command = ["containerd", "--config", f"{HOME}/config.toml", "--log-level", "error"]
    with subprocess.Popen(command, env={**os.environ, "HOME": "/root"}) as daemon:
        wait_until(lambda: SOCKET.exists() or daemon.poll() is not None)
        assert daemon.poll() is None
        yield
        daemon.terminate()


if __name__ == "__main__":
    main()
