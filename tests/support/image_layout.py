"""Images as archives of a layout of the Open Container Initiative (image-spec, image-layout.md)."""

import hashlib
import io
import json
import subprocess
import tarfile
from typing import Any

Image = dict[str, bytes]  # the files of a layout
# Of this machine, in Debian's words, which are those of images, too.
ARCHITECTURE = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()


def contents(archive: bytes) -> Image:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        for entry in opened:
            file = opened.extractfile(entry) if entry.isfile() else None
            if file:
                found[entry.name] = file.read()
    return found


def blob(image: Image, descriptor: dict[str, Any]) -> bytes:
    """Return what a descriptor describes."""
    content = image["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def manifests(image: Image) -> dict[str, dict[str, Any]]:
    """Return the manifest of each architecture."""
    (index,) = json.loads(image["index.json"])["manifests"]
    described = json.loads(blob(image, index))["manifests"]
    assert {each["platform"]["os"] for each in described} == {"linux"}
    return {each["platform"]["architecture"]: json.loads(blob(image, each)) for each in described}


def with_layer(image: Image, name: str, files: Image) -> Image:
    """Return an image of another name, for one architecture, in which files are added."""
    (manifest,) = manifests(image).values()
    config = json.loads(blob(image, manifest["config"]))
    layer = archive(files)
    made = dict(image)
    kind = manifest["config"]["mediaType"].replace("config.v1+json", "layer.v1.tar")
    manifest["layers"].append(add(made, layer, kind))
    config["rootfs"]["diff_ids"].append(manifest["layers"][-1]["digest"])
    manifest["config"] |= add(made, json.dumps(config).encode())
    described = add(made, json.dumps(manifest).encode(), manifest["mediaType"])
    described["annotations"] = {"io.containerd.image.name": name}
    made["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described]}).encode()
    return made


def add(image: Image, content: bytes, kind: str = "") -> dict[str, Any]:
    """Add a blob; return what describes it."""
    digest = hashlib.sha256(content).hexdigest()
    image[f"blobs/sha256/{digest}"] = content
    described = {"digest": f"sha256:{digest}", "size": len(content)}
    return {"mediaType": kind, **described} if kind else described


def archive(files: Image) -> bytes:
    """Return files as an archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as content:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(file)
            content.addfile(entry, io.BytesIO(file))
    return made.getvalue()
