"""IPAM plugins whose leases are a cluster's: known by pod, outliving nodes, released by others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import cluster_ipam
import lab
import pytest
from lab import Node, Space
from runtime import PLUGINS, Answer, Conf, Runtime, network


class Cluster(NamedTuple):
    """Nodes that share an IPAM plugin's store; each is there only while a test is on it."""

    runtime: Runtime
    conf: Conf
    path: str
    store: str

    def call(self, verb: str, space: Space | str, pod: str, container_id: str) -> Answer:
        args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod}"
        about = {"CNI_CONTAINERID": container_id, "CNI_ARGS": args, "CNI_PATH": self.path}
        return self.runtime.call(verb, space, self.conf, **about)

    def leases(self) -> dict[str, list[str]]:
        """Return each address with its pod and its container ID."""
        found = json.loads(Path(self.store).read_text())
        return {address: lease[:2] for address, lease in found.items()}


@pytest.fixture
def cluster(own_directories: None, runtime: Runtime, tmp_path: Path) -> Cluster:
    (tmp_path / "cluster-wide").symlink_to(cluster_ipam.__file__)
    store = str(tmp_path / "store")
    conf = network(ipam={"type": "cluster-wide", "range": "10.1.0.0/29", "store": store})
    return Cluster(runtime, conf, f"{tmp_path}:{PLUGINS}", store)


def container(node: Node) -> Space:
    node.master()
    return node.container()


def test_a_lease_names_the_pod_and_outlives_a_node_that_is_lost(cluster: Cluster) -> None:
    with lab.node() as first:
        cluster.call("ADD", container(first), "web-0", "old").result()
    assert cluster.leases() == {"10.1.0.1/29": ["shop/web-0", "old"]}

    with lab.node() as second:
        again, other = container(second), second.container()
        cluster.call("ADD", other, "web-1", "other").result()
        cluster.call("ADD", again, "web-0", "new").result()
        assert again.addresses("net1") == ["10.1.0.1/29"]
        assert other.addresses("net1") == ["10.1.0.2/29"]

    with lab.node():  # the first is back, and its kubelet removes what it had
        cluster.call("DEL", "/run/netns/gone", "web-0", "old").succeeds()
    assert cluster.leases() == {
        "10.1.0.1/29": ["shop/web-0", "new"],
        "10.1.0.2/29": ["shop/web-1", "other"],
    }


def test_what_a_reconciler_has_released_is_noticed_and_deleted_all_the_same(
    cluster: Cluster, node: Node
) -> None:
    space = container(node)
    before = node.snapshot()
    result = cluster.call("ADD", space, "web-0", "one").result()
    checked = cluster._replace(conf={**cluster.conf, "prevResult": result})
    checked.call("CHECK", space, "web-0", "one").succeeds()

    cluster_ipam.release_pods(cluster.store, living={"shop/web-1"})

    error = checked.call("CHECK", space, "web-0", "one").error()
    assert (error["code"], "no lease of container one" in error["msg"]) == (100, True)
    cluster.call("DEL", space, "web-0", "one").succeeds()
    assert node.snapshot() == before


def test_an_add_that_fails_gives_its_lease_back(cluster: Cluster, node: Node) -> None:
    space = container(node)
    neighbour = node.container()
    cluster.call("ADD", neighbour, "web-0", "one").result()
    # An address that the cluster's store has lost, but not the node.
    cluster_ipam.release_pods(cluster.store, living=())

    assert cluster.call("ADD", space, "web-1", "two").error()["code"] != 100

    assert cluster.leases() == {}
    assert "net1" not in space.links()
