"""Tests take samples by one seed, and everything in a long run."""

from collections.abc import Hashable
from itertools import combinations, product

import pytest
import sampling

PARAMETERS: dict[str, list[Hashable]] = {
    "mode": ["l2", "l3", "l3s"],
    "mtu": [0, 1400],
    "vlan": [None, 100],
}


@pytest.fixture(autouse=True)
def by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTS_SEED", "1")
    monkeypatch.delenv("TESTS_LONG", raising=False)


def test_a_sample_is_the_seeds_in_order_and_another_seed_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = sampling.sample(range(1000), 10)
    again = sampling.sample(range(1000), 10)
    monkeypatch.setenv("TESTS_SEED", "2")
    assert first == again == sorted(set(first)) != sampling.sample(range(1000), 10)


def test_each_item_is_in_some_days_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    for day in range(20261101, 20261131):
        monkeypatch.setenv("TESTS_SEED", str(day))
        seen.update(sampling.sample(range(20), 5))
    assert seen == set(range(20))


def test_pairs_meet_every_two_values_or_as_many_combinations_as_are_asked_for() -> None:
    found = combinations_of(sampling.pairs(most=20, **PARAMETERS))
    for one, two in combinations(range(3), 2):
        values = list(PARAMETERS.values())
        assert {(each[one], each[two]) for each in found} == set(product(values[one], values[two]))
    assert len(found) < 12
    assert len(combinations_of(sampling.pairs(most=4, **PARAMETERS))) == 4


def test_a_long_run_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTS_LONG", "1")
    assert sampling.sample(range(1000), 10) == list(range(1000))
    found = combinations_of(sampling.pairs(most=1, **PARAMETERS))
    assert found == list(product(*PARAMETERS.values()))


def test_without_a_seed_it_is_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESTS_SEED")
    assert 20260000 < sampling.seed() < 30000000


def combinations_of(mark: pytest.MarkDecorator) -> list[tuple[object, ...]]:
    names, values = mark.args
    assert names == list(PARAMETERS)
    return list(values)
