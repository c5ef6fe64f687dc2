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


def read_archive(archive: bytes) -> Image:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isfile() else None
            if file:
                files[entry.name] = file.read()
    return files


def read_blob(image: Image, descriptor: dict[str, Any]) -> bytes:
    """Return the blob of a descriptor."""
    content = image["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(content) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(content).hexdigest()}" == descriptor["digest"]
    return content


def read_manifests(image: Image) -> dict[str, dict[str, Any]]:
    """Return the manifest of each architecture."""
    (index,) = json.loads(image["index.json"])["manifests"]
    items = json.loads(read_blob(image, index))["manifests"]
    assert {each["platform"]["os"] for each in items} == {"linux"}
    return {each["platform"]["architecture"]: json.loads(read_blob(image, each)) for each in items}


def add_layer(image: Image, name: str, files: Image) -> Image:
    """Return an image of another name, for one architecture, in which files are added."""
    (manifest,) = read_manifests(image).values()
    config = json.loads(read_blob(image, manifest["config"]))
    layer = make_archive(files)
    result = dict(image)
    kind = manifest["config"]["mediaType"].replace("config.v1+json", "layer.v1.tar")
    manifest["layers"].append(add_blob(result, layer, kind))
    config["rootfs"]["diff_ids"].append(manifest["layers"][-1]["digest"])
    manifest["config"] |= add_blob(result, json.dumps(config).encode())
    descriptor = add_blob(result, json.dumps(manifest).encode(), manifest["mediaType"])
    descriptor["annotations"] = {"io.containerd.image.name": name}
    result["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    return result


def add_blob(image: Image, content: bytes, kind: str = "") -> dict[str, Any]:
    """Add a blob; return its descriptor."""
    digest = hashlib.sha256(content).hexdigest()
    image[f"blobs/sha256/{digest}"] = content
    descriptor = {"digest": f"sha256:{digest}", "size": len(content)}
    return {"mediaType": kind, **descriptor} if kind else descriptor


def make_archive(files: Image) -> bytes:
    """Return files as an archive."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as content:
        for name, file in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(file)
            content.addfile(entry, io.BytesIO(file))
    return output.getvalue()
