"""An image for containers, made of this machine's programs, in the format of docker save."""

import hashlib
import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import image_layout
import lab


def write(archive: Path, name: str, *programs: str) -> None:
    """Write an image with some programs and what they are linked with; a container of it sleeps."""
    layer = _layer_of("sleep", *programs)
    config = {
        "architecture": lab.run("dpkg", "--print-architecture").strip(),
        "os": "linux",
        "config": {"Env": ["PATH=/usr/bin"], "Cmd": ["sleep", "infinity"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    archive.write_bytes(image_layout.make_archive(files))


def _layer_of(*programs: str) -> bytes:
    paths = [path for program in programs if (path := shutil.which(program, path="/usr/bin"))]
    libraries = re.findall(r"(/\S+) \(0x", lab.run("ldd", *paths))
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as tar:
        for path in sorted({*paths, *libraries}):
            tar.add(path)
    return layer.getvalue()
