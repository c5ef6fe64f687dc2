"""What pyproject.toml has pip build with: setuptools, once the man page and completions are made.

setup.cfg lists them under data_files, in the directory that is filled here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import manual
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 - the other hooks of PEP 517 and 660 as they are

_SHARE = Path("build/share")  # in the checkout, which is a build's working directory


def build_wheel(*arguments: Any, **options: Any) -> str:
    """Build a wheel in the directory that is given; return its name."""
    return _build(build_meta.build_wheel, arguments, options)


def build_sdist(*arguments: Any, **options: Any) -> str:
    """Build an archive of the sources in the directory that is given; return its name."""
    return _build(build_meta.build_sdist, arguments, options)


def _build(hook: Any, arguments: Any, options: Any) -> str:
    manual.write(_SHARE)
    name: str = hook(*arguments, **options)
    return name
