"""A node to test the plugin on, made for one test and removed after it.

Its host is a network namespace that the test's process enters, so that all that the test runs, also
the plugin, takes this namespace for the machine's. Containers are other namespaces.
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
from patience import extend

NETNS_DIRECTORY = Path("/run/netns")
RECORDS = Path("/run/cni-ipvlan")
LOCKS = RECORDS / "locks"  # the directory of locks is never removed
LEASES = Path("/var/lib/cni")
LOGS = Path("/var/log/cni-ipvlan")
SHARED_VENV = Path("/dev/shm/venv")  # the tests' environment, where any user can read it
MODULE_BLOCK = Path("/etc/modprobe.d/no-ipvlan.conf")  # it exists while a module must not be loaded
# Before Linux 6.2, an interface must be down to be renamed, and so loses its routes.
CAN_RENAME_UP_LINKS = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (6, 2)

_PATIENCE_SECONDS = 30.0

_CLONE_NEWNS = 0x00020000  # <linux/sched.h>
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096  # <sys/mount.h>
_MNT_DETACH = 2
# The kernel adds these IPv6 addresses and routes by itself, some time after a link came up.
_KERNEL_PREFIXES = ("fe80:", "ff00:")
_NO_LEASES = ("lock", "last_reserved_ip.")  # host-local's files that are not leases


def isolate_process() -> None:
    """Mount empty directories over /run, /var/lib/cni and /var/log, for this process only."""
    _system_call("unshare", _CLONE_NEWNS)
    run("mount", "--make-rprivate", "/")
    for directory in ("/run", str(LEASES), str(LOGS.parent)):
        Path(directory).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
    # The first namespace has mounts in this directory propagate to other mount namespaces.
    run("ip", "netns", "add", "first")
    run("ip", "netns", "delete", "first")
    LOGS.mkdir(0o700)
    SHARED_VENV.mkdir(exist_ok=True)
    run("mount", "--bind", sys.prefix, str(SHARED_VENV))


@contextmanager
def remove_module(module: str = "ipvlan") -> Iterator[None]:
    """Remove ipvlan or macvlan from a kernel in user mode; on the machine's, they may be in use."""
    if "User Mode Linux" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("modules are only removed from a kernel in user mode")
    MODULE_BLOCK.write_text(f"install {module} /bin/false\n")
    # Namespaces that were deleted keep their interfaces for a moment longer.
    remove = ("modprobe", "-r", module.replace("lan", "tap"), module)  # ipvtap uses ipvlan
    wait_until(lambda: not subprocess.run(remove, check=False, capture_output=True).returncode)
    try:
        yield
    finally:
        MODULE_BLOCK.unlink()
        run("modprobe", module)


@contextmanager
def hide_directory(directory: Path) -> Iterator[None]:
    """Mount an empty directory at a path, which hides what the machine has there."""
    directory.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory))
    try:
        yield
    finally:
        run("umount", str(directory))
        with suppress(OSError):  # the machine's directory is not empty
            directory.rmdir()


@contextmanager
def hide_program(name: str) -> Iterator[None]:
    paths = (Path(directory, name) for directory in os.get_exec_path())
    programs = {path.resolve() for path in paths if path.exists()}
    for path in programs:
        run("mount", "--bind", "/dev/null", str(path))
    try:
        yield
    finally:
        for path in programs:
            run("umount", str(path))


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin.encode(), capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{argv} failed: {done.stderr.decode()}")
    return done.stdout.decode()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, which another process brings about."""
    deadline = time.monotonic() + extend(_PATIENCE_SECONDS)
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def sleeps_in(process: int, function: str) -> bool:
    """Return whether a process waits in a function of the kernel, such as pipe_read; needs root."""
    return function in Path(f"/proc/{process}/stack").read_text()


def find_records() -> list[Path]:
    return [path for path in RECORDS.rglob("*") if path != LOCKS]


def find_leases() -> list[Path]:
    """Return host-local's files, each named after the address that it gave out."""
    files = (path for path in LEASES.rglob("*") if path.is_file())
    return [path for path in files if not path.name.startswith(_NO_LEASES)]


