"""doctor on a node whose networks take addresses from the IPAM plugin dhcp."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dhcp import SOCKET, daemon, program
from lab import Node, wait_until, without_program
from person import Person
from runtime import PLUGINS, Conf, Runtime, network


def conf() -> Conf:
    return network(ipam={"type": "dhcp"})


def test_missing_daemon_is_named_and_leaves_nothing(node: Node, runtime: Runtime) -> None:
    node.master()
    container = node.container()
    error = runtime.add(container, conf()).error()
    assert "error dialing DHCP daemon" in error["msg"]
    assert "net1" not in container.links()


def test_doctor_asks_whether_answers_would_be_heard(
    node: Node, person: Person, tmp_path: Path
) -> None:
    node.master()
    command = f"ipvlan doctor -c {person.writes(conf())}"
    with daemon(tmp_path / "log"):
        before = node.snapshot()
        good = person.types(command)[1]
        with without_program("tc"):
            bad = person.types(command)[1]
        assert node.snapshot() == before
    assert "ipam           tc can have DHCP answers broadcast" in good
    assert "without -broadcast" not in good
    found = re.findall(r"^warning +ipam +(.*)", bad, re.MULTILINE)
    assert [each.split(":")[0] for each in found[:1]] == ["tc can't have DHCP answers broadcast"]
    assert re.fullmatch(r"process \d+, the daemon of dhcp, runs without -broadcast", found[1])


@pytest.mark.parametrize(
    ("options", "is_good"), [(["--broadcast=true"], True), (["-broadcast=false"], False)]
)
def test_without_tc_doctor_reports_a_daemon_without_broadcast(
    node: Node, person: Person, tmp_path: Path, options: list[str], *, is_good: bool
) -> None:
    node.master()
    with daemon(tmp_path / "log", *options), without_program("tc"):
        _, out, _ = person.types(f"ipvlan doctor -c {person.writes(conf())}")
    assert ("runs without -broadcast" in out) is not is_good


def test_doctor_reports_the_socket_of_a_daemon_that_was_stopped(node: Node, person: Person) -> None:
    node.master()
    command = f"ipvlan doctor -c {person.writes(conf())}"
    with program(f"{PLUGINS}/dhcp", "daemon"):
        wait_until(SOCKET.exists)
        assert "problem" not in person.types(command)[1]
    wait_until(lambda: f"nothing listens on {SOCKET}" in person.types(command)[1])
    SOCKET.unlink()
    assert f"{SOCKET} does not exist" in person.types(command)[1]


def test_doctor_looks_only_at_the_daemon_of_the_networks_socket(
    node: Node, person: Person, tmp_path: Path
) -> None:
    node.master()
    socket = tmp_path / "other.sock"
    mine = network(ipam={"type": "dhcp", "daemonSocketPath": str(socket)})
    with (
        without_program("tc"),
        daemon(tmp_path / "log", "-broadcast"),
        program(f"{PLUGINS}/dhcp", "daemon", "-socketpath", str(socket)),
    ):
        wait_until(socket.exists)
        good = person.types(f"ipvlan doctor -c {person.writes(conf())}")[1]
        bad = person.types(f"ipvlan doctor -c {person.writes(mine)}")[1]
    assert "without -broadcast" not in good
    assert "without -broadcast" in bad
