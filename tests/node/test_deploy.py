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
    done = kustomize(directory)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kustomize(directory: Path) -> subprocess.CompletedProcess[str]:
    program = shutil.which("kustomize")
    if program is None:
        pytest.skip("there is no kustomize")
    return run(program, "build", directory)


def test_manifests_are_what_kubernetes_has_published() -> None:
    for file in FILES:
        for manifest in yaml.safe_load_all(file.read_text()):
            assert_is_valid(manifest)


def assert_is_valid(manifest: Manifest) -> None:
    """Assert that it is as published, and no more; of a network, that its config is a string."""
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
    places = {each["name"]: each["hostPath"]["path"] for each in pod["volumes"]}
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts == places
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert daemonset["spec"]["selector"]["matchLabels"] == labels


def test_overlay_of_the_document_sets_image_and_directory(overlay: Path) -> None:
    overlay.write_text(CLUSTER + DIRECTORIES)
    built = build(overlay.parent)
    for manifest in built:
        assert_is_valid(manifest)
    wanted = read("daemonset.yaml")
    pod = wanted["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "localhost/cni-ipvlan"
    container["image"] = "registry.example/cni-ipvlan:0.1.0"
    container["args"].append("--bin-dir=/usr/lib/cni")
    container["volumeMounts"][0]["mountPath"] = "/usr/lib/cni"
    pod["volumes"][0]["hostPath"]["path"] = "/usr/lib/cni"
    assert built == [read("namespace.yaml"), wanted]


def test_component_for_a_first_network_is_on_the_host_and_has_its_file(overlay: Path) -> None:
    overlay.write_text(FIRST + DIRECTORIES)
    (network,) = re.findall(r"^```json\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    (overlay.parent / "10-ipvlan.conflist").write_text(network)
    built = {manifest["kind"]: manifest for manifest in build(overlay.parent)}
    assert_is_valid(built["DaemonSet"])
    assert built["ConfigMap"]["data"] == {"10-ipvlan.conflist": network}
    pod = built["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["hostNetwork"] is True
    volumes = {each.pop("name"): each for each in pod["volumes"]}
    mounts = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
    # Its name ends with a digest, so another configuration is rolled out.
    assert mounts["/network"]["configMap"]["name"] == built["ConfigMap"]["metadata"]["name"]
    assert mounts["/etc/cni/net.d"]["hostPath"]["path"] == "/etc/cni/net.d"
    assert container["args"] == ["--on-stop=keep", "--networks=/network", "--bin-dir=/usr/lib/cni"]


def test_kustomize_takes_no_network_of_the_examples(overlay: Path) -> None:
    (overlay.parents[1] / "examples").symlink_to(CHECKOUT / "examples")
    overlay.write_text("resources: [../examples/ipvlan0.yaml]")
    done = kustomize(overlay.parent)
    assert done.returncode == 1
    assert "is not in or below" in done.stderr


def test_image_has_the_daemonsets_name_and_a_tag(daemonset: Manifest, images: list[Path]) -> None:
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    index = json.loads(read_archive(images[0].read_bytes())["index.json"])
    version = images[0].name.removeprefix("cni-ipvlan-").removesuffix(".oci.tar")
    name = index["manifests"][0]["annotations"]["io.containerd.image.name"]
    assert name == f"{container['image']}:{version.replace('~', '-')}"


@pytest.fixture(scope="module")
def found(
    daemonset: Manifest, images: list[Path], bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Have containerd run two versions of the image, as the DaemonSet describes it."""
    place = tmp_path_factory.mktemp("cluster")
    manifests, newer = [place / "alone.json", place / "with-network.json"], place / "newer.tar"
    for file, manifest in zip(manifests, (daemonset, with_first_network(daemonset)), strict=True):
        file.write_text(json.dumps(manifest))
    newer.write_bytes(another_version(images[0], bundle))
    path = {"PYTHONPATH": str(CHECKOUT / "tests/support")}
    printed = subprocess.check_output(
        [LAB, sys.executable, USE, *manifests, images[0], newer], env={**os.environ, **path}
    )
    answer: dict[str, Any] = json.loads(printed)
    return answer


def with_first_network(daemonset: Manifest) -> Manifest:
    """Return the DaemonSet with the component's patches, as kustomize makes it."""
    made = deepcopy(daemonset)
    (patch,) = read("first-network/kustomization.yaml")["patches"]
    for each in yaml.safe_load(patch["patch"]):
        assert each["op"] == "add"
        *path, last = each["path"].split("/")[1:]
        place: Any = made
        for key in path:
            place = place[int(key) if isinstance(place, list) else key]
        place.append(each["value"]) if last == "-" else place.update({last: each["value"]})
    return made


def another_version(image: Path, bundle: Path) -> bytes:
    """Return the image as version 0.2.0; what was compiled of 0.1.0 is gone."""
    package = bundle / "lib/python3/dist-packages/cni_ipvlan"
    source = (package / "__init__.py").read_bytes()
    (compiled,) = package.glob("__pycache__/__init__.*.pyc")
    files = {
        f"{PACKAGE}/__init__.py": source.replace(b'"0.1.0"', b'"0.2.0"'),
        f"{PACKAGE}/__pycache__/.wh.{compiled.name}": b"",
    }
    return make_archive(
        add_layer(read_archive(image.read_bytes()), "localhost/cni-ipvlan:0.2.0", files)
    )


@pytest.mark.slow(together="the DaemonSet's life")
def test_another_program_is_left_alone_unless_told_and_comes_back(found: dict[str, Any]) -> None:
    assert found["foreign"][0] == 1
    # What another user owns takes capabilities.
    assert found["not allowed"] == [1, "install-node: cannot write to /opt/cni/bin\n"]
    assert "1.1.0" in found["forced"]
    assert not found["foreign, changed"]
    assert not found["removed, changed"]
    assert found["removed, owner"] == [1001, 127]
    assert found["warning"] == (
        "/opt/cni/bin lacks the IPAM plugins host-local static dhcp; if networks need them: "
        "copy those of a release of containernetworking/plugins there\n"
    )


@pytest.mark.slow(together="the DaemonSet's life")
def test_pod_is_ready_while_the_plugin_answers_and_shows_a_node(found: dict[str, Any]) -> None:
    assert found["ready"]
    assert not found["ready, without it"]
    assert not found["ready, too early"]  # while the version before answers
    assert found["ready, upgraded"]
    assert re.search("^ok +kernel .* ipvlan", found["doctor"])  # in a debugging container
    assert "/opt/cni/bin/ipvlan is this program" in found["doctor"]
    assert found["log"] == 0  # that of a network can be read


@pytest.mark.slow(together="the DaemonSet's life")
def test_first_network_is_there_while_the_pod_is(found: dict[str, Any]) -> None:
    assert found["first network"] == [True, "10-net.conf", 0, 0, []]


@pytest.mark.slow(together="the DaemonSet's life")
def test_no_add_fails_while_the_plugin_is_upgraded_and_rolled_back(found: dict[str, Any]) -> None:
    versions = [found[each] for each in ("installed", "upgraded", "rolled back")]
    assert versions == ["0.1.0", "0.2.0", "0.1.0"]
    assert found["failed"] == []
    assert found["not attached"] == 0
    assert found["ended before"]
    assert found["started after"]
    assert not found["attached after DEL"]
    assert [found["status"], *found["statuses"]] == [0, 0, 0]
