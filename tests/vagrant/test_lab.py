"""The Vagrant lab, for real: tox -e vagrant. Virtual machines under emulation, minutes long.

scripts/lab-box installs what it needs, with sudo if necessary. An ordinary user has to be in the
group libvirt, on a machine with systemd. Set LAB_BOX to use another box than the one that
scripts/lab-box builds.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
LAB_DIRECTORY = CHECKOUT / "build/lab-vagrant"
MODULE = "cni_ipvlan/plugin/add.py"
PACKAGES = "/opt/cni-ipvlan/versions/*/lib/python3*/site-packages"
NEW = CHECKOUT / "cni_ipvlan/new"
BOX = "cni-ipvlan/lab"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
pytestmark = pytest.mark.timeout(1800)  # under emulation, on a busy machine


@pytest.fixture(scope="module")
def forwarding() -> str:
    """Return whether this machine forwarded packets before there was a lab."""
    return FORWARDING.read_text()


@pytest.fixture(scope="module")
def environment(forwarding: str) -> Iterator[dict[str, str]]:
    """Keep the lab apart from the one that the person at this machine may have."""
    variables = {
        **os.environ,
        "LAB_BOX": os.environ.get("LAB_BOX", BOX),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_DOTFILE_PATH": str(LAB_DIRECTORY),
        "VAGRANT_HOME": os.environ.get("VAGRANT_HOME", str(LAB_DIRECTORY / "home")),
    }
    LAB_DIRECTORY.mkdir(parents=True, exist_ok=True)
    has_box = shutil.which("vagrant") and BOX in run(variables, "vagrant", "box", "list")
    if variables["LAB_BOX"] == BOX and not has_box:
        run(variables, "scripts/lab-box")
    with daemon("virtlogd", "-d"), daemon("libvirtd", "-d"):
        yield variables


@pytest.fixture(scope="module")
def lab(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    try:
        run(environment, "vagrant", "up")
        yield environment
    finally:
        run(environment, "vagrant", "destroy", "--force")


def test_up_then_lab_check_passes(lab: dict[str, str]) -> None:
    table = run(lab, "scripts/lab-check")
    assert " 0 failed, 0 skipped" in table


def test_plugin_is_that_of_the_working_tree(lab: dict[str, str]) -> None:
    installed = on_node(lab, f"cat {PACKAGES}/{MODULE}")
    assert installed == (CHECKOUT / MODULE).read_text()


def test_people_find_the_command(lab: dict[str, str]) -> None:
    assert "no ipvlan interfaces" in on_node(lab, "sudo ipvlan show")
    assert "eth1000 is up" in on_node(lab, "sudo ipvlan doctor")


def test_provisioning_again_takes_the_changed_working_tree(lab: dict[str, str]) -> None:
    NEW.write_text("new\n")
    try:
        run(lab, "vagrant", "rsync")
    finally:
        NEW.unlink()
    run(lab, "vagrant", "provision")
    assert on_node(lab, f"cat {PACKAGES}/{NEW.relative_to(CHECKOUT)}") == "new\n"
    assert " 0 failed" in run(lab, "scripts/lab-check")


def test_node_is_in_order_after_a_reboot(lab: dict[str, str]) -> None:
    run(lab, "vagrant", "reload", "node1", "--no-provision")
    assert "10.10.10.101/24" in on_node(lab, "ip address show dev eth1000")
    on_node(lab, "sudo ipvlan doctor")


def test_host_forwards_no_more_than_before(lab: dict[str, str], forwarding: str) -> None:
    assert FORWARDING.read_text() == forwarding


@contextmanager
def daemon(*argv: str) -> Iterator[None]:
    """Have a daemon run: the machine's, or else one that is ended afterwards."""
    file = Path("/run", argv[0]).with_suffix(".pid")
    is_alive = file.exists() and Path("/proc", file.read_text().strip()).exists()
    if Path("/run/systemd/system").exists() or is_alive:
        yield
        return
    subprocess.run(argv, check=True)
    try:
        yield
    finally:
        os.kill(int(file.read_text()), signal.SIGTERM)


def on_node(environment: dict[str, str], script: str) -> str:
    output = run(environment, "vagrant", "ssh", "node1", "--command", script)
    return output.replace("\r", "")


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
