"""plugin.host_local: how many addresses host-local has leased, and has in all."""

import os
from pathlib import Path
from typing import Any

from cni_ipvlan.plugin import host_local
from cni_ipvlan.plugin.host_local import Usage

LIMITS = ("rangeStart", "rangeEnd", "gateway")


def usage(directory: Path, ipam: dict[str, Any], *leased: str) -> list[Usage]:
    (directory / "net").mkdir(exist_ok=True)
    for name in leased:
        (directory / "net" / name).touch()
    return host_local.usage(
        {"name": "net", "ipam": {"type": "host-local", "dataDir": str(directory), **ipam}}
    )


def test_room_is_what_host_local_has(tmp_path: Path) -> None:
    for ipam, room in (
        ({"subnet": "10.1.0.0/24"}, 253),  # network, broadcast, gateway
        ({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.19"}, 10),
        ({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.10", "gateway": "10.1.0.254"}, 10),
        ({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.254", "gateway": "10.1.0.254"}, 0),
        ({"subnet": "fd00::/126"}, 2),
        ({"subnet": "255.255.255.0/24", **dict.fromkeys(LIMITS, "255.255.255.255")}, 0),
    ):
        assert [each.capacity for each in usage(tmp_path, ipam)] == [room]
        assert len(host_local.lowest_addresses(ipam)) == bool(room)


def test_what_host_local_refuses_has_no_usage(tmp_path: Path) -> None:
    ranges = {"rangeStart": "10.1.0.9", "rangeEnd": "fd00::1"}, {"rangeEnd": "10.0.0.9"}
    for conf in (*ranges, {"gateway": 7.5}, {"subnet": "", "ranges": [[{}]]}):
        assert usage(tmp_path, {"subnet": "10.1.0.0/24", **conf}) == []


def test_leases_are_counted_in_their_ranges(tmp_path: Path) -> None:
    ranges = [[{"subnet": "10.1.0.0/29"}, {"subnet": "10.2.0.0/29"}], [{"subnet": "fd00::/64"}]]
    names = "10.1.0.2", "10.2.0.3", "10.9.0.1", "fd00::2", "lock", "last_reserved_ip.0"
    usages = usage(tmp_path, {"ranges": ranges}, *names)
    counts = [(each.ranges, each.leased) for each in usages]
    assert counts == [("10.1.0.0/29, 10.2.0.0/29", 2), ("fd00::/64", 1)]
    assert usages[0].capacity == 10
    ipam = {"type": "host-local", "dataDir": str(tmp_path), "subnet": "10.0.0.0/8"}
    config = {"name": "none", "ipam": ipam}
    assert [each.leased for each in host_local.usage(config)] == [0]  # there is no directory


def test_leases_are_read_whatever_is_in_their_directory(tmp_path: Path) -> None:
    (tmp_path / "10.1.0.10").write_text("one\r\nnet\u30001", newline="")
    (tmp_path / "10.1.0.9").write_bytes(b"old\n")
    (tmp_path / "fd00::2").write_bytes(b"\xff" * 10_000)
    (tmp_path / "10.1.0.11").mkdir()
    (tmp_path / "last_reserved_ip.0").write_text("10.1.0.10")
    os.mkfifo(tmp_path / "10.1.0.12")
    descriptors = Path("/proc/self/fd")
    before = len([*descriptors.iterdir()])
    leases = host_local.leases(str(tmp_path))
    assert len([*descriptors.iterdir()]) == before  # whoever may write there makes thousands
    assert [(each.address, each.container_id, each.ifname) for each in leases] == [
        ("10.1.0.9", "old", ""),
        ("10.1.0.10", "one", "net\u30001"),
        ("10.1.0.12", "", ""),
        ("fd00::2", "\udcff" * 4096, ""),
    ]
