"""Suggest a name for a misspelt one. Imported only after a failure."""

from collections.abc import Iterable
from difflib import SequenceMatcher

_ALIKE = 0.6  # difflib's own measure for a close match


def nearest_first(wanted: str, names: Iterable[str]) -> tuple[list[str], bool]:
    """Return the names, most similar first, and whether the first is similar enough to suggest."""

    def likeness(name: str) -> float:
        return SequenceMatcher(None, wanted.lower(), name.lower()).ratio()

    ordered = sorted(names, key=likeness, reverse=True)
    return ordered, bool(ordered) and likeness(ordered[0]) >= _ALIKE
