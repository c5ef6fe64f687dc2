"""Few combinations of many parameters, in which every two values meet at least once."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any


def combine(parameters: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return combinations of one value for each parameter, always the same ones."""
    settings = [(name, value) for name, values in parameters.items() for value in values]
    pairs = [pair for pair in combinations(settings, 2) if pair[0][0] != pair[1][0]]
    have_not_met = {frozenset(pair): None for pair in pairs}
    found = []
    while have_not_met:
        chosen = dict(next(iter(have_not_met)))
        for name, values in parameters.items():
            if name not in chosen:
                others = tuple(chosen.items())
                new = [
                    sum(frozenset((other, (name, value))) in have_not_met for other in others)
                    for value in values
                ]
                chosen[name] = values[new.index(max(new))]
        for pair in combinations(chosen.items(), 2):
            have_not_met.pop(frozenset(pair), None)
        found.append({name: chosen[name] for name in parameters})
    return found
