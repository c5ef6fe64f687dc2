"""Which files to read: those given, and those in given directories that networks may be in."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIXES = (".conf", ".conflist", ".json", ".yaml", ".yml")


def below(directory: str) -> list[str]:
    """Return the files of a directory and of those below it that have one of the suffixes.

    Hidden directories are left out, and links to directories are not followed: Kubernetes
    mounts each file of a volume a second time in such places. Raises OSError.
    """

    def refuse(error: OSError) -> None:
        raise error

    found = []
    for place, directories, names in os.walk(directory, onerror=refuse):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        found += [os.path.join(place, name) for name in sorted(names) if _is_wanted(name)]
    return found


def _is_wanted(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith(".")


def shown(suffixes: Iterable[str] = SUFFIXES) -> str:
    """Return the suffixes as a person would write them."""
    return ", ".join(f"*{each}" for each in suffixes)