class NetNS:
    def __init__(self, path: str) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"NetNS({self.path})"

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Move this thread into the namespace, where its child processes then start as well."""
        former = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespace = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _system_call("setns", namespace, _CLONE_NEWNET)
            yield
        finally:
            _system_call("setns", former, _CLONE_NEWNET)
            os.close(namespace)
            os.close(former)

    def run(self, *argv: str, stdin: str = "") -> str:
        with self.enter():
            return run(*argv, stdin=stdin)

    def ip(self, words: str) -> str:
        """Run ip(8) in the namespace; ``words`` are separated by white space."""
        return self.run("ip", *words.split())

    def can_ping(self, address: str) -> bool:
        return "1 received" in self.run("sh", "-c", f"ping -c 1 -W 1 {address} || :")

    def rename(self, name: str, other: str) -> None:
        if not CAN_RENAME_UP_LINKS:
            self.ip(f"link set dev {name} down")
        self.ip(f"link set dev {name} name {other}")
        if not CAN_RENAME_UP_LINKS:
            self.ip(f"link set dev {other} up")

    def query(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of an ``ip … show``, with details and numbers unresolved."""
        output = self.run("ip", "-N", "-j", "-d", *words).strip()
        return [entry for entry in json.loads(output or "[]") if entry]

    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in self.query("link", "show")}

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
        """Return an interface's addresses, except those that the kernel adds by itself."""
        return [
            f"{each['local']}/{each['prefixlen']}"
            for entry in self.query("address", "show", "dev", name)
            for each in entry["addr_info"]
            if not each["local"].startswith(_KERNEL_PREFIXES)
        ]

    def routes(self, *words: str) -> list[dict[str, Any]]:
        """Return the routes that were added, not those that come with an address."""
        entries = [
            entry
            for family in ("-4", "-6")
            for entry in self.query(family, "route", "show", "table", "all", *words)
        ]
        return [entry for entry in entries if entry.get("protocol") != "2"]

    def socket(self) -> socket.socket:
        """Return a socket in the namespace, which keeps the namespace without a path to it."""
        with self.enter():
            return socket.socket()

    def sysctl(self, key: str, value: object = None) -> str:
        path = Path("/proc/sys", key)
        with self.enter():
            if value is not None:
                path.write_text(f"{value}\n")
            return path.read_text().strip()


class Node:
    """A host with masters and containers."""

    def __init__(self) -> None:
        self.host = self.make_namespace("host")
        # Otherwise the masters' link-local addresses appear and change during a test.
        self.host.sysctl("net/ipv6/conf/default/addr_gen_mode", 1)
        self.host.ip("link set dev lo up")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._mounts: list[str] = []
        self._count = 0

    def make_namespace(self, name: str) -> NetNS:
        """Make a named namespace, as ip netns add does, but in this process."""
        path = NETNS_DIRECTORY / name
        path.touch(exist_ok=False)
        with NetNS("/proc/thread-self/ns/net").enter():
            _system_call("unshare", _CLONE_NEWNET)
            _system_call("mount", b"/proc/thread-self/ns/net", bytes(path), None, _MS_BIND, None)
        return NetNS(str(path))

    def make_container(self) -> NetNS:
        self._count += 1
        return self.make_namespace(f"container{self._count}")

    def make_anonymous_container(self) -> NetNS:
        """Make a namespace without a name; a process keeps it open."""
        argv = ("unshare", "--net", "sh", "-c", "echo; exec sleep infinity")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        self._processes.append(process)
        return NetNS(f"/proc/{process.pid}/ns/net")

    def make_mounted_container(self, path: Path) -> NetNS:
        """Make a namespace that is mounted outside of iproute2's directory."""
        path.touch()
        run("mount", "--bind", self.make_anonymous_container().path, str(path))
        self._mounts.append(str(path))
        self.end_processes()
        return NetNS(str(path))

    def make_master(self, name: str = "eth0", mtu: int = 1500, *, up: bool = True) -> str:
        """Make a master that is connected to nothing; return its name."""
        state = "up" if up else "down"
        run("ip", "link", "add", "name", name, "mtu", str(mtu), state, "type", "dummy")
        return name

    def make_connected_master(self, name: str = "eth0") -> NetNS:
        """Make a master that is connected to another host's eth0; return that host."""
        neighbour = self.make_namespace("neighbour")
        peer = f"type veth peer name eth0 netns {neighbour.path}"
        run("ip", "link", "add", "name", name, *peer.split())
        run("ip", "link", "set", "dev", name, "up")
        neighbour.ip("link set dev eth0 up")
        return neighbour

    def find_master(self, container: NetNS, name: str = "net1") -> str:
        index = container.links()[name]["link_index"]
        return next(name for name, link in self.host.links().items() if link["ifindex"] == index)

    def remove(self, namespace: NetNS) -> None:
        """Remove a named namespace, as ip netns delete does, but in this process."""
        with suppress(OSError):  # a plugin may have made a plain file there
            _system_call("umount2", os.fsencode(namespace.path), _MNT_DETACH)
        Path(namespace.path).unlink()

    def end_processes(self) -> None:
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def snapshot(self) -> dict[str, Any]:
        """Return all that ADD may change: links, addresses, routes, leases, files in /run."""
        namespaces = [str(path) for path in sorted(NETNS_DIRECTORY.iterdir())]
        namespaces += [f"/proc/{process.pid}/ns/net" for process in self._processes]
        return {
            **{path: _read_state(NetNS(path)) for path in (*namespaces, *self._mounts)},
            "files": {
                str(path): path.read_bytes() if path.is_file() else None
                for path in sorted(Path("/run").rglob("*"))
                if NETNS_DIRECTORY not in path.parents and path not in (RECORDS, LOCKS)
            },
            "leases": self.leases(),
        }

    def leases(self) -> list[str]:
        """Return the addresses that host-local has given out."""
        return sorted(path.name for path in find_leases())

    def close(self) -> None:
        self.end_processes()
        for mount in self._mounts:
            run("umount", mount)
        for path in NETNS_DIRECTORY.iterdir():
            self.remove(NetNS(str(path)))
        for directory in (RECORDS, *LEASES.iterdir(), LOGS):
            with suppress(FileNotFoundError):
                shutil.rmtree(directory)
        LOGS.mkdir(0o700)


