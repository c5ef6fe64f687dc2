"""doctor on a node whose networks take addresses from the IPAM plugin dhcp."""

from pathlib import Path

from dhcp import SOCKET, daemon, program
from lab import wait_until, without_program
from person import Person
from runtime import PLUGINS, network
from scene import Scene

CONF = network(ipam={"type": "dhcp"})


def doctor(person: Person) -> str:
    return person.types(f"ipvlan doctor -c {person.writes(CONF)}")[1]


def test_missing_daemon_is_named_and_leaves_nothing(scene: Scene) -> None:
    scene.refuses(999, "error dialing DHCP daemon", conf=CONF)


def test_doctor_asks_whether_answers_would_be_heard(
    scene: Scene, person: Person, tmp_path: Path
) -> None:
    with daemon(tmp_path / "log"), scene.unchanged():
        good = doctor(person)
        with without_program("tc"):
            bad = doctor(person)
    assert "ipam           tc can have DHCP answers broadcast" in good
    assert "warning  ipam           tc can't have DHCP answers broadcast: " in bad


def test_doctor_reports_the_socket_of_a_daemon_that_was_stopped(
    scene: Scene, person: Person
) -> None:
    with program(f"{PLUGINS}/dhcp", "daemon"):
        wait_until(SOCKET.exists)
        assert "problem" not in doctor(person)
    wait_until(lambda: f"nothing listens on {SOCKET}" in doctor(person))
    SOCKET.unlink()
    assert f"{SOCKET} does not exist" in doctor(person)
