"""The IPAM plugin dhcp: its daemon, and dnsmasq on the wire. docs/dhcp.md explains the setup."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import documents
import pytest
from dhcp import SOCKET, daemon, program
from executable import Executable
from lab import Space, own, run, wait_until, without_program
from people import Person
from runtime import PLUGINS, call_environment, network, stdin_of
from scene import Scene
from shells import run_by
from wire import listening

LEASES = Path("/run/dnsmasq.leases")
SERVER = "10.1.0.1"
CONF = network(ipam={"type": "dhcp"})
pytestmark = pytest.mark.scene(master="wire")


@pytest.fixture
def cable(scene: Scene) -> Space:
    """Have a host behind the master; return its namespace."""
    scene.neighbour.ip(f"address add {SERVER}/24 dev eth0")
    return scene.neighbour


@pytest.fixture
def wire(cable: Space) -> Iterator[Space]:
    """Have a DHCP server behind the master; return its namespace."""
    with serving():
        yield cable


@contextmanager
def serving(*more: str, lease: str = "1h") -> Iterator[None]:
    options = f"""--no-daemon --no-ping --conf-file=/dev/null --user=root --port=0 --interface=eth0
        --bind-interfaces --pid-file= --dhcp-range=10.1.0.10,10.1.0.20,{lease}
        --dhcp-leasefile={LEASES}"""
    with program("ip", "netns", "exec", "neighbour", "dnsmasq", *options.split(), *more):
        yield
    LEASES.unlink()


def is_newer() -> bool:
    """Whether dhcp is the one of plugins 1.9.1, by an option that Debian 13's 1.1.1 lacks."""
    shown = subprocess.run([f"{PLUGINS}/dhcp", "daemon", "-h"], capture_output=True, check=False)
    return b"-resendtimeout" in shown.stderr


def impatient() -> list[str]:
    return ["-timeout", "500ms", "-resendmax", "1s", *(["-resendtimeout", "8s"] * is_newer())]


def leases() -> dict[str, str]:
    """Return the server's leases: of each address, the client identifier as text."""
    entries = [line.split() for line in LEASES.read_text().splitlines()]
    return {entry[2]: bytes.fromhex(entry[4].replace(":", "")).decode() for entry in entries}


def address(result: dict[str, Any]) -> str:
    first: str = result["ips"][0]["address"]
    return first.split("/", maxsplit=1)[0]


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-broadcast",)])
def test_containers_have_their_own_leases_renew_and_release_them(
    scene: Scene, cable: Space, tmp_path: Path, options: Sequence[str]
) -> None:
    containers = {"one": scene.one, "two": scene.two}
    log = tmp_path / "log"
    # dnsmasq takes up to a 16th of the lease from T1, the seconds until it is renewed.
    timers = ("--dhcp-option=option:T1,8", "--dhcp-option=option:T2,100")
    with serving(*timers, lease="2m"), daemon(log, *options):
        with listening(cable, "eth0") as neighbour:
            # In one second, of which 1.1.1 makes its transaction ID.
            with ThreadPoolExecutor() as pool:
                adding = {
                    name: pool.submit(scene.runtime.add, container, CONF, CNI_CONTAINERID=name)
                    for name, container in containers.items()
                }
            results = {name: each.result().result() for name, each in adding.items()}
            addresses = sorted(map(address, results.values()))
            wait_until(lambda: sorted(neighbour.announced()) == addresses)
        assert results["one"]["interfaces"][0]["mac"] == results["two"]["interfaces"][0]["mac"]
        # The hardware address is the same, so only the client identifier distinguishes them.
        identifiers = {address(results[name]): f"\0{name}/net/net1" for name in results}
        assert leases() == identifiers
        for name, container in containers.items():
            assert container.addresses("net1") == [f"{address(results[name])}/24"]
            container.run("ping", "-c", "1", "-W", "5", SERVER)
        wait_until(lambda: "lease renewed" in log.read_text())
        for name, container in containers.items():
            scene.runtime.delete(container, CONF, CNI_CONTAINERID=name).succeeds()
        wait_until(lambda: leases() == {})
    assert "network is down" not in log.read_text()


def test_a_lease_is_released_if_the_namespace_was_removed(
    scene: Scene, wire: Space, tmp_path: Path
) -> None:
    container, other = scene.one, scene.two
    with daemon(tmp_path / "log"):
        scene.runtime.add(container, CONF).result()
    with daemon(tmp_path / "log"):
        scene.runtime.delete(container, CONF).succeeds()
        # The server has heard all that was sent before another's lease comes and goes.
        scene.runtime.add(other, CONF, CNI_CONTAINERID="two").result()
        assert sorted(leases().values()) == ["\0one/net/net1", "\0two/net/net1"]
        # The daemon has a thread in it, which keeps it alive until then.
        scene.node.remove(other)
        scene.runtime.delete("", CONF, CNI_CONTAINERID="two").succeeds()
        wait_until(lambda: list(leases().values()) == ["\0one/net/net1"])
    assert "net1" not in container.links()


