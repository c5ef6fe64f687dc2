"""Tests take samples by one seed, and everything in a long run."""

import pytest
import sampling


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


def test_a_long_run_takes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTS_LONG", "1")
    assert sampling.sample(range(1000), 10) == list(range(1000))


def test_without_a_seed_it_is_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TESTS_SEED")
    assert 20260000 < sampling.seed() < 30000000
