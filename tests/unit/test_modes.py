"""modes: what can be told without a kernel; tests/kernel tells the rest."""

from __future__ import annotations

import pytest

from cni_ipvlan import modes

# /proc/net/dev_mcast of Linux 6.12, with one ipvlan interface that is up on eth1000.
TABLE = (
    b"2    eth1000         2     0     333300000001\n"
    b"2    eth1000         2     0     01005e000001\n"
    b"2    eth1000         1     0     3333ff89d195\n"
    b"4    sl1             1     0     333300000001\n"
    b"5    a'b             1     0     01005e000001\n"
    b"6    a\xe2\x80\x83b           3     0     01005e000001\n"
    b"7    a\x1fb             4     0     01005e000001\n"
    b"8    \xc2\x85x             5     0     01005e000001\n"
    b"9    a\xffb             6     0     01005e000001\n"
)


@pytest.mark.parametrize(
    ("ifindex", "members"), [(2, 2), (4, 0), (5, 1), (6, 3), (7, 4), (8, 5), (9, 6), (10, 0)]
)
def test_members_of_the_all_hosts_group_are_counted(ifindex: int, members: int) -> None:
    assert modes._members_of_all_hosts(TABLE, ifindex) == members


def test_table_without_a_line_has_no_members() -> None:
    assert modes._members_of_all_hosts(b"", 2) == 0
