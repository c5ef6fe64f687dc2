"""doctor on a node whose networks take addresses from the IPAM plugin dhcp."""

from __future__ import annotations

from pathlib import Path

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
    assert "warning  ipam           tc can't have DHCP answers broadcast: " in bad


def test_doctor_reports_the_socket_of_a_daemon_that_was_stopped(node: Node, person: Person) -> None:
    node.master()
    command = f"ipvlan doctor -c {person.writes(conf())}"
    with program(f"{PLUGINS}/dhcp", "daemon"):
        wait_until(SOCKET.exists)
        assert "problem" not in person.types(command)[1]
    wait_until(lambda: f"nothing listens on {SOCKET}" in person.types(command)[1])
    SOCKET.unlink()
    assert f"{SOCKET} does not exist" in person.types(command)[1]
