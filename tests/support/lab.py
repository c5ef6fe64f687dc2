"""A node to test the plugin on, made for one test and removed after it.

Its host is a network namespace that the test's own process enters, so that everything the test
runs, also the plugin, uses it as the machine. Containers are other namespaces.
"""

import ctypes
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from patience import patient

NAMED = Path("/run/netns")
MEMORY = Path("/run/cni-ipvlan")
LOCKS = MEMORY / "locks"  # which stays
LEASES = Path("/var/lib/cni")
LOGS = Path("/var/log/cni-ipvlan")
FOR_ALL = Path("/dev/shm/venv")  # the environment of the tests, also for users who can't reach it
KEPT_OUT = Path("/etc/modprobe.d/no-ipvlan.conf")  # exists while the kernel must not load a module
# Since Linux 6.2. Before, an interface loses its routes when it gets another name.
RENAMES_WHAT_IS_UP = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 2)

_PATIENCE_SECONDS = 30.0

_CLONE_NEWNS = 0x00020000  # <linux/sched.h>
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096  # <sys/mount.h>
_MNT_DETACH = 2
# IPv6 addresses and routes that a link gets by itself, some time after it came up.
_BY_THE_KERNEL = ("fe80:", "ff00:")
_BOOKKEEPING = ("lock", "last_reserved_ip.")  # host-local's files that are not leases


def keep_off_the_machine() -> None:
    """Give this process its own /run, /var/lib/cni and /var/log, empty and in memory."""
    _system_call("unshare", _CLONE_NEWNS)
    run("mount", "--make-rprivate", "/")
    for directory in ("/run", str(LEASES), str(LOGS.parent)):
        Path(directory).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    run("ip", "netns", "add", "first")  # which has mounts in the directory reach other namespaces
    run("ip", "netns", "delete", "first")
    LOGS.mkdir(0o700)
    FOR_ALL.mkdir(exist_ok=True)
    run("mount", "--bind", sys.prefix, str(FOR_ALL))


@contextmanager
def kernel_without(module: str = "ipvlan") -> Iterator[None]:
    """Take ipvlan or macvlan from a kernel in user mode: the machine's own may be in use."""
    if "User Mode Linux" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("only a kernel in user mode has a module taken away")
    KEPT_OUT.write_text(f"install {module} /bin/false\n")
    # Namespaces that were deleted keep their interfaces for a moment longer.
    remove = ("modprobe", "-r", module.replace("lan", "tap"), module)  # the one uses the other
    wait_until(lambda: not subprocess.run(remove, check=False, capture_output=True).returncode)
    try:
        yield
    finally:
        KEPT_OUT.unlink()
        run("modprobe", module)


@contextmanager
def own(directory: Path) -> Iterator[None]:
    """Have an empty directory at a path where the machine may have one, and hide that."""
    directory.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory))
    try:
        yield
    finally:
        run("umount", str(directory))
        with suppress(OSError):  # the machine's is not empty
            directory.rmdir()


@contextmanager
def without_program(name: str) -> Iterator[None]:
    found = {path for path in map(Path, os.get_exec_path()) if (path / name).exists()}
    hidden = {(path / name).resolve() for path in found}
    for path in hidden:
        run("mount", "--bind", "/dev/null", str(path))
    try:
        yield
    finally:
        for path in hidden:
            run("umount", str(path))


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{argv} failed: {done.stderr.decode()}")
    return done.stdout.decode()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so that another process brings about."""
    deadline = time.monotonic() + patient(_PATIENCE_SECONDS)
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def sleeps_in(process: int, function: str) -> bool:
    """Whether a process waits in a function of the kernel, say pipe_read; only root can see it."""
    return function in Path(f"/proc/{process}/stack").read_text()


def records() -> list[Path]:
    return [path for path in MEMORY.rglob("*") if path != LOCKS]


def leases() -> list[Path]:
    """Return host-local's files, each named after the address that it gave out."""
    files = (path for path in LEASES.rglob("*") if path.is_file())
    return [path for path in files if not path.name.startswith(_BOOKKEEPING)]


