"""STATUS: whether an ADD could succeed now, and if not, why."""

from pathlib import Path
from typing import Any

import pytest
from doubles import Steps
from runtime import network
from scene import Scene


def refused(scene: Scene, code: int, *words: str, master: str | None = "eth0", **about: str) -> Any:
    """Have STATUS fail with words in its message; return the error."""
    conf = network(cniVersion="1.1.0", master=master, ipam=scene.fake.conf)
    error = scene.runtime.status(conf, **{"CNI_PATH": scene.fake.path, **about}).error()
    found = (error["code"], [word for word in words if word not in error["msg"]])
    assert found == (code, []), error
    return error


def test_status_is_good_when_an_add_could_succeed(scene: Scene) -> None:
    scene.host.ip("route add default dev eth0")
    with scene.unchanged():
        for master in ("eth0", None):
            conf = network(cniVersion="1.1.0", master=master, ipam=scene.fake.conf)
            scene.runtime.status(conf, CNI_PATH=scene.fake.path).succeeds()
        scene.runtime.status(network(cniVersion="1.1.0", ipam=None)).succeeds()  # chained

    assert scene.fake.calls == ["STATUS"] * 2


def test_the_master_may_be_the_reason(scene: Scene) -> None:
    for master in ("eth9", None):
        refused(scene, 50, "master", master=master)
    scene.host.ip("link set dev eth0 down")  # which limits running containers, too
    refused(scene, 51, "'eth0'", "down, so no packets get through; try: ip link set dev eth0 up")


def test_a_kernel_without_ipvlan_is_the_reason(scene: Scene, tmp_path: Path) -> None:
    steps = Steps(tmp_path / "steps")
    steps.at("ip-1", "echo 'Error: Unknown device type.' >&2; exit 2")
    error = refused(scene, 50, "ipvlan", PATH=steps.environment["PATH"])
    assert "modprobe ipvlan" in error["details"]


@pytest.mark.parametrize("code", [50, 51])
def test_the_ipam_plugins_error_is_passed_on(scene: Scene, code: int) -> None:
    scene.ipam("STATUS", code=code, msg="the pool is dry", status=1)
    assert refused(scene, code)["msg"] == "the pool is dry"


def test_an_ipam_plugin_in_trouble_is_the_reason(scene: Scene) -> None:
    refused(scene, 50, "cannot find the plugin 'fake'", CNI_PATH="/nowhere")
    scene.ipam("STATUS", script="exit 3")
    refused(scene, 50, "the plugin 'fake' exited with status 3")
    scene.ipam("STATUS", code=4, msg="unknown CNI_COMMAND: STATUS", status=1)
    refused(scene, 50, "unknown CNI_COMMAND: STATUS")
