"""The Vagrant lab, for real: tox -e vagrant. Virtual machines under emulation, minutes long.

Needs root, and on Debian vagrant-libvirt, libvirt-daemon-system, dnsmasq-base, qemu-system-x86,
qemu-utils, mmdebstrap, e2fsprogs, rsync and python3-venv. Set LAB_BOX to use another box than the
one that scripts/lab-box builds.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE = CHECKOUT / "cni_ipvlan/attachment.py"
BOX = "cni-ipvlan/lab"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture(scope="module")
def forwarding() -> str:
    """Return whether this machine forwarded packets before there was a lab."""
    return FORWARDING.read_text()


@pytest.fixture(scope="module")
def environment(forwarding: str) -> Iterator[dict[str, str]]:
    """Keep the lab apart from the one that the person at this machine may have."""
    home = Path(os.environ.get("VAGRANT_HOME", "/var/lib/cni-ipvlan-lab"))
    home.mkdir(mode=0o755, exist_ok=True)  # the user libvirt-qemu has to enter it
    with daemon("virtlogd", "-d"), daemon("libvirtd", "-d"):
        yield {
            **os.environ,
            "LAB_BOX": os.environ.get("LAB_BOX", BOX),
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_DOTFILE_PATH": str(CHECKOUT / "build/lab-vagrant"),
            "VAGRANT_HOME": str(home),
        }


@pytest.fixture(scope="module")
def working_tree() -> str:
    """Return what stands for the working tree, as it is before it is copied."""
    return MODULE.read_text()


@pytest.fixture(scope="module")
def lab(environment: dict[str, str], working_tree: str) -> Iterator[dict[str, str]]:
    """Bring the lab up with vagrant up and nothing else."""
    if environment["LAB_BOX"] == BOX and BOX not in run(environment, "vagrant", "box", "list"):
        run(environment, "scripts/lab-box")
    try:
        run(environment, "vagrant", "up")
        yield environment
    finally:
        run(environment, "vagrant", "destroy", "--force")


def test_up_then_lab_check_passes(lab: dict[str, str]) -> None:
    table = run(lab, "scripts/lab-check")
    assert " 0 failed, 0 skipped" in table


def test_plugin_is_that_of_the_working_tree(lab: dict[str, str], working_tree: str) -> None:
    script = f"cat /opt/cni-ipvlan/versions/*/lib/python3*/site-packages/cni_ipvlan/{MODULE.name}"
    there = run(lab, "vagrant", "ssh", "node1", "--command", script)
    assert there.replace("\r", "") == working_tree


def test_provisioning_runs_twice(lab: dict[str, str]) -> None:
    run(lab, "vagrant", "provision")
    assert " 0 failed" in run(lab, "scripts/lab-check")


def test_interface_is_back_after_a_reboot(lab: dict[str, str]) -> None:
    run(lab, "vagrant", "reload", "node1", "--no-provision")
    shown = run(lab, "vagrant", "ssh", "node1", "--command", "ip address show dev eth1000")
    assert "10.10.10.101/24" in shown


def test_host_forwards_no_more_than_before(lab: dict[str, str], forwarding: str) -> None:
    assert FORWARDING.read_text() == forwarding


@contextmanager
def daemon(*argv: str) -> Iterator[None]:
    """Have a daemon run: the machine's, or else one that is ended afterwards."""
    file = Path("/run", argv[0]).with_suffix(".pid")
    if is_alive(file):
        yield
        return
    subprocess.run(argv, check=True)
    try:
        yield
    finally:
        os.kill(int(file.read_text()), signal.SIGTERM)


def is_alive(file: Path) -> bool:
    return file.exists() and Path("/proc", file.read_text().strip()).exists()


def run(environment: dict[str, str], *argv: str) -> str:
    """Run a command in the checkout; return what it printed, which is also shown."""
    start = time.monotonic()
    done = subprocess.run(
        argv,
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(f"$ {' '.join(argv)}   # {time.monotonic() - start:.0f} s", done.stdout, sep="\n")  # noqa: T201
    assert done.returncode == 0, done.stdout
    return done.stdout
