"""What pyproject.toml has pip build with: setuptools, and before it what setup.cfg names in build/.

That is the man page and the completions, which are its data_files, and the long description.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import manual
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks of PEP 517 and 660 as they are

# In the checkout, which is a build's working directory.
_SHARE = Path("build/share")
_DESCRIPTION = Path("build/README.md")
_PACKAGE = Path("cni_ipvlan")
_LAUNCHER = Path("scripts/ipvlan")


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel in a directory; return its name."""
    manual.write(_SHARE)
    name: str = build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
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


# Each hook runs in a process of its own, and each of them reads setup.cfg.
_write_description()
