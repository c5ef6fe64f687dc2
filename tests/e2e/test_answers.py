"""What a runtime reads: one document on stdout, a result or an error, in the version it asked for.

tests/unit and tests/kernel have every document; here the command prints one of each kind.
"""

import json

import pytest
from runtime import Conf, Runtime, call_environment, network
from scene import Scene

VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
ADDRESS = {"address": "10.1.0.2/24", "gateway": "10.1.0.1"}
ROUTE = {"dst": "10.7.0.0/16", "gw": "10.1.0.1"}
BROKEN = {"CNI_CONTAINERID": "../x"}


# tests/unit/test_result.py has every version.
@pytest.mark.scene(mtu=1450)
@pytest.mark.parametrize("version", ["0.2.0", "1.1.0"])
def test_a_result_is_one_document_and_a_line_break(scene: Scene, version: str) -> None:
    scene.fake.answers("ADD", {"cniVersion": "1.1.0", "ips": [ADDRESS], "routes": [ROUTE]})
    conf = network(cniVersion=version, ipam=scene.fake.conf, mtuu=5)

    added = scene.runtime.add(scene.one, conf, CNI_PATH=scene.fake.path)

    document, end = json.JSONDecoder().raw_decode(added.stdout.decode())
    mac = scene.host.links()["eth0"]["address"]
    interface = {"name": "net1", "mac": mac, "sandbox": scene.one.path, "mtu": 1450}
    result: Conf = {"interfaces": [interface], "ips": [{"interface": 0, **ADDRESS}]}
    if version == "1.1.0":
        assert document == {"cniVersion": version, **result, "routes": [ROUTE]}
    else:
        ip4 = {"ip": ADDRESS["address"], "gateway": ADDRESS["gateway"], "routes": [ROUTE]}
        assert document == {"cniVersion": version, "ip4": ip4}
    assert added.stdout[end:] == b"\n"
    assert "mtuu" in added.stderr


@pytest.mark.parametrize(
    ("conf", "variables", "code", "version"),
    [
        (network(), BROKEN, 4, "1.0.0"),
        (network(mode="L2"), {}, 7, "1.0.0"),
        (network(cniVersion="9.9.9"), {}, 1, "9.9.9"),
        (b"[" * 100_000, {}, 6, "1.1.0"),
    ],
)
def test_a_call_that_is_wrong_is_answered_and_changes_nothing(
    scene: Scene, conf: Conf | bytes, variables: dict[str, str], code: int, version: str
) -> None:
    with scene.unchanged():
        environment = call_environment("ADD", scene.one, **variables)
        error = scene.runtime.raw(conf, environment).error()

    assert (error["code"], error["cniVersion"]) == (code, version)
    assert error["msg"]


def test_versions_and_a_description_need_no_network(runtime: Runtime) -> None:
    versions = runtime.raw(b'{"cniVersion": "0.4.0"}', {"CNI_COMMAND": "VERSION"})
    description = runtime.raw(b"", {})

    assert versions.result() == {"cniVersion": "0.4.0", "supportedVersions": VERSIONS}
    assert (description.status, description.stdout) == (0, b"")
    assert "1.1.0" in description.stderr
