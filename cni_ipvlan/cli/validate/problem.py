"""What is wrong in a configuration, its place, and misspelt keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cni_ipvlan.suggest import nearest_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from cni_ipvlan.cli.reading import Path


class Problem(NamedTuple):
    """What is wrong, and the path of its place.

    It is an error if something is refused, is ignored, or does harm; it is a warning
    if the network works all the same, or works for some.
    """

    path: Path
    text: str
    is_warning: bool = False


def misspelt(entry: Mapping[str, Any], options: Sequence[str], path: Path) -> Iterator[Problem]:
    """Yield the keys that are not options but look like one."""
    for key in entry:
        if key not in options:
            names, is_near = nearest_first(key, options)
            if is_near:
                yield Problem((*path, key), f"{key} is unknown; did you mean {names[0]}?")


def misspelt_for_go(
    entry: Mapping[str, Any], options: Sequence[str], path: Path
) -> Iterator[Problem]:
    """Yield the same for a plugin in Go, whose decoder ignores the case of keys."""
    meant = {option.lower(): option for option in options}
    for key in entry:
        if key not in options and key.lower() in meant:
            text = f"{key} works only because the plugin ignores case; write {meant[key.lower()]}"
            yield Problem((*path, key), text, is_warning=True)
    others = {key: value for key, value in entry.items() if key.lower() not in meant}
    yield from misspelt(others, options, path)


def as_go_reads(entry: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """Return an entry with those of its keys that are options in another case renamed to them."""
    meant = {option.lower(): option for option in options}
    return {meant.get(key.lower(), key): value for key, value in entry.items()}
