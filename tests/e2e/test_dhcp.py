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
from command_line import User
from dhcp import SOCKET, daemon, program
from executable import Executable
from lab import NetNS, hide_directory, hide_program, run, wait_until
from runtime import PLUGINS, call_environment, network, stdin_of
from setup import Setup
from shells import run_script
from wire import listen

LEASES = Path("/run/dnsmasq.leases")
SERVER = "10.1.0.1"
CONF = network(ipam={"type": "dhcp"})
pytestmark = pytest.mark.setup(master="wire")


@pytest.fixture
def cable(setup: Setup) -> NetNS:
    """Have a host behind the master; return its namespace."""
    setup.neighbour.ip(f"address add {SERVER}/24 dev eth0")
    return setup.neighbour


@pytest.fixture
def wire(cable: NetNS) -> Iterator[NetNS]:
    """Have a DHCP server behind the master; return its namespace."""
    with run_server():
        yield cable


@contextmanager
def run_server(*arguments: str, lease: str = "1h") -> Iterator[None]:
    options = f"""--no-daemon --no-ping --conf-file=/dev/null --user=root --port=0 --interface=eth0
        --bind-interfaces --pid-file= --dhcp-range=10.1.0.10,10.1.0.20,{lease}
        --dhcp-leasefile={LEASES}"""
    with program("ip", "netns", "exec", "neighbour", "dnsmasq", *options.split(), *arguments):
        yield
    LEASES.unlink()


def is_newer() -> bool:
    """Return whether dhcp is that of plugins 1.9.1: Debian 13's 1.1.1 lacks an option of it."""
    output = subprocess.run([f"{PLUGINS}/dhcp", "daemon", "-h"], capture_output=True, check=False)
    return b"-resendtimeout" in output.stderr


def short_timeout() -> list[str]:
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
    setup: Setup, cable: NetNS, tmp_path: Path, options: Sequence[str]
) -> None:
    containers = {"one": setup.container, "two": setup.container2}
    log = tmp_path / "log"
    # dnsmasq takes up to a 16th of the lease from T1, the seconds until it is renewed.
    timers = ("--dhcp-option=option:T1,8", "--dhcp-option=option:T2,100")
    with run_server(*timers, lease="2m"), daemon(log, *options):
        with listen(cable, "eth0") as neighbour:
            # In one second, of which 1.1.1 makes its transaction ID.
            with ThreadPoolExecutor() as pool:
                adding = {
                    name: pool.submit(setup.runtime.add, container, CONF, CNI_CONTAINERID=name)
                    for name, container in containers.items()
                }
            results = {name: each.result().result() for name, each in adding.items()}
            addresses = sorted(map(address, results.values()))
            wait_until(lambda: sorted(neighbour.announced_addresses()) == addresses)
        assert results["one"]["interfaces"][0]["mac"] == results["two"]["interfaces"][0]["mac"]
        # The hardware address is the same, so only the client identifier distinguishes them.
        identifiers = {address(results[name]): f"\0{name}/net/net1" for name in results}
        assert leases() == identifiers
        for name, container in containers.items():
            assert container.addresses("net1") == [f"{address(results[name])}/24"]
            container.run("ping", "-c", "1", "-W", "5", SERVER)
        wait_until(lambda: "lease renewed" in log.read_text())
        for name, container in containers.items():
            setup.runtime.delete(container, CONF, CNI_CONTAINERID=name).succeeds()
        wait_until(lambda: leases() == {})
    assert "network is down" not in log.read_text()


def test_lease_is_freed_if_namespace_was_removed(setup: Setup, wire: NetNS, tmp_path: Path) -> None:
    container, other = setup.container, setup.container2
    with daemon(tmp_path / "log"):
        setup.runtime.add(container, CONF).result()
    with daemon(tmp_path / "log"):
        setup.runtime.delete(container, CONF).succeeds()
        # Once another's lease was granted and released, the server has handled all before it.
        setup.runtime.add(other, CONF, CNI_CONTAINERID="two").result()
        assert sorted(leases().values()) == ["\0one/net/net1", "\0two/net/net1"]
        # A thread of the daemon is in the namespace, and keeps it until the release.
        setup.node.remove(other)
        setup.runtime.delete("", CONF, CNI_CONTAINERID="two").succeeds()
        wait_until(lambda: list(leases().values()) == ["\0one/net/net1"])
    assert "net1" not in container.links()


