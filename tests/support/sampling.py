"""What is tested of many cases: a sample, as docs/testing.md describes it.

scripts/test chooses the seed once for all tiers, and passes it on in the environment, also to other
kernels and to what tests start themselves. tests/conftest.py has pytest's options for both.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, cycle, product
from random import Random
from typing import Any, TypeVar

import pytest

Item = TypeVar("Item")
Other = TypeVar("Other")


def seed() -> int:
    """Return the number that says which samples are taken: TESTS_SEED, or else the date."""
    return int(os.environ.get("TESTS_SEED") or time.strftime("%Y%m%d"))


def is_long() -> bool:
    """Return whether everything is tested rather than samples: TESTS_LONG is set."""
    return bool(os.environ.get("TESTS_LONG"))


def sample(items: Iterable[Item], count: int) -> list[Item]:
    """Return ``count`` of the items, by the seed and in their order; in a long run, all."""
    pool = list(items)
    if is_long() or len(pool) <= count:
        return pool
    return [pool[at] for at in sorted(Random(seed()).sample(range(len(pool)), count))]  # noqa: S311


def sample_rows(tests: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests, but of one with rows only a fifth: one row or two, by the seed."""
    if is_long():
        return [*tests]
    rows: dict[str, list[pytest.Item]] = {}
    for test in tests:
        rows.setdefault(test.nodeid.partition("[")[0], []).append(test)
    chosen = []
    for name, items in rows.items():
        count = min(2, -(-len(items) // 5))
        chosen += Random(f"{seed()} {name}").sample(items, count)  # noqa: S311
    return chosen


def take_every(items: Sequence[Item], stride: int, salt: str = "") -> list[Item]:
    """Return every ``stride``th item, from a start by seed and salt; in a long run, all."""
    if is_long():
        return [*items]
    start = Random(f"{seed()} {salt}").randrange(min(stride, len(items)) or 1)  # noqa: S311
    return [*items[start::stride]]


def pair_each(items: Iterable[Item], others: Sequence[Other]) -> list[tuple[Item, Other]]:
    """Return each item with one of the others, by the seed; with all of them in a long run."""
    if is_long():
        return list(product(items, others))
    order = Random(seed()).sample(others, len(others))  # noqa: S311
    return list(zip(items, cycle(order), strict=False))


def combine(parameters: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return combinations of one value for each parameter, in which every two values meet."""
    settings = [(name, value) for name, values in parameters.items() for value in values]
    pairs = [pair for pair in combinations(settings, 2) if pair[0][0] != pair[1][0]]
    missing_pairs = {frozenset(pair): None for pair in pairs}
    rows = []
    while missing_pairs:
        combination = dict(next(iter(missing_pairs)))
        for name, values in parameters.items():
            if name not in combination:
                others = tuple(combination.items())
                counts = [
                    sum(frozenset((other, (name, value))) in missing_pairs for other in others)
                    for value in values
                ]
                combination[name] = values[counts.index(max(counts))]
        for pair in combinations(combination.items(), 2):
            missing_pairs.pop(frozenset(pair), None)
        rows.append({name: combination[name] for name in parameters})
    return rows
