"""Samples of tables that are too large for every run: by the run's seed, whole with --long."""

import os
import random
import time
from collections.abc import Iterable
from itertools import product
from typing import Any, TypeVar

Item = TypeVar("Item")


def seed() -> str:
    """Return what TESTS_SEED says, or else the date."""
    return os.environ.get("TESTS_SEED") or time.strftime("%Y-%m-%d", time.gmtime())


def sample(items: Iterable[Item], count: int) -> list[Item]:
    """Return some of the items, in their order."""
    whole = list(items)
    if os.environ.get("TESTS_LONG") or len(whole) <= count:
        return whole
    chosen = random.Random(f"{seed()} {len(whole)}").sample(range(len(whole)), count)  # noqa: S311
    return [whole[number] for number in sorted(chosen)]


def pairs(count: int, *columns: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return some combinations of values of each column."""
    return sample(product(*columns), count)
