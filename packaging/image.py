#!/usr/bin/env python3
"""Pack layers as an image, in one archive.

Usage: packaging/image.py NAME ARCHITECTURE ARCHIVE LAYER…

scripts/build-image runs it, with a bundle's Python. NAME is what the image is called, with its tag.
Each LAYER is a directory that is laid over those before it. SOURCE_DATE_EPOCH is the time of all.
The format is that of https://github.com/opencontainers/image-spec (image-layout.md).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRY = "/usr/lib/cni-ipvlan/scripts/lib/image-entry"
TYPE = "application/vnd.oci.image"
TIME = int(os.environ["SOURCE_DATE_EPOCH"])


def main(arguments: Sequence[str]) -> None:
    """Write the archive."""
    name, architecture, archive, *layers = arguments
    contents = [layer(Path(each)) for each in layers]
    blobs: dict[str, bytes] = {}
    with ThreadPoolExecutor() as pool:
        compressed = pool.map(lambda each: gzip.compress(each, compresslevel=6, mtime=0), contents)
    packed = [add(blobs, f"{TYPE}.layer.v1.tar+gzip", each) for each in compressed]
    settings = add(blobs, f"{TYPE}.config.v1+json", as_json(config(architecture, contents)))
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{TYPE}.manifest.v1+json",
        "config": settings,
        "layers": packed,
    }
    described = add(blobs, f"{TYPE}.manifest.v1+json", as_json(manifest))
    described["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    files = {f"blobs/sha256/{digest}": blob for digest, blob in blobs.items()}
    files["index.json"] = as_json({"schemaVersion": 2, "manifests": [described]})
    files["oci-layout"] = as_json({"imageLayoutVersion": "1.0.0"})
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as content:
        for path in ("blobs", "blobs/sha256"):  # some tools make none themselves
            directory = tarfile.TarInfo(path)
            directory.type, directory.mode, directory.mtime = tarfile.DIRTYPE, 0o755, TIME
            content.addfile(directory)
        for path, blob in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mtime = len(blob), TIME
            content.addfile(entry, io.BytesIO(blob))


def layer(directory: Path) -> bytes:
    """Return an archive of what is in a directory, all of it root's."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as content:
        for path in sorted(directory.iterdir()):
            content.add(path, path.name, filter=of_root)
    return made.getvalue()


def of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Make an entry of an archive the same whoever has built it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mtime = TIME
    entry.mode &= 0o755  # nothing here is for others to write, or runs as another user
    return entry


def add(blobs: dict[str, bytes], kind: str, content: bytes) -> dict[str, Any]:
    """Add a blob; return its descriptor."""
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}


def config(architecture: str, layers: list[bytes]) -> dict[str, Any]:
    """Return the configuration of an image with these layers, which are not compressed."""
    return {
        "created": datetime.fromtimestamp(TIME, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": [ENTRY], "StopSignal": "SIGTERM"},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(each).hexdigest()}" for each in layers],
        },
    }


def as_json(document: object) -> bytes:
    """Return a document as a blob."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


if __name__ == "__main__":
    main(sys.argv[1:])
