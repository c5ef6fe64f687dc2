"""deploy/: manifests that Kubernetes accepts, and a DaemonSet that does what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from image_layout import add_layer, make_archive, read_archive
from installing import CHECKOUT, run

LAB = CHECKOUT / "scripts/lab-kernel"
USE = Path(__file__).with_name("using_daemonset.py")
DEPLOY = CHECKOUT / "deploy"
TEXT = (CHECKOUT / "docs/cluster.md").read_text()
CLUSTER, DIRECTORIES, FIRST = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
KUBERNETES = json.loads(Path(__file__).with_name("kubernetes-1.25.json").read_text())
NETWORK = ("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition")
FILES = sorted([*DEPLOY.glob("*.yaml"), *(CHECKOUT / "examples").glob("*.yaml")])
FILES.remove(DEPLOY / "kustomization.yaml")
PACKAGE = "usr/lib/cni-ipvlan/lib/python3/dist-packages/cni_ipvlan"
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def daemonset() -> Manifest:
    return read("daemonset.yaml")


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """Make the directories of the document: deploy/, and a cluster's own beside it."""
    (tmp_path / "cni-ipvlan").mkdir()
    (tmp_path / "cni-ipvlan/deploy").symlink_to(DEPLOY)
    (tmp_path / "my-cluster").mkdir()
    return tmp_path / "my-cluster/kustomization.yaml"


def read(name: str) -> Manifest:
    manifest: Manifest = yaml.safe_load((DEPLOY / name).read_text())
    return manifest


def build(directory: Path) -> list[Manifest]:
    """Return what `kubectl apply -k` would apply."""
    program = shutil.which("kustomize")
    if program is None:
        pytest.skip("there is no kustomize")
    done = run(program, "build", directory)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_manifests_are_what_kubernetes_has_published() -> None:
    for file in FILES:
        for manifest in yaml.safe_load_all(file.read_text()):
            assert_is_valid(manifest)


def assert_is_valid(manifest: Manifest) -> None:
    """Assert that a manifest fits its schema, and that a network's config is a string."""
    if (manifest["apiVersion"], manifest["kind"]) == NETWORK:
        assert manifest.keys() == {"apiVersion", "kind", "metadata", "spec"}
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
        assert (set(manifest["metadata"]), set(manifest["spec"])) == ({"name"}, {"config"})
        assert isinstance(manifest["spec"]["config"], str)
    else:
        kind = KUBERNETES["kinds"][f"{manifest['apiVersion']} {manifest['kind']}"]
        schema = {**kind, "$defs": KUBERNETES["$defs"]}
        jsonschema.Draft202012Validator(schema).validate(manifest)


def test_kustomize_takes_every_manifest_and_changes_none() -> None:
    assert build(DEPLOY) == [read("namespace.yaml"), read("daemonset.yaml")]
    assert sum(file.parent == DEPLOY for file in FILES) == 2


