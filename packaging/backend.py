"""What pyproject.toml has pip build with: setuptools, and before it what setup.cfg names in build/.

That is the man page and the completions, which are its data_files, and the long description. A
wheel's metadata also have a list of what is in it: https://peps.python.org/pep-0770/
"""

from __future__ import annotations

import os
import re
import tempfile
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import manual
import spdx
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks of PEP 517 and 660 as they are

if TYPE_CHECKING:
    from collections.abc import Iterable

# In the checkout, which is a build's working directory.
_SHARE = Path("build/share")
_DESCRIPTION = Path("build/README.md")
_PACKAGE = Path("cni_ipvlan")
_LAUNCHER = Path("scripts/ipvlan")


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel in a directory; return its name."""
    if metadata_directory:
        manual.write(_SHARE)
        name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
        return name
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare_metadata_for_build_wheel(place, config_settings)
        return build_wheel(wheel_directory, config_settings, f"{place}/{prepared}")


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """Make the metadata of a wheel in a directory; return the name of what has them there."""
    name: str = build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)
    manual.write(_SHARE)
    _describe_files(Path(metadata_directory, name))
    return name


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """Build an archive of the sources in a directory; return its name."""
    manual.write(_SHARE)
    name: str = build_meta.build_sdist(sdist_directory, config_settings)
    return name


def absolute(text: str, base: str) -> str:
    """Return Markdown whose links to files of the project lead to their addresses below a base.

    A long description is read where there are no such files. Code has no links.
    """
    within_code_or_link = r"(^(?: {4}|```).*$|`[^`]+`)|\]\((?![a-z+]+:|#)([^)\s]+)"
    return re.sub(
        within_code_or_link,
        lambda found: found[1] or f"]({base}/{found[2]}",
        text,
        flags=re.MULTILINE,
    )


def _write_description() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read("setup.cfg", encoding="utf-8")
    base = setup["metadata"]["url"] + "/blob/HEAD"
    _DESCRIPTION.parent.mkdir(exist_ok=True)
    text = Path("README.md").read_text(encoding="utf-8")
    _DESCRIPTION.write_text(absolute(text, base), encoding="utf-8")


def _describe_files(metadata: Path) -> None:
    """Write the list of a wheel's files into its metadata, which can't list themselves."""
    wheel = metadata.name.removesuffix(".dist-info")
    sources = {str(path): path for path in _files(_PACKAGE) if path.suffix != ".pyc"}
    sources[f"{wheel}.data/scripts/ipvlan"] = _LAUNCHER
    share = f"{wheel}.data/data/share"
    made = {f"{share}/{path.relative_to(_SHARE)}": path for path in _files(_SHARE)}
    source = spdx.Source(
        name=wheel,
        version=wheel.partition("-")[2],
        tool="cni-ipvlan-backend",
        # If nobody says, when the sources were last changed: the wheel is the same whenever built.
        seconds=int(os.environ.get("SOURCE_DATE_EPOCH") or _newest(sources.values())),
        comment="This has the files of the wheel but its metadata, whose checksums are in RECORD.",
    )
    contents = {name: path.read_bytes() for name, path in sorted({**sources, **made}.items())}
    place = metadata / "sboms"
    place.mkdir()
    (place / spdx.NAME).write_text(spdx.document(source, contents, {}), encoding="utf-8")


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _newest(files: Iterable[Path]) -> float:
    return max(path.stat().st_mtime for path in files)


# Each hook runs in a process of its own, and each of them reads setup.cfg.
_write_description()