@contextmanager
def make_node() -> Iterator[Node]:
    """Make a node, and enter its host's namespace."""
    node = Node()
    try:
        with node.host.enter():
            yield node
    finally:
        node.close()


def _system_call(name: str, *arguments: int | bytes | None) -> None:
    # os.setns() and os.unshare() came with Python 3.12.
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _read_state(namespace: NetNS) -> dict[str, Any]:
    """Return links and routes, read by netlink, which is ten times as fast as ip(8)."""
    with namespace.enter(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
        links, addresses, routes = (list(_dump(kernel, kind)) for kind in _DUMPS)
    links_by_index = {body[4:8]: _parse_link(body) for body in links}
    for body in addresses:
        attributes = _parse_attributes(body[8:])
        address = attributes.get(_LOCAL, attributes[_ADDRESS])
        if not address.startswith(_KERNEL_PREFIXES_PACKED):
            text = f"{socket.inet_ntop(body[0], address)}/{body[1]}"
            links_by_index[body[4:8]]["addresses"].append(text)
    route_texts = filter(None, map(_format_route, routes))
    return {"links": [*links_by_index.values()], "routes": sorted(route_texts)}


# <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>: dumps, and attributes.
_DUMPS = (18, 22, 26)  # RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE
_REQUEST_DUMP, _DONE = 0x301, 3
_ADDRESS, _LOCAL = 1, 2
_DESTINATION, _CACHE_INFO = 1, 12
_LINK_ATTRIBUTES = {1: "address", 3: "ifname", 4: "mtu", 5: "link", 10: "master", 18: "linkinfo"}
_KERNEL_PREFIXES_PACKED = (b"\xfe\x80", b"\xff\x00")


def _dump(kernel: socket.socket, kind: int) -> Iterator[bytes]:
    """Yield the messages of a dump, without their headers."""
    kernel.send(struct.pack("=IHHIIB3x", 20, kind, _REQUEST_DUMP, 0, 0, socket.AF_UNSPEC))
    while True:
        data = kernel.recv(1 << 20)
        while data:
            length, kind = struct.unpack_from("=IH", data)
            if kind == _DONE:
                return
            yield data[16:length]
            data = data[length + 3 & ~3 :]


def _parse_attributes(data: bytes) -> dict[int, bytes]:
    attributes = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        attributes[kind & 0x3FFF] = data[4:length]
        data = data[length + 3 & ~3 :]
    return attributes


def _parse_link(body: bytes) -> dict[str, Any]:
    index, flags = struct.unpack_from("=iI", body, 4)
    attributes = _parse_attributes(body[16:])
    values = {name: attributes[key] for key, name in _LINK_ATTRIBUTES.items() if key in attributes}
    return {**values, "ifindex": index, "up": bool(flags & 1), "addresses": []}


def _format_route(body: bytes) -> str | None:
    """Return a route as text, or None for one that the kernel adds by itself."""
    family, length = body[:2]
    attributes = _parse_attributes(body[12:])
    attributes.pop(_CACHE_INFO, None)
    destination = attributes.pop(_DESTINATION, bytes(4 if family == socket.AF_INET else 16))
    if destination.startswith(_KERNEL_PREFIXES_PACKED):
        return None
    details = f"{body[2:12].hex()} {sorted(attributes.items())}"
    return f"{socket.inet_ntop(family, destination)}/{length} {details}"
