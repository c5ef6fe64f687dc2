"""scripts/lib/packages.sh: which of Debian's packages are of use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from installing import CHECKOUT

ALL = [f"python3-{name}" for name in ("click", "jsonschema", "sh", "yaml")]
DEBIAN_12 = {"click": "8.1.3-2", "jsonschema": "4.10.3-1", "sh": "1.14.3-1", "yaml": "6.0-3+b2"}
DEBIAN_13 = {
    "click": "8.2.0+0.really.8.1.8-1",
    "jsonschema": "4.19.2-6",
    "sh": "2.2.1-1",
    "yaml": "6.0.2-1+b2",
}


@pytest.mark.parametrize(
    ("offered", "of_use"),
    [
        (DEBIAN_13, ALL),
        (DEBIAN_12, []),
        ({**DEBIAN_13, "yaml": DEBIAN_12["yaml"]}, []),
        (dict.fromkeys(DEBIAN_13, "(none)"), ALL),
        ({}, ALL),
    ],
    ids=["Debian 13", "Debian 12", "one too old", "none", "nothing known"],
)
def test_python_packages_are_of_use_if_none_is_too_old(
    tmp_path: Path, offered: dict[str, str], of_use: list[str]
) -> None:
    cases = [f'python3-{name}) echo "  Candidate: {offered[name]}" ;;' for name in offered]
    apt_cache = tmp_path / "apt-cache"
    apt_cache.write_text("\n".join(["#!/bin/sh", 'case "$2" in', *cases, "esac"]))
    apt_cache.chmod(0o755)
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", "source scripts/lib/packages.sh && python_packages"),
        cwd=CHECKOUT,
        env={"PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == of_use
