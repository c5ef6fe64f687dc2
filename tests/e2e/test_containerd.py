"""Real containers: containerd and runc, which find the plugin where install-node puts it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import lab
import pytest
from containerd import CONFIGURATION, CTR, Containerd, assert_nothing_is_left, leases
from executable import Executable
from installing import needs_system_packages

pytestmark = needs_system_packages  # a lab has no network for others


class Container(NamedTuple):
    name: str
    address: str
    ctr: subprocess.Popen[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a container's root directory, which gets the machine's programs at /usr."""
    for name in ("proc", "sys", "dev", "usr", "run", "tmp", "etc"):
        (tmp_path / name).mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (tmp_path / name).symlink_to(f"usr/{name}")
    return tmp_path


def test_containers_have_addresses_and_reach_each_other(containerd: Containerd, root: Path) -> None:
    with container("c1", root) as first, container("c2", root) as second:
        assert (first.address, second.address) == ("10.1.0.2/24", "10.1.0.3/24")
        assert leases() == {"10.1.0.2", "10.1.0.3"}
        ping = ("ping", "-c", "1", "-W", "5", "10.1.0.3")
        lab.run(*CTR, "task", "exec", "--exec-id", "ping", "c1", *in_container(*ping))
    assert_nothing_is_left(containerd.node)


def test_ten_containers_at_once(containerd: Containerd, root: Path) -> None:
    names = [f"c{number}" for number in range(10)]
    with ThreadPoolExecutor(len(names)) as pool, ExitStack() as stack:
        started = list(pool.map(lambda name: stack.enter_context(container(name, root)), names))
        assert len({each.address for each in started}) == len(names)
        assert len(leases()) == len(names)
        list(pool.map(stop, started))
    assert_nothing_is_left(containerd.node)


def test_nothing_is_left_when_the_network_fails(containerd: Containerd, root: Path) -> None:
    containerd.node.host.rename("eth0", "gone")
    try:
        done = subprocess.run(
            [*CTR, "run", "--rm", "--cni", *options(root), "c1", *in_container("true")],
            check=False,
            capture_output=True,
            text=True,
        )
    finally:
        containerd.node.host.rename("gone", "eth0")
    assert done.returncode
    assert "cannot find the master 'eth0'" in done.stderr
    for words in ("task delete --force c1", "container delete c1"):  # which ctr forgets
        lab.run(*CTR, *words.split())
    assert_nothing_is_left(containerd.node)


def test_a_detached_container_keeps_its_address_until_deleted(
    containerd: Containerd, root: Path
) -> None:
    lab.run(*CTR, "run", "--detach", "--cni", *options(root), "c1", *in_container("true"))
    lab.wait_until(lambda: "STOPPED" in lab.run(*CTR, "task", "list"))
    for words in ("task delete c1", "container delete c1"):
        lab.run(*CTR, *words.split())
    assert len(leases()) == 1
    (leftover,) = json.loads(lab.run(Executable().path, "show", "--json"))["leftovers"]
    assert (leftover["kind"], leftover["interface"]) == ("record", "eth0")

    about = ("--netns", leftover["netns"], "--ifname", "eth0", "--container-id", "default-c1")
    lab.run(Executable().path, "del", "-c", str(CONFIGURATION), *about)
    for note in (lab.LEASES / "results").iterdir():  # the runtime's
        note.unlink()
    assert_nothing_is_left(containerd.node)


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


def options(root: Path) -> list[str]:
    return ["--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro", "--rootfs", str(root)]


def in_container(*argv: str) -> list[str]:
    return ["/usr/bin/env", "PATH=/usr/sbin:/usr/bin", *argv]