class Space:
    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Space({self.path})"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the namespace, with this thread: what it starts meanwhile is there as well."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _system_call("setns", there, _CLONE_NEWNET)
            yield
        finally:
            _system_call("setns", own, _CLONE_NEWNET)
            os.close(there)
            os.close(own)

    def run(self, *argv: str, stdin: str = "") -> str:
        with self.entered():
            return run(*argv, stdin=stdin)

    def ip(self, words: str) -> str:
        """Run ip(8) in the namespace; ``words`` are separated by white space."""
        return self.run("ip", *words.split())

    def reaches(self, address: str) -> bool:
        return "1 received" in self.run("sh", "-c", f"ping -c 1 -W 1 {address} || :")

    def rename(self, name: str, other: str) -> None:
        if not RENAMES_WHAT_IS_UP:
            self.ip(f"link set dev {name} down")
        self.ip(f"link set dev {name} name {other}")
        if not RENAMES_WHAT_IS_UP:
            self.ip(f"link set dev {other} up")

    def ask(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of an ``ip … show``, with details and numbers unresolved."""
        output = self.run("ip", "-N", "-j", "-d", *words).strip()
        return [entry for entry in json.loads(output or "[]") if entry]

    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in self.ask("link", "show")}

    def ipvlan(self, name: str) -> dict[str, Any]:
        """Return an interface's mode, flag and MTU, and whether it is up; it must be an ipvlan."""
        link = self.links()[name]
        info = link["linkinfo"]
        assert info["info_kind"] == "ipvlan"
        data = info["info_data"]
        return {
            "mode": data["mode"],
            "flag": next((flag for flag in ("private", "vepa") if data.get(flag)), "bridge"),
            "mtu": link["mtu"],
            "up": "UP" in link["flags"],
        }

    def addresses(self, name: str) -> list[str]:
        """Return an interface's addresses, except those that the kernel makes by itself."""
        return [
            f"{each['local']}/{each['prefixlen']}"
            for entry in self.ask("address", "show", "dev", name)
            for each in entry["addr_info"]
            if not each["local"].startswith(_BY_THE_KERNEL)
        ]

    def routes(self, *words: str) -> list[dict[str, Any]]:
        """Return the routes that were added (not those that come with an address)."""
        entries = [
            entry
            for family in ("-4", "-6")
            for entry in self.ask(family, "route", "show", "table", "all", *words)
        ]
        return [entry for entry in entries if entry.get("protocol") != "2"]

    def socket(self) -> socket.socket:
        """Return a socket in the namespace, which keeps it in a way that nobody finds."""
        with self.entered():
            return socket.socket()

    def sysctl(self, key: str, value: object = None) -> str:
        path = Path("/proc/sys", key)
        with self.entered():
            if value is not None:
                path.write_text(f"{value}\n")
            return path.read_text().strip()


class Node:
    """A host with masters and containers."""

    def __init__(self) -> None:
        self.host = self.namespace("host")
        # Or the masters' link-local addresses come and go while a test looks.
        self.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
        self.host.ip("link set dev lo up")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._mounts: list[str] = []
        self._count = 0

    def namespace(self, name: str) -> Space:
        """Make a namespace with a name, as ip netns add does, but in this process."""
        path = NAMED / name
        path.touch(exist_ok=False)
        with Space("/proc/thread-self/ns/net").entered():
            _system_call("unshare", _CLONE_NEWNET)
            _system_call("mount", b"/proc/thread-self/ns/net", bytes(path), None, _MS_BIND, None)
        return Space(str(path))

    def container(self) -> Space:
        self._count += 1
        return self.namespace(f"container{self._count}")

    def container_of_a_process(self) -> Space:
        """Make a namespace without a name; a process keeps it."""
        argv = ("unshare", "--net", "sh", "-c", "echo; exec sleep infinity")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        self._processes.append(process)
        return Space(f"/proc/{process.pid}/ns/net")

    def container_mounted_at(self, path: Path) -> Space:
        """Make a namespace that is a bind mount somewhere else than iproute2's are."""
        path.touch()
        run("mount", "--bind", self.container_of_a_process().path, str(path))
        self._mounts.append(str(path))
        self.end_processes()
        return Space(str(path))

    def master(self, name: str = "eth0", mtu: int = 1500, *, up: bool = True) -> str:
        """Make an interface that is connected to nothing; return its name."""
        state = "up" if up else "down"
        run("ip", "link", "add", "name", name, "mtu", str(mtu), state, "type", "dummy")
        return name

    def master_on_a_wire(self, name: str = "eth0") -> Space:
        """Make a master that is connected with another host's eth0; return that host."""
        neighbour = self.namespace("neighbour")
        peer = f"type veth peer name eth0 netns {neighbour.path}"
        run("ip", "link", "add", "name", name, *peer.split())
        run("ip", "link", "set", "dev", name, "up")
        neighbour.ip("link set dev eth0 up")
        return neighbour

    def master_of(self, container: Space, name: str = "net1") -> str:
        index = container.links()[name]["link_index"]
        return next(name for name, link in self.host.links().items() if link["ifindex"] == index)

    def remove(self, space: Space) -> None:
        """Remove a namespace that has a name, as ip netns delete does, but in this process."""
        with suppress(OSError):  # a plugin may have left a file there that is no mount
            _system_call("umount2", os.fsencode(space.path), _MNT_DETACH)
        Path(space.path).unlink()

    def end_processes(self) -> None:
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def snapshot(self) -> dict[str, Any]:
        """Return all that an ADD may change: links, addresses, routes, leases, files in /run."""
        spaces = [str(path) for path in sorted(NAMED.iterdir())]
        spaces += [f"/proc/{process.pid}/ns/net" for process in self._processes]
        return {
            **{path: _state(Space(path)) for path in (*spaces, *self._mounts)},
            "files": {
                str(path): path.read_bytes() if path.is_file() else None
                for path in sorted(Path("/run").rglob("*"))
                if NAMED not in path.parents and path not in (MEMORY, LOCKS)
            },
            "leases": self.leases(),
        }

    def leases(self) -> list[str]:
        """Return the addresses that host-local has given out."""
        return sorted(path.name for path in leases())

    def throw_away(self) -> None:
        self.end_processes()
        for mount in self._mounts:
            run("umount", mount)
        for named in NAMED.iterdir():
            self.remove(Space(str(named)))
        for directory in (MEMORY, *LEASES.iterdir(), LOGS):
            with suppress(FileNotFoundError):
                shutil.rmtree(directory)
        LOGS.mkdir(0o700)


@contextmanager
def node() -> Iterator[Node]:
    """Make a node and be on its host."""
    made = Node()
    try:
        with made.host.entered():
            yield made
    finally:
        made.throw_away()


def _system_call(name: str, *arguments: int | bytes | None) -> None:
    # os.setns() and os.unshare() came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _state(space: Space) -> dict[str, Any]:
    """Return links and routes, as the kernel tells: ten times as fast as processes of ip(8)."""
    with space.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        links, addresses, routes = (list(_dump(kernel, kind)) for kind in _DUMPS)
    found = {body[4:8]: _described(body) for body in links}
    for body in addresses:
        attributes = _attributes(body[8:])
        address = attributes.get(_LOCAL, attributes[_ADDRESS])
        if not address.startswith(_BY_THE_KERNEL_6):
            text = f"{socket.inet_ntop(body[0], address)}/{body[1]}"
            found[body[4:8]]["addresses"].append(text)
    return {"links": [*found.values()], "routes": sorted(filter(None, map(_route, routes)))}


# <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>: dumps, and attributes.
_DUMPS = (18, 22, 26)  # RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE
_REQUEST_DUMP, _DONE = 0x301, 3
_ADDRESS, _LOCAL = 1, 2
_DESTINATION, _CACHE_INFO = 1, 12
_OF_LINKS = {1: "address", 3: "ifname", 4: "mtu", 5: "link", 10: "master", 18: "linkinfo"}
_BY_THE_KERNEL_6 = (b"\xfe\x80", b"\xff\x00")


def _dump(kernel: socket.socket, kind: int) -> Iterator[bytes]:
    """Yield the messages of a dump, without their heads."""
    kernel.send(struct.pack("=IHHIIB3x", 20, kind, _REQUEST_DUMP, 0, 0, socket.AF_UNSPEC))
    while True:
        data = kernel.recv(1 << 20)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _DONE:
                return
            yield data[16:length]
            data = data[length + 3 & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found


def _described(body: bytes) -> dict[str, Any]:
    index, flags = struct.unpack_from("=iI", body, 4)
    attributes = _attributes(body[16:])
    shown = {name: attributes[key] for key, name in _OF_LINKS.items() if key in attributes}
    return {**shown, "ifindex": index, "up": bool(flags & 1), "addresses": []}


def _route(body: bytes) -> str | None:
    """Return a route as text, unless it is one that the kernel makes by itself."""
    family, length = body[:2]
    attributes = _attributes(body[12:])
    attributes.pop(_CACHE_INFO, None)
    to = attributes.pop(_DESTINATION, bytes(4 if family == socket.AF_INET else 16))
    if to.startswith(_BY_THE_KERNEL_6):
        return None
    about = f"{body[2:12].hex()} {sorted(attributes.items())}"
    return f"{socket.inet_ntop(family, to)}/{length} {about}"
