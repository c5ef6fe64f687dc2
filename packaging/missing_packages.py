"""Prints which packages that setup.cfg requires this Python lacks, or has too old: in one line.

Debian's names are printed, since the Python that is asked is a distribution's own.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def what_is_wrong(requirement: str) -> str:
    """Return why a requirement such as sh>=2.2,<3 is not met, or nothing."""
    name, least = requirement.partition(",")[0].split(">=")
    debian = f"python3-{name.lower().removeprefix('py')}"
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{debian} is missing"
    return f"{debian} is {found}, older than {least}" if numbers(found) < numbers(least) else ""


def numbers(of: str) -> list[int]:
    """Return what makes versions comparable: 8.2.1 is [8, 2, 1]."""
    return [int(number) for number in re.findall("[0-9]+", of)]


setup = ConfigParser(interpolation=None)
setup.read(Path(__file__).resolve().parents[1] / "setup.cfg", encoding="utf-8")
requirements = setup["options"]["install_requires"].split()
print(", ".join(filter(None, map(what_is_wrong, requirements))))
