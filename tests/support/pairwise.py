"""Few combinations of many parameters, in which every two values meet at least once."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations, product
from typing import TypeVar

Value = TypeVar("Value", bound=Hashable)
Setting = tuple[str, Value]


def combine(parameters: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return combinations of one value for each parameter, always the same ones."""
    open_pairs = {
        frozenset(pair): None
        for first, second in combinations(parameters, 2)
        for pair in product(_settings(parameters, first), _settings(parameters, second))
    }
    found = []
    while open_pairs:
        chosen = dict(next(iter(open_pairs)))
        for name in parameters:
            if name not in chosen:
                options = _settings(parameters, name)
                chosen |= [max(options, key=lambda each: len(_closed(each, chosen, open_pairs)))]
        for pair in combinations(chosen.items(), 2):
            open_pairs.pop(frozenset(pair), None)
        found.append({name: chosen[name] for name in parameters})
    return found


def _settings(parameters: Mapping[str, Sequence[Value]], name: str) -> list[Setting[Value]]:
    return [(name, value) for value in parameters[name]]


def _closed(
    setting: Setting[Value],
    chosen: Mapping[str, Value],
    open_pairs: Mapping[frozenset[Setting[Value]], None],
) -> list[Setting[Value]]:
    """Return those of the chosen settings that have not met this one yet."""
    return [each for each in chosen.items() if frozenset((each, setting)) in open_pairs]