def test_pod_goes_to_every_node_and_has_no_more_rights_than_it_needs(daemonset: Manifest) -> None:
    pod = daemonset["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["automountServiceAccountToken"] is False
    assert {"hostNetwork", "hostPID", "hostIPC", "initContainers"}.isdisjoint(pod)
    assert container["securityContext"] == {
        "runAsUser": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER"]},
    }
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    paths = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts == paths
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"] == labels


def test_overlay_of_the_document_sets_image_and_directory(overlay: Path) -> None:
    overlay.write_text(CLUSTER + DIRECTORIES)
    manifests = build(overlay.parent)
    for manifest in manifests:
        assert_is_valid(manifest)
    expected = read("daemonset.yaml")
    pod = expected["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "localhost/cni-ipvlan"
    container["image"] = "registry.example/cni-ipvlan:0.1.0"
    container["args"].append("--bin-dir=/usr/lib/cni")
    container["volumeMounts"][0]["mountPath"] = "/usr/lib/cni"
    pod["volumes"][0]["hostPath"]["path"] = "/usr/lib/cni"
    assert manifests == [read("namespace.yaml"), expected]


def test_component_for_a_first_network_is_on_the_host_and_has_its_file(overlay: Path) -> None:
    overlay.write_text(FIRST + DIRECTORIES)
    (network,) = re.findall(r"^```json\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (overlay.parent / "10-ipvlan.conflist").write_text(network)
    manifests = {manifest["kind"]: manifest for manifest in build(overlay.parent)}
    assert_is_valid(manifests["DaemonSet"])
    assert manifests["ConfigMap"]["data"] == {"10-ipvlan.conflist": network}
    pod = manifests["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["hostNetwork"] is True
    volumes = {each.pop("name"): each for each in pod["volumes"]}
    mounts = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
    # Its name ends with a digest, so another configuration is rolled out.
    assert mounts["/network"]["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
    assert mounts["/etc/cni/net.d"]["hostPath"]["path"] == "/etc/cni/net.d"
    assert container["args"] == ["--on-stop=keep", "--networks=/network", "--bin-dir=/usr/lib/cni"]


def test_image_has_the_daemonsets_name_and_a_tag(daemonset: Manifest, images: list[Path]) -> None:
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    index = json.loads(read_archive(images[0].read_bytes())["index.json"])
    version = images[0].name.removeprefix("cni-ipvlan-").removesuffix(".oci.tar")
    name = index["manifests"][0]["annotations"]["io.containerd.image.name"]
    assert name == f"{container['image']}:{version.replace('~', '-')}"


@pytest.fixture(scope="module")
def outcomes(
    daemonset: Manifest, images: list[Path], bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Have containerd run two versions of the image, as the DaemonSet describes it."""
    if b"--user" not in subprocess.check_output(("ctr", "run", "--help")):
        pytest.skip("this containerd's ctr has no --user, as before version 1.7")
    directory = tmp_path_factory.mktemp("cluster")
    manifests = [directory / "alone.json", directory / "with-network.json"]
    newer = directory / "newer.tar"
    for file, manifest in zip(manifests, (daemonset, add_first_network(daemonset)), strict=True):
        file.write_text(json.dumps(manifest))
    newer.write_bytes(another_version(images[0], bundle))
    path = {"PYTHONPATH": str(CHECKOUT / "tests/support")}
    printed = subprocess.check_output(
        [LAB, sys.executable, USE, *manifests, images[0], newer], env={**os.environ, **path}
    )
    answer: dict[str, Any] = json.loads(printed)
    return answer


def add_first_network(daemonset: Manifest) -> Manifest:
    """Return the DaemonSet with the component's patches, as kustomize makes it."""
    result = deepcopy(daemonset)
    (patch,) = read("first-network/kustomization.yaml")["patches"]
    for each in yaml.safe_load(patch["patch"]):
        assert each["op"] == "add"
        *path, last = each["path"].split("/")[1:]
        value: Any = result
        for key in path:
            value = value[int(key) if isinstance(value, list) else key]
        value.append(each["value"]) if last == "-" else value.update({last: each["value"]})
    return result


def another_version(image: Path, bundle: Path) -> bytes:
    """Return the image as version 0.2.0, without the compiled files of 0.1.0."""
    package = bundle / "lib/python3/dist-packages/cni_ipvlan"
    source = (package / "__init__.py").read_bytes()
    (compiled,) = package.glob("__pycache__/__init__.*.pyc")
    files = {
        f"{PACKAGE}/__init__.py": source.replace(b'"0.1.0"', b'"0.2.0"'),
        f"{PACKAGE}/__pycache__/.wh.{compiled.name}": b"",
    }
    files_of_image = read_archive(image.read_bytes())
    return make_archive(add_layer(files_of_image, "localhost/cni-ipvlan:0.2.0", files))


@pytest.mark.slow(group="the DaemonSet's life")
def test_another_program_is_left_alone_unless_told_and_comes_back(outcomes: dict[str, Any]) -> None:
    assert outcomes["foreign"][0] == 1
    # What another user owns takes capabilities.
    assert outcomes["not allowed"] == [1, "install-node: cannot write to /opt/cni/bin\n"]
    assert "1.1.0" in outcomes["forced"]
    assert not outcomes["foreign, changed"]
    assert not outcomes["removed, changed"]
    assert outcomes["removed, owner"] == [1001, 127]
    assert outcomes["warning"] == (
        "/opt/cni/bin lacks the IPAM plugins host-local static dhcp; if networks need them: "
        "copy those of a release of containernetworking/plugins there\n"
    )


@pytest.mark.slow(group="the DaemonSet's life")
def test_pod_is_ready_while_the_plugin_answers_and_shows_a_node(outcomes: dict[str, Any]) -> None:
    assert outcomes["ready"]
    assert not outcomes["ready, without it"]
    assert not outcomes["ready, too early"]  # while the version before answers
    assert outcomes["ready, upgraded"]
    assert re.search("^ok +kernel .* ipvlan", outcomes["doctor"])  # in a debugging container
    assert "/opt/cni/bin/ipvlan is this program" in outcomes["doctor"]
    assert outcomes["log"] == 0  # that of a network can be read


@pytest.mark.slow(group="the DaemonSet's life")
def test_first_network_is_there_while_the_pod_is(outcomes: dict[str, Any]) -> None:
    assert outcomes["first network"] == [True, "10-net.conf", 0, 0, []]


@pytest.mark.slow(group="the DaemonSet's life")
def test_no_add_fails_while_plugin_is_upgraded_and_rolled_back(outcomes: dict[str, Any]) -> None:
    versions = [outcomes[each] for each in ("installed", "upgraded", "rolled back")]
    assert versions == ["0.1.0", "0.2.0", "0.1.0"]
    assert outcomes["failed"] == []
    assert outcomes["not attached"] == 0
    assert outcomes["ended before"]
    assert outcomes["started after"]
    assert not outcomes["attached after DEL"]
    assert [outcomes["status"], *outcomes["statuses"]] == [0, 0, 0]