def is_request(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == b"\x00\x43"


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-broadcast",)], ids=["plain", "with -broadcast"])
def test_without_tc_the_daemon_has_to_ask_for_broadcasts(
    setup: Setup, wire: NetNS, tmp_path: Path, options: Sequence[str]
) -> None:
    # ipvlan delivers by IP address, which the container is only asking for.
    container = setup.container
    with (
        hide_program("tc"),
        daemon(tmp_path / "log", *short_timeout(), *options),
        listen(wire, "eth0") as listener,
    ):
        answer = setup.runtime.add(container, CONF)
        requests = [each for each in listener.receive() if is_request(each)]
    # Version 1.1.1 does so if an option says so, 1.9.1 never does.
    flags = {bool(each[52] & 0x80) for each in requests}  # the flag for broadcast answers
    assert flags == {answer.status == 0}
    assert flags == {bool(options) and not is_newer()}
    if answer.status:
        details = answer.error()["details"]
        assert "found: tc can't have DHCP answers broadcast: " in details
        assert 'exec of "tc" failed' in details
        assert "try: let the DHCP server broadcast (dnsmasq: dhcp-broadcast), or " in details
        assert "net1" not in container.links()


def test_without_tc_broadcasts_are_heard(setup: Setup, cable: NetNS, tmp_path: Path) -> None:
    container = setup.container
    with hide_program("tc"), run_server("--dhcp-broadcast"), daemon(tmp_path / "log"):
        setup.runtime.add(container, CONF).result()
        with listen(cable, "eth0") as listener:
            setup.runtime.delete(container, CONF).succeeds()
            wait_until(lambda: any(map(is_request, listener.receive())))
            (release,) = filter(is_request, listener.receive())
        # Version 1.9.1 sends the release from 0.0.0.0 to the server, which does not accept it.
        assert (release[30:34] == b"\xff" * 4) is not is_newer()
        if not is_newer():
            wait_until(lambda: leases() == {})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_without_a_server_the_error_says_where_to_look(
    setup: Setup, wire: NetNS, ipvlan: Executable, tmp_path: Path, mode: str
) -> None:
    setup.host.ip("link add name eth1 up type veth peer name silent netns neighbour")
    wire.ip("link set dev silent up")
    confs = {
        "silent": {**CONF, "master": "eth1"},
        "deaf": {**CONF, "mode": mode},  # no answer arrives, so validate calls it an error
    }
    with daemon(tmp_path / "log", *short_timeout()), listen(wire, "silent") as listener:
        calls = [
            ipvlan.start(
                call_environment("ADD", setup.make_container(), CNI_CONTAINERID=name),
                stdin_of(each),
            )
            for name, each in confs.items()
        ]
        silent, deaf = (call.end().error() for call in calls)
        count = sum(map(is_request, listener.receive()))
    lines = silent["details"].splitlines()
    assert "try: look for a DHCP server on the master's network" in lines
    assert count > 1
    assert "no more tries" in deaf["msg"]


def state(container: NetNS) -> list[Any]:
    return [container.addresses("net1"), container.routes(), leases()]


@pytest.mark.parametrize("shell", ["dash", "bash at a terminal"])
def test_a_pasted_dry_run_gives_what_add_gives(
    setup: Setup, wire: NetNS, user: User, tmp_path: Path, shell: str
) -> None:
    container = setup.container
    options = f"-c {user.write_conf(CONF)} --netns container1 --container-id one --dry-run"
    with daemon(tmp_path / "log"):
        setup.runtime.add(container, CONF).result()
        added = state(container)
        setup.runtime.delete(container, CONF).succeeds()
        wait_until(lambda: leases() == {})
        before = setup.node.snapshot()
        script = user.check_output(f"ipvlan add {options}")
        assert (setup.node.snapshot(), leases()) == (before, {})

        status, out = run_script(shell, script)

        assert status == 0, out
        assert state(container) == added
        assert run_script(shell, user.check_output(f"ipvlan del {options}"))[0] == 0
        wait_until(lambda: leases() == {})

        status, out = run_script(shell, script.replace("\nprintf '%s\\n' \"$answer\"", "\nfalse\n"))

        assert status == 1, out
        assert "failed; undoing what was done" in out
        wait_until(lambda: leases() == {})
        assert setup.node.snapshot() == before
    assert "network is down" not in (tmp_path / "log").read_text()


class Systemd:
    """A systemd that starts no unit by itself, in its own PID namespace."""

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
def systemd(process_isolation: None, tmp_path: Path) -> Iterator[Systemd]:
    """Have systemd, which starts Debian's units; /etc/systemd/system is as before afterwards."""
    units = Path("/run/systemd/system")
    units.mkdir(parents=True)
    (units / "nothing.target").write_text("[Unit]\nDescription=nothing\n")
    run("mount", "-t", "tmpfs", "tmpfs", "/etc/systemd/system")
    # It sees the network namespaces that are made later.
    argv = """unshare --pid --fork --kill-child --mount-proc --propagation slave
        env container=lab /lib/systemd/systemd --system --unit=nothing.target
        --log-target=console --show-status=no"""
    with hide_directory(Path("/opt/cni")), (tmp_path / "systemd.log").open("w") as log:
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


def attach_and_detach(setup: Setup) -> None:
    container = setup.container
    result = setup.runtime.add(container, CONF).result()
    assert leases() == {address(result): "\0one/net/net1"}
    setup.runtime.delete(container, CONF).succeeds()
    wait_until(lambda: leases() == {})


def debians_units(setup: Setup, user: User, systemd: Systemd) -> None:
    assert "disabled" in systemd.run("systemctl is-enabled cni-dhcp.socket || true")

    systemd.run(block("sh"))

    assert systemd.daemon() == "/usr/lib/cni/dhcp daemon "
    attach_and_detach(setup)
    # As after a restart of the node, when a pod comes before the service.
    systemd.run("systemctl stop cni-dhcp.service && systemctl start cni-dhcp.socket")
    assert systemd.daemon() == ""
    assert "problem" not in user.run(f"ipvlan doctor -c {user.write_conf(CONF)}")[1]
    attach_and_detach(setup)
    assert systemd.daemon() == "/usr/lib/cni/dhcp daemon "
    enabled = systemd.run("systemctl is-enabled cni-dhcp.socket cni-dhcp.service")
    assert enabled.split() == ["enabled", "enabled"]


def unit_for_other_nodes(setup: Setup, user: User, systemd: Systemd) -> None:
    """The daemon's socket serves again after a kill."""
    Path("/etc/systemd/system/cni-dhcp.service").write_text(block("ini"))
    Path("/opt/cni/bin").mkdir()
    shutil.copy(f"{PLUGINS}/dhcp", "/opt/cni/bin")
    systemd.run(block("sh").replace("cni-dhcp.socket ", ""))
    wait_until(SOCKET.exists)
    attach_and_detach(setup)
    systemd.run("systemctl kill --signal=KILL cni-dhcp.service")
    wait_until(lambda: systemd.daemon() == "")
    assert SOCKET.exists()
    systemd.run("systemctl restart cni-dhcp.service")
    wait_until(lambda: systemd.daemon() == "/opt/cni/bin/dhcp daemon ")
    attach_and_detach(setup)


@pytest.mark.slow
@pytest.mark.parametrize("units", [debians_units, unit_for_other_nodes])
def test_units_are_started_as_the_document_says(
    setup: Setup,
    wire: NetNS,
    user: User,
    systemd: Systemd,
    units: Callable[[Setup, User, Systemd], None],
) -> None:
    units(setup, user, systemd)
