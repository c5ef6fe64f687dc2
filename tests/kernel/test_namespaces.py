"""CNI_NETNS: which files lead to a container, and which are refused."""

import os
from pathlib import Path

import pytest
from lab import Space, run
from runtime import network
from sampling import sample
from scene import Scene


def live_and_die(scene: Scene, container: Space) -> None:
    with scene.unchanged():
        added = scene.add(at=container)

        assert added.result["interfaces"][0]["sandbox"] == container.path
        assert container.ipvlan("net1")["up"]
        assert container.addresses("net1") == ["10.1.0.2/24"]
        added.check()
        added.delete()


def test_namespaces_of_any_kind_are_containers(scene: Scene, tmp_path: Path) -> None:
    live_and_die(scene, scene.node.container_of_a_process())
    for name in sample(["sandbox", "with space", "-x", "it's $HOME"], 1):
        live_and_die(scene, scene.node.container_mounted_at(tmp_path / name))
    for name in sample(["cni-8d7c", "-x", "with space", "123"], 1):
        live_and_die(scene, scene.node.namespace(name))
    (tmp_path / "link").symlink_to(scene.one.path)
    live_and_die(scene, Space(str(tmp_path / "link")))


# Paths below a directory with a file and a pipe, and what is said of them.
REFUSED = {
    "/run/netns/gone": ("there is no such file", "the container may have ended already"),
    "file": ("it is not a namespace", "give the path of a network namespace"),
    ".": ("it is not a namespace", "give the path of a network namespace"),
    "pipe": ("it is not a namespace", "give the path of a network namespace"),
    "file/below": ("Not a directory", "give the path of a network namespace"),
    "/proc/self/ns/uts": ("but not a network namespace", "give the path of a network"),
}


def test_what_is_no_network_namespace_is_refused(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for relative, (why, advice) in REFUSED.items():
        path = str(tmp_path / relative)
        error = scene.refuses(4, why, "try: ", advice, CNI_NETNS=path)
        assert error["msg"].startswith(f"CNI_NETNS is {path!r}; ")
        scene.runtime.delete(path, network()).succeeds()


@pytest.mark.parametrize("path", ["/run/netns/host", "/proc/self/ns/net"])
def test_its_own_namespace_is_refused_unless_that_is_overridden(scene: Scene, path: str) -> None:
    why = f"CNI_NETNS is {path!r}; ", "the namespace the plugin itself runs in", "needs none"
    scene.refuses(4, *why, CNI_NETNS=path)
    with scene.unchanged():
        scene.runtime.add(path, network(), CNI_NETNS_OVERRIDE="true").result()
        assert scene.host.addresses("net1") == ["10.1.0.2/24"]
        scene.runtime.delete(path, network(), CNI_NETNS_OVERRIDE="1").succeeds()


def test_delete_does_not_look_for_a_container_in_the_plugins_own_namespace(scene: Scene) -> None:
    run("ip", "link", "add", "link", "eth0", "name", "net1", "type", "ipvlan")
    with scene.unchanged():
        scene.runtime.delete(scene.host, network()).succeeds()
