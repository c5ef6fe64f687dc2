"""Pods as the kubelet has them made: through containerd's Container Runtime Interface (CRI)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import images
import lab
import pytest
from containerd import (
    CONFIGURATION,
    CTR,
    KUBERNETES,
    SANDBOX_IMAGE,
    SOCKET,
    Containerd,
    assert_nothing_is_left,
    leases,
    run_containerd,
)
from cri import Cri, Pod
from executable import Executable
from grpclib.exceptions import GRPCError


@pytest.fixture(scope="module")
def containerd(process_isolation: None) -> Iterator[Containerd]:
    with run_containerd() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(containerd: Containerd, tmp_path_factory: pytest.TempPathFactory) -> Cri:
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    images.write(archive, SANDBOX_IMAGE, "ping")
    lab.run(*CTR, "--namespace", KUBERNETES, "image", "import", str(archive))
    client = Cri(SOCKET, SANDBOX_IMAGE)
    client.wait_until_ready()
    return client


@pytest.fixture
def cri(client: Cri) -> Iterator[Cri]:
    yield client
    for pod in client.pods():  # of a test that failed
        client.remove(pod)


def test_where_debians_containerd_looks_unless_told() -> None:
    settings = lab.run("containerd", "config", "default")
    assert re.search(r"""bin_dirs? = \[?["']/usr/lib/cni["']""", settings)  # a list since 2.1
    assert re.search(r"""conf_dir = ["']/etc/cni/net\.d["']""", settings)


@pytest.mark.slow
def test_pods_reach_each_other_outlive_the_runtime_and_go(containerd: Containerd, cri: Cri) -> None:
    containerd.node.host.ip("link set dev eth0 name gone")
    try:
        with pytest.raises(GRPCError, match="cannot find the master"):
            cri.run_pod("lives")
    finally:
        containerd.node.host.ip("link set dev gone name eth0")
    assert_nothing_is_left(containerd.node)

    pod1, lost_pod = cri.run_pod("lives"), cri.run_pod("lost")
    assert len(leases()) == 2
    assert {cri.address(pod1), cri.address(lost_pod)} == leases()
    ping(cri, pod1, lost_pod)

    containerd.stop()
    containerd.lose(lost_pod.sandbox)
    containerd.start()
    cri.wait_until_ready()
    assert (cri.is_ready(pod1), cri.is_ready(lost_pod)) == (True, False)

    # The kubelet's order: the old sandbox is removed when the new one is there.
    cri.stop(lost_pod)
    assert leases() == {cri.address(pod1)}
    new_pod = cri.run_pod("lost", attempt=1)
    cri.remove(lost_pod)
    assert leases() == {cri.address(pod1), cri.address(new_pod)}
    ping(cri, new_pod, pod1)

    for pod in (pod1, new_pod):
        cri.stop(pod)
        cri.stop(pod)  # again, as the kubelet does
    assert leases() == set()
    for pod in (pod1, new_pod):
        cri.remove(pod)
    assert_nothing_is_left(containerd.node)


def test_ctr_attaches_its_containers_too(containerd: Containerd, root: Path) -> None:
    addresses = ctr_run("--rm", root, "ip", "-4", "-o", "address", "show", "dev", "eth0")
    assert "inet 10.1.0." in addresses
    assert_nothing_is_left(containerd.node)

    ctr_run("--detach", root, "true")
    lab.wait_until(lambda: "STOPPED" in lab.run(*CTR, "task", "list"))
    for words in ("task delete c1", "container delete c1"):
        lab.run(*CTR, *words.split())
    assert len(leases()) == 1  # which ctr forgets
    (leftover,) = json.loads(lab.run(Executable().path, "show", "--json"))["leftovers"]
    assert (leftover["kind"], leftover["interface"]) == ("record", "eth0")
    options = ("--netns", leftover["netns"], "--ifname", "eth0", "--container-id", "default-c1")
    lab.run(Executable().path, "del", "-c", str(CONFIGURATION), *options)
    for note in (lab.LEASES / "results").iterdir():  # the runtime's
        note.unlink()
    assert_nothing_is_left(containerd.node)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("proc", "sys", "dev", "usr", "run", "tmp", "etc"):
        (tmp_path / name).mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (tmp_path / name).symlink_to(f"usr/{name}")
    return tmp_path


def ctr_run(option: str, root: Path, *command: str) -> str:
    usr = ("--mount", "type=bind,src=/usr,dst=/usr,options=rbind:ro", "--rootfs", str(root))
    path = ("/usr/bin/env", "PATH=/usr/sbin:/usr/bin")
    return lab.run(*CTR, "run", option, "--cni", *usr, "c1", *path, *command)


def ping(cri: Cri, pod: Pod, other: Pod) -> None:
    cri.execute(pod, "ping", "-c", "1", "-W", "5", cri.address(other))
