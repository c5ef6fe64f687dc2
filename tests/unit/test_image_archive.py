"""packaging/image.py: the image's archive, unpacked by tools that make no directory themselves."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePath

PACK = Path(__file__).parents[2] / "packaging/image.py"


def test_each_file_comes_after_its_directories_which_anybody_may_enter(tmp_path: Path) -> None:
    (tmp_path / "layer").mkdir()
    archive = tmp_path / "image"
    subprocess.run(
        [sys.executable, PACK, "localhost/x:1", "amd64", archive, tmp_path / "layer"],
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1"},
    )
    there = {PurePath()}
    with tarfile.open(archive) as opened:
        for entry in opened:
            assert PurePath(entry.name).parent in there
            if entry.isdir():
                there.add(PurePath(entry.name))
                assert entry.mode == 0o755
    assert PurePath("blobs/sha256") in there
