"""suggest: which existing name is similar to a misspelt one."""

from __future__ import annotations

import pytest

from cni_ipvlan.suggest import nearest_first


@pytest.mark.parametrize(
    ("wanted", "first"),
    [("eth0", "eth10"), ("ETH10", "eth10"), ("wlan", "wlan0"), ("br_lan", "br-lan"), ("w", None)],
)
def test_the_most_similar_comes_first(wanted: str, first: str | None) -> None:
    names = ["lo", "wlan0", "eth10", "br-lan"]
    found, is_near = nearest_first(wanted, names)
    assert sorted(found) == sorted(names)
    assert is_near == (first is not None)
    assert first in (None, found[0])


def test_of_no_names_none_is_near() -> None:
    assert nearest_first("eth0", []) == ([], False)
