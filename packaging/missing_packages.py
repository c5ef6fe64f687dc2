"""Prints which packages that setup.cfg requires this Python lacks, or has too old: in one line.

Debian's names are printed, since the Python that is asked is a distribution's own.
"""

from __future__ import annotations

import importlib.metadata
import re
from configparser import ConfigParser
from pathlib import Path

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"


def main() -> None:
    """Print it; nothing if there is nothing to be said."""
    setup = ConfigParser(interpolation=None)
    setup.read_string(SETUP.read_text(encoding="utf-8"))
    requirements = setup["options"]["install_requires"].split()
    print(", ".join(filter(None, map(what_is_wrong, requirements))))


def what_is_wrong(requirement: str) -> str:
    """Return why a requirement such as sh>=2.2,<3 is not met, or nothing."""
    name, least = requirement.partition(",")[0].split(">=")
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{debian(name)} is missing"
    if numbers(version) < numbers(least):
        return f"{debian(name)} is {version}, older than {least}"
    return ""


def debian(name: str) -> str:
    """Return the name of Debian's package of a Python package."""
    return f"python3-{name.lower().removeprefix('py')}"


def numbers(version: str) -> list[int]:
    """Return what makes versions comparable: 8.2.1 is [8, 2, 1]."""
    return [int(number) for number in re.findall("[0-9]+", version)]


if __name__ == "__main__":
    main()
