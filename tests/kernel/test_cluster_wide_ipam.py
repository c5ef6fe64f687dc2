"""IPAM plugins whose leases are a cluster's: known by pod, outliving nodes, released by others."""

import json
from pathlib import Path

import cluster_ipam
import lab
import pytest
from doubles import FakeIpam
from runtime import Conf, Runtime, network
from scene import Scene

WEB, OTHER = ("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-" + n for n in "01")


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    (tmp_path / "cluster-wide").symlink_to(cluster_ipam.__file__)
    store = str(tmp_path / "store")
    return network(ipam={"type": "cluster-wide", "range": "10.1.0.0/29", "store": store})


def leases(conf: Conf) -> dict[str, list[str]]:
    """Return each address with its pod and its container ID."""
    found = json.loads(Path(conf["ipam"]["store"]).read_text())
    return {address: lease[:2] for address, lease in found.items()}


@pytest.mark.usefixtures("own_directories")
def test_a_lease_names_the_pod_and_outlives_a_node_that_is_lost(
    conf: Conf, runtime: Runtime, fake_ipam: FakeIpam
) -> None:
    with lab.node() as first:
        Scene(first, runtime, fake_ipam).add(conf, CNI_ARGS=WEB, CNI_CONTAINERID="old")
    assert leases(conf) == {"10.1.0.1/29": ["shop/web-0", "old"]}

    with lab.node() as second:
        scene = Scene(second, runtime, fake_ipam)
        scene.add(conf, at=scene.two, CNI_ARGS=OTHER)
        scene.add(conf, CNI_ARGS=WEB, CNI_CONTAINERID="new")
        assert scene.one.addresses("net1") == ["10.1.0.1/29"]
        assert scene.two.addresses("net1") == ["10.1.0.2/29"]

    with lab.node():  # the first is back, and its kubelet removes what it had
        about = {"CNI_ARGS": WEB, "CNI_CONTAINERID": "old", "CNI_PATH": fake_ipam.path}
        runtime.delete("/run/netns/gone", conf, **about).succeeds()
    left = {"10.1.0.1/29": ["shop/web-0", "new"], "10.1.0.2/29": ["shop/web-1", "two"]}
    assert leases(conf) == left


def test_what_a_reconciler_has_released_is_noticed_and_deleted_all_the_same(
    conf: Conf, scene: Scene
) -> None:
    with scene.unchanged():
        added = scene.add(conf, CNI_ARGS=WEB)
        added.check()
        cluster_ipam.release_pods(conf["ipam"]["store"], living={"shop/web-1"})
        assert added.check("no lease of container one")["code"] == 100
        added.delete()


def test_an_add_that_fails_gives_its_lease_back(conf: Conf, scene: Scene) -> None:
    scene.add(conf, CNI_ARGS=WEB)
    # An address that the cluster's store has lost, but not the node.
    cluster_ipam.release_pods(conf["ipam"]["store"], living=())
    scene.refuses(106, conf=conf, at=scene.two, CNI_ARGS=OTHER)
    assert leases(conf) == {}