def is_request(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\x00\x43"


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-broadcast",)], ids=["plain", "with -broadcast"])
def test_without_tc_the_daemon_has_to_ask_for_broadcasts(
    scene: Scene, wire: Space, tmp_path: Path, options: Sequence[str]
) -> None:
    # ipvlan delivers by IP address, which the container is only asking for.
    container = scene.one
    with (
        without_program("tc"),
        daemon(tmp_path / "log", *impatient(), *options),
        listening(wire, "eth0") as heard,
    ):
        answer = scene.runtime.add(container, CONF)
        requests = [each for each in heard.heard() if is_request(each)]
    # 1.1.1 does if it is told to, 1.9.1 never does.
    asked = {bool(each[52] & 0x80) for each in requests}  # the flag for broadcast answers
    assert asked == {answer.status == 0}
    assert asked == {bool(options) and not is_newer()}
    if answer.status:
        details = answer.error()["details"]
        assert "found: tc can't have DHCP answers broadcast: " in details
        assert 'exec of "tc" failed' in details
        assert "try: let the DHCP server broadcast (dnsmasq: dhcp-broadcast), or " in details
        assert "net1" not in container.links()


def test_without_tc_broadcasts_are_heard(scene: Scene, cable: Space, tmp_path: Path) -> None:
    container = scene.one
    with without_program("tc"), serving("--dhcp-broadcast"), daemon(tmp_path / "log"):
        scene.runtime.add(container, CONF).result()
        with listening(cable, "eth0") as heard:
            scene.runtime.delete(container, CONF).succeeds()
            wait_until(lambda: any(map(is_request, heard.heard())))
            (release,) = filter(is_request, heard.heard())
        # 1.9.1 sends it from 0.0.0.0 to the server's address, where it is not accepted.
        assert (release[30:34] == b"\xff" * 4) is not is_newer()
        if not is_newer():
            wait_until(lambda: leases() == {})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_without_a_server_it_is_said_how_often_it_was_asked(
    scene: Scene, wire: Space, ipvlan: Executable, tmp_path: Path, mode: str
) -> None:
    scene.host.ip("link add name eth1 up type veth peer name silent netns neighbour")
    wire.ip("link set dev silent up")
    confs = {
        "silent": {**CONF, "master": "eth1"},
        "deaf": {**CONF, "mode": mode},  # no answer arrives, so validate calls it an error
    }
    with daemon(tmp_path / "log", *impatient()), listening(wire, "silent") as heard:
        calls = [
            ipvlan.start(
                call_environment("ADD", scene.container(), CNI_CONTAINERID=name), stdin_of(each)
            )
            for name, each in confs.items()
        ]
        silent, deaf = (call.end().error() for call in calls)
        count = sum(map(is_request, heard.heard()))
    found = f"found: {count} DHCP requests were sent, which asked for broadcast answers"
    lines = silent["details"].splitlines()
    assert {found, "try: look for a DHCP server on the master's network"} <= {*lines}
    assert count > 1
    assert "no more tries" in deaf["msg"]


def state(container: Space) -> list[Any]:
    return [container.addresses("net1"), container.routes(), leases()]


@pytest.mark.parametrize("shell", ["dash", "bash at a terminal"])
def test_a_pasted_dry_run_gives_what_add_gives(
    scene: Scene, wire: Space, person: Person, tmp_path: Path, shell: str
) -> None:
    container = scene.one
    about = f"-c {person.writes(CONF)} --netns container1 --container-id one --dry-run"
    with daemon(tmp_path / "log"):
        scene.runtime.add(container, CONF).result()
        added = state(container)
        scene.runtime.delete(container, CONF).succeeds()
        wait_until(lambda: leases() == {})
        before = scene.node.snapshot()
        script = person.succeeds(f"ipvlan add {about}")
        assert (scene.node.snapshot(), leases()) == (before, {})

        status, out = run_by(shell, script)

        assert status == 0, out
        assert state(container) == added
        assert run_by(shell, person.succeeds(f"ipvlan del {about}"))[0] == 0
        wait_until(lambda: leases() == {})

        status, out = run_by(shell, script.replace("\nprintf '%s\\n' \"$answer\"", "\nfalse\n"))

        assert status == 1, out
        assert "failed; undoing what was done" in out
        wait_until(lambda: leases() == {})
        assert scene.node.snapshot() == before
    assert "network is down" not in (tmp_path / "log").read_text()


class Systemd:
    """A systemd that runs nothing by itself, in a PID namespace of its own."""

    def __init__(self, process: int) -> None:
        self.enter = ("nsenter", "--target", str(process), "--pid", "--mount")

    def run(self, script: str) -> str:
        """Run a script of root's, which knows systemctl; return its output."""
        return run(*self.enter, "sh", "-e", "-c", script)

    def daemon(self) -> str:
        """Return the command line of the daemon that runs as cni-dhcp.service, or nothing."""
        wait_until(lambda: "systemd-executor" not in self._main_process())  # which becomes it
        return self._main_process()

    def _main_process(self) -> str:
        process = self.run("systemctl show --property MainPID --value cni-dhcp.service").strip()
        return self.run(f"tr '\\0' ' ' </proc/{process}/cmdline || true") if process != "0" else ""


@pytest.fixture
def systemd(own_directories: None, tmp_path: Path) -> Iterator[Systemd]:
    """Have systemd, which starts Debian's units; /etc/systemd/system is as before afterwards."""
    units = Path("/run/systemd/system")
    units.mkdir(parents=True)
    (units / "nothing.target").write_text("[Unit]\nDescription=nothing\n")
    run("mount", "-t", "tmpfs", "tmpfs", "/etc/systemd/system")
    # It sees the network namespaces that are made later.
    argv = """unshare --pid --fork --kill-child --mount-proc --propagation slave
        env container=lab /lib/systemd/systemd --system --unit=nothing.target
        --log-target=console --show-status=no"""
    with own(Path("/opt/cni")), (tmp_path / "systemd.log").open("w") as log:
        unshare = subprocess.Popen(argv.split(), stdout=log, stderr=log)
        try:
            children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
            wait_until(Path("/run/systemd/private").exists)
            started = Systemd(int(children.read_text()))
            started.run("systemctl is-system-running --wait")
            yield started
            started.run("systemctl stop cni-dhcp.socket cni-dhcp.service")
        finally:
            unshare.kill()
            unshare.wait()
            run("umount", "/etc/systemd/system")
            shutil.rmtree("/run/systemd")


def block(language: str) -> str:
    return next(each.text for each in documents.code("docs/dhcp.md") if each.language == language)


def attach_and_detach(scene: Scene) -> None:
    container = scene.one
    result = scene.runtime.add(container, CONF).result()
    assert leases() == {address(result): "\0one/net/net1"}
    scene.runtime.delete(container, CONF).succeeds()
    wait_until(lambda: leases() == {})


def debians_units(scene: Scene, person: Person, systemd: Systemd) -> None:
    assert "disabled" in systemd.run("systemctl is-enabled cni-dhcp.socket || true")

    systemd.run(block("sh"))

    assert systemd.daemon() == "/usr/lib/cni/dhcp daemon "
    attach_and_detach(scene)
    # As after a restart of the node, when a pod comes before the service.
    systemd.run("systemctl stop cni-dhcp.service && systemctl start cni-dhcp.socket")
    assert systemd.daemon() == ""
    assert "problem" not in person.types(f"ipvlan doctor -c {person.writes(CONF)}")[1]
    attach_and_detach(scene)
    assert systemd.daemon() == "/usr/lib/cni/dhcp daemon "
    enabled = systemd.run("systemctl is-enabled cni-dhcp.socket cni-dhcp.service")
    assert enabled.split() == ["enabled", "enabled"]


def unit_for_other_nodes(scene: Scene, person: Person, systemd: Systemd) -> None:
    """It serves also after a kill."""
    Path("/etc/systemd/system/cni-dhcp.service").write_text(block("ini"))
    Path("/opt/cni/bin").mkdir()
    shutil.copy(f"{PLUGINS}/dhcp", "/opt/cni/bin")
    systemd.run(block("sh").replace("cni-dhcp.socket ", ""))
    wait_until(SOCKET.exists)
    attach_and_detach(scene)
    systemd.run("systemctl kill --signal=KILL cni-dhcp.service")
    wait_until(lambda: systemd.daemon() == "")
    assert SOCKET.exists()
    systemd.run("systemctl restart cni-dhcp.service")
    wait_until(lambda: systemd.daemon() == "/opt/cni/bin/dhcp daemon ")
    attach_and_detach(scene)


@pytest.mark.slow
@pytest.mark.parametrize("units", [debians_units, unit_for_other_nodes])
def test_units_are_started_as_the_document_says(
    scene: Scene,
    wire: Space,
    person: Person,
    systemd: Systemd,
    units: Callable[[Scene, Person, Systemd], None],
) -> None:
    units(scene, person, systemd)
